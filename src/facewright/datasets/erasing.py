"""Find a person in every dataset below `data/`, and in the decisions of `cleaning.csv`.

Datasets are known by their path below `data/`: `train/web` and `verify/web` are two.
"""

import csv
import io
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd

from facewright.datasets.decisions import CLEANING, Row, parse_rows, read_rows
from facewright.datasets.form import Dataset
from facewright.datasets.names import comparable, is_label
from facewright.datasets.pairs import lost_rows
from facewright.datasets.validation.tables import merged_manifests
from facewright.errors import DatasetError
from facewright.files import storage_errors

TRAIN = "train"  # `cleaning.csv` is about the datasets in here alone

Place = tuple[str, str]  # a dataset's path below `data/`, and an identity in it


@dataclass(frozen=True)
class Person:
    """Everything by which a person is known; see `find_person`."""

    names: frozenset[str] = frozenset()  # comparable
    labels: frozenset[Place] = frozenset()
    images: frozenset[tuple[str, str]] = frozenset()  # (path of the dataset, id)
    photos: frozenset[str] = frozenset()  # sha256 of bytes

    def named(self, manifest: pd.DataFrame, *, dataset: str) -> "pd.Series[bool]":
        """The rows of a manifest that say that they are of this person."""
        rows = self._are_named(manifest["identity"])
        if "person" in manifest.columns:
            rows |= self._are_named(manifest["person"])
        labels = {label for path, label in self.labels if path == dataset}
        # Crops of all datasets in `train` stand in one of that name, and carry the name of theirs.
        labels |= {
            f"{path.rpartition('/')[2]}/{label}"
            for path, label in self.labels
            if path.startswith(f"{dataset}/")
        }
        rows |= manifest["identity"].isin(labels)
        images = {id for path, id in self.images if path == dataset}
        return rows | manifest["id"].isin(images)

    def rows(self, manifest: pd.DataFrame, *, dataset: str) -> "pd.Series[bool]":
        """These, and the rows with the bytes of one of their photos, whatever name they carry."""
        rows = self.named(manifest, dataset=dataset)
        for column in ("sha256", "photo_sha256"):  # the latter is that of a crop's photo
            if column in manifest.columns:
                rows |= manifest[column].isin(self.photos)
        return rows

    def is_one_of(self, places: Collection[Place]) -> bool:
        """Whether one of the identities is this person's."""
        return any(place in self.labels or comparable(place[1]) in self.names for place in places)

    def called(self, places: Collection[Place]) -> "Person":
        """The person, known by these identities too."""
        labels = {place for place in places if is_label(place[1])}
        names = {comparable(identity) for _, identity in places if not is_label(identity)}
        return replace(self, names=self.names | names, labels=self.labels | labels)

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
    # Rows of its templates; empty without templates.
    gone_templates: "pd.Series[bool]" = field(default_factory=lambda: pd.Series(dtype=bool))

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


@dataclass(frozen=True)
class Decisions:
    """What `cleaning.csv` decides, and which identities the names in it mean."""

    path: Path
    rows: list[Row]
    table: dict[Place, str]  # what the table of all training sets calls an identity
    places: dict[str, set[Place]]  # and the identities that it calls so

    def stated(self, row: Row, identity: str) -> set[Place]:
        """The identities that are decided on as `identity` of the row's dataset."""
        place = (f"{TRAIN}/{row.dataset}", identity)
        return self.places.get(self.table.get(place, ""), {place})

    def target(self, row: Row) -> set[Place]:
        """The identities that `to` means: as that table names them, or that manifest."""
        if row.to in self.places:
            return self.places[row.to]
        dataset, _, label = row.to.partition("/")
        apart = {(f"{TRAIN}/{dataset}", label)} if is_label(label) else set()
        return self.stated(row, row.to) | apart

    def name(self, row: Row, person: Person, *, images: Collection[tuple[str, str]]) -> bool:
        """Whether a row names the person, or one of the `images` (path of the dataset, id)."""
        if (f"{TRAIN}/{row.dataset}", row.id) in images:
            return True
        named = {identity for identity in (row.identity, row.id.rpartition("/")[0]) if identity}
        places = {place for identity in named for place in self.stated(row, identity)}
        return person.is_one_of(places | (self.target(row) if row.to else set()))

    def text_names(self, text: str, person: Person, *, images: Collection[tuple[str, str]]) -> bool:
        """The same for any row of the text of an earlier `cleaning.csv`."""
        try:
            rows = parse_rows(text, where=CLEANING)
        except DatasetError:
            return _cells_name(text, person)
        return any(self.name(row, person, images=images) for row in rows)


def _cells_name(text: str, person: Person) -> bool:
    """Whether a line of what is no table of decisions has a cell that names the person."""
    known = {(path.rpartition("/")[2], label) for path, label in person.labels}
    for cells in csv.reader(io.StringIO(text, newline="")):
        parts = {*cells, *(cell.rpartition("/")[0] for cell in cells)}
        if any(comparable(part) in person.names for part in parts):
            return True
        if any(f"{name}/{label}" in parts or {name, label} <= parts for name, label in known):
            return True
    return False


def dataset_path(data: Path, dataset: Dataset) -> str:
    """By what a dataset is known here; empty where `data` itself is the dataset."""
    path = dataset.root.relative_to(data).as_posix()
    return "" if path == "." else path


def parse_person(identity: str, *, data: Path, known: Collection[str]) -> Person:
    """The person whom a user names: a name, or `DATASET/NUMBER` where identities are numbers.

    `known`: the paths of datasets below `data`; DATASET is such a path, or its last part.

    Raises:
        DatasetError: a number without its dataset, or of one of several that are named alike.
    """
    fits: dict[str, Place] = {}
    for path in sorted(known):
        for spelling in {path or data.resolve().name, path.rpartition("/")[2]} - {""}:
            label = identity.removeprefix(f"{spelling}/")
            if label != identity and is_label(label):
                fits[path] = (path, label)
                if spelling == path:  # in full
                    return Person(labels=frozenset({(path, label)}))
    if len(fits) > 1:
        raise DatasetError(
            f"{identity!r} may be of {' or '.join(fits)}, and another person in each: say whose, "
            f"as in --identity {'/'.join(next(iter(fits.values())))}"
        )
    if fits:
        return Person(labels=frozenset(fits.values()))
    dataset, slash, label = identity.rpartition("/")
    if slash and is_label(label):  # of a dataset that is there no more
        return Person(labels=frozenset({(dataset, label)}))
    if is_label(identity):
        raise DatasetError(
            f"{identity!r} is a label and no name, and another person in each dataset: say whose, "
            f"as in --identity DATASET/{identity}"
        )
    return Person(names=frozenset({comparable(identity)}))


def read_decisions(data: Path, *, datasets: Sequence[Dataset]) -> Decisions:
    """The decisions in `data`, where names mean what they mean to validation.

    Raises:
        DatasetError: `cleaning.csv` is no table of decisions.
    """
    # One row per identity and person says as much about names as all of them.
    named = ["identity", "person"]
    columns = ["id", "shard", *named]
    train = [
        replace(d, manifest=d.manifest.reindex(columns=columns).drop_duplicates(named))
        for d in datasets
        if d.root.parent == data / TRAIN
    ]
    table: dict[Place, str] = {}
    places: dict[str, set[Place]] = {}
    if train:
        columns = ["dataset", "stated_identity", "identity"]
        merged = merged_manifests(train, data=data)[columns]
        for dataset, stated, name in merged.itertuples(index=False):
            table[f"{TRAIN}/{dataset}", stated] = name
            places.setdefault(name, set()).add((f"{TRAIN}/{dataset}", stated))
    path = data / CLEANING
    return Decisions(path=path, rows=read_rows(path), table=table, places=places)


def find_person(
    data: Path, person: Person, *, datasets: Sequence[Dataset], decisions: Decisions
) -> Person:
    """`person` with the other names under which `datasets` (all below `data`) know them.

    A name finds every identity that is spelt alike (see `names.comparable`) and every row whose
    `person` is; the rows of a number lead to its `person`, and so to other datasets. What
    `cleaning.csv` calls the same person (merge), or a photo of theirs (relabel), counts too.
    """
    while True:
        before = person
        # A single photo that is theirs says nothing about whose folder it lies in.
        known_as = replace(person, images=frozenset())
        for dataset in datasets:
            path = dataset_path(data, dataset)
            rows = dataset.manifest[known_as.named(dataset.manifest, dataset=path)]
            names = list(rows["identity"].unique())
            if "person" in rows.columns:
                names += list(rows["person"].dropna().unique())
            person = person.called([(path, str(name)) for name in names])
        for row in decisions.rows:
            if row.action == "relabel" and person.is_one_of(decisions.target(row)):
                image = (f"{TRAIN}/{row.dataset}", row.id)
                person = replace(person, images=person.images | {image})
            if row.action == "merge":
                both = decisions.stated(row, row.identity) | decisions.target(row)
                person = person.called(both) if person.is_one_of(both) else person
        if person == before:
            return person


def find_rows(data: Path, person: Person, *, datasets: Sequence[Dataset]) -> list[Found]:
    """Those of `datasets` (below `data`) that hold the person, and where.

    Raises:
        DatasetError: one of them is a link to a folder elsewhere.
    """
    found = []
    for dataset in datasets:
        name = dataset_path(data, dataset)
        gone = person.rows(dataset.manifest, dataset=name)
        if not gone.any():
            continue
        if dataset.root.resolve() != data.resolve() / name:
            raise DatasetError(
                f"{dataset.root} is a link to {dataset.root.resolve()}: put the dataset itself "
                "there, so that nothing stays behind"
            )
        ids = set(dataset.manifest.loc[gone, "id"])
        pairs = templates = pd.Series(dtype=bool)
        if dataset.pairs is not None:
            pairs, templates = lost_rows(dataset.pairs, dataset.templates, gone=ids)
        found.append(Found(dataset, name, gone, gone_pairs=pairs, gone_templates=templates))
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


def cleaning_lines(decisions: Decisions, person: Person, found: Sequence[Found]) -> set[int]:
    """The lines of `cleaning.csv` that name the person, an image or an identity that goes."""
    images: set[tuple[str, str]] = set()
    vanished: set[Place] = set()  # others' identities, of whom only these photos were there
    for one in found:
        manifest = one.dataset.manifest
        images |= {(one.name, id) for id in manifest.loc[one.gone, "id"]}
        left = set(manifest.loc[~one.gone, "identity"])
        vanished |= {(one.name, identity) for identity in one.identities if identity not in left}
    lines = set()
    for row in decisions.rows:
        own = {(f"{TRAIN}/{row.dataset}", row.identity)}
        places = own | (decisions.target(row) if row.to else set())
        if places & vanished or decisions.name(row, person, images=images):
            lines.add(row.line)
    return lines


def rewrite_cleaning(decisions: Decisions, lines: Collection[int]) -> None:
    """Drop those lines; the file is left alone where there are none."""
    if not lines:
        return
    path = decisions.path
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    with storage_errors(path), path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file)
        writer.writerows(cells for cells in reader if cells and reader.line_num not in lines)
        partial = path.with_name(f".{path.name}.partial")
        partial.write_text(text.getvalue(), encoding="utf-8")
        partial.replace(path)
