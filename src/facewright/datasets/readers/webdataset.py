"""WebDataset shards: tar archives in which a photo's label and more stand beside it.

A sample is the files that share a name up to its suffix, one after the other: `000012.jpg` with
`000012.cls` (the identity alone) or `000012.json` (`identity`; `person`, `source` and `landmarks`
are kept). `000012.txt` is a caption, and says nothing of identity. Where neither says it, the
photo's folder is its identity, as in the shards of the dataset form; a photo in no folder may have
it as `label` or `cls` in its JSON too.
"""

import json
import posixpath
from collections.abc import Generator, Iterable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from facewright.datasets.images import is_hidden, is_image_name
from facewright.datasets.readers import Entry
from facewright.datasets.readers.annotations import parse_points
from facewright.datasets.readers.archives import read_archive
from facewright.errors import DatasetError
from facewright.progress import say

MAX_SIDECAR_BYTES = 1024 * 1024
SIDECARS = (".cls", ".json", ".txt")
SHARDS = (".tar", ".tar.gz", ".tgz")


def find_shards(folder: Path) -> list[Path]:
    """The tars in `folder` by name, if there is no folder and no image beside them; else none."""
    try:
        found = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError:
        return []  # `read_folder` says why
    if any(path.is_dir() or is_image_name(path.name) for path in found):
        return []
    return [path for path in found if path.name.lower().endswith(SHARDS)]


def shards_among(names: Iterable[str]) -> list[str]:
    """The tars among these names, if none of them lies in a folder or is an image; else none."""
    found = []
    for name in names:
        if "/" in name or is_image_name(name):
            return []
        if name.lower().endswith(SHARDS) and not is_hidden(name):
            found.append(name)
    return found


def read_shards(shards: Iterable[Path], *, source: str) -> Generator[Entry]:
    """Every photo of these tars, one after the other, with its shard's name without a suffix.

    The dots that `tars.member_name` wrote as %2E are dots again.

    Raises:
        DatasetError: see `read_archive` and `read_samples`.
    """
    entries = (
        replace(entry, name=_plain(entry.name), shard=_bare(shard.name))
        for shard in shards
        for entry in read_archive(shard)
    )
    return read_samples(entries, source=source)


def _bare(name: str) -> str:
    """A shard's name without its suffix."""
    return next(name[: -len(suffix)] for suffix in SHARDS if name.lower().endswith(suffix))


def _plain(name: str) -> str:
    """The inverse of `tars.member_name`."""
    folder, slash, file = name.rpartition("/")
    return folder + slash + file.replace("%2E", ".").replace("%25", "%")


def read_samples(entries: Iterable[Entry], *, source: str) -> Generator[Entry]:
    """`entries` with what stands beside each photo put into it, and without those files.

    Holds one sample at a time, and passes on whatever has nothing beside it. How many labels were
    not taken, since their photos lie in folders, is said aloud.

    A file beside a photo that is too large, or not what its suffix says, is passed on as nothing of
    a sample where the photo's folder says who it is.

    Raises:
        DatasetError: there is such a file beside a photo in no folder, or what one says of identity
            or landmarks makes no sense.
    """
    reader = _Samples(source)
    key, photo, beside = "", None, dict[str, Entry]()
    for entry in entries:
        stem, suffix = posixpath.splitext(entry.origin)
        image = is_image_name(entry.name)
        if stem != key or (image and photo):
            yield from reader.sample(photo, beside)
            key, photo, beside = stem, None, beside if stem == key else {}
        if image:
            photo = _held(entry)
        elif suffix.lower() in SIDECARS:
            if entry.size <= MAX_SIDECAR_BYTES:
                beside[suffix.lower()] = _held(entry)
            elif "/" in entry.name:
                yield entry  # as in a folder on disk, where nothing beside a photo is read
            else:
                raise DatasetError(
                    f"{source}: {entry.name!r} claims {entry.size / 1e6:.0f} MB, and what stands "
                    "beside a photo ends at 1: remove it from the source"
                )
        else:
            yield entry
    yield from reader.sample(photo, beside)
    if reader.labels:
        say(
            f"import {source}: {reader.labels} labels in JSON are not taken, first that of "
            f"{reader.first!r}: its photo lies in a folder, which is its identity"
        )


def _held(entry: Entry) -> Entry:
    """The same with its bytes read, since they cannot be once the stream has gone on."""
    return replace(entry, read=partial(bytes, entry.read()))


class _Samples:
    """Joins the files of each sample, and counts the labels that it does not take."""

    def __init__(self, source: str) -> None:
        self._source = source
        self.labels = 0
        self.first = ""

    def sample(self, photo: Entry | None, beside: Mapping[str, Entry]) -> Generator[Entry]:
        if photo is None:
            yield from beside.values()
        elif beside:
            read: dict[str, Any] = {}
            for suffix, entry in beside.items():
                try:
                    read[suffix] = _content(suffix, entry.read())
                except (ValueError, RecursionError) as error:
                    if "/" in photo.name:
                        yield entry
                        continue
                    kind = "JSON" if suffix == ".json" else "text"
                    raise DatasetError(
                        f"{self._source}: {entry.origin!r} is no {kind} ({error}): correct it"
                    ) from error
            identity, columns = self._said(photo, read, beside)
            yield replace(photo, identity=identity, columns=columns)
        else:
            yield photo

    def _said(
        self, photo: Entry, read: Mapping[str, Any], beside: Mapping[str, Entry]
    ) -> tuple[str | None, dict[str, Any]]:
        """(identity, columns) as what was `read` of the files beside a photo states them."""
        identity: str | None = None
        columns: dict[str, Any] = {}
        if isinstance(values := read.get(".json"), dict):
            where = f"{self._source}: {beside['.json'].origin!r}"
            if ".cls" not in read:
                identity = self._named(photo, values, where=where)
            kept = (name for name in ("person", "source") if values.get(name))
            columns = {name: str(values[name]) for name in kept}
            if values.get("landmarks") is not None:
                columns["landmarks"] = parse_points(values["landmarks"], where=where)
        return read.get(".cls", identity), columns

    def _named(self, photo: Entry, values: Mapping[str, Any], *, where: str) -> str | None:
        """`identity`, or where no folder says it `label` or `cls`, which may be of anything."""
        if values.get("identity") is not None:
            return _label(values["identity"], where=where)
        label = next((values[name] for name in ("label", "cls") if name in values), None)
        if label is None or "/" not in photo.name:
            return _label(label, where=where)
        self.labels += 1
        self.first = self.first or photo.origin
        return None


def _content(suffix: str, data: bytes) -> Any:
    """What a file beside a photo holds; a caption says nothing, and may be in any encoding."""
    if suffix == ".json":
        return json.loads(data)
    return data.decode().strip() if suffix == ".cls" else None


def _label(value: Any, *, where: str) -> str | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise DatasetError(f"{where}: its identity is neither a name nor a number: correct it")
    return str(value)
