"""The model card in Markdown: what a recognizer is, for what, and how well, on two pages.

Sections are those of Mitchell et al. (Model Cards for Model Reporting, FAT* 2019), and after them
what a promotion rests on: thresholds, the gate's decision, and where everything came from.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from facewright.errors import EvaluationError
from facewright.evaluation.assess import WITHOUT
from facewright.evaluation.limits import (
    IMAGES,
    INTENDED,
    NOT_INTENDED,
    TEMPLATES,
    composition,
    limits,
    told_not_measured,
    words_of,
)
from facewright.evaluation.ratios import largest_ratio
from facewright.evaluation.record import THRESHOLDS, read_facts, read_slices
from facewright.evaluation.slice_plots import most_pairs
from facewright.evaluation.slices import ALL
from facewright.evaluation.table import (
    FNMR,
    bound_text,
    estimate,
    fmr_targets,
    is_number,
    joined,
    number,
    percent,
    share,
    threshold_with_interval,
    times,
    upward,
)
from facewright.evaluation.thresholds import Thresholds, read_thresholds

Row = Mapping[str, Any]
RATES = ("fnmr", "fmr")
DETAILS = {  # of a recognizer's card
    "network": "Architecture",
    "format": "Form",
    "precision": "Precision",
    "embedding_size": "Values of an embedding",
    "input_size": "Side of a crop, px",
    "colour": "Colour order",
}
DIGESTS = {"weights_sha256": "weights", "data_digest": "data", "code_digest": "code"}


def model_card_of(
    evaluate: Path,
    *,
    model: str,
    serve: str,
    recognizers: Mapping[str, Row],
    decision: Row | None = None,
    lineage: Mapping[str, str] | None = None,
) -> str:
    """`model_card` from the files that an evaluation left in a folder.

    Raises:
        EvaluationError: a file is missing or was changed, or nothing was measured of `serve`.
    """
    facts = read_facts(evaluate)
    slices = evaluate / "slices.csv"
    return model_card(
        model=model,
        serve=serve,
        rows=facts["rows"],
        recognizers=recognizers,
        thresholds=read_thresholds(evaluate / THRESHOLDS),
        training=facts["training_set"],
        verification=facts["verification_set"],
        pairs_digest=facts["pairs_digest"],
        slices=read_slices(slices) if slices.exists() else None,
        notice=facts["notice"],
        not_measured=facts.get("not_measured", {}).get(serve, {}),
        decision=decision,
        lineage=lineage,
    )


def model_card(
    *,
    model: str,
    serve: str,
    rows: Sequence[Row],
    recognizers: Mapping[str, Row],
    thresholds: Sequence[Thresholds],
    training: Row,
    verification: Row,
    pairs_digest: str,
    slices: pd.DataFrame | None = None,
    notice: str = "",
    not_measured: Mapping[str, str] | None = None,
    decision: Row | None = None,
    lineage: Mapping[str, str] | None = None,
) -> str:
    """The card as Markdown; the same arguments give the same text.

    Args:
        model: name of the registered model.
        serve: the recognizer that is served; the card is about it.
        rows: the flat figures of each recognizer that was measured, with `recognizer`, its name.
        recognizers: the fields of `recognizer.yaml` of each form that is stored.
        thresholds: of the recognizers that were measured.
        training, verification: the fields of the datasets' cards.
        pairs_digest: of the verification pairs.
        slices: what `slices.csv` holds: tables of `slice_table` with a column `recognizer`.
        notice: what must stand above everything; empty for nothing.
        not_measured: of `serve`, what was asked for and the pairs do not allow, and why.
        decision: of the gate: `outcome`, `champion`, and `rules` with `name`, `chooses`, `result`
            and `evidence` each.
        lineage: digests and the like by name.

    Raises:
        EvaluationError: nothing was measured of `serve`.
    """
    row = next((row for row in rows if row["recognizer"] == serve), None)
    if row is None:
        raise EvaluationError(
            f"no figures of {serve!r}, which is to be served: evaluate measured "
            f"{', '.join(str(row['recognizer']) for row in rows) or 'nothing'}"
        )
    part = pd.DataFrame()
    if slices is not None and len(slices):
        part = slices[slices["recognizer"] == serve].reset_index(drop=True)
    columns = [str(c) for c in part["column"].unique() if c != ALL] if len(part) else []
    data = {"Training": training, "Verification": verification}
    sections = [
        f"# Model card: {_text(model)}",
        f"> {_text(notice)}" if notice else "",
        _details(serve, row, recognizers, thresholds),
        f"## Intended use\n\n{INTENDED}\n\n{NOT_INTENDED}",
        _factors(row, columns),
        _metrics(serve, rows),
        _dataset("Evaluation data", verification, f"Pairs: digest `{pairs_digest[:12]}`."),
        _dataset("Training data", training, _overlap(row)),
        _slices(part, columns, row),
        _ethics(),
        _caveats(row, [*limits(data, row), *told_not_measured(not_measured or {})]),
        _thresholds(thresholds),
        _decision(decision) if decision else "",
        _lineage(recognizers, lineage or {}),
    ]
    return "\n\n".join(filter(None, sections)) + "\n"


def _details(
    serve: str, row: Row, recognizers: Mapping[str, Row], thresholds: Sequence[Thresholds]
) -> str:
    card = recognizers.get(serve, {})
    facts = {"Served": serve} | {DETAILS[key]: card[key] for key in DETAILS if key in card}
    mine = next((one for one in thresholds if one.recognizer == serve), None)
    if mine:
        facts |= {"Measured with": mine.backend, "Measured on": mine.date}
    facts["Size, MB"] = number(row.get("megabytes"))
    facts["One crop on one thread, ms"] = number(row.get("latency_ms"))
    others = [name for name in recognizers if name != serve]
    text = (
        "It turns an aligned crop of a face into an embedding; the similarity of two faces is the "
        "cosine of theirs. It finds no faces and keeps no photographs."
    )
    if others:
        text += f" Stored with it: {_text(', '.join(others))}."
    return f"## Model details\n\n{text}\n\n" + _list(facts)


def _factors(row: Row, columns: Sequence[str]) -> str:
    seen = f" Slices: {_text(', '.join(columns))}." if columns else ""
    return (
        f"## Factors\n\n{_text(composition(row, columns))}{seen} Pose, light, age between the "
        "photographs, blur and what hides a face move the errors; so does the detector, whose "
        "misses are counted."
    )


def _metrics(serve: str, rows: Sequence[Row]) -> str:
    keys = {"accuracy": "Accuracy"} if any("accuracy" in row for row in rows) else {}
    keys |= {FNMR + fmr: f"FNMR @ FMR {share(fmr)}" for fmr in fmr_targets(rows)}
    if any(f"{FNMR}bound" in row for row in rows):
        keys[f"{FNMR}bound"] = f"FNMR @ FMR ≤ {upward(rows[0]['fmr_bound'])}"
    keys["eer"] = "EER"
    lines = []
    for row in rows:
        name = _text(row["recognizer"])
        cells = [joined(estimate(row, key)) for key in keys]
        lines.append([f"**{name}** (served)" if row["recognizer"] == serve else name, *cells])
    row = next(row for row in rows if row["recognizer"] == serve)
    text = (
        "FMR is the share of compared impostor pairs that are accepted, FNMR the share of all "
        f"genuine pairs that are not; {words_of(row).lost_one} counts as a non-match. Brackets "
        f"hold 95 % intervals from a bootstrap over identities. {bound_text(row)}."
    )
    parts = ["## Metrics", text, _table(["Recognizer", *keys.values()], lines)]
    return "\n\n".join([*parts, *_searches(row), *_probability(row)])


def _searches(row: Row) -> list[str]:
    if "gallery_people" not in row:
        return []
    keys = [key for key in row if re.fullmatch(r"rank_\d+", key)]
    keys += [
        key
        for key in row
        if key.startswith("fnir_at_fpir_") and is_number(key.removeprefix("fnir_at_fpir_"))
    ]
    told = {
        key: f"rank {key.removeprefix('rank_')}"
        if key.startswith("rank_")
        else f"FNIR at FPIR {share(key.removeprefix('fnir_at_fpir_'))}"
        for key in keys
    }
    figures = ", ".join(f"{told[key]} {joined(estimate(row, key))}" for key in keys)
    of = f", one template of each: {figures}" if TEMPLATES in row else f": {figures}"
    return [f"Searches among {row['gallery_people']:,.0f} people{of}."]


def _probability(row: Row) -> list[str]:
    if "calibration_error" not in row:
        return []
    return [
        f"Probabilities from similarities are off by {percent(row['calibration_error'])} points on "
        "average, on folds that the calibration did not see."
    ]


def _dataset(heading: str, card: Row, more: str) -> str:
    facts = {
        "Name": card.get("name"),
        "Source": card.get("source"),
        "Licence": card.get("licence") or "none stated",
        "Legal or ethical basis": card.get("consent") or "none stated",
        "Oldest photographs": card.get("collected") or "unknown",
        "Digest of the source": str(card.get("source_digest", ""))[:12] or "unknown",
    }
    return f"## {heading}\n\n" + _list(facts) + (f"\n\n{more}" if more else "")


def _overlap(row: Row) -> str:
    known = row.get("overlap_pairs", 0)
    if not known:
        return "As far as names tell, nobody in the verification pairs was in training."
    text = f"{known:,.0f} of {row['pairs']:,.0f} verification pairs show somebody who was in it"
    rest = {k.removesuffix(WITHOUT): v for k, v in row.items() if k.endswith(WITHOUT)}
    keys = [key for key in ("accuracy", "eer") if key in rest]
    if not keys:
        return f"{text}."
    told = ", ".join(f"{key} {joined(estimate(rest, key))}" for key in keys)
    return f"{text}; without them: {told}."


def _slices(table: pd.DataFrame, columns: Sequence[str], served: Row) -> str:
    if not columns:
        return ""
    lines = []
    for column in columns:
        for value in most_pairs(table, column):
            found = table[(table["column"] == column) & (table["value"] == value)].iloc[0]
            row = {str(key): item for key, item in found.items() if item == item}
            rates = [joined(estimate(row, rate)) for rate in RATES]
            pairs = f"{row['genuine']:,.0f} + {row['compared']:,.0f}"
            lines.append([_text(column), _text(value), *rates, pairs])
    ratios = []
    for rate in RATES:
        for column, ratio in largest_ratio(table, rate).items():
            if ratio:
                least = "at least " if ratio.at_least else ""
                told = joined(times(served, f"{rate}_ratio_{column}"))
                ratios.append(
                    f"{rate.upper()} by {_text(column)} {least}{told} "
                    f"({_text(ratio.highest)} over {_text(ratio.lowest)})"
                )
    largest = (
        f"Largest ratios: {'; '.join(ratios)}." if ratios else "Too few errors to tell a ratio."
    )
    head = ["Column", "Slice", "FNMR", "FMR", "Genuine + impostor pairs"]
    return (
        "## Quantitative analyses\n\nOne threshold for all slices. Intervals are Wilson's, pairs "
        f"taken as independent; those of ratios are over people. {largest}\n\n"
        + _table(head, lines)
    )


def _ethics() -> str:
    return (
        "## Ethical considerations\n\nFaces are personal, and an embedding of one is biometric "
        "data that can find the person again: guard embeddings as the photographs. Whoever is "
        "judged by a match should know of it, and be able to object and be heard by a person. "
        "Errors may fall on some groups more than on others; where no figures by group stand "
        "above, nobody has looked."
    )


def _caveats(row: Row, more: Sequence[str]) -> str:
    says = [
        "The figures hold for people, cameras and detection like those of the evaluation data.",
        f"Rarer errors than the pairs can show are not reported. {bound_text(row)}.",
        "A threshold belongs to one recognizer as it runs; measure again what is compiled anew.",
        *more,
    ]
    text = "\n".join(f"- {_text(words)}" for words in says)
    return f"## Caveats and recommendations\n\n{text}"


def _thresholds(thresholds: Sequence[Thresholds]) -> str:
    lines = []
    for one in thresholds:
        for target in one.targets:
            value = threshold_with_interval(target.threshold, target.low, target.high)
            of = "" if one.cohort.subjects == IMAGES else f" of {one.cohort.subjects}"
            cohort = f"{one.cohort.dataset}, {one.cohort.impostors:,} impostor pairs{of}"
            cells = [share(f"{target.fmr:g}"), joined(value), f"{percent(target.fnmr)} %"]
            lines.append(
                [_text(one.recognizer), *cells, _text(one.backend), _text(cohort), one.date]
            )
    head = ["Recognizer", "FMR at most", "Threshold", "FNMR", "Runs on", "Cohort", "Date"]
    body = _table(head, lines) if lines else "The pairs support no FMR target."
    return f"## Thresholds\n\n{body}"


def _decision(decision: Row) -> str:
    against = decision.get("champion")
    champion = f"Champion then: version {against}." if against else "There was no champion."
    lines = [
        [_text(rule[key]) for key in ("name", "chooses", "result", "evidence")]
        for rule in decision.get("rules", ())
    ]
    return f"## Decision of the gate\n\n**{_text(decision['outcome'])}**. {champion}\n\n" + _table(
        ["Rule", "Decides", "Result", "Evidence"], lines
    )


def _lineage(recognizers: Mapping[str, Row], lineage: Mapping[str, str]) -> str:
    head = ["Recognizer", *(f"{words} digest" for words in DIGESTS.values())]
    lines = [
        [_text(name), *(f"`{str(card.get(key, ''))[:12] or 'unknown'}`" for key in DIGESTS)]
        for name, card in recognizers.items()
    ]
    text = "\n".join(
        f"- {_text(key.replace('_', ' '))}: `{value}`" for key, value in lineage.items()
    )
    return "\n\n".join(
        part for part in ("## Lineage", text, _table(head, lines) if lines else "") if part
    )


def _list(facts: Mapping[str, Any]) -> str:
    return "\n".join(f"- {key}: {_text(value)}" for key, value in facts.items())


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rows = [list(head), ["---"] * len(head), *map(list, lines)]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _text(value: Any) -> str:
    """Text from outside as plain words: nothing in it is markup, and it is one line."""
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", " ".join(str(value).split()))
