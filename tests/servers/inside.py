"""What the servers hold, read past MLflow: rows by SQL, files from the bucket."""

from typing import Any

from tests.servers.seaweedfs import SeaweedFS
from tests.servers.stack import BUCKET, Stack


def rows(stack: Stack, statement: str, *values: Any) -> list[tuple[Any, ...]]:
    connection = stack.postgres.connect()
    try:
        with connection.cursor() as cursor:
            cursor.execute(statement, values)
            return list(cursor.fetchall())
    finally:
        connection.close()


def versions(stack: Stack, model: str) -> list[tuple[Any, ...]]:
    """Number, run, status of its run."""
    return rows(
        stack,
        "SELECT v.version, v.run_id, r.status FROM model_versions v "
        "LEFT JOIN runs r ON r.run_uuid = v.run_id WHERE v.name = %s ORDER BY v.version",
        model,
    )


def aliases(stack: Stack, model: str) -> dict[str, int]:
    found = rows(
        stack, "SELECT alias, version FROM registered_model_aliases WHERE name = %s", model
    )
    return dict(found)


def objects(store: SeaweedFS, inside: str = "") -> dict[str, int]:
    """Keys in the bucket that hold `inside`, and their sizes."""
    pages = store.client().get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
    found = {each["Key"]: each["Size"] for page in pages for each in page.get("Contents", [])}
    return {key: size for key, size in found.items() if inside in key}


def stored(store: SeaweedFS, run_id: str, path: str) -> bytes:
    (key,) = [key for key in objects(store, run_id) if key.endswith(f"/artifacts/{path}")]
    return bytes(store.client().get_object(Bucket=BUCKET, Key=key)["Body"].read())
