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
from facewright.progress import say

SCHEME = "s3://"
CONNECT_SECONDS, READ_SECONDS = 5, 30
ATTEMPTS = 3  # at one request, and at one object that breaks off
THREADS = 8  # that may read at once
CHANGED = (
    "it is not there, or was changed or removed while it was read: check the URL, and import it "
    "again once nobody writes there"
)


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
    """The object `name` in the folder that `bucket.prefix` lies in; its size is not asked for.

    Raises:
        DatasetError: the name leads out of that folder.
    """
    if name.startswith("/") or ".." in name.split("/"):
        raise DatasetError(
            f"{where}: {name!r} leads out of the list's folder in the bucket: put the list above "
            "the photos, and write paths from there"
        )
    name = checked_name(name, source=where)  # without ./
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
                raise DatasetError(f"{where}: {CHANGED}")
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
    """The object that the prefix names, as a file in `folder`; says how large it is.

    Raises:
        DatasetError: as `read_bucket`, or there is no such object.
    """
    file = folder / posixpath.basename(bucket.prefix)
    with s3_errors(bucket.url), storage_errors(file):
        size = bucket.client.head_object(Bucket=bucket.name, Key=bucket.prefix)["ContentLength"]
        say(f"import {bucket.url}: downloading {size / 1e6:.1f} MB to {folder}")
        bucket.client.download_file(bucket.name, bucket.prefix, str(file))
    return file


@contextmanager
def s3_errors(where: str) -> Iterator[None]:
    """Turn boto3's errors about `where` into one line each."""
    from boto3.exceptions import Boto3Error  # type: ignore[import-untyped]
    from botocore.exceptions import BotoCoreError, ClientError  # type: ignore[import-untyped]

    try:
        yield
    except (ClientError, BotoCoreError, Boto3Error, ValueError) as error:
        why = explain_s3(error)
        if why is None and isinstance(error, ClientError):
            gone = _status(error) in (404, 412)
            why = CHANGED if gone else f"the server refused ({error}): check the request"
        raise DatasetError(
            f"{where}: {why}"
            if why
            else f"{where} cannot be read ({error}): check boto3's settings"
        ) from error


def explain_s3(error: BaseException, *, silent: tuple[type[BaseException], ...] = ()) -> str | None:
    """What an error of an S3 client, or one raised from it, means; None for any other.

    Args:
        silent: what another client than boto3 raises where the server does not answer.
    """
    from botocore import exceptions as aws  # type: ignore[import-untyped]

    silent += (aws.HTTPClientError, aws.ConnectionError, aws.IncompleteReadError)
    for cause in _causes(error):
        if isinstance(cause, (aws.NoCredentialsError, aws.PartialCredentialsError)):
            return (
                "no credentials were found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or "
                "AWS_PROFILE"
            )
        if isinstance(cause, aws.ClientError) and (why := _refusal(cause)):
            return why
        if isinstance(cause, silent):
            return (
                f"the server does not answer ({type(cause).__name__}): check that it runs and the "
                "endpoint's URL, and run it again"
            )
    return None


def _refusal(error: Any) -> str | None:
    """What the server's answer means, by its code and status, wherever it is said."""
    code, status = str(error.response.get("Error", {}).get("Code", "")), _status(error)
    # A list that is not found is a bucket's, or that of a server which is none of S3.
    if code == "NoSuchBucket" or (code == "404" and error.operation_name == "ListObjectsV2"):
        return "there is no such bucket: create it, or correct its name and the endpoint's URL"
    if status in (401, 403):
        return (
            f"the server refuses these credentials ({code}): check the access key and its "
            "secret, that they may use the bucket, and this machine's clock"
        )
    if status is not None and status >= 500:
        return f"the server is in trouble ({code or status}): run it again"
    return None


def _status(error: Any) -> int | None:
    status: int | None = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return status


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
