"""Artifacts of MLflow between its bucket and the backup volume: `files.py backup` or `restore`.

Only what is missing, or has another size, is copied: artifacts are written once. Nothing is
deleted on either side. A bucket that was lost with its files is made anew. Runs in MLflow's image,
which has boto3; the bucket comes from MLFLOW_ARTIFACTS_DESTINATION.
"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

FOLDER = "artifacts"


def objects(client: Any, bucket: str, prefix: str) -> Iterator[tuple[str, int]]:
    """Path below the prefix, and size in bytes, of each object."""
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    for page in pages:
        for each in page.get("Contents", []):
            yield each["Key"].removeprefix(prefix), each["Size"]


def place(folder: Path, name: str) -> Path:
    """The file of an object; no name leads out of the folder."""
    folder = folder.resolve()
    path = folder / name
    if path.resolve() != path or folder not in path.parents or name.endswith("/"):
        raise ValueError(f"{name!r} is no name of a file")
    return path


def backup(client: Any, *, bucket: str, prefix: str, folder: Path) -> int:
    """Bring what is not in the folder yet; returns the number of files that came."""
    came = 0
    for name, size in objects(client, bucket, prefix):
        if name.endswith("/"):  # a folder's mark, which some tools make
            continue
        path = place(folder, name)
        if path.is_file() and path.stat().st_size == size:
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.partial")
        client.download_file(bucket, prefix + name, str(partial))
        partial.replace(path)
        came += 1
    return came


def restore(client: Any, *, bucket: str, prefix: str, folder: Path) -> int:
    """Send what is not in the bucket yet; returns the number of files that went."""
    there = dict(objects(client, bucket, prefix))
    went = 0
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path.name.endswith(".partial"):
            continue
        name = path.relative_to(folder).as_posix()
        if there.get(name) != path.stat().st_size:
            client.upload_file(str(path), bucket, prefix + name)
            went += 1
    return went


def have_bucket(client: Any, bucket: str) -> None:
    """Make the bucket unless it is there."""
    try:
        client.head_bucket(Bucket=bucket)
    except client.exceptions.ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
            raise
        client.create_bucket(Bucket=bucket)


def main(verb: str, root: Path) -> None:
    import boto3

    where = urlsplit(os.environ["MLFLOW_ARTIFACTS_DESTINATION"])
    client = boto3.client("s3", endpoint_url=os.environ.get("MLFLOW_S3_ENDPOINT_URL") or None)
    copy = {"backup": backup, "restore": restore}[verb]
    if verb == "restore":
        have_bucket(client, where.netloc)
    prefix = where.path.strip("/") + "/" if where.path.strip("/") else ""
    number = copy(client, bucket=where.netloc, prefix=prefix, folder=root / FOLDER)
    print(f"{verb}: {number} files", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
