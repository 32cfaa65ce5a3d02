"""The tars of a dataset, member by member, for what reads, checks or rewrites a dataset."""

import hashlib
import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from facewright.datasets.tars import member_name, shard_path
from facewright.errors import DatasetError

BLOCK = tarfile.BLOCKSIZE


@dataclass(frozen=True)
class Member:
    """A file in a tar; all numbers are bytes from the tar's start, or a length."""

    name: str
    start: int  # of its first header
    offset: int  # of its content
    size: int

    @property
    def end(self) -> int:
        """Where the next member starts: contents are padded to whole blocks."""
        return self.offset + self.size + -self.size % BLOCK


def members(path: Path) -> Iterator[Member]:
    """The members of the tar `path` up to its end, or up to a damaged header.

    Raises:
        DatasetError: it cannot be read, is no tar, or is cut short.
    """
    try:
        with tarfile.open(path, "r:") as tar:
            while (found := tar.next()) is not None:
                tar.members.clear()  # type: ignore[attr-defined]  # it would keep every one
                yield Member(found.name, found.offset, found.offset_data, found.size)
    except (tarfile.TarError, OSError, ValueError) as error:
        raise DatasetError(
            f"{path} is no shard that can be read ({error}): import or pull it again"
        ) from error


def suffix_of(id: str, member: str) -> str:
    """What follows the id in the name of its member: `.jpg`.

    Raises:
        DatasetError: the member is not that of the id.
    """
    stem = member_name(id, "")
    suffix = member.removeprefix(stem)
    if not member.startswith(stem) or "/" in suffix or (suffix and suffix[0] != "."):
        raise DatasetError(f"{id!r} lies in a shard as {member!r}: import or pull it again")
    return suffix


def read_images(root: Path, manifest: pd.DataFrame) -> Iterator[tuple[str, bytes | None]]:
    """(suffix, bytes) of every row of `manifest`, in its order; ("", None) for a row without bytes.

    Shards are opened one after another where the rows are in the order of the shards, and one image
    is held at a time.

    Raises:
        DatasetError: a shard is damaged, or an image has not the digest of its row.
    """
    shard, there, file = "", dict[int, Member](), -1
    columns = (manifest[name] for name in ("id", "shard", "offset", "length", "sha256"))
    try:
        for id, named, offset, length, digest in zip(*columns, strict=True):
            if not named:
                yield "", None
                continue
            path = shard_path(root, named)
            if named != shard:
                if file >= 0:
                    os.close(file)
                    file = -1  # what comes next may fail
                there = {member.offset: member for member in members(path)}
                shard, file = named, os.open(path, os.O_RDONLY)
            member = there.get(offset)
            # Its size is known to be in the file; what the manifest says may be anything.
            data = os.pread(file, length, offset) if member and member.size == length else None
            if member is None or data is None or hashlib.sha256(data).hexdigest() != digest:
                raise DatasetError(
                    f"{path}: {id!r} is not the image that the manifest says: see "
                    f"`facewright dataset verify {root}`, then import or pull it again"
                )
            yield suffix_of(id, member.name), data
    finally:
        if file >= 0:
            os.close(file)
