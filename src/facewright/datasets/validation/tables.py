"""The tables that validation judges: merged manifests, what was measured, what is beside what.

Columns stay arrays of Arrow or numpy: half a million Python objects would take a gigabyte.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from facewright.datasets.form import Dataset
from facewright.datasets.names import comparable, is_label, tell_apart
from facewright.datasets.validation.copies import Copies
from facewright.datasets.validation.measuring import MEASURES
from facewright.datasets.validation.rules import SOME

OK, REJECTED = "ok", "rejected"
MOST = 0.5  # share of a dataset's photos that another one may have before that is said
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
    "times_median",
    "main_source_share",
    "cleaned",
    "status",
    "reason",
    *(name for name in MEASURES.names or ()),
]


def merged_manifests(datasets: list[Dataset], *, data: Path) -> pd.DataFrame:
    """One table of all manifests; `shard` is relative to `data`.

    Adds dataset (the folder's name), own_id and stated_identity (as the manifest has them) and
    person_name (a name to compare, missing where only a label is known). Ids become `DATASET/ID`
    if two sets share one. So do the labels (see `names.tell_apart`) that stand in several sets:
    0000045 here and there are two people, unless both are known by the same name.
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
    _tell_apart(tables)
    merged = pd.concat(tables, ignore_index=True)
    merged["own_id"] = merged["id"]
    if merged["id"].duplicated().any():
        merged["id"] = merged["dataset"] + "/" + merged["id"]
    return merged


def _tell_apart(tables: list[pd.DataFrame]) -> None:
    """Put the dataset's name before the labels that are another person in another one."""
    stated: list[tuple[str, str, str]] = []
    for table in tables:
        rows = table[["dataset", "identity", "person_name"]].drop_duplicates()
        stated += rows.fillna({"person_name": ""}).itertuples(index=False, name=None)
    whose = tell_apart(stated)
    owners: dict[str, dict[str, str]] = {}  # dataset → label → name
    for (dataset, label), owner in whose.items():
        owners.setdefault(dataset, {})[label] = f"{owner}/{label}"
    for table in tables:
        if labels := owners.get(str(next(iter(table["dataset"]), ""))):
            table["identity"] = table["identity"].map(labels).fillna(table["identity"])


def nameless(table: pd.DataFrame) -> set[str]:
    """The identities, as stated, of which nothing but a label is known."""
    return set(table.loc[table["person_name"].isna(), "stated_identity"].unique())


def _each(values: "pd.Series[str]", change: Callable[[str], str | None]) -> "pd.Series[str]":
    """`change` of every value, called once per distinct one; missing stays missing."""
    codes, known = pd.factorize(values)
    changed = pd.Series([*map(change, known), None], dtype="str")  # the last is for code -1
    return changed.take(codes).set_axis(values.index)


def count_copies(table: pd.DataFrame) -> None:
    """Add names (people that claim the same bytes) and earlier_copies (of one person).

    Identities that are known by one name are one person here. Missing for images that are no
    images, since empty files are all alike, and for those that a person dropped.
    """
    counted = table["decodable"] == 1
    if "cleaned" in table:
        counted &= table["cleaned"] == 0
    table["names"] = np.where(counted, 1.0, np.nan)
    table["earlier_copies"] = np.where(counted, 0.0, np.nan)
    several = counted & table["sha256"].where(counted).duplicated(keep=False)
    copies = table.loc[several, ["sha256", "identity", "person_name"]]
    # One name each: a person may have merged two that are called differently.
    named = copies.dropna().drop_duplicates("identity").set_index("identity")["person_name"]
    people = "name " + copies["identity"].map(named).astype("str")
    copies["person"] = people.fillna("label " + copies["identity"])
    table.loc[several, "names"] = copies.groupby("sha256")["person"].transform("nunique")
    table.loc[several, "earlier_copies"] = copies.groupby(["person", "sha256"]).cumcount()


def contained(table: pd.DataFrame) -> list[tuple[str, str, int, int]]:
    """Datasets of which another one has most photos, by their bytes.

    Returns (dataset, the other one, photos of the first that the other has, its photos), where
    equal photos of a dataset count once.
    """
    photos = table.loc[table["length"] > 0, ["dataset", "sha256"]]
    # Few rows are in several datasets, mostly; only those are joined.
    shared = photos[photos["sha256"].duplicated(keep=False)].drop_duplicates()
    both = shared.merge(shared, on="sha256", suffixes=("", "_other"))
    both = both[both["dataset"] != both["dataset_other"]]
    if both.empty:
        return []
    sizes = photos.groupby("dataset")["sha256"].nunique()
    counts = both.groupby(["dataset", "dataset_other"], sort=True).size()
    rows = zip(*counts.index.to_frame().to_numpy().T, counts.tolist(), strict=True)
    return [
        (str(name), str(other), count, int(sizes[name]))
        for name, other, count in rows
        if count > MOST * sizes[name]
    ]


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
    """A row per identity that verification does not hold: identity, images, and what rules ask for.

    usable: photos that no rule rejects; times_median: the same ÷ the median of the identities that
    have two or more; source_share: the largest share of them with one value of `source`, among
    those that have a source, missing where none has; main_source_share: the same, missing for fewer
    than `SOME` of them, and where the whole set has but one source.
    """
    allowed = train.loc[train["identity_in_verify"] == 0, ["identity", "status"]]
    by_name = allowed.assign(usable=allowed["status"] == OK).groupby("identity", sort=True)
    table = by_name.agg(images=("status", "size"), usable=("usable", "sum")).reset_index()
    table["times_median"] = table["usable"] / table.loc[table["usable"] > 1, "usable"].median()
    table["source_share"] = table["main_source_share"] = np.nan
    if "source" in train:
        usable = train.loc[train["status"] == OK, ["identity", "source"]].dropna()
        counts = usable.groupby(["identity", "source"]).size().groupby("identity")
        table["source_share"] = table["identity"].map(counts.max() / counts.sum())
        if usable["source"].nunique() > 1:
            enough = table["identity"].map(counts.sum()) >= SOME
            table["main_source_share"] = table["source_share"].where(enough)
    return table


def usable(table: pd.DataFrame) -> pd.DataFrame:
    """The rows that nothing rejected."""
    return table[table["status"] == OK]


def reject(table: pd.DataFrame, rows: npt.NDArray[np.bool_], *, reason: str) -> None:
    """Reject `rows` unless an earlier rule did."""
    new = rows & (table["status"] == OK).to_numpy()
    if new.any():
        table.loc[new, ["status", "reason"]] = [REJECTED, reason]
