"""What a dataset holds, in a few lines, and whether every byte is what the manifest says."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from facewright.datasets.form import MANIFEST, MANIFEST_COLUMNS, Dataset, all_datasets
from facewright.datasets.images import image_format
from facewright.datasets.pairs import pair_faults, template_faults
from facewright.datasets.shards import Member, members, suffix_of
from facewright.datasets.tars import SHARD, end_of_tar, member_header, shard_path
from facewright.errors import DatasetError
from facewright.progress import progress
from facewright.workers import map_in_order, usable_cores, worker_pool

CHUNK = 1 << 20  # bytes read at a time
ALONE = 256 * 1024**2  # bytes below which starting processes takes longer than reading
START = 12  # bytes by which an image's format is known
ROWS = ["id", "offset", "length", "sha256"]  # of a shard, that a process reads
Task = tuple[Path, str]  # folder of the dataset, and a shard


def show_datasets(folder: Path) -> str:
    """A dataset's card and counts, or a line for each of the datasets below `folder`.

    Raises:
        DatasetError: there is none, or a shard is missing.
    """
    found = all_datasets(folder)
    if len(found) == 1 and found[0].root == folder:
        return _aligned(_described(found[0]))
    lines = [["dataset", "kind", "images", "identities", "pairs", "MB", "licence"]]
    for dataset in found:
        pairs = "" if dataset.pairs is None else str(len(dataset.pairs))
        images, identities = len(dataset.manifest), dataset.manifest["identity"].nunique()
        size = f"{sum(_shard_sizes(dataset)) / 1e6:.1f}"
        name = dataset.root.relative_to(folder).as_posix()
        card = dataset.card
        lines.append([name, card.kind, str(images), str(identities), pairs, size, card.licence])
    return _aligned(lines)


def _described(dataset: Dataset) -> list[list[str]]:
    card, rows = dataset.card, dataset.manifest
    stored = rows[rows["shard"] != ""]
    bare = len(rows) - len(stored)
    counts = rows.groupby("identity").size()
    sizes = _shard_sizes(dataset)
    formats = _formats(dataset.root, stored)
    told = [
        ["name", card.name],
        ["kind", card.kind],
        ["source", card.source],
        ["digest of source", card.source_digest],
        ["licence", card.licence or "not stated"],
        ["consent", card.consent or "not stated"],
        ["collected", card.collected or "not stated"],
        ["images", str(len(rows)) + (f", {bare} of them rows without a picture" if bare else "")],
        ["identities", str(len(counts))],
        ["per identity", f"{counts.min()} to {counts.max()}, median {counts.median():g}"],
        ["formats", ", ".join(f"{name} {count}" for name, count in formats.items())],
    ]
    if {"width", "height"} <= set(rows.columns):
        known = stored[(stored["width"] > 0) & (stored["height"] > 0)]
        for side in ("width", "height"):
            low, middle, high = (known[side].quantile(q) for q in (0, 0.5, 1))
            told.append([side, f"{low:g} to {high:g} px, median {middle:g}" if len(known) else "?"])
    told.append(["shards", f"{len(sizes)}, {sum(sizes) / 1e6:.1f} MB"])
    if dataset.pairs is not None:
        genuine = int((dataset.pairs["label"] == 1).sum())
        told.append(
            [
                "pairs",
                f"{len(dataset.pairs)} in {dataset.pairs['fold'].nunique()} folds, "
                f"{genuine} genuine and {len(dataset.pairs) - genuine} impostor",
            ]
        )
    own = {*MANIFEST_COLUMNS, "width", "height", "origin"}
    if dataset.templates is not None:
        each = dataset.templates.groupby("template")
        photos, media = each.size(), each["media"].nunique()
        told.append(
            [
                "templates",
                f"{len(photos)}, each of {photos.min()} to {photos.max()} images, median "
                f"{photos.median():g}, and {media.min()} to {media.max()} media",
            ]
        )
    if more := [name for name in rows.columns if name not in own]:
        told.append(["more columns", ", ".join(more)])
    return [*told, ["digest of manifest", dataset.digest]]


def _aligned(lines: list[list[str]]) -> str:
    widths = [max(len(line[k]) for line in lines) for k in range(len(lines[0]))]
    padded = ("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)
    return "\n".join(padded)


def _shard_sizes(dataset: Dataset) -> list[int]:
    shards = [name for name in dataset.manifest["shard"].unique() if name]
    try:
        return [shard_path(dataset.root, shard).stat().st_size for shard in shards]
    except OSError as error:
        raise DatasetError(f"{error.filename} is missing: import or pull it again") from error


def _formats(root: Path, stored: pd.DataFrame) -> dict[str, int]:
    """Images by format, as the first bytes of each say; most frequent first."""
    counts: dict[str, int] = {}
    for shard, rows in stored.groupby("shard", sort=True):
        with (root / str(shard)).open("rb") as file:
            for offset in rows["offset"]:
                name = image_format(os.pread(file.fileno(), START, offset)) or "other"
                counts[name] = counts.get(name, 0) + 1
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def verify_datasets(folder: Path) -> list[str]:
    """Compare every byte of a dataset, or of all datasets below `folder`, with the manifests.

    Each image must lie where its row says, under its own name, with its digest; there must be no
    other bytes in the shards, no other files beside them, no id twice, no senseless pair or one
    that names an unknown image or template, and no wrong template. Returns what is wrong, a line
    each: none if nothing is.

    Raises:
        DatasetError: there is no dataset, or a card or manifest cannot be read.
    """
    found = all_datasets(folder)
    faults = [fault for dataset in found for fault in _table_faults(dataset)]
    size = sum(int(dataset.manifest["length"].sum()) for dataset in found)
    shards = sum(len(_known_shards(dataset)) for dataset in found)
    checked = _checked(_tasks(found), workers=min(usable_cores(), shards) if size > ALONE else 1)
    for some in progress(checked, total=shards, label="verify shards"):
        faults += some
    return faults


def _known_shards(dataset: Dataset) -> list[str]:
    named = (str(name) for name in dataset.manifest["shard"].unique())
    return sorted(name for name in named if SHARD.fullmatch(name))


def _tasks(datasets: list[Dataset]) -> Iterator[Task]:
    for dataset in datasets:
        for shard in _known_shards(dataset):
            yield dataset.root, shard


def _checked(tasks: Iterator[Task], *, workers: int) -> Iterator[list[str]]:
    if workers < 2:
        yield from map(_shard_faults, tasks)
        return
    with worker_pool("verify", workers=workers) as pool:
        yield from map_in_order(pool, _shard_faults, tasks, ahead=2 * workers)


def _table_faults(dataset: Dataset) -> list[str]:
    """What is wrong with the tables and the names of files, before any shard is read."""
    root, rows = dataset.root, dataset.manifest
    faults = [f"{root}: two rows have the id {id!r}" for id in _twice(rows["id"])]
    if "status" not in rows.columns:  # else they are crops, whose people validate may have moved
        named_by = zip(rows["id"], rows["identity"], strict=True)
        odd_ids = [(id, who) for id, who in named_by if not id.startswith(f"{who}/")]
        faults += [f"{root}: the id {id!r} is not one of {who!r}" for id, who in odd_ids]
    bare = rows["shard"] == ""
    wrong = rows[bare & ((rows["length"] != 0) | (rows["sha256"] != ""))]
    faults += [f"{root}: {id!r} has bytes and no shard" for id in wrong["id"]]
    named = {str(name) for name in rows.loc[~bare, "shard"].unique()}
    odd = sorted(name for name in named if not SHARD.fullmatch(name))
    faults += [f"{root}: the manifest names a shard {name!r}" for name in odd]
    files = (root / "shards").iterdir() if (root / "shards").is_dir() else ()
    unlisted = sorted({f"shards/{file.name}" for file in files} - named)
    faults += [f"{root}: {name} is in no row of the manifest" for name in unlisted]
    if dataset.pairs is None:
        if dataset.card.kind == "verification":
            faults.append(f"{root}: a verification set without pairs")
        return faults
    known, what = rows["id"], "image"
    if dataset.templates is not None:
        known, what = dataset.templates["template"], "template"
        faults += [f"{root}: {fault}" for fault in template_faults(dataset.templates, images=rows)]
    for side in ("a", "b"):
        missing = sorted(set(dataset.pairs[side].unique()) - set(known))
        faults += [f"{root}: a pair names {id!r}, which is no {what}" for id in missing]
    return faults + [f"{root}: {fault}" for fault in pair_faults(dataset.pairs)]


def _twice(ids: "pd.Series[str]") -> list[str]:
    return sorted(ids[ids.duplicated()].unique())


def _shard_faults(task: Task) -> list[str]:
    """What is wrong with one shard."""
    root, shard = task
    path = root / shard
    # Only the rows of this shard: Parquet knows which parts of the manifest have them.
    rows = pd.read_parquet(root / MANIFEST, columns=ROWS, filters=[("shard", "==", shard)])
    columns = (rows[name].tolist() for name in ROWS)
    wanted = {
        offset: (id, length, digest) for id, offset, length, digest in zip(*columns, strict=True)
    }
    faults = []
    if len(wanted) < len(rows):
        faults.append(f"{path}: {len(rows) - len(wanted)} rows have another row's offset")
    end = 0
    try:
        with path.open("rb") as file:
            for member in members(path):
                end = member.end
                found = wanted.pop(member.offset, None)
                if found is None:
                    faults.append(f"{path}: {member.name!r} is in no row of the manifest")
                else:
                    faults += _member_faults(path, file.fileno(), member, *found)
            faults += [f"{path}: {id!r} is not where its row says" for id, _, _ in wanted.values()]
            size = os.fstat(file.fileno()).st_size
            zeros = all(not part.strip(b"\0") for part in _parts(file.fileno(), end, size))
            if not zeros or size - end != len(end_of_tar(end)):
                faults.append(f"{path}: more than its images, or a damaged end, at byte {end}")
    except OSError as error:
        faults.append(f"{path} cannot be read ({error.strerror})")
    except DatasetError as error:
        faults.append(str(error))
    return faults


def _member_faults(
    path: Path, file: int, member: Member, id: str, length: int, digest: str
) -> list[str]:
    faults = []
    try:
        suffix_of(id, member.name)
    except DatasetError as error:
        faults.append(f"{path}: {error}")
    header = member_header(member.name, member.size)
    found = os.pread(file, len(header), member.start)
    if found != header or member.offset != member.start + len(header):
        faults.append(f"{path}: the header of {id!r} is not as import writes it")
    if member.size != length:
        return [*faults, f"{path}: {id!r} has {member.size} bytes, and {length} in its row"]
    total = hashlib.sha256()
    for part in _parts(file, member.offset, member.offset + length):
        total.update(part)
    if total.hexdigest() != digest:
        faults.append(f"{path}: {id!r} has not the digest of its row")
    if any(os.pread(file, member.end - member.offset - length, member.offset + length)):
        faults.append(f"{path}: there are bytes behind {id!r}")
    return faults


def _parts(file: int, start: int, end: int) -> Iterator[bytes]:
    while start < end and (part := os.pread(file, min(CHUNK, end - start), start)):
        start += len(part)
        yield part
