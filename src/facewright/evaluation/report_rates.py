"""Sections of the report on pairs: figures, curves, similarities, thresholds, probabilities."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from facewright.evaluation import markup as html
from facewright.evaluation.assess import PROBABILITIES, WITHOUT, Answers
from facewright.evaluation.curves import roc, score_histogram
from facewright.evaluation.intervals import FEW
from facewright.evaluation.limits import IMAGES, words_of
from facewright.evaluation.plots import det_plot, histogram_plot, reliability_plot, roc_plot
from facewright.evaluation.svg import legend, legend_of
from facewright.evaluation.table import (
    FNMR,
    bound_text,
    decimals,
    estimate,
    fmr_targets,
    number,
    percent,
    share,
    threshold_with_interval,
    upward,
)
from facewright.evaluation.thresholds import Thresholds, targets_of

BOUND = "fmr_bound"
FNMR_AT_BOUND = f"{FNMR}bound"

Row = Mapping[str, Any]


def rows_of(answers: Mapping[str, Answers]) -> list[Row]:
    """The figures of each recognizer over all pairs."""
    return [
        {
            "recognizer": name,
            **{key: value for key, value in answer.metrics.items() if not key.endswith(WITHOUT)},
        }
        for name, answer in answers.items()
    ]


def verification(answers: Mapping[str, Answers]) -> str:
    rows = rows_of(answers)
    folded = any("accuracy" in row for row in rows)
    bounded = any(FNMR_AT_BOUND in row for row in rows)
    targets = fmr_targets(rows)
    head = ["Recognizer", *(["Accuracy"] if folded else [])]
    head += [f"FNMR @ FMR {share(fmr)}" for fmr in targets]
    head += [f"FNMR @ FMR ≤ {upward(rows[0][BOUND])}"] if bounded else []
    head += ["EER", "AUC", "Not found", "MB", "ms / face"]
    lines = []
    for row in rows:
        keys = ["accuracy"] * folded + [FNMR + fmr for fmr in targets] + [FNMR_AT_BOUND] * bounded
        cells = [html.with_interval(*estimate(row, key)) for key in (*keys, "eer")]
        cells += [decimals(row["auc"], 4), f"{row['failures']:,.0f}"]
        cells += [number(row.get("megabytes")), number(row.get("latency_ms"))]
        lines.append((str(row["recognizer"]), cells))
    return html.section("Verification", html.table(head, lines), *_how_to_read(rows))


def _how_to_read(rows: Sequence[Row]) -> list[str]:
    row = rows[0]
    compared, words = _compared(row), words_of(row)
    finest = FEW / compared if compared else 1.0
    down = f"an FMR down to {100 * finest:.2g} %" if finest < 1 else "no FMR"
    pairs = (
        f"{row['pairs']:,.0f} pairs ({row['genuine']:,.0f} genuine, {row['impostor']:,.0f} "
        f"impostor) of {row['identities']:,.0f} identities; in {row['failures']:,.0f} "
        f"{words.lost}. "
    )
    if "accuracy" in row:
        pairs += (
            "Accuracy is the mean over folds, each fold judged at the threshold that the other "
            f"folds choose; its standard error over folds is {percent(row['accuracy_se'])} points "
            f"for {row['recognizer']}. "
        )
    return [
        html.fine(
            f"{pairs}Brackets hold 95 % intervals from a bootstrap over identities, so that pairs "
            "of one person stay together."
        ),
        html.fine(
            "FMR is the false match rate over the impostor pairs in which both faces were found. "
            f"FNMR is the false non-match rate over all genuine pairs: {words.lost_one} "
            "counts as a non-match, which ISO/IEC 19795-1 calls the FRR. In the accuracy such a "
            "pair is an error at any threshold."
        ),
        html.fine(
            f"{compared:,} compared impostor pairs support {down} ({FEW} false "
            "matches expected); a smaller target has no figure. In its place stands what a "
            f"threshold above every impostor shows: {bound_text(row)}."
        ),
        html.fine(
            "ms / face is the median for one aligned crop on one thread, embedded as for these "
            "figures (with its mirror image where that is averaged in); detection comes on top."
        ),
    ]


def curves(answers: Mapping[str, Answers]) -> str:
    rows = rows_of(answers)
    compared = max(1, *map(_compared, rows))
    finest, supported = 1 / compared, min(1.0, FEW / compared)
    drawn = {name: roc(answer.scores) for name, answer in answers.items()}
    marks = {str(row["recognizer"]): _marks(row) for row in rows}
    det = det_plot(
        drawn,
        marks,
        finest=finest,
        supported=supported,
        smallest=1 / max(1.0, *(row["genuine"] for row in rows)),
    )
    plots = [
        html.figure(det, "DET, both axes logarithmic"),
        html.figure(roc_plot(drawn, finest=finest, supported=supported), "ROC"),
    ]
    more = {"spot": "FNMR at a target, 95 %"}
    if any(FNMR_AT_BOUND in row for row in rows):
        more["spot hollow"] = "FMR at most that, none accepted"
    return html.section(
        "Error rates along the threshold",
        html.panels(plots),
        legend_of(list(answers), more),
        html.fine(
            f"Shaded: FMR below {100 * supported:.3g} %, where fewer than {FEW} "
            "false matches are expected and a few lucky pairs decide. Dotted: FMR and FNMR are "
            "equal. Marks of several recognizers at one target are drawn side by side."
        ),
    )


def _marks(row: Row) -> list[dict[str, Any]]:
    """The figures to mark in the DET plot."""
    places = [(float(fmr), FNMR + fmr, False) for fmr in fmr_targets([row])]
    if FNMR_AT_BOUND in row:
        places.append((row[BOUND], FNMR_AT_BOUND, True))
    return [
        {
            "fmr": fmr,
            "fnmr": row[key],
            "low": row.get(f"{key}_low", row[key]),
            "high": row.get(f"{key}_high", row[key]),
            "bound": bound,
        }
        for fmr, key, bound in places
    ]


def similarities(answers: Mapping[str, Answers]) -> str:
    values = pd.concat([answer.scores["similarity"] for answer in answers.values()]).dropna()
    # Whole quarters, so that the ticks are round; wide enough for all recognizers.
    low = float(np.floor(4 * values.min()) / 4) if len(values) else -1.0
    high = max(float(np.ceil(4 * values.max()) / 4) if len(values) else 1.0, low + 0.25)
    counted = {
        name: score_histogram(answer.scores, low=low, high=high) for name, answer in answers.items()
    }
    tallest = max(
        float(frame[kind].max() / max(int(frame[kind].sum()), 1))
        for frame in counted.values()
        for kind in ("genuine", "impostor")
    )
    keys = {"genuine": "genuine", "impostor": "impostor"}
    plots = []
    for name, answer in answers.items():
        marked = []
        if "threshold_accuracy" in answer.metrics:
            marked.append(("folds", answer.metrics["threshold_accuracy"]))
            folded = "accuracy" in answer.metrics
            keys["threshold folds"] = (
                "mean threshold of the folds" if folded else "threshold of the fewest errors"
            )
        if targets := targets_of(answer.metrics):
            marked.append(("target", targets[-1].threshold))
            keys["threshold target"] = "threshold of the finest FMR target"
        plot = histogram_plot(name, counted[name], thresholds=marked, tallest=tallest)
        plots.append(html.figure(plot, name))
    return html.section(
        "Similarities",
        html.panels(plots, small=True),
        legend(keys),
        html.fine("Cosine of the two embeddings; pairs with a face not found have none."),
    )


def thresholds_section(thresholds: Sequence[Thresholds], answers: Mapping[str, Answers]) -> str:
    """Of each recognizer and target, and above every impostor."""
    lines: list[html.Line] = []
    for one in thresholds:
        row = answers[one.recognizer].metrics
        for target in one.targets:
            value = threshold_with_interval(target.threshold, target.low, target.high)
            fnmr = estimate(row, f"{FNMR}{target.fmr:g}")
            cells = [f"at most {share(f'{target.fmr:g}')}", html.with_interval(*value)]
            lines.append((one.recognizer, [*cells, html.with_interval(*fnmr), _made(one)]))
        if (key := "threshold_at_fmr_bound") in row:
            cells = [f"≤ {upward(row[BOUND])} at 95 %", f"{row[key]:.4f}"]
            fnmr = estimate(row, FNMR_AT_BOUND)
            lines.append((one.recognizer, [*cells, html.with_interval(*fnmr), _made(one)]))
    head = ["Recognizer", "FMR", "Threshold", "FNMR", "Runs on, weights, date"]
    cohorts = {
        f"{one.cohort.dataset}, {one.cohort.impostors:,} compared impostor pairs"
        f"{'' if one.cohort.subjects == IMAGES else f' of {one.cohort.subjects}'}, pairs digest "
        f"{one.cohort.pairs_digest[:12]}"
        for one in thresholds
    }
    told = (
        f"Cohort: {'; '.join(sorted(cohorts))}. A threshold belongs to one recognizer as it runs, "
        "and to faces like those of the cohort: another recognizer's is wrong, and other faces may "
        "need another one. thresholds.json holds the same values, under a digest."
    )
    bounds = dict.fromkeys(bound_text(row) for row in rows_of(answers) if "impostor" in row)
    table = html.table(head, lines) if lines else ""
    none = "" if lines else html.paragraph("No FMR target is supported by these impostor pairs.")
    return html.section(
        "Thresholds",
        none + table,
        html.fine(told),
        *(html.fine(f"{text}.") for text in bounds),
    )


def _made(one: Thresholds) -> str:
    flip = ", with mirror images" if one.flip else ""
    return html.with_interval(one.backend + flip, f"{one.weights_sha256[:12]}, {one.date}")


def probabilities(answers: Mapping[str, Answers]) -> str:
    """Calibration; without plots where none could be judged on folds that it did not see."""
    judged = {name: answer for name, answer in answers.items() if len(answer.reliability)}
    told = not_measured(answers, PROBABILITIES)
    one = next((answer.calibration for answer in judged.values()), None)
    if one is None:
        return html.section("Probabilities", *told) if told else ""
    plots = []
    for name, answer in judged.items():
        error = answer.metrics.get("calibration_error")
        caption = name if error is None else f"{name}: calibration error {percent(error)} points"
        plots.append(html.figure(reliability_plot(name, answer.reliability), caption))
    return html.section(
        "Probabilities",
        html.panels(plots, small=True),
        html.fine(
            f"Similarity to the probability that two faces are of one person, by {one.kind} "
            f"calibration. It holds where {percent(one.prior)} % of the pairs are genuine, as "
            "here; elsewhere the odds must be moved to the share there. Each fold's probabilities "
            "come from a calibration on the others. Bars are Wilson's 95 % intervals, pairs taken "
            "as independent; a dot's area says how many pairs it stands for. Calibration error: "
            "the mean over pairs of the distance from the diagonal."
        ),
        *told,
    )


def not_measured(answers: Mapping[str, Answers], what: str) -> list[str]:
    """A paragraph for each reason why `what` has no figures."""
    reasons: dict[str, list[str]] = {}
    for name, answer in answers.items():
        for key, reason in answer.not_measured.items():
            if key == what or key.startswith(f"{what} "):
                reasons.setdefault(f"{key}: {reason}", []).append(name)
    return [
        html.paragraph(f"Not measured for {html.listed(names)}: {reason}.")
        for reason, names in reasons.items()
    ]


def _compared(row: Row) -> int:
    """Impostor pairs in which both faces were found."""
    return int(row["impostor"] - row["failures_impostor"])
