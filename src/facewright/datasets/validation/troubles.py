"""Which photos to look at for each kind of trouble, and which of them side by side."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from facewright.datasets.validation.copies import Copies, Ints
from facewright.datasets.validation.proposals import SAYS, Proposals
from facewright.datasets.validation.rules import Rules
from facewright.datasets.validation.tables import usable
from facewright.datasets.validation.thumbnails import Photo, Trouble

PARTNERS = 3  # photos shown beside one, at most
GROUP = 8  # photos of one proposal, at most
ONE_EACH = {  # of photos that agree in this column one is enough
    "identity_overlap": "identity",
    "few_images": "identity",
    "many_images": "identity",
    "one_source": "identity",
    "label_conflict": "sha256",
    "duplicate": "sha256",
}


def find_troubles(
    train: pd.DataFrame,
    verify: pd.DataFrame,
    *,
    rules: Rules,
    copies: Copies,
    proposals: Proposals,
    limit: int,
) -> list[Trouble]:
    """Every kind of trouble with about `limit` photos: rejected, noticed, proposed.

    `copies` are of the rows of `train`, then of `verify`. None at a limit of 0.
    """
    troubles: list[Trouble] = []

    def add(reason: str, heading: str, count: int, groups: Iterator[list[Photo]]) -> None:
        if count and limit:
            troubles.append(Trouble(reason, heading, count, _some(groups, limit)))

    halves = (
        ("training", train, [*rules.train, *rules.noticed]),
        ("verification", verify, rules.verify),
    )
    for half, table, asked in halves:
        columns = {rule.reason: rule.column for rule in rules.of_training}
        for reason in sorted(set(table["reason"].unique()) - {""}):
            rows = np.flatnonzero((table["reason"] == reason).to_numpy())
            shown = rows
            if reason in ONE_EACH and half == "training":
                few = table[ONE_EACH[reason]].iloc[rows].drop_duplicates()
                shown = few.index.to_numpy()
            groups = (
                [
                    _photo(table, row, columns.get(reason)),
                    *(_partners(row, reason, train, verify, copies) if half == "training" else ()),
                ]
                for row in _spread(shown, limit)
            )
            add(reason, f"Rejected {half} photos", len(rows), groups)
        accepted = usable(table)
        for rule in asked:
            rows = accepted.index.to_numpy()[rule.broken(accepted).to_numpy()]
            single = ([_photo(table, row, rule.column)] for row in _spread(rows, limit))
            add(rule.reason, f"Noticed {half} photos", len(rows), single)
    counts = proposals.table["reason"].value_counts()
    for reason, members in proposals.groups.items():
        proposed = ([_photo(train, row, "sharpness") for row in group[:GROUP]] for group in members)
        add(reason, f"Proposed: {SAYS[reason]}", int(counts.get(reason, 0)), proposed)
    return troubles


def _some(groups: Iterator[list[Photo]], limit: int) -> list[list[Photo]]:
    """Whole groups until `limit` photos are reached."""
    some: list[list[Photo]] = []
    while sum(map(len, some)) < limit and (group := next(groups, None)):
        some.append(group)
    return some


def _spread(rows: Ints, limit: int) -> list[int]:
    """Up to `limit` of `rows` from all over the table, not of its first identity alone."""
    places = np.linspace(0, len(rows) - 1, min(limit, len(rows))).astype(np.int64)
    return [int(row) for row in rows[places]]


def _photo(table: pd.DataFrame, row: int, column: str | None) -> Photo:
    values = table.iloc[row]
    value = values.get(column) if column else None
    lines = [str(values["id"]), str(values["identity"])]
    if isinstance(value, float | int | np.number) and not np.isnan(value):
        lines.append(f"{column} {value:.4g}")
    return Photo(
        str(values["shard"]), int(values["offset"]), int(values["length"]), "\n".join(lines)
    )


def _partners(
    row: int, reason: str, train: pd.DataFrame, verify: pd.DataFrame, copies: Copies
) -> list[Photo]:
    """The photos to see beside a rejected training photo."""
    table = train if reason in ("label_conflict", "duplicate") else verify
    if reason in ("label_conflict", "duplicate", "content_overlap"):
        beside = (table["sha256"] == train["sha256"].iat[row]).to_numpy()
    elif reason == "identity_overlap":
        beside = (table["person_name"] == train["person_name"].iat[row]).fillna(False).to_numpy()
    elif reason == "near_overlap":
        code = copies.code[row]
        pairs = copies.pairs[(copies.pairs == code).any(axis=1)]
        beside = np.isin(copies.code[len(train) :], [code, *pairs.ravel()])
    else:
        return []
    found = [int(other) for other in np.flatnonzero(beside) if table is verify or other != row]
    return [_photo(table, other, None) for other in found[:PARTNERS]]
