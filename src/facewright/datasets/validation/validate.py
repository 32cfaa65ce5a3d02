"""Validation: a verdict with a reason for every image, with Great Expectations Data Docs.

Nothing is deleted: rejected rows stay in the tables, so that later stages can count them.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from facewright.datasets.decisions import CLEANING
from facewright.datasets.form import PAIRS, TEMPLATES, Dataset, find_datasets
from facewright.datasets.pairs import PAIR_COLUMNS, check_pairs
from facewright.datasets.validation.cleaning import Decisions, apply_decisions, read_cleaning
from facewright.datasets.validation.copies import Copies, find_copies
from facewright.datasets.validation.data_docs import make_portable, write_index
from facewright.datasets.validation.drift import compare, profile, read_reference
from facewright.datasets.validation.expectations import Expectations, Suite, read_own_suites
from facewright.datasets.validation.judging import (
    Examiner,
    judge_identities,
    judge_photos,
    judge_sets,
)
from facewright.datasets.validation.measuring import measure_images
from facewright.datasets.validation.proposals import SAYS, Proposals, propose
from facewright.datasets.validation.rules import Limits, Rule, Rules, all_rules
from facewright.datasets.validation.tables import (
    OK,
    REJECTED,
    contained,
    count_copies,
    count_overlap,
    merged_manifests,
    nameless,
    usable,
)
from facewright.datasets.validation.thumbnails import write_thumbnails
from facewright.datasets.validation.troubles import find_troubles
from facewright.errors import DatasetError
from facewright.files import storage_errors, write_json
from facewright.progress import say

INTERNAL = ["own_id", "person_name"]  # columns that are of no use to later stages


@dataclass
class Sets:
    """What lies in `data/`: merged tables of both halves, pairs, templates, what cards state."""

    train: pd.DataFrame
    verify: pd.DataFrame
    pairs: pd.DataFrame
    templates: pd.DataFrame | None
    cards: pd.DataFrame


def validate_datasets(
    data: Path,
    output: Path,
    *,
    limits: Limits,
    near_distance: int | None,
    thumbnails: int,
) -> dict[str, float]:
    """Judge the datasets below `data/train` and the one below `data/verify`.

    Reads `data/cleaning.csv` (see `cleaning`), `data/reference.json` (see `drift`) and
    `data/expectations/` (see `expectations`) where they are.

    Writes into the folder `output`:
        train.parquet, verify.parquet: the merged manifests with `dataset`, `stated_identity` (as
            the manifest has it; `identity` is what cleaning and `tables` made of it), the
            measures, `status` and `reason`; `shard` is relative to `data`
        pairs.parquet, templates.parquet: as verification has them; the latter only where it does
        overlap.txt: the training identities dropped because verification has them
        proposals.csv: what a person may decide, see `proposals`
        profile.json: what remains of these sets for the next comparison, see `drift`
        expectations/TABLE.json: the rules as suites of Great Expectations
        data_docs/: index.html, its pages and those of thumbnails
    Returns counts, flat.

    Identities of one name in several training datasets are taken for one person; so are equal
    labels (`0000045`) that have one name in a column `person`. `near_distance`:
    bits in which near copies may differ, None looks for none; `thumbnails`: photos shown of each
    kind of trouble.

    Raises:
        DatasetError: a set is missing, there is not exactly one verification set with pairs, one
            of the three files is wrong, or what is left cannot be trained on (see
            `rules.set_rules`).
    """
    rules = all_rules(limits)
    # All that a user wrote is read before the long measuring.
    sets = _read_sets(data)
    unnamed = nameless(sets.train) & nameless(sets.verify)
    decisions = read_cleaning(data / CLEANING, sets.train)
    reference = read_reference(data / "reference.json")
    own = read_own_suites(
        data / "expectations", taken={rule.reason for rule in rules.every} | SAYS.keys()
    )
    if "drift" in own and reference is None:
        own["drift"].refuse(f"nothing drifts without {data / 'reference.json'}: remove it")

    copies = _measure(sets, decisions, data=data, distance=near_distance)
    train, verify = sets.train, sets.verify
    examiner = Examiner(Expectations(output / "data_docs", output / "expectations"), own)
    judge_photos(train, verify, rules=rules, decisions=decisions, examiner=examiner)
    judge_identities(train, rules=rules, decisions=decisions, examiner=examiner)
    overlap = sorted(train.loc[train["identity_in_verify"] == 1, "identity"].unique())
    judge_sets(
        train,
        verify,
        pairs=len(sets.pairs),
        overlap=len(overlap),
        rules=rules,
        examiner=examiner,
    )
    examiner.examine(
        Suite("cards", sets.cards, [], index="dataset", present=("licence", "consent"))
    )
    drift = compare({"train": train, "verify": verify}, reference) if reference else None
    if drift is not None:
        examiner.examine(Suite("drift", drift, rules.drift, index="measure"))
    proposals = propose(train, copies, decisions)

    docs = output / "data_docs"
    examiner.expectations.build()
    make_portable(docs)  # before photos are named on other pages
    troubles = find_troubles(
        train, verify, rules=rules, copies=copies, proposals=proposals, limit=thumbnails
    )
    pages = write_thumbnails(docs, troubles, data=data)
    write_index(docs, examiner.expectations.outcomes, troubles=pages)
    _write(output, sets, overlap=overlap, proposals=proposals)
    metrics = _metrics(sets, rules=rules, decisions=decisions, proposals=proposals)
    metrics |= {
        "identities_dropped_for_overlap": len(overlap),
        "labels_in_both_halves": len(unnamed),
        "expectations_failed": examiner.expectations.failed,
    }
    if drift is not None:
        named = drift["measure"].str.replace(" ", ".")
        metrics |= dict(zip("drift." + named, drift["drift"].tolist(), strict=True))
    _tell(metrics, sets.cards)
    for name, other, count, size in contained(train):
        say(
            f"validate: {count} of {size} photos of train/{name} are in train/{other} too, byte "
            "for byte: keep one of the two in data/train"
        )
    if drift is not None:
        far = drift.loc[drift["drift"].abs() > limits.max_drift]
        for measure, value, then, now in far.itertuples(index=False):
            say(
                f"validate: {measure} differs from the previous version of the set ({then:g} then, "
                f"{now:g} now): {value:.2f}, limit {limits.max_drift:g}"
            )
    return metrics


def _read_sets(data: Path) -> Sets:
    train, verify = find_datasets(data / "train"), _verification_set(data / "verify")
    assert verify.pairs is not None
    check_pairs(
        verify.pairs,
        images=verify.manifest,
        templates=verify.templates,
        where=str(verify.root),
    )
    return Sets(
        train=merged_manifests(train, data=data),
        verify=merged_manifests([verify], data=data),
        pairs=verify.pairs[PAIR_COLUMNS],
        templates=verify.templates,
        cards=pd.DataFrame(_cards(train, half="train") + _cards([verify], half="verify")),
    )


def _verification_set(folder: Path) -> Dataset:
    found = find_datasets(folder)
    if len(found) != 1:
        raise DatasetError(
            f"{folder} holds {len(found)} datasets: keep the one that you want to be measured on"
        )
    if found[0].pairs is None:
        raise DatasetError(f"{found[0].root} has no pairs: import it with --pairs FILE")
    return found[0]


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


def _measure(sets: Sets, decisions: Decisions, *, data: Path, distance: int | None) -> Copies:
    """Add to both tables what the rules need; returns the near copies among train, then verify."""
    names = apply_decisions(sets.train, decisions)
    hashes, hashed = [], []
    for half in ("train", "verify"):
        table: pd.DataFrame = getattr(sets, half)
        measures, found, present = measure_images(data, table, label=f"validate {half}")
        table = table.join(measures).assign(status=OK, reason="")
        count_copies(table)
        setattr(sets, half, table)
        hashes.append(found)
        hashed.append(present)
    copies = (
        Copies.none(sum(map(len, hashes)))
        if distance is None
        else find_copies(np.concatenate(hashes), np.concatenate(hashed), distance=distance)
    )
    count_overlap(sets.train, sets.verify, names=names, copies=copies)
    return copies


def _write(output: Path, sets: Sets, *, overlap: list[str], proposals: Proposals) -> None:
    with storage_errors(output):
        sets.train.drop(columns=INTERNAL).to_parquet(output / "train.parquet", index=False)
        sets.verify.drop(columns=INTERNAL).to_parquet(output / "verify.parquet", index=False)
        sets.pairs.to_parquet(output / PAIRS, index=False)
        if sets.templates is not None:
            sets.templates.to_parquet(output / TEMPLATES, index=False)
        lines = "".join(f"{name}\n" for name in overlap)
        (output / "overlap.txt").write_text(lines, encoding="utf-8")
        proposals.table.to_csv(output / "proposals.csv", index=False, lineterminator="\n")
        profiles = {"train": profile(sets.train), "verify": profile(sets.verify)}
        write_json(output / "profile.json", profiles)


def _metrics(
    sets: Sets, *, rules: Rules, decisions: Decisions, proposals: Proposals
) -> dict[str, float]:
    names = sets.train[["identity", "dataset"]].drop_duplicates()["identity"]
    metrics: dict[str, float] = {
        "identities_in_several_datasets": names[names.duplicated()].nunique(),
        "pairs": len(sets.pairs),
        "proposals": len(proposals.table),
    }
    for action, count in decisions.counts.items():
        metrics[f"cleaning.{action}"] = count
    for reason, count in proposals.table["reason"].value_counts(sort=False).items():
        metrics[f"proposed.{reason}"] = int(count)
    rejecting = [rule for rule in rules.of_training if rule.in_train]
    metrics |= _counts(sets.train, "train", rules.of_training, rejecting=rejecting)
    rejecting = [rule for rule in rules.verify if rule.in_verify]
    return metrics | _counts(sets.verify, "verify", rules.verify, rejecting=rejecting)


def _counts(
    table: pd.DataFrame, half: str, rules: list[Rule], *, rejecting: list[Rule]
) -> dict[str, float]:
    """Images, identities, and how many were rejected (or only noticed) for each reason."""
    accepted = usable(table)
    rejected = table.loc[table["status"] == REJECTED, "reason"].value_counts(sort=False).to_dict()
    counts: dict[str, float] = {
        f"{half}.images": len(table),
        f"{half}.identities": table["identity"].nunique(),
        f"{half}.ok": len(accepted),
        f"{half}.ok_identities": accepted["identity"].nunique(),
        f"{half}.rejected": sum(rejected.values()),
    }
    for rule in rules:
        if rule in rejecting:
            counts[f"{half}.rejected.{rule.reason}"] = rejected.pop(rule.reason, 0)
        else:
            counts[f"{half}.noticed.{rule.reason}"] = int(rule.broken(accepted).sum())
    # What is left are reasons of a user's own suites.
    return counts | {f"{half}.rejected.{reason}": n for reason, n in sorted(rejected.items())}


def _tell(metrics: dict[str, float], cards: pd.DataFrame) -> None:
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
    if count := metrics["labels_in_both_halves"]:
        say(
            f"validate: {count:g} labels stand in both training and verification and are not "
            "compared, since a number is no name: state the names in a column `person`"
        )
    if count := metrics["proposals"]:
        say(
            f"validate: proposals.csv proposes {count:g} changes and nothing of it is done: add "
            "the lines that you believe to data/cleaning.csv"
        )
    for card in cards.to_dict("records"):
        missing = [name for name in ("licence", "consent") if not isinstance(card[name], str)]
        if missing:
            say(f"validate: {card['dataset']} states no {' and no '.join(missing)}")
