"""WebDataset shards: tar archives in which a photo's label and more stand beside it.

A sample is the files that share a name up to its suffix, one after the other: `000012.jpg` with
`000012.cls` (the identity alone) or `000012.json` (`identity`, `label` or `cls`; `person`,
`source` and `landmarks` are kept). `000012.txt` is a caption, and says nothing of identity.
Where neither says it, the photo's folder is its identity, as in the shards of the dataset form.
"""

import json
import posixpath
from collections.abc import Generator, Iterable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from facewright.datasets.images import is_image_name
from facewright.datasets.readers import Entry
from facewright.datasets.readers.annotations import parse_points
from facewright.datasets.readers.archives import read_archive
from facewright.errors import DatasetError

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


def read_shards(shards: Iterable[Path]) -> Generator[Entry]:
    """Every photo of these tars, one after the other; a name begins with its shard's.

    The dots that `form.member_name` wrote as %2E are dots again.

    Raises:
        DatasetError: see `read_archive` and `read_samples`.
    """
    for shard in shards:
        for entry in read_samples(read_archive(shard), source=shard.name):
            yield replace(entry, name=f"{shard.name.split('.tar')[0]}/{_plain(entry.name)}")


def _plain(name: str) -> str:
    """The inverse of `form.member_name`."""
    folder, slash, file = name.rpartition("/")
    return folder + slash + file.replace("%2E", ".").replace("%25", "%")


def read_samples(entries: Iterable[Entry], *, source: str) -> Generator[Entry]:
    """`entries` with what stands beside each photo put into it, and without those files.

    Holds one sample at a time, and passes on whatever has nothing beside it.

    Raises:
        DatasetError: a file beside a photo is too large, or not what its suffix says.
    """
    key, photo, beside = "", None, dict[str, Entry]()
    for entry in entries:
        stem, suffix = posixpath.splitext(entry.name)
        image = is_image_name(entry.name)
        if stem != key or (image and photo):
            yield from _sample(photo, beside, source=source)
            key, photo, beside = stem, None, beside if stem == key else {}
        if image:
            photo = _held(entry)
        elif suffix.lower() in SIDECARS:
            if entry.size > MAX_SIDECAR_BYTES:
                raise DatasetError(
                    f"{source}: {entry.name!r} claims {entry.size / 1e6:.0f} MB, and what stands "
                    "beside a photo ends at 1: remove it from the source"
                )
            beside[suffix.lower()] = _held(entry)
        else:
            yield entry
    yield from _sample(photo, beside, source=source)


def _held(entry: Entry) -> Entry:
    """The same with its bytes read, since they cannot be once the stream has gone on."""
    return replace(entry, read=partial(bytes, entry.read()))


def _sample(photo: Entry | None, beside: Mapping[str, Entry], *, source: str) -> Generator[Entry]:
    if photo is None:
        yield from beside.values()
    elif beside:
        identity, columns = _said(beside, source=source)
        yield replace(photo, identity=identity, columns=columns)
    else:
        yield photo


def _said(beside: Mapping[str, Entry], *, source: str) -> tuple[str | None, dict[str, Any]]:
    """(identity, columns) as the files beside a photo state them."""
    identity: str | None = None
    columns: dict[str, Any] = {}
    if entry := beside.get(".json"):
        where = f"{source}: {entry.name!r}"
        try:
            values = json.loads(entry.read())
        except (ValueError, RecursionError) as error:
            raise DatasetError(f"{where} is no JSON ({error}): correct it") from error
        if isinstance(values, dict):
            stated = (values[name] for name in ("identity", "label", "cls") if name in values)
            identity = _label(next(stated, None), where=where)
            columns = {name: str(values[name]) for name in ("person", "source") if values.get(name)}
            if values.get("landmarks") is not None:
                columns["landmarks"] = parse_points(values["landmarks"], where=where)
    if entry := beside.get(".cls"):
        where = f"{source}: {entry.name!r}"
        try:
            identity = _label(entry.read().decode().strip(), where=where)
        except UnicodeDecodeError as error:
            raise DatasetError(f"{where} is no text: correct it") from error
    return identity, columns


def _label(value: Any, *, where: str) -> str | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise DatasetError(f"{where}: its identity is neither a name nor a number: correct it")
    return str(value)
