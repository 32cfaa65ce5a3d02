"""Cleaning: what a person decided about the training sets, in `data/cleaning.csv`.

    action    drop (an image, or a whole identity where id is empty)
              relabel (an image to the identity `to`)
              merge (an identity into the identity `to`)
              keep (an image or an identity with its images: nothing is proposed for them, and
              only hard rules reject them)
    dataset   the folder below data/train
    id        the image, as the manifest of that dataset names it; empty for an identity
    identity  the identity, as that manifest names it; may be left out beside an id. It is one
              person in all training sets that name them alike, and decided on in all of them
    to        an identity, as `train.parquet` or that manifest names it
    reason, score   for people

Merges and relabels come first: drop and keep of an identity are about the images that it has then.

`validate` writes `proposals.csv` in the same columns, and does none of it by itself. A person
edits a copy; the next run does exactly what that copy says. Verification sets are not cleaned:
whoever takes photos out of a test changes what it measures, and should import another list of
pairs instead.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from facewright.datasets.decisions import ACTIONS, Row, read_rows
from facewright.errors import DatasetError

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Decisions:
    """What was decided, on the N rows of the training table; `identity` is the column to use."""

    path: Path
    identity: "pd.Series[str]"
    moved: Bools  # relabelled: another name than the stated one counts
    merged: dict[str, str]  # identity → what it is part of in the end
    dropped: Bools
    kept: Bools  # no soft rule rejects them
    decided: Bools  # nothing more is proposed for them
    decided_identities: frozenset[str]  # of `identity`: dropped or kept
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
    rows = read_rows(path)
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
    relabels = {place: to[row.line] for place, row in images.items() if row.action == "relabel"}
    if relabels:
        ended = pd.Series([ends.get(name, name) for name in relabels.values()], dtype="str")
        identity.iloc[list(relabels)] = ended

    def rows_of(*actions: str) -> Bools:
        chosen = np.zeros(len(table), bool)
        chosen[[place for place, row in images.items() if row.action in actions]] = True
        return chosen

    def people_to(action: str) -> list[str]:
        return [name for name, row in people.items() if row.action == action]

    dropped = rows_of("drop") | identity.isin(people_to("drop")).to_numpy()
    with_person = identity.isin(people_to("keep")).to_numpy()
    return Decisions(
        path=path,
        identity=identity,
        moved=rows_of("relabel"),
        merged=ends,
        dropped=dropped,
        kept=rows_of("keep") | (with_person & ~rows_of("drop")),
        decided=rows_of(*ACTIONS) | with_person,
        decided_identities=frozenset(people_to("drop") + people_to("keep")),
        kept_lines={place: row.line for place, row in images.items() if row.action == "keep"},
        counts={action: sum(row.action == action for row in rows) for action in ACTIONS},
    )


def apply_decisions(train: pd.DataFrame, decisions: Decisions) -> pd.DataFrame:
    """Give every photo of `train` the identity that was decided on, and `cleaned` (0 or 1).

    Returns the names by which each identity is known, a row for each: identity, person_name. A
    merge says that two are one person, so it has the names of both. A photo that was relabelled
    leaves its name behind and takes one of its new identity's.
    """
    named = train[["identity", "person_name"]]
    stays = named[~decisions.moved].drop_duplicates()
    # Of an identity whose photos all went elsewhere the names are still what others merge with.
    left = named[decisions.moved].drop_duplicates()
    left = left[~left["identity"].isin(stays["identity"])]
    names = pd.concat([stays, left], ignore_index=True).dropna()
    ends = names["identity"].map(lambda name: decisions.merged.get(name, name))
    names = names.assign(identity=ends.astype("str")).drop_duplicates()
    train["identity"] = decisions.identity
    train["cleaned"] = decisions.dropped.astype(np.int8)
    if decisions.moved.any():
        first = names.drop_duplicates("identity").set_index("identity")["person_name"]
        moved = train.loc[decisions.moved, "identity"].map(first)
        train.loc[decisions.moved, "person_name"] = moved.astype("str")
    return names


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
