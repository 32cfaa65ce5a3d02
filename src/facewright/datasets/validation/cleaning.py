"""Cleaning: what a person decided about the training sets, in `data/cleaning.csv`.

    action    drop (an image, or a whole identity where id is empty)
              relabel (an image to the identity `to`)
              merge (an identity into the identity `to`)
              keep (an image or an identity: nothing is proposed for it, and only hard rules
              reject it)
    dataset   the folder below data/train
    id        the image, as the manifest of that dataset names it; empty for an identity
    identity  the identity, as that manifest names it; may be left out beside an id. It is one
              person in all training sets that name them alike, and decided on in all of them
    to        an identity, as `train.parquet` or that manifest names it
    reason, score   for people

`validate` writes `proposals.csv` in the same columns, and does none of it by itself. A person
edits a copy; the next run does exactly what that copy says. Verification sets are not cleaned:
whoever takes photos out of a test changes what it measures, and should import another list of
pairs instead.
"""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from facewright.errors import DatasetError

COLUMNS = ["action", "dataset", "id", "identity", "to", "reason", "score"]
NEEDED = COLUMNS[:5]
ACTIONS = ("drop", "relabel", "merge", "keep")

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Row:
    """One line of the file."""

    line: int
    action: str
    dataset: str
    id: str
    identity: str
    to: str


@dataclass(frozen=True)
class Decisions:
    """What was decided, on the N rows of the training table; `identity` is the column to use."""

    path: Path
    identity: "pd.Series[str]"
    dropped: Bools
    kept: Bools  # images, by themselves
    decided: Bools  # images with a line of their own: nothing more is proposed for them
    kept_identities: frozenset[str]  # of `identity`
    kept_lines: dict[int, int]  # row of an image that is kept → line of the file
    counts: dict[str, int]  # lines by action

    def check_kept(self, reasons: "pd.Series[str]") -> None:
        """Refuse to keep an image that was rejected all the same: then by a hard rule.

        Raises:
            DatasetError: the row of an image that is kept has a reason.
        """
        for row, line in self.kept_lines.items():
            if reason := str(reasons.iat[row]):
                raise DatasetError(
                    f"{self.path}, line {line}: the image is rejected as {reason}, and that cannot "
                    "be lifted: remove the line"
                )


def read_cleaning(path: Path, table: pd.DataFrame) -> Decisions:
    """Read the decisions at `path` (none, if there is no file) and find what they are about.

    `table`: a row per training image with dataset, own_id and stated_identity (as the manifest
    has them) and identity (as stated, with the dataset's name before it where it is a label).

    Raises:
        DatasetError: the file is no such table, names something unknown, decides one thing twice,
            or merges in a circle; with the line.
    """
    rows = list(_read(path)) if path.exists() else []
    stated = table[["dataset", "stated_identity", "identity"]].drop_duplicates()
    # (dataset, identity as its manifest names it) → identity as the table names it
    names = {(dataset, said): name for dataset, said, name in stated.itertuples(index=False)}
    datasets = sorted({dataset for dataset, _ in names})
    for row in rows:
        if row.dataset not in datasets:
            known = ", ".join(datasets)
            _refuse(path, row, f"no training dataset is named {row.dataset!r}: there is {known}")
        if row.identity and (row.dataset, row.identity) not in names:
            _refuse(path, row, f"{row.dataset} has no identity {row.identity!r}: correct the name")
    people: dict[str, Row] = {}
    for row in (row for row in rows if not row.id):
        first = people.setdefault(names[row.dataset, row.identity], row)
        if first is not row:
            _refuse(path, row, f"line {first.line} decides on the same identity: keep one of them")
    images = _places(path, table, [row for row in rows if row.id])

    targets = set(names.values())
    to = {
        row.line: row.to if row.to in targets else names.get((row.dataset, row.to), "")
        for row in rows
        if row.to
    }
    for row in rows:
        if row.to and not to[row.line]:
            _refuse(path, row, f"no training identity is named {row.to!r}: correct `to`")
    merges = {name: to[row.line] for name, row in people.items() if row.action == "merge"}
    ends = {name: _end(name, merges, path=path, row=people[name]) for name in merges}
    codes, before = pd.factorize(table["identity"])
    final = pd.Series([ends.get(str(name), str(name)) for name in before], dtype="str")
    identity = final.take(codes).set_axis(table.index)
    moved = {place: to[row.line] for place, row in images.items() if row.to}
    if moved:
        ended = pd.Series([ends.get(name, name) for name in moved.values()], dtype="str")
        identity.iloc[list(moved)] = ended

    def lines(action: str) -> Bools:
        chosen = np.zeros(len(table), bool)
        chosen[[place for place, row in images.items() if row.action == action]] = True
        return chosen

    dropped = [name for name, row in people.items() if row.action == "drop"]
    decided = np.zeros(len(table), bool)
    decided[list(images)] = True
    return Decisions(
        path=path,
        identity=identity,
        dropped=lines("drop") | table["identity"].isin(dropped).to_numpy(),
        kept=lines("keep"),
        decided=decided,
        kept_identities=frozenset(n for n, row in people.items() if row.action == "keep"),
        kept_lines={place: row.line for place, row in images.items() if row.action == "keep"},
        counts={action: sum(row.action == action for row in rows) for action in ACTIONS},
    )


def _end(name: str, merges: dict[str, str], *, path: Path, row: Row) -> str:
    """Where merges lead from `name`."""
    passed = {name}
    while name in merges:
        name = merges[name]
        if name in passed:
            _refuse(path, row, "the merges from here lead back to their start: remove one of them")
        passed.add(name)
    return name


def _places(path: Path, table: pd.DataFrame, rows: list[Row]) -> dict[int, Row]:
    """Row number in the table → the decision about that image."""
    places: dict[int, Row] = {}
    for dataset in sorted({row.dataset for row in rows}):
        wanted: dict[str, Row] = {}
        for row in (row for row in rows if row.dataset == dataset):
            first = wanted.setdefault(row.id, row)
            if first is not row:
                _refuse(path, row, f"line {first.line} decides on the same image: keep one of them")
        numbers = np.flatnonzero(table["dataset"] == dataset)
        # Arrow looks the few ids up among the many without a Python object for each of these.
        own = pa.array(table["own_id"].iloc[numbers])
        found = pc.index_in(own, value_set=pa.array(list(wanted), own.type))
        hits = np.flatnonzero(found.is_valid().to_numpy(zero_copy_only=False))
        ids = list(wanted)
        for hit in hits.tolist():
            row = wanted.pop(ids[found[hit].as_py()])
            place = int(numbers[hit])
            stated = table["stated_identity"].iloc[place]
            if row.identity and row.identity != stated:
                _refuse(path, row, f"{row.id!r} is of {stated!r}, not {row.identity!r}: correct it")
            places[place] = row
        for row in wanted.values():
            _refuse(path, row, f"{dataset} has no image {row.id!r}: correct the id")
    return places


def _refuse(path: Path, row: Row, what: str) -> NoReturn:
    raise DatasetError(f"{path}, line {row.line}: {what}")


def _read(path: Path) -> Iterator[Row]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            head = next(reader, [])
            if head[: len(NEEDED)] != NEEDED or set(head) - set(COLUMNS):
                raise DatasetError(
                    f"{path}: its first line must be {','.join(COLUMNS)}: begin with a copy of "
                    "proposals.csv"
                )
            for cells in reader:
                if cells:
                    yield _row(cells, columns=len(head), line=reader.line_num, path=path)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{path} cannot be read as CSV in UTF-8: {error}") from error


def _row(cells: list[str], *, columns: int, line: int, path: Path) -> Row:
    where = f"{path}, line {line}"
    if len(cells) != columns:
        raise DatasetError(
            f"{where}: {len(cells)} values instead of {columns}: put a name with a comma in quotes"
        )
    row = Row(line, *cells[: len(NEEDED)])
    if row.action not in ACTIONS:
        raise DatasetError(f"{where}: unknown action {row.action!r}: it is {', '.join(ACTIONS)}")
    if not row.id and not row.identity:
        raise DatasetError(f"{where}: names neither an image nor an identity: fill id or identity")
    if row.action == "relabel" and not row.id:
        raise DatasetError(f"{where}: relabel is for an image: fill id, or use merge")
    if row.action == "merge" and row.id:
        raise DatasetError(f"{where}: merge is for an identity: empty id, or use relabel")
    if (row.action in ("relabel", "merge")) != bool(row.to):
        raise DatasetError(
            f"{where}: `to` names the identity to {row.action} to: fill it"
            if not row.to
            else f"{where}: `to` means nothing beside {row.action}: empty it"
        )
    return row
