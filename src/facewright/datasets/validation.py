"""Validation: a verdict with a reason for every image, with Great Expectations Data Docs.

Nothing is deleted: rejected rows stay in the tables, so that later stages can count them.
"""

import unicodedata
from pathlib import Path

import pandas as pd

from facewright.datasets.data_docs import Suite, write_data_docs
from facewright.datasets.form import PAIR_COLUMNS, Dataset, check_pairs, find_datasets
from facewright.datasets.measuring import measure_images
from facewright.datasets.rules import Rule, identity_rules, image_rules, overlap_rules, set_rules
from facewright.errors import DatasetError
from facewright.files import storage_errors
from facewright.progress import say

OK, REJECTED = "ok", "rejected"
KEPT = ["id", "identity", "shard", "offset", "length", "sha256", "width", "height", "origin"]


def validate_datasets(
    data: Path,
    output: Path,
    *,
    min_side: int,
    max_aspect: float,
    min_sharpness: float,
    min_brightness: float,
    max_brightness: float,
    min_images_per_identity: int,
    max_overlap: float,
) -> dict[str, float]:
    """Judge the datasets below `data/train` and the one below `data/verify`.

    Writes into the folder `output`: `train.parquet` and `verify.parquet` (the merged manifests
    with `dataset`, the measures, `status` and `reason`; `shard` is relative to `data`),
    `pairs.parquet`, `overlap.txt` (the training identities dropped because verification has them)
    and `data_docs/`. Returns counts, flat.

    Identities of one name in several training datasets are taken for one person.

    Raises:
        DatasetError: a set is missing, there is not exactly one verification set with pairs, or
            what is left cannot be trained on (see `rules.set_rules`).
    """
    photos = image_rules(
        min_side=min_side,
        max_aspect=max_aspect,
        min_sharpness=min_sharpness,
        min_brightness=min_brightness,
        max_brightness=max_brightness,
    )
    people = identity_rules(min_images_per_identity=min_images_per_identity)
    train_sets, verify_set = find_datasets(data / "train"), _verification_set(data / "verify")
    pairs = verify_set.pairs if verify_set.pairs is not None else pd.DataFrame(columns=PAIR_COLUMNS)
    check_pairs(pairs, known=set(verify_set.manifest["id"]), where=str(verify_set.root))

    train = _measured(train_sets, data=data, label="validate train")
    verify = _measured([verify_set], data=data, label="validate verify")
    verify_names = _comparable(verify["identity"])
    train["identity_in_verify"] = _comparable(train["identity"]).isin(set(verify_names)).astype(int)
    train["content_in_verify"] = train["sha256"].isin(set(verify["sha256"])).astype(int)

    # Quality first, then overlap: a photo's first reason is its own fault where it has one.
    train_rules = [*photos[:6], *overlap_rules(), *photos[6:]]
    _judge(train, [rule for rule in train_rules if rule.in_train])
    _judge(verify, [rule for rule in photos if rule.in_verify])
    identities = _identities(train)
    for rule in people:
        few = set(identities.loc[rule.broken(identities), "identity"])
        _reject(train, train["identity"].isin(few), reason=rule.reason)

    dropped = sorted(train.loc[train["identity_in_verify"] == 1, "identity"].unique())
    sets = pd.DataFrame(
        {
            "set": ["train", "verify"],
            "images": [len(train), len(verify)],
            "identities": [_usable(train)["identity"].nunique(), verify["identity"].nunique()],
            "overlap": [len(dropped) / train["identity"].nunique(), None],
            "pairs": [None, len(pairs)],
        }
    )
    wholes = set_rules(max_overlap=max_overlap)
    cards = _cards(train_sets, half="train") + _cards([verify_set], half="verify")
    suites = [
        Suite("train images", train, train_rules, index="id"),
        Suite("train identities", identities, people, index="identity"),
        Suite("verify images", verify, photos, index="id"),
        Suite("sets", sets, wholes, index="set"),
        Suite("cards", pd.DataFrame(cards), [], index="dataset", present=("licence", "consent")),
    ]
    _refuse(sets, wholes)
    failed = write_data_docs(output / "data_docs", suites)

    with storage_errors(output):
        train.to_parquet(output / "train.parquet", index=False)
        verify.to_parquet(output / "verify.parquet", index=False)
        pairs[PAIR_COLUMNS].to_parquet(output / "pairs.parquet", index=False)
        (output / "overlap.txt").write_text("".join(f"{name}\n" for name in dropped))

    metrics: dict[str, float] = {
        "identities_dropped_for_overlap": len(dropped),
        "identities_in_several_datasets": _shared(train),
        "pairs": len(pairs),
        "expectations_failed": failed,
    }
    metrics |= _counts(train, "train", train_rules + people) | _counts(verify, "verify", photos)
    _tell(metrics, cards)
    return metrics


def _verification_set(folder: Path) -> Dataset:
    found = find_datasets(folder)
    if len(found) != 1:
        raise DatasetError(
            f"{folder} holds {len(found)} datasets: keep the one that you want to be measured on"
        )
    if found[0].pairs is None:
        raise DatasetError(f"{found[0].root} has no pairs: import it with --pairs FILE")
    return found[0]


def _measured(datasets: list[Dataset], *, data: Path, label: str) -> pd.DataFrame:
    """The merged manifests with the columns that the rules on images need."""
    tables = []
    for dataset in datasets:
        table = dataset.manifest.reindex(columns=KEPT)
        table["shard"] = dataset.root.relative_to(data).as_posix() + "/" + table["shard"]
        tables.append(table.assign(dataset=dataset.root.name))
    merged = pd.concat(tables, ignore_index=True)
    if merged["id"].duplicated().any():
        merged["id"] = merged["dataset"] + "/" + merged["id"]
    merged = merged.join(measure_images(data, merged, label=label))
    whole = merged[merged["decodable"] == 1]
    # Only among whole images: empty files are all alike.
    merged["names"] = whole.groupby("sha256")["identity"].transform("nunique")
    merged["earlier_copies"] = whole.groupby(["identity", "sha256"]).cumcount()
    return merged.assign(status=OK, reason="")


def _comparable(names: "pd.Series[str]") -> "pd.Series[str]":
    """Names as they are compared: a Mac's archive spells é in two characters, others in one."""
    return names.map(lambda name: unicodedata.normalize("NFC", name))


def _judge(table: pd.DataFrame, rules: list[Rule]) -> None:
    for rule in rules:
        _reject(table, rule.broken(table), reason=rule.reason)


def _reject(table: pd.DataFrame, rows: "pd.Series[bool]", *, reason: str) -> None:
    """Reject `rows` unless an earlier rule did."""
    new = rows & (table["status"] == OK)
    table.loc[new, ["status", "reason"]] = [REJECTED, reason]


def _usable(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["status"] == OK]


def _identities(train: pd.DataFrame) -> pd.DataFrame:
    """One row per identity that may be trained on: identity, images, usable (not rejected)."""
    allowed = train[train["identity_in_verify"] == 0]
    by_name = allowed.assign(usable=allowed["status"] == OK).groupby("identity", sort=True)
    counts = by_name.agg(images=("id", "size"), usable=("usable", "sum"))
    return counts.reset_index()


def _shared(train: pd.DataFrame) -> int:
    return int((train.groupby("identity")["dataset"].nunique() > 1).sum())


def _cards(datasets: list[Dataset], *, half: str) -> list[dict[str, object]]:
    return [
        {
            "dataset": f"{half}/{dataset.root.name}",
            "images": len(dataset.manifest),
            "identities": dataset.manifest["identity"].nunique(),
            "licence": dataset.card.licence or None,
            "consent": dataset.card.consent or None,
        }
        for dataset in datasets
    ]


def _refuse(sets: pd.DataFrame, rules: list[Rule]) -> None:
    for rule in rules:
        for row in sets[rule.broken(sets)].to_dict("records"):
            limit = f"at least {rule.low:g}" if rule.low is not None else f"at most {rule.high:g}"
            what = rule.says.rstrip(".").lower()
            raise DatasetError(
                f"the {row['set']} set: {what}: {row[rule.column]:.3g}, needed {limit}: {rule.mend}"
            )


def _counts(table: pd.DataFrame, half: str, rules: list[Rule]) -> dict[str, float]:
    """Images, identities, and how many were rejected (or only noticed) for each reason."""
    rejected = table["reason"].value_counts()
    counts: dict[str, float] = {
        f"{half}.images": len(table),
        f"{half}.identities": table["identity"].nunique(),
        f"{half}.ok": len(_usable(table)),
        f"{half}.ok_identities": _usable(table)["identity"].nunique(),
        f"{half}.rejected": int((table["status"] == REJECTED).sum()),
    }
    for rule in rules:
        if half == "train" or rule.in_verify:
            counts[f"{half}.rejected.{rule.reason}"] = int(rejected.get(rule.reason, 0))
        else:
            counts[f"{half}.noticed.{rule.reason}"] = int(rule.broken(_usable(table)).sum())
    return counts


def _tell(metrics: dict[str, float], cards: list[dict[str, object]]) -> None:
    for half in ("train", "verify"):
        reasons = ", ".join(
            f"{count:g} {key.split('.')[-1]}"
            for key, count in metrics.items()
            if key.startswith((f"{half}.rejected.", f"{half}.noticed.")) and count
        )
        say(
            f"validate {half}: {metrics[f'{half}.ok']:g} of {metrics[f'{half}.images']:g} images "
            f"of {metrics[f'{half}.ok_identities']:g} identities accepted"
            + (f" ({reasons})" if reasons else "")
        )
    if count := metrics["identities_dropped_for_overlap"]:
        say(
            f"validate: {count:g} training identities are in the verification set too and were "
            "dropped from training; overlap.txt names them"
        )
    if count := metrics["identities_in_several_datasets"]:
        say(
            f"validate: {count:g} identities have the same name in several training datasets and "
            "are taken for the same person"
        )
    for card in cards:
        missing = [name for name in ("licence", "consent") if not card[name]]
        if missing:
            say(f"validate: {card['dataset']} states no {' and no '.join(missing)}")
