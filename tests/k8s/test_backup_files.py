"""The copying of MLflow's files: what is left out, what is copied again, what is refused."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.k8s.rendering import FOLDER


@pytest.fixture(scope="module")
def files() -> ModuleType:
    path = FOLDER / "base" / "mlflow" / "files.py"
    spec = importlib.util.spec_from_file_location("files", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Bucket:
    """S3's client as far as files.py uses it, two objects per page."""

    def __init__(self, **objects: bytes) -> None:
        self.objects = objects
        self.fails = False

    def get_paginator(self, name: str) -> "Bucket":
        assert name == "list_objects_v2"
        return self

    def paginate(self, *, Bucket: str, Prefix: str) -> Iterator[dict[str, Any]]:
        keys = sorted(key for key in self.objects if key.startswith(Prefix))
        for first in range(0, len(keys), 2):
            yield {"Contents": [{"Key": key, "Size": len(self.objects[key])}
                                for key in keys[first:first + 2]]}  # fmt: skip
        yield {}

    def download_file(self, bucket: str, key: str, path: str) -> None:
        Path(path).write_bytes(self.objects[key][: 1 if self.fails else None])
        if self.fails:
            raise ConnectionError("the store is gone")

    def upload_file(self, path: str, bucket: str, key: str) -> None:
        self.objects[key] = Path(path).read_bytes()


def bucket(**objects: bytes) -> Bucket:
    made = Bucket()
    made.objects = {f"artifacts/{key}": value for key, value in objects.items()}
    made.objects["elsewhere/x"] = b"not ours"
    return made


def test_what_is_missing_or_was_cut_off_is_copied_and_nothing_else(
    files: ModuleType, tmp_path: Path
) -> None:
    store = bucket(a=b"one", b=b"two", c=b"three")
    store.objects |= {"artifacts/deep/er/d": b"four", "artifacts/folder/": b""}
    where = {"bucket": "mlflow", "prefix": "artifacts/", "folder": tmp_path}
    assert files.backup(store, **where) == 4
    assert files.backup(store, **where) == 0
    (tmp_path / "b").write_bytes(b"tw")
    assert files.backup(store, **where) == 1
    found = {each.relative_to(tmp_path).as_posix(): each.read_bytes()
             for each in tmp_path.rglob("*") if each.is_file()}  # fmt: skip
    assert found == {"a": b"one", "b": b"two", "c": b"three", "deep/er/d": b"four"}

    empty = Bucket()
    assert files.restore(empty, **where) == 4
    assert files.restore(empty, **where) == 0
    assert empty.objects == {f"artifacts/{key}": value for key, value in found.items()}


def test_a_download_that_breaks_off_leaves_no_file(files: ModuleType, tmp_path: Path) -> None:
    store = bucket(a=b"one")
    where = {"bucket": "mlflow", "prefix": "artifacts/", "folder": tmp_path}
    store.fails = True
    with pytest.raises(ConnectionError):
        files.backup(store, **where)
    assert not (tmp_path / "a").exists()
    assert files.restore(Bucket(), **where) == 0  # half a file is not sent either
    store.fails = False
    assert files.backup(store, **where) == 1


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/x", ""])
def test_no_name_leads_out_of_the_folder(files: ModuleType, tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="no name of a file"):
        files.place(tmp_path / "folder", name)
    assert files.place(tmp_path, "a/b.txt") == tmp_path.resolve() / "a" / "b.txt"
