"""Where images come from: a module per family of sources, each a stream of `Entry`.

A reader never writes, holds one image at a time, and refuses names that could lead outside.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from facewright.datasets.images import is_image_name
from facewright.errors import DatasetError

MAX_IMAGE_BYTES = 256 * 1024 * 1024  # no photo is larger; an archive may claim anything


@dataclass(frozen=True)
class Entry:
    """One file of a source. `read` gives its bytes, and must be called before the next entry."""

    name: str  # path inside the source, with forward slashes
    size: int  # bytes; 0 where nobody knows
    read: Callable[[], bytes]
    identity: str | None = None  # where the source states it; else it is the folder's name
    columns: Mapping[str, Any] = field(default_factory=dict)  # more for the manifest; see `form`
    shard: str = ""  # the file that it lies in, where a source is several

    @property
    def origin(self) -> str:
        """Where it lies in the source, for the manifest."""
        return f"{self.shard}/{self.name}" if self.shard else self.name


def checked_name(name: str, *, source: str) -> str:
    """`name` without a leading `./`, if it stays inside the source.

    Raises:
        DatasetError: it is absolute, climbs with `..`, or is one that `plain_name` refuses.
    """
    plain_name(name, source=source)
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in parts:
        raise DatasetError(
            f"{source}: {name!r} leads outside the archive: pack it again with relative paths"
        )
    return "/".join(parts)


def plain_name(name: str, *, source: str) -> None:
    """Refuse a name that another system would read as another path, or that is no text."""
    drive = len(name) > 1 and name[1] == ":" and name[0].isascii() and name[0].isalpha()
    if drive or "\\" in name or "\0" in name:
        raise DatasetError(
            f"{source}: {name!r} has a backslash, a drive's letter or a zero in its path: rename "
            "it, with forward slashes between folders"
        )
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise DatasetError(
            f"{source}: the name {name!r} is not UTF-8: rename it in the source"
        ) from error


def checked_size(entry: Entry, *, source: str) -> Entry:
    """`entry`, if it is no image (those are never read) or no larger than a photo can be."""
    if entry.size > MAX_IMAGE_BYTES and is_image_name(entry.name):
        raise DatasetError(
            f"{source}: {entry.name!r} claims {entry.size / 1e6:.0f} MB, and images end at "
            f"{MAX_IMAGE_BYTES / 1e6:.0f}: remove it from the source"
        )
    return entry


@contextmanager
def readable(where: object) -> Iterator[None]:
    """Turn what the system says while the file `where` is read into one line."""
    try:
        yield
    except OSError as error:
        raise DatasetError(
            f"{where} cannot be read ({error.strerror}): check it and its permissions"
        ) from error
