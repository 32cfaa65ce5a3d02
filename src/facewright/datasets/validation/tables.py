"""The tables that validation judges: merged manifests, what was measured, what is beside what.

Columns stay arrays of Arrow or numpy: half a million Python objects would take a gigabyte.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from facewright.datasets.form import Dataset
from facewright.datasets.names import comparable, is_label
from facewright.datasets.validation.copies import Copies
from facewright.datasets.validation.measuring import MEASURES

OK, REJECTED = "ok", "rejected"
EXPECTED = ["width", "height", "origin"]  # columns that the verdicts always have
HELD = [  # columns of ours; a manifest that brings such a one loses it
    "own_id",
    "dataset",
    "stated_identity",
    "names",
    "earlier_copies",
    "identity_in_verify",
    "content_in_verify",
    "near_in_verify",
    "cleaned",
    "status",
    "reason",
    *(name for name in MEASURES.names or ()),
]


def merged_manifests(datasets: list[Dataset], *, data: Path) -> pd.DataFrame:
    """One table of all manifests; `shard` is relative to `data`.

    Adds dataset (the folder's name), own_id and stated_identity (as the manifest has them) and
    person_name (a name to compare, missing where only a label is known). Ids become `DATASET/ID`
    if two sets share one. So do the labels (see `names.is_label`) that stand in several sets:
    0000045 here and there are two people.
    """
    tables = []
    for dataset in datasets:
        table = dataset.manifest.drop(columns=HELD, errors="ignore")
        table = table.reindex(columns=list(dict.fromkeys([*table.columns, *EXPECTED])))
        table["shard"] = dataset.root.relative_to(data).as_posix() + "/" + table["shard"]
        names = _each(table["identity"], lambda name: None if is_label(name) else name)
        if "person" in table:
            names = table["person"].astype("str").where(table["person"].notna(), names)
        tables.append(
            table.assign(
                dataset=dataset.root.name,
                stated_identity=table["identity"],
                person_name=_each(names, lambda name: comparable(name) or None),
            )
        )
    merged = pd.concat(tables, ignore_index=True)
    merged["own_id"] = merged["id"]
    if merged["id"].duplicated().any():
        merged["id"] = merged["dataset"] + "/" + merged["id"]
    if len(datasets) > 1:
        stated = merged[["dataset", "identity"]].drop_duplicates()["identity"]
        several = [name for name in stated[stated.duplicated()].unique() if is_label(name)]
        merged["identity"] = merged["identity"].where(
            ~merged["identity"].isin(several), merged["dataset"] + "/" + merged["identity"]
        )
    return merged


def nameless(table: pd.DataFrame) -> set[str]:
    """The identities, as stated, of which nothing but a label is known."""
    return set(table.loc[table["person_name"].isna(), "stated_identity"].unique())


def _each(values: "pd.Series[str]", change: Callable[[str], str | None]) -> "pd.Series[str]":
    """`change` of every value, called once per distinct one; missing stays missing."""
    codes, known = pd.factorize(values)
    changed = pd.Series([*map(change, known), None], dtype="str")  # the last is for code -1
    return changed.take(codes).set_axis(values.index)


def count_copies(table: pd.DataFrame) -> None:
    """Add names (identities that claim the same bytes) and earlier_copies (of one identity).

    Missing for images that are no images, since empty files are all alike, and for those that a
    person dropped.
    """
    counted = table["decodable"] == 1
    if "cleaned" in table:
        counted &= table["cleaned"] == 0
    table["names"] = np.where(counted, 1.0, np.nan)
    table["earlier_copies"] = np.where(counted, 0.0, np.nan)
    several = counted & table["sha256"].where(counted).duplicated(keep=False)
    copies = table.loc[several, ["sha256", "identity"]]
    table.loc[several, "names"] = copies.groupby("sha256")["identity"].transform("nunique")
    table.loc[several, "earlier_copies"] = copies.groupby(["identity", "sha256"]).cumcount()


def count_overlap(
    train: pd.DataFrame, verify: pd.DataFrame, *, names: pd.DataFrame, copies: Copies
) -> None:
    """Add to `train` what verification has too, 0 or 1: the person, the bytes, the look.

    `names` are those of the training identities (see `cleaning.apply_decisions`): one that
    verification has too is enough for all photos of an identity. `copies` are those of the rows
    of `train`, then of `verify`.
    """
    held = names.loc[names["person_name"].isin(verify["person_name"].dropna().unique())]
    train["identity_in_verify"] = train["identity"].isin(held["identity"]).astype(np.int8)
    train["content_in_verify"] = train["sha256"].isin(verify["sha256"]).astype(np.int8)
    ours = np.arange(len(train) + len(verify)) < len(train)
    near = copies.near(ours, others=~ours)[: len(train)]
    train["near_in_verify"] = near.astype(np.int8)


def identity_table(train: pd.DataFrame) -> pd.DataFrame:
    """A row per identity that verification does not hold: identity, images, usable, source_share.

    usable: photos that no rule rejects; source_share: the largest share of them with one value of
    `source`, among those that have a source; missing where none has.
    """
    allowed = train.loc[train["identity_in_verify"] == 0, ["identity", "status"]]
    by_name = allowed.assign(usable=allowed["status"] == OK).groupby("identity", sort=True)
    table = by_name.agg(images=("status", "size"), usable=("usable", "sum")).reset_index()
    table["source_share"] = np.nan
    if "source" in train:
        usable = train.loc[train["status"] == OK, ["identity", "source"]].dropna()
        counts = usable.groupby(["identity", "source"]).size().groupby("identity")
        table["source_share"] = table["identity"].map(counts.max() / counts.sum())
    return table


def usable(table: pd.DataFrame) -> pd.DataFrame:
    """The rows that nothing rejected."""
    return table[table["status"] == OK]


def reject(table: pd.DataFrame, rows: npt.NDArray[np.bool_], *, reason: str) -> None:
    """Reject `rows` unless an earlier rule did."""
    new = rows & (table["status"] == OK).to_numpy()
    if new.any():
        table.loc[new, ["status", "reason"]] = [REJECTED, reason]
