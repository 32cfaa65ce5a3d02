"""New datasets from datasets: several joined, or a part of one. Every image keeps its bytes."""

import csv
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from facewright.datasets.form import (
    PAIR_COLUMNS,
    Dataset,
    DatasetWriter,
    check_output,
    joined_card,
    open_dataset,
)
from facewright.datasets.names import is_label
from facewright.datasets.readers import checked_name
from facewright.datasets.readers.lfw import read_people
from facewright.datasets.shards import read_images
from facewright.errors import DatasetError
from facewright.files import whole_directory
from facewright.progress import progress, say

RENAME_COLUMNS = ["dataset", "from", "to"]
STORED = ("shard", "offset", "length", "sha256")  # what the writer states anew
Renames = dict[tuple[str, str], str]  # (dataset, identity) to identity


def merge_datasets(output: Path, roots: Sequence[Path], *, rename: Path | None = None) -> Dataset:
    """Join datasets of one kind into the dataset folder `output`, in the order given.

    Identities of one name are one person, unless `rename` says otherwise: a CSV file with the
    columns dataset (name of the folder), from and to. Numbers that are no names (`0000045`) and
    stand in several datasets are several people: each becomes `DATASET-0000045`. An image whose id
    is taken becomes `IDENTITY/DATASET-STEM`, or `IDENTITY/DATASET-OLD-STEM` where the identity was
    renamed. A column `dataset` says where each image was.
    Pairs keep their folds.

    Raises:
        DatasetError: kinds or names of folders that do not fit, a line of `rename` that names
            nothing, ids that are taken twice all the same, pairs that a renaming contradicts, or
            an image that is not what its manifest says.
    """
    if len(roots) < 2:
        raise DatasetError("one dataset is nothing to merge: name two or more")
    check_output(output, sources=roots)
    datasets = [open_dataset(root) for root in roots]
    names = [dataset.root.resolve().name for dataset in datasets]
    kinds = sorted({dataset.card.kind for dataset in datasets})
    if len(kinds) > 1:
        raise DatasetError(f"{' and '.join(kinds)} cannot be merged: name datasets of one kind")
    if len(set(names)) < len(names):
        raise DatasetError(f"two of the datasets are named alike ({', '.join(names)}): rename one")
    renames = _prefixed(names, datasets)
    renames |= _read_renames(rename, names=names, datasets=datasets) if rename else {}

    taken: set[str] = set()
    tables, pairs, images = [], [], []
    for name, dataset in zip(names, datasets, strict=True):
        table, ids = _renamed(dataset.manifest, dataset=name, renames=renames, taken=taken)
        taken.update(table["id"])
        tables.append(table)
        images.append(read_images(dataset.root, dataset.manifest))
        if dataset.pairs is not None:
            sides = {side: dataset.pairs[side].map(ids) for side in ("a", "b")}
            pairs.append(dataset.pairs[PAIR_COLUMNS].assign(**sides))
    joined = pd.concat(pairs, ignore_index=True) if pairs else None
    if joined is not None:
        _check_labels(joined, tables)
    card = joined_card(
        [dataset.card for dataset in datasets], kind=kinds[0], name=output.resolve().name
    )
    with whole_directory(output) as folder, DatasetWriter(folder) as writer:
        for name, table, stream in zip(names, tables, images, strict=True):
            _copy(writer, table, stream, label=f"merge {name}")
        writer.finish(card, pairs=joined)
    return open_dataset(output)


def _prefixed(names: list[str], datasets: list[Dataset]) -> Renames:
    """New names for the labels that stand in several datasets."""
    where: dict[str, list[str]] = {}
    for name, dataset in zip(names, datasets, strict=True):
        for identity in sorted(dataset.manifest["identity"].unique()):
            if is_label(identity):
                where.setdefault(identity, []).append(name)
    shared = {identity: found for identity, found in where.items() if len(found) > 1}
    if shared:
        say(
            f"merge: {len(shared)} identities are numbers in several datasets, and several people: "
            f"{next(iter(shared))!r} becomes {names[0]}-{next(iter(shared))} and so on"
        )
    return {(name, id): f"{name}-{id}" for id, found in shared.items() for name in found}


def _read_renames(path: Path, *, names: list[str], datasets: list[Dataset]) -> Renames:
    known = {
        name: set(dataset.manifest["identity"])
        for name, dataset in zip(names, datasets, strict=True)
    }
    renames: Renames = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            if next(reader, None) != RENAME_COLUMNS:
                raise DatasetError(f"{path}: the first line must be {','.join(RENAME_COLUMNS)}")
            for row in reader:
                where = f"{path}, line {reader.line_num}"
                if not row:
                    continue
                if len(row) != 3 or checked_name(row[2], source=where) != row[2] or not row[2]:
                    raise DatasetError(f"{where}: {row} is not dataset, from, to: correct it")
                dataset, old, new = row
                if dataset not in known:
                    raise DatasetError(
                        f"{where}: {dataset!r} is none of {', '.join(names)}: correct the name"
                    )
                if old not in known[dataset]:
                    raise DatasetError(
                        f"{where}: {dataset} has no identity {old!r}: correct the name"
                    )
                if (dataset, old) in renames or "/" in new:
                    raise DatasetError(
                        f"{where}: {old!r} is renamed twice, or to a path: correct the line"
                    )
                renames[dataset, old] = new
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{path} cannot be read as CSV ({error}): check the file") from error
    return renames


def _renamed(
    manifest: pd.DataFrame, *, dataset: str, renames: Renames, taken: set[str]
) -> tuple[pd.DataFrame, dict[str, str]]:
    """The manifest under its new names, and new ids by old ones."""
    identities, ids = [], []
    moved = 0
    own = set(manifest["id"])
    used = set(taken)
    for id, old in zip(manifest["id"], manifest["identity"], strict=True):
        identity = renames.get((dataset, old), old)
        stem = id.removeprefix(f"{old}/")
        new = id if identity == old else f"{identity}/{stem}"
        if new in used or (identity != old and new in own):
            moved += 1
            new = f"{identity}/{dataset}-{stem if identity == old else f'{old}-{stem}'}"
        used.add(new)
        identities.append(identity)
        ids.append(new)
    if moved:
        say(f"merge: {moved} ids of {dataset} were taken; {dataset}- stands before their stems")
    table = manifest.drop(columns=list(STORED)).assign(id=ids, identity=identities)
    if "dataset" not in table.columns:
        table["dataset"] = dataset
    return table, dict(zip(manifest["id"], ids, strict=True))


def _check_labels(pairs: pd.DataFrame, tables: list[pd.DataFrame]) -> None:
    """A renaming may have made one person of two whom an impostor pair compares."""
    identity = {id: name for t in tables for id, name in zip(t["id"], t["identity"], strict=True)}
    same = pairs["a"].map(identity) == pairs["b"].map(identity)
    if len(wrong := pairs[same != (pairs["label"] == 1)]):
        first = wrong.iloc[0]
        raise DatasetError(
            f"merge: the pair {first['a']!r}, {first['b']!r} has label {first['label']}, and the "
            f"identities say otherwise ({len(wrong)} such pairs): correct the file of renamings"
        )


def subset_dataset(
    root: Path,
    output: Path,
    *,
    people: Path | None = None,
    images: Path | None = None,
    min_images: int | None = None,
    identities: int | None = None,
    per_identity: int | None = None,
) -> Dataset:
    """Write the part of the dataset `root` that all of the conditions keep, in this order.

    Args:
        people: a list of identities (see `readers.lfw.read_people`).
        images: a list of ids, one a line.
        min_images: identities with fewer images go.
        identities: this many stay: those whose names have the smallest sha256. No chance is
            involved, and when the dataset grows, most of the chosen stay chosen.
        per_identity: this many images of each stay, by the sha256 of their ids.

    Pairs that lose an image go too, and are counted aloud.

    Raises:
        DatasetError: no condition, a list that names nothing here, nothing left, or an image that
            is not what its manifest says.
    """
    conditions = (people, images, min_images, identities, per_identity)
    if all(condition is None for condition in conditions):
        raise DatasetError("subset of what? Give a list or a number: see `dataset subset --help`")
    for number in conditions[2:]:
        if number is not None and int(str(number)) < 1:
            raise DatasetError(f"subset: {number} leaves nothing: give a number of 1 or more")
    check_output(output, sources=[root])
    dataset = open_dataset(root)
    rows = dataset.manifest
    if people:
        rows = rows[rows["identity"].isin(set(read_people(people)))]
    if images:
        rows = rows[rows["id"].isin(_read_ids(images, known=set(dataset.manifest["id"])))]
    if min_images:
        rows = rows[rows.groupby("identity")["id"].transform("size") >= min_images]
    if identities:
        names = sorted(rows["identity"].unique(), key=_order)[:identities]
        rows = rows[rows["identity"].isin(set(names))]
    if per_identity:
        places = rows["id"].map(_order).groupby(rows["identity"]).rank(method="first")
        rows = rows[places <= per_identity]
    if rows.empty:
        raise DatasetError(f"{root}: the conditions leave no image: give other ones")
    pairs = dataset.pairs
    if pairs is not None:
        kept = set(rows["id"])
        pairs = pairs[pairs["a"].isin(kept) & pairs["b"].isin(kept)]
        if pairs.empty:
            raise DatasetError(f"{root}: the conditions leave no pair: keep images of more people")
        if gone := len(dataset.pairs) - len(pairs):  # type: ignore[arg-type]
            say(
                f"subset {root}: {gone} of {len(pairs) + gone} pairs lost an image and were dropped"
            )
    with whole_directory(output) as folder, DatasetWriter(folder) as writer:
        table = rows.drop(columns=list(STORED))
        _copy(writer, table, read_images(root, rows), label=f"subset {root.name}")
        card = asdict(dataset.card) | {"name": output.resolve().name}
        writer.finish(card, pairs=pairs)
    return open_dataset(output)


def _read_ids(path: Path, *, known: set[str]) -> set[str]:
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path} cannot be read as text ({error}): check the path") from error
    ids = [line.removesuffix("\r") for line in lines]
    for number, id in enumerate(ids, start=1):
        if id and id not in known:
            raise DatasetError(f"{path}, line {number}: no image is named {id!r}: correct it")
    return set(ids) - {""}


def _order(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def _copy(
    writer: DatasetWriter,
    table: pd.DataFrame,
    images: Iterator[tuple[str, bytes | None]],
    *,
    label: str,
) -> None:
    """Add the rows of `table` with their `images`, one at a time."""
    columns = [str(name) for name in table.columns]
    rows = table.itertuples(index=False, name=None)
    both = zip(rows, images, strict=True)
    for row, (suffix, data) in progress(both, total=len(table), label=label):
        writer.add(data=data, suffix=suffix, **dict(zip(columns, row, strict=True)))
