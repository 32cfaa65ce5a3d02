"""Buckets of any S3 server: `s3://bucket/prefix`, with the prefix as a folder.

Credentials, region and endpoint are those that boto3 finds: AWS_ACCESS_KEY_ID and so on,
AWS_ENDPOINT_URL, or the files below ~/.aws. An object is read only as it was listed (If-Match with
its ETag), so that what changes meanwhile is noticed.
"""

import posixpath
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from facewright.datasets.readers import MAX_IMAGE_BYTES, Entry, checked_name, checked_size
from facewright.errors import DatasetError
from facewright.files import storage_errors

SCHEME = "s3://"
CONNECT_SECONDS, READ_SECONDS = 5, 30
ATTEMPTS = 3  # at one request, and at one object that breaks off
THREADS = 8  # that may read at once


@dataclass(frozen=True)
class Bucket:
    """A bucket and a prefix in it, with the client that reads them."""

    name: str
    prefix: str  # no slash at either end
    client: Any

    @property
    def url(self) -> str:
        return f"{SCHEME}{self.name}/{self.prefix}".rstrip("/")


def open_bucket(url: str, *, endpoint_url: str | None = None) -> Bucket:
    """The bucket and prefix of `s3://bucket/prefix`; nothing is asked of the server yet.

    Raises:
        DatasetError: the URL names no bucket, or the settings for boto3 make no sense.
    """
    import boto3  # type: ignore[import-untyped]
    from botocore.config import Config  # type: ignore[import-untyped]

    name, _, prefix = url.removeprefix(SCHEME).partition("/")
    if not name:
        raise DatasetError(f"{url} names no bucket: write s3://BUCKET/PREFIX")
    config = Config(
        connect_timeout=CONNECT_SECONDS,
        read_timeout=READ_SECONDS,
        retries={"total_max_attempts": ATTEMPTS, "mode": "standard"},
        max_pool_connections=2 * THREADS,
        # The name of a bucket as part of a host's needs a DNS that few own servers have.
        s3={"addressing_style": "path"},
    )
    with s3_errors(url):
        # A session of its own: the module's keeps the credentials that it found first.
        client = boto3.Session().client("s3", endpoint_url=endpoint_url, config=config)
    return Bucket(name, prefix.strip("/"), client)


def read_bucket(bucket: Bucket) -> Generator[Entry]:
    """Every object below the prefix, in the server's order, which S3 states to be that of the keys.

    `read` may be called later and from any thread.

    Raises:
        DatasetError: wrong credentials, no such bucket, a server that does not answer, a key that
            could lead outside; when read, an object that was changed or removed meanwhile.
    """
    start = f"{bucket.prefix}/" if bucket.prefix else ""
    pages = bucket.client.get_paginator("list_objects_v2").paginate(
        Bucket=bucket.name, Prefix=start
    )
    for item in _listed(pages, bucket):
        key = item["Key"]
        name = checked_name(key.removeprefix(start), source=bucket.url)
        if key.endswith("/"):  # consoles write such objects for folders
            if name:
                yield Entry(f"{name}/", 0, bytes)
            continue
        read = partial(_read, bucket, key, item.get("ETag"))
        yield checked_size(Entry(name, item["Size"], read), source=bucket.url)


def _listed(pages: Iterable[Any], bucket: Bucket) -> Iterator[Any]:
    with s3_errors(bucket.url):
        for page in pages:
            yield from page.get("Contents", [])


def object_entry(bucket: Bucket, name: str, where: str) -> Entry:
    """The object `name` in the folder that `bucket.prefix` lies in; its size is not asked for."""
    key = posixpath.join(posixpath.dirname(bucket.prefix), name)
    return Entry(name, 0, partial(_read, bucket, key, None))


def _read(bucket: Bucket, key: str, etag: str | None) -> bytes:
    from botocore.exceptions import (  # type: ignore[import-untyped]
        HTTPClientError,
        IncompleteReadError,
    )

    where = f"{SCHEME}{bucket.name}/{key}"
    match = {"IfMatch": etag} if etag else {}
    with s3_errors(where):
        for attempt in range(ATTEMPTS):
            answer = bucket.client.get_object(Bucket=bucket.name, Key=key, **match)
            # Some servers ignore If-Match.
            if etag and answer.get("ETag", etag) != etag:
                raise _changed(where)
            if answer["ContentLength"] > MAX_IMAGE_BYTES:
                raise DatasetError(f"{where} is larger than an image can be: remove it")
            try:
                data: bytes = answer["Body"].read()
                break
            except (HTTPClientError, IncompleteReadError):  # boto3 repeats requests, not reading
                if attempt + 1 == ATTEMPTS:
                    raise
    return data


def download(bucket: Bucket, folder: Path) -> Path:
    """The object that the prefix names, as a file in `folder`.

    Raises:
        DatasetError: as `read_bucket`, or there is no such object.
    """
    file = folder / posixpath.basename(bucket.prefix)
    with s3_errors(bucket.url), storage_errors(file):
        bucket.client.download_file(bucket.name, bucket.prefix, str(file))
    return file


@contextmanager
def s3_errors(where: str) -> Iterator[None]:
    """Turn boto3's errors about `where` into one line each."""
    from boto3.exceptions import Boto3Error  # type: ignore[import-untyped]
    from botocore import exceptions as aws  # type: ignore[import-untyped]

    try:
        yield
    except aws.ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        if code == "404" and error.operation_name == "ListObjectsV2":
            code = "NoSuchBucket"  # or no S3 server at all
        if code in ("PreconditionFailed", "412", "NoSuchKey", "404"):
            raise _changed(where) from error
        if code == "NoSuchBucket":
            raise DatasetError(
                f"{where}: there is no such bucket: check its name and the endpoint"
            ) from error
        if code in ("InvalidAccessKeyId", "SignatureDoesNotMatch", "AccessDenied", "403"):
            raise _denied(where, code) from error
        raise DatasetError(f"{where}: the server refused ({error}): check the request") from error
    except (aws.NoCredentialsError, aws.PartialCredentialsError) as error:
        raise _denied(where, "none were found") from error
    except (aws.ConnectionError, aws.HTTPClientError, aws.IncompleteReadError) as error:
        raise DatasetError(
            f"{where}: the server does not answer ({error}): check the endpoint "
            "(AWS_ENDPOINT_URL or --endpoint-url) and that it is up"
        ) from error
    except (aws.BotoCoreError, Boto3Error, ValueError) as error:
        raise DatasetError(f"{where} cannot be read ({error}): check boto3's settings") from error


def _changed(where: str) -> DatasetError:
    return DatasetError(
        f"{where} is not there, or was changed or removed while it was read: check the URL, and "
        "import it again once nobody writes there"
    )


def _denied(where: str, why: str) -> DatasetError:
    return DatasetError(
        f"{where}: the server refused the credentials ({why}): set AWS_ACCESS_KEY_ID and "
        "AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, to ones that may read it"
    )
