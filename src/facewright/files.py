"""Folders that are whole or absent, and digests of what they hold."""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from facewright.errors import StorageError

PACKAGE = Path(__file__).parent
SHOWN = 300  # characters of a path in a message


@contextmanager
def storage_errors(where: Path) -> Iterator[None]:
    """Turn what disks and paths refuse (no space, no permission, no such name) into one line."""
    try:
        yield
    except Exception as error:
        number = error.errno if isinstance(error, OSError) else None
        # Some libraries (safetensors, sqlite) have errors of their own and keep just the words.
        full = any(words in str(error).lower() for words in ("no space left", "disk is full"))
        if number in (errno.ENOSPC, errno.EDQUOT) or full:
            raise StorageError(
                f"the disk is full while writing {where}: free some space and run it again"
            ) from error
        if number in (errno.EACCES, errno.EROFS, errno.EPERM):
            named = getattr(error, "filename", None) or where
            raise StorageError(
                f"{named} cannot be read or written: check its permissions"
            ) from error
        if number in (errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG):
            named = str(getattr(error, "filename", None) or where)
            shown = named if len(named) < SHOWN else f"{named[:SHOWN]}…"
            raise StorageError(
                f"{shown} cannot be written ({os.strerror(number)}): name another folder"
            ) from error
        raise


@contextmanager
def whole_directory(path: Path, *, lasting: bool = False) -> Iterator[Path]:
    """Give a folder beside `path` to fill; it becomes `path` only if all went well.

    A failure removes it again. A process killed in the middle leaves `.NAME.partial`, which the
    next run removes first; `path` itself is never half written. What is `lasting` is on the
    disk, and its name too, once this is over: for whoever then removes what it was made from.

    Raises:
        StorageError: the disk or the path refuses, or `path` is the folder that the process is in.
    """
    if Path.cwd().is_relative_to(path.resolve()):
        raise StorageError(
            f"the output {str(path)!r} is the folder that you are in, or holds it: name a folder "
            "inside it"
        )
    if path.name == "..":
        path = path.resolve()
    partial = path.with_name(f".{path.name}.partial")
    replaced = path.with_name(f".{path.name}.replaced")
    with storage_errors(path):
        if replaced.exists() and not path.exists():
            replaced.rename(path)  # killed between the two renames below
        shutil.rmtree(replaced, ignore_errors=True)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        try:
            yield partial
            if lasting:
                for inside in (*partial.rglob("*"), partial):
                    sync_to_disk(inside)
            if path.exists():
                path.rename(replaced)
            partial.rename(path)
            if lasting:
                sync_to_disk(path.parent)
            shutil.rmtree(replaced, ignore_errors=True)
        except BaseException:
            if replaced.exists() and not path.exists():
                replaced.rename(path)
            shutil.rmtree(partial, ignore_errors=True)
            raise


def write_json(path: Path, value: Any) -> None:
    """JSON with sorted keys and a final newline; `path` is whole or untouched."""
    _write_text(path, json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n")


def write_yaml(path: Path, value: Any) -> None:
    """YAML in the order given; `path` is whole or untouched."""
    _write_text(path, yaml.safe_dump(value, sort_keys=False, allow_unicode=True))


def _write_text(path: Path, text: str) -> None:
    with storage_errors(path):
        partial = path.with_name(f".{path.name}.partial")
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)


def sync_to_disk(path: Path) -> None:
    """Make a file, or what a folder lists, survive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def file_digest(path: Path) -> str:
    """sha256 of a file's bytes, as 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def directory_digest(path: Path, *, pattern: str = "**/*") -> str:
    """sha256 over the names and digests of the files below `path`, in sorted order."""
    total = hashlib.sha256()
    for file in sorted(path.glob(pattern)):
        if file.is_file():
            total.update(f"{file.relative_to(path).as_posix()}\0{file_digest(file)}\n".encode())
    return total.hexdigest()


def code_digest(*rooms: str) -> str:
    """sha256 over the source of the named rooms (`models`, `training`, …) of this package."""
    total = hashlib.sha256()
    for room in sorted(rooms):
        total.update(directory_digest(PACKAGE / room, pattern="**/*.py").encode())
    return total.hexdigest()


def values_digest(values: Any) -> str:
    """sha256 of plain values (numbers, strings, lists, mappings) in one canonical form."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
