"""Find a person in every dataset below `data/`, and rewrite the datasets without them."""

import csv
import io
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from facewright.datasets.form import CARD, MANIFEST, PAIRS, Dataset, end_of_tar
from facewright.datasets.names import comparable, is_label
from facewright.datasets.shards import Member, members, shard_path
from facewright.errors import DatasetError
from facewright.files import storage_errors, whole_directory

CLEANING = "cleaning.csv"
CHUNK = 1 << 20  # bytes copied at a time


@dataclass(frozen=True)
class Person:
    """Everything by which a person is known; see `find_person`."""

    names: frozenset[str] = frozenset()  # comparable
    labels: frozenset[tuple[str, str]] = frozenset()  # (dataset, identity)
    images: frozenset[tuple[str, str]] = frozenset()  # (dataset, id)
    photos: frozenset[str] = frozenset()  # sha256 of bytes

    def named(self, manifest: pd.DataFrame, *, dataset: str) -> "pd.Series[bool]":
        """The rows of a manifest that say that they are of this person."""
        rows = self._are_named(manifest["identity"])
        if "person" in manifest.columns:
            rows |= self._are_named(manifest["person"])
        labels = {label for name, label in self.labels if name == dataset}
        # Crops of several datasets carry the name of theirs.
        labels |= {f"{name}/{label}" for name, label in self.labels}
        rows |= manifest["identity"].isin(labels)
        images = {id for name, id in self.images if name == dataset}
        return rows | manifest["id"].isin(images)

    def rows(self, manifest: pd.DataFrame, *, dataset: str) -> "pd.Series[bool]":
        """These, and the rows with the bytes of one of their photos, whatever name they carry."""
        rows = self.named(manifest, dataset=dataset)
        for column in ("sha256", "photo_sha256"):  # the latter is that of a crop's photo
            if column in manifest.columns:
                rows |= manifest[column].isin(self.photos)
        return rows

    def _are_named(self, column: "pd.Series[str]") -> "pd.Series[bool]":
        values = column.dropna().unique()
        return column.isin([name for name in values if comparable(str(name)) in self.names])


@dataclass(frozen=True)
class Found:
    """A dataset that holds the person."""

    dataset: Dataset
    name: str  # its path below `data/`
    gone: "pd.Series[bool]"  # rows of its manifest
    gone_pairs: "pd.Series[bool]"  # rows of its pairs; empty without pairs

    @property
    def shards(self) -> list[str]:
        """The shards that hold them, sorted."""
        shards = self.dataset.manifest.loc[self.gone, "shard"].unique()
        return sorted(str(shard) for shard in shards if shard)

    @property
    def photos(self) -> set[str]:
        """sha256 of their photos; files without a byte are left out, since all are alike."""
        rows = self.dataset.manifest.loc[self.gone]
        return set(rows.loc[rows["length"] > 0, "sha256"])

    @property
    def identities(self) -> dict[str, int]:
        """How many images go, by the identity that they stand under."""
        counts = self.dataset.manifest.loc[self.gone, "identity"].value_counts(sort=False)
        return {str(name): int(count) for name, count in sorted(counts.items())}


def parse_person(identity: str) -> Person:
    """The person whom a user names: a name, or `DATASET/NUMBER` where identities are numbers.

    Raises:
        DatasetError: a number without its dataset.
    """
    dataset, slash, label = identity.partition("/")
    if slash and is_label(label):
        return Person(labels=frozenset({(dataset, label)}))
    if is_label(identity):
        raise DatasetError(
            f"{identity!r} is a label and no name, and another person in each dataset: say whose, "
            f"as in --identity DATASET/{identity}"
        )
    return Person(names=frozenset({comparable(identity)}))


def find_person(data: Path, person: Person, *, datasets: Sequence[Dataset]) -> Person:
    """`person` with the other names under which `datasets` (all below `data`) know them.

    A name finds every identity that is spelt alike (see `names.comparable`) and every row whose
    `person` is; the rows of a number lead to its `person`, and so to other datasets. What
    `cleaning.csv` calls the same person (merge), or a photo of theirs (relabel), counts too.
    """
    known = {(d.root.name, i) for d in datasets for i in d.manifest["identity"].unique()}
    while True:
        before = person
        # A single photo that is theirs says nothing about whose folder it lies in.
        known_as = replace(person, images=frozenset())
        for dataset in datasets:
            rows = dataset.manifest[known_as.named(dataset.manifest, dataset=dataset.root.name)]
            for identity in rows["identity"].unique():
                person = _called(person, identity, dataset.root.name)
            if "person" in rows.columns:
                for name in rows["person"].dropna().unique():
                    person = _called(person, str(name), dataset.root.name)
        for row in _read_cleaning(data / CLEANING):
            name, other = row["identity"], _placed(row["to"], row["dataset"], known)
            if row["action"] == "relabel" and _is(person, *other):
                person = replace(person, images=person.images | {(row["dataset"], row["id"])})
            if row["action"] == "merge" and _is(person, row["dataset"], name):
                person = _called(person, other[1], other[0])
            elif row["action"] == "merge" and _is(person, *other):
                person = _called(person, name, row["dataset"])
        if person == before:
            return person


def _called(person: Person, identity: str, dataset: str) -> Person:
    if is_label(identity):
        return replace(person, labels=person.labels | {(dataset, identity)})
    return replace(person, names=person.names | {comparable(identity)})


def _is(person: Person, dataset: str, identity: str) -> bool:
    return (dataset, identity) in person.labels or comparable(identity) in person.names


def _placed(name: str, dataset: str, known: set[tuple[str, str]]) -> tuple[str, str]:
    """`to` of a decision as (dataset, identity): it may be written `DATASET/NUMBER`."""
    first, _, label = name.partition("/")
    return (first, label) if (first, label) in known and is_label(label) else (dataset, name)


def find_rows(data: Path, person: Person, *, datasets: Sequence[Dataset]) -> list[Found]:
    """Those of `datasets` (below `data`) that hold the person, and where.

    Raises:
        DatasetError: one of them is a link to a folder elsewhere.
    """
    found = []
    for dataset in datasets:
        gone = person.rows(dataset.manifest, dataset=dataset.root.name)
        if not gone.any():
            continue
        if dataset.root.resolve() != data.resolve() / dataset.root.relative_to(data):
            raise DatasetError(
                f"{dataset.root} is a link to {dataset.root.resolve()}: put the dataset itself "
                "there, so that nothing stays behind"
            )
        ids = set(dataset.manifest.loc[gone, "id"])
        pairs = pd.Series(dtype=bool)
        if dataset.pairs is not None:
            pairs = dataset.pairs["a"].isin(ids) | dataset.pairs["b"].isin(ids)
        name = dataset.root.relative_to(data).as_posix()
        found.append(Found(dataset=dataset, name=name, gone=gone, gone_pairs=pairs))
    return found


def check_rest(found: Sequence[Found]) -> None:
    """Refuse to leave a dataset without images or a verification set without pairs."""
    for one in found:
        left = "image" if one.gone.all() else "pair"
        if one.gone.all() or (len(one.gone_pairs) and one.gone_pairs.all()):
            raise DatasetError(
                f"{one.dataset.root} would have no {left} left: delete the whole folder (or import "
                "it anew from another list), then erase again for the rest"
            )


def rewrite_dataset(found: Found) -> None:
    """Replace the dataset by one without the rows and pairs that go.

    Only shards that hold them are written anew; all others become further links to the same bytes.
    No file is ever written in place, since it may be a link into DVC's cache.
    """
    root, kept = found.dataset.root, found.dataset.manifest[~found.gone].copy()
    with whole_directory(root) as folder:
        for file in sorted(root.rglob("*")):
            inside = file.relative_to(root)
            if (
                file.is_file()
                and inside.parts[0] != "shards"
                and file.name not in (MANIFEST, PAIRS)
            ):
                _link(file, folder / inside)
        touched = set(found.shards)
        for shard in kept["shard"].unique():
            if not shard:
                continue
            path = shard_path(root, shard)
            if shard not in touched:
                _link(path, folder / shard)
                continue
            rows = kept["shard"] == shard
            moved = _cut(path, folder / shard, keep=set(kept.loc[rows, "offset"]))
            kept.loc[rows, "offset"] = kept.loc[rows, "offset"].map(moved)
        if found.dataset.pairs is not None:
            found.dataset.pairs[~found.gone_pairs].to_parquet(folder / PAIRS, index=False)
        kept.to_parquet(folder / MANIFEST, index=False)


def _link(source: Path, target: Path) -> None:
    """One more name for the same bytes; a copy where the file system cannot."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copyfile(source, target)


def _cut(source: Path, target: Path, *, keep: set[int]) -> dict[int, int]:
    """Copy the members whose bytes lie at the offsets `keep`; returns new offsets by old ones."""
    wanted: list[Member] = [member for member in members(source) if member.offset in keep]
    if len(wanted) < len(keep):
        raise DatasetError(
            f"{source} lacks {len(keep) - len(wanted)} images of the manifest: import or pull it "
            "again before anything is erased"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    moved = {}
    with source.open("rb") as old, target.open("wb") as new:
        for member in wanted:
            moved[member.offset] = new.tell() + member.offset - member.start
            old.seek(member.start)
            left = member.end - member.start
            while left and (part := old.read(min(left, CHUNK))):
                new.write(part)
                left -= len(part)
        new.write(end_of_tar(new.tell()))
    return moved


def cleaning_rows(data: Path, person: Person, found: Sequence[Found]) -> int:
    """How many rows of `cleaning.csv` name the person or an image that goes."""
    goes = _goes(person, found)
    return sum(map(goes, _read_cleaning(data / CLEANING)))


def rewrite_cleaning(data: Path, person: Person, found: Sequence[Found]) -> None:
    """Drop those rows; the file is left alone where there are none."""
    path = data / CLEANING
    rows = _read_cleaning(path)
    goes = _goes(person, found)
    kept = [row for row in rows if not goes(row)]
    if len(kept) == len(rows):
        return
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(kept)
    with storage_errors(path):
        partial = path.with_name(f".{path.name}.partial")
        partial.write_text(text.getvalue(), encoding="utf-8")
        partial.replace(path)


def _goes(person: Person, found: Sequence[Found]) -> Callable[[dict[str, str]], bool]:
    ids: set[tuple[str, str]] = set()
    people: set[tuple[str, str]] = set()
    for one in found:
        dataset, manifest = one.dataset.root.name, one.dataset.manifest
        ids |= {(dataset, id) for id in manifest.loc[one.gone, "id"]}
        left = set(manifest.loc[~one.gone, "identity"])
        people |= {(dataset, name) for name in one.identities if name not in left}

    def goes(row: dict[str, str]) -> bool:
        if (row["dataset"], row["id"]) in ids:
            return True
        named = [row["identity"], row["id"].rpartition("/")[0]]
        if any(_is(person, row["dataset"], name) for name in named):
            return True
        places = {_placed(name, row["dataset"], people) for name in (*named, row["to"])}
        return bool(places & people) or any(_is(person, *place) for place in places)

    return goes


def names_person(text: str, person: Person) -> bool:
    """Whether the text of a `cleaning.csv` has a cell that names the person."""
    for row in csv.reader(io.StringIO(text)):
        for cell in row:
            labels = {f"{dataset}/{label}" for dataset, label in person.labels}
            parts = [cell, cell.rpartition("/")[0]]
            if cell in labels or any(comparable(part) in person.names for part in parts):
                return True
    return False


def _read_cleaning(path: Path) -> list[dict[str, str]]:
    """The rows, with every column that is asked for; none without a file."""
    if not path.exists():
        return []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{path} cannot be read as CSV in UTF-8: {error}") from error
    needed = {"action", "dataset", "id", "identity", "to"}
    for number, row in enumerate(rows, start=2):
        if not needed <= set(row) or None in row or None in row.values():
            raise DatasetError(f"{path}, row {number}: not in the form that `validate` reads")
    return rows


def recover(data: Path, *, clean: bool) -> None:
    """Finish what was killed between two renames; with `clean`, remove what it left behind.

    `.NAME.partial` and `.NAME.replaced` (see `files.whole_directory`) hold photos too.
    """
    for replaced in [*data.glob(".*.replaced"), *data.glob("*/.*.replaced")]:
        path = replaced.with_name(replaced.name.removeprefix(".").removesuffix(".replaced"))
        if not path.exists() and (replaced / CARD).exists():
            replaced.rename(path)
    if not clean:
        return
    for kind in ("partial", "replaced"):
        for left in [*data.glob(f".*.{kind}"), *data.glob(f"*/.*.{kind}")]:
            if left.is_dir() and not left.is_symlink():
                shutil.rmtree(left)
            else:
                left.unlink()
