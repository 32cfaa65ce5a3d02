"""New datasets from datasets: several joined, or a part of one. Every image keeps its bytes."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pandas.api.types import is_integer_dtype

from facewright.datasets.card import DatasetCard, joined_card
from facewright.datasets.form import MANIFEST, Dataset, DatasetWriter, check_output, open_dataset
from facewright.datasets.names import check_identity, tell_apart
from facewright.datasets.pairs import PAIR_COLUMNS, check_labels, lost_rows
from facewright.datasets.readers.annotations import PhotoNames, read_photo_names
from facewright.datasets.readers.lfw import read_people
from facewright.datasets.readers.text import csv_rows
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
    stand in several datasets are several people, where the column `person` does not say that they
    are one: each becomes `DATASET-0000045`. Where `to` is such a number, it is that of the line's
    dataset. An image whose id
    is taken becomes `IDENTITY/DATASET-STEM`, or `IDENTITY/DATASET-OLD-STEM` where the identity was
    renamed. A column `merged_from` says where each image was.
    Pairs keep their folds.

    Raises:
        DatasetError: kinds or names of folders that do not fit, a set with templates, a line of
            `rename` that names nothing, ids that are taken twice all the same, pairs that a
            renaming contradicts, or an image that is not what its manifest says.
    """
    if len(roots) < 2:
        raise DatasetError("one dataset is nothing to merge: name two or more")
    check_output(output, sources=roots)
    datasets = [open_dataset(root) for root in roots]
    names = [dataset.root.resolve().name for dataset in datasets]
    kinds = sorted({dataset.card.kind for dataset in datasets})
    if len(kinds) > 1:
        raise DatasetError(f"{' and '.join(kinds)} cannot be merged: name datasets of one kind")
    for dataset in datasets:
        if dataset.templates is not None:
            raise DatasetError(f"{dataset.root} has templates, which are not merged: leave it out")
    if len(set(names)) < len(names):
        raise DatasetError(f"two of the datasets are named alike ({', '.join(names)}): rename one")
    renames = _prefixed(names, datasets)
    if rename:
        renames |= _read_renames(rename, names=names, datasets=datasets, prefixed=renames)

    taken: set[str] = set()
    tables, pairs, images = [], [], []
    changed = []  # pairs that were of one identity and are not, or the other way round
    for name, dataset in zip(names, datasets, strict=True):
        table, ids = _renamed(_rows(dataset), dataset=name, renames=renames, taken=taken)
        taken.update(table["id"])
        tables.append(table)
        images.append(read_images(dataset.root, dataset.manifest))
        if dataset.pairs is not None:
            sides = {side: dataset.pairs[side].map(ids) for side in ("a", "b")}
            pairs.append(dataset.pairs[PAIR_COLUMNS].assign(**sides))
            was = _one_identity(dataset.pairs, dataset.manifest)
            changed.append(pairs[-1][was != _one_identity(pairs[-1], table)])
    joined = pd.concat(pairs, ignore_index=True) if pairs else None
    if joined is not None:
        # Labels that contradict the identities from the start, as in a `.bin`, are kept so.
        of = {i: who for t in tables for i, who in zip(t["id"], t["identity"], strict=True)}
        check_labels(pd.concat(changed), of.__getitem__, where=str(rename or "merge"))
    card = joined_card(
        [dataset.card for dataset in datasets], kind=kinds[0], name=output.resolve().name
    )
    with whole_directory(output) as folder, DatasetWriter(folder) as writer:
        for name, table, stream in zip(names, tables, images, strict=True):
            _copy(writer, table, stream, label=f"merge {name}")
        writer.finish(card, pairs=joined)
    return Dataset(root=output, card=DatasetCard(**card))


def _one_identity(pairs: pd.DataFrame, manifest: pd.DataFrame) -> "pd.Series[bool]":
    """Which pairs are of one identity."""
    of = manifest.set_index("id")["identity"]
    return pairs["a"].map(of) == pairs["b"].map(of)


def _prefixed(names: list[str], datasets: list[Dataset]) -> Renames:
    """New names for the labels that are several people in several datasets."""
    stated = [
        (name, *row)
        for name, dataset in zip(names, datasets, strict=True)
        for row in _known(dataset)
    ]
    whose = tell_apart(stated)
    if whose:
        (_, first), owner = next(iter(whose.items()))
        say(
            f"merge: {len({label for _, label in whose})} identities are numbers in several "
            f"datasets, and several people: {first!r} becomes {owner}-{first} and so on"
        )
    return {place: f"{owner}-{place[1]}" for place, owner in whose.items()}


def _known(dataset: Dataset) -> Iterator[tuple[str, str]]:
    """Each identity with the names of its person; with an empty one where none is stated."""
    rows = dataset.manifest.reindex(columns=["identity", "person"]).drop_duplicates()
    named = rows["person"].map(lambda name: name if isinstance(name, str) else "")
    yield from sorted(zip(rows["identity"], named, strict=True))


def _read_renames(
    path: Path, *, names: list[str], datasets: list[Dataset], prefixed: Renames
) -> Renames:
    """What the file `path` says; `prefixed`: labels that have new names already."""
    known = {
        name: set(dataset.manifest["identity"])
        for name, dataset in zip(names, datasets, strict=True)
    }
    several = {label for _, label in prefixed}
    rows: dict[tuple[str, str], tuple[str, str]] = {}  # (dataset, from) → to, and where it stands
    for where, row in csv_rows(path, RENAME_COLUMNS):
        dataset, old, new = (row[name] for name in RENAME_COLUMNS)
        check_identity(new, where=where)
        if dataset not in known:
            raise DatasetError(
                f"{where}: {dataset!r} is none of {', '.join(names)}: correct the name"
            )
        if old not in known[dataset]:
            raise DatasetError(f"{where}: {dataset} has no identity {old!r}: correct the name")
        if (dataset, old) in rows:
            raise DatasetError(f"{where}: {old!r} is renamed twice: remove one of the lines")
        rows[dataset, old] = new, where
    renames: Renames = {}
    for (dataset, old), (new, where) in rows.items():
        # A number that keeps its own line is renamed there, and free for others.
        if new in several and (dataset, new) not in rows:
            if (dataset, new) not in prefixed:
                choice = ", ".join(
                    sorted({to for (_, label), to in prefixed.items() if label == new})
                )
                raise DatasetError(
                    f"{where}: {new!r} is a number in several datasets, and several people: write "
                    f"which: {choice}"
                )
            new = prefixed[dataset, new]
        renames[dataset, old] = new
    return renames


def _rows(dataset: Dataset) -> pd.DataFrame:
    """The manifest; whole numbers with gaps are whole, and no fractions as pandas makes them."""
    path, rows = dataset.root / MANIFEST, dataset.manifest
    fields = [field for field in pq.read_schema(path) if pa.types.is_integer(field.type)]
    gaps = [field.name for field in fields if not is_integer_dtype(rows[field.name])]
    if not gaps:
        return rows
    whole = pd.read_parquet(path, columns=gaps, dtype_backend="numpy_nullable")
    rows = rows.copy()
    for name in gaps:
        rows[name] = whole[name].array
    return rows


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
    if "merged_from" not in table.columns:
        table["merged_from"] = dataset
    return table, dict(zip(manifest["id"], ids, strict=True))


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
        images: a list of ids, or of paths in the source, with a suffix or without, one a line.
        min_images: identities with fewer images go.
        identities: this many stay: those whose names have the smallest sha256. No chance is
            involved, and when the dataset grows, most of the chosen stay chosen.
        per_identity: this many images of each stay, by the sha256 of their ids.

    Pairs that lose an image go too, and are counted aloud. Templates keep the images that stay; a
    pair goes where one has none.

    Raises:
        DatasetError: no condition, a list that names nothing here, nothing left, or an image that
            is not what its manifest says.
    """
    numbers = (min_images, identities, per_identity)
    if all(condition is None for condition in (people, images, *numbers)):
        raise DatasetError("subset of what? Give a list or a number: see `dataset subset --help`")
    for number in numbers:
        if number is not None and number < 1:
            raise DatasetError(f"subset: {number} leaves nothing: give a number of 1 or more")
    check_output(output, sources=[root])
    dataset = open_dataset(root)
    rows = _rows(dataset)
    if images:
        photos = read_photo_names(images)
        rows = rows[_listed(rows, photos)]
        _tell(root, len(rows), of=len(photos), what=f"images on the list {images}")
    if people:
        listed = read_people(people)
        there = set(dataset.manifest["identity"]) & set(listed)
        _tell(root, len(there), of=len(listed), what=f"people on the list {people}")
        rows = rows[rows["identity"].isin(there)]
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
    pairs, templates = dataset.pairs, dataset.templates
    if pairs is not None:
        ids = dataset.manifest["id"]
        lost, fewer = lost_rows(pairs, templates, gone=set(ids[~ids.isin(rows["id"])]))
        if lost.all():
            raise DatasetError(f"{root}: the conditions leave no pair: keep images of more people")
        if templates is not None:
            _tell_fewer(root, templates, fewer)
            templates = templates[~fewer]
        if gone := int(lost.sum()):
            what = "an image" if templates is None else "a template"
            say(f"subset {root}: {gone} of {len(pairs)} pairs lost {what} and were dropped")
        pairs = pairs[~lost]
    with whole_directory(output) as folder, DatasetWriter(folder) as writer:
        table = rows.drop(columns=list(STORED))
        _copy(writer, table, read_images(root, rows), label=f"subset {root.name}")
        card = asdict(dataset.card) | {"name": output.resolve().name}
        writer.finish(card, pairs=pairs, templates=templates)
    return Dataset(root=output, card=DatasetCard(**card))


def _listed(manifest: pd.DataFrame, photos: PhotoNames) -> list[bool]:
    """Which rows are on the list, by id or by the path that the photo had in its source."""
    ids = manifest["id"]
    origins = manifest["origin"].fillna("") if "origin" in manifest.columns else ids
    return [
        photos.find(id, origin, "/".join(origin.split("/")[-2:])) is not None
        for id, origin in zip(ids, origins, strict=True)
    ]


def _tell(root: Path, found: int, *, of: int, what: str) -> None:
    if not found:
        raise DatasetError(f"{root}: none of the {of} {what} is there: check the list")
    say(f"subset {root}: {found} of the {of} {what} are there")


def _tell_fewer(root: Path, templates: pd.DataFrame, gone: "pd.Series[bool]") -> None:
    """Say how many templates stay with fewer images than they had."""
    fewer = set(templates["template"][gone]) & set(templates["template"][~gone])
    if fewer:
        say(f"subset {root}: {len(fewer)} templates lost some of their images")


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
        stated = dict(zip(columns, row, strict=True))
        id, identity = stated.pop("id"), stated.pop("identity")
        writer.add(id=id, identity=identity, data=data, suffix=suffix, columns=stated)
