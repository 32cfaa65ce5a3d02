"""Sections of the report on people: searches, slices, and who was in training."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from facewright.evaluation import markup as html
from facewright.evaluation.assess import IDENTIFICATION, OVERLAP, SLICES, START, WITHOUT, Answers
from facewright.evaluation.limits import words_of
from facewright.evaluation.plots import BANDS, cmc_plot
from facewright.evaluation.ratios import Ratio, largest_ratio
from facewright.evaluation.report_rates import not_measured, rows_of
from facewright.evaluation.slice_plots import MOST_SLICES, most_pairs, slice_plot
from facewright.evaluation.slices import ALL
from facewright.evaluation.svg import legend_of
from facewright.evaluation.table import (
    FNMR,
    estimate,
    finest_fmr,
    is_number,
    share,
    times,
    upward,
)

FNIR = "fnir_at_fpir_"
RATES = ("fnmr", "fmr")


def identification(answers: Mapping[str, Answers]) -> str:
    """Searches in a gallery; without figures where nobody could be enrolled."""
    searched = {name: answer for name, answer in answers.items() if len(answer.cmc)}
    told = not_measured(answers, IDENTIFICATION)
    if not searched:
        return html.section("Identification", *told) if told else ""
    rows: list[dict[str, Any]] = [{"recognizer": n, **a.metrics} for n, a in searched.items()]
    first = rows[0]
    head, keys = _search_columns(rows)
    lines = [
        (str(row["recognizer"]), [html.with_interval(*estimate(row, key)) for key in keys])
        for row in rows
    ]
    sizes = {name: answer.sizes for name, answer in searched.items() if len(answer.sizes) > 1}
    content = [html.table(["Recognizer", *head], lines)]
    content += [
        html.figure(
            cmc_plot({n: a.cmc for n, a in searched.items()}),
            "CMC, with 95 % bands" if len(searched) <= BANDS else "CMC",
        ),
        legend_of(list(searched)),
    ]
    if sizes:
        size_rows = [
            {"recognizer": name, **_known(row)}
            for name, found in sizes.items()
            for row in _rows(found)
        ]
        head, keys = _search_columns(size_rows)
        lines = [
            (
                str(row["recognizer"]),
                [
                    f"{row['people']:,.0f}",
                    *(html.with_interval(*estimate(row, key)) for key in keys),
                ],
            )
            for row in size_rows
        ]
        content.append(html.subheading("By size of the gallery"))
        content.append(html.table(["Recognizer", "People", *head], lines))
    bound = float(first["fpir_bound"])
    content.append(
        html.fine(
            f"{first['gallery_people']:,.0f} people are enrolled with one "
            f"{words_of(first).one} each; "
            f"{first['probes_mated']:,.0f} searches are for them and "
            f"{first['probes_unenrolled']:,.0f} for people who are not enrolled. Rank 1: the "
            "person comes first. FNIR at an FPIR: of the searches for enrolled people, the share "
            "that does not bring them up first, at the threshold at which that share of the other "
            "searches brings up anybody. Faces not found count as misses. Intervals are Wilson's, "
            "searches taken as independent. At a threshold that none of the other searches "
            f"reaches, FPIR ≤ {upward(bound)} at 95 %. Larger galleries have more errors."
            + _left_out(first)
        )
    )
    return html.section("Identification", *content, *told)


def _left_out(row: Mapping[str, Any]) -> str:
    if not row.get("probes_shared"):
        return ""
    return (
        f" {row['probes_shared']:,.0f} templates that share a photo with the one that is enrolled "
        "of their person were not searched for."
    )


def _search_columns(rows: list[dict[str, Any]]) -> tuple[list[str], list[str]]:
    """Titles and keys of the figures that any row has."""
    keys = list(dict.fromkeys(key for row in rows for key in row))
    ranks = sorted(
        (key for key in keys if key.startswith("rank_") and key.removeprefix("rank_").isdigit()),
        key=lambda key: int(key.removeprefix("rank_")),
    )
    targets = sorted(
        (key for key in keys if key.startswith(FNIR) and is_number(key.removeprefix(FNIR))),
        key=lambda key: -float(key.removeprefix(FNIR)),
    )
    head = [f"Rank {key.removeprefix('rank_')}" for key in ranks]
    head += [f"FNIR @ FPIR {share(key.removeprefix(FNIR))}" for key in targets]
    bound = [f"{FNIR}bound"] if f"{FNIR}bound" in keys else []
    head += [f"FNIR @ FPIR ≤ {upward(rows[0]['fpir_bound'])}"] if bound else []
    return head, [*ranks, *targets, *bound]


def _rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(key): value for key, value in row.items()} for _, row in table.iterrows()]


def _known(row: Mapping[str, Any]) -> dict[str, Any]:
    """Without what a smaller gallery lacks, which a table fills with NaN."""
    return {key: value for key, value in row.items() if value == value}


def slices(answers: Mapping[str, Answers]) -> str:
    """Error rates of parts of the pairs; empty where there are none."""
    tables = {name: answer.slices for name, answer in answers.items() if len(answer.slices)}
    told = not_measured(answers, SLICES)
    if not tables:
        return html.section("Slices", *told) if told else ""
    first = next(iter(tables.values()))
    words = words_of(next(iter(answers.values())).metrics)
    columns = [str(name) for name in first["column"].unique() if name != ALL]
    content = [
        html.paragraph(
            "For whom does it fail? One threshold for all pairs of a recognizer, as it would be in "
            "use: that of its finest FMR target or, without one, that of its accuracy."
        )
    ]
    for column in columns:
        content.append(html.subheading(column))
        number = int((first["column"] == column).sum())
        if number > MOST_SLICES:
            content.append(html.fine(f"The {MOST_SLICES} of {number} with the most pairs."))
        content.append(
            html.panels(
                [html.figure(slice_plot(tables, column, rate), rate.upper()) for rate in RATES]
            )
        )
        content.append(_ratios(answers, column))
        content.append(html.figures_behind("Figures", _slice_figures(tables, column)))
    content.append(legend_of(list(tables), {"overall": "rate of all pairs"}))
    content.append(
        html.fine(
            "Bars are Wilson's 95 % intervals, pairs taken as independent; › marks one that goes "
            f"on. A pair belongs to a number by its worse {words.one}, and to a category if both "
            f"{words.several} are of it; all others are mixed or unknown. Slices in which fewer "
            "than ten errors are expected have no say in a ratio. Intervals of ratios are over "
            "people: from the lower end of the largest to the highest end of any slice."
        )
    )
    return html.section("Slices", *content, *told)


def _ratios(answers: Mapping[str, Answers], column: str) -> str:
    largest = {
        name: {rate: largest_ratio(answer.slices, rate).get(column) for rate in RATES}
        for name, answer in answers.items()
        if len(answer.slices)
    }
    if not any(ratio for ratios in largest.values() for ratio in ratios.values()):
        return html.fine("No ratio: fewer than two slices have errors enough to tell.")
    lines = []
    for name, ratios in largest.items():
        row = answers[name].metrics
        lines.append(
            (name, [_ratio(r, row, f"{rate}_ratio_{column}") for rate, r in ratios.items()])
        )
    return html.table(["Largest ratio", "FNMR", "FMR"], lines)


def _ratio(ratio: Ratio | None, row: Mapping[str, float], key: str) -> str:
    if ratio is None:
        return html.with_words("–", "too few errors to tell")
    value, interval = times(row, key)
    least = "at least " if ratio.at_least else ""
    return html.with_words(
        f"{least}{value}", f"{interval} {ratio.highest} over {ratio.lowest}".lstrip()
    )


def _slice_figures(tables: Mapping[str, pd.DataFrame], column: str) -> str:
    lines = []
    for value in most_pairs(next(iter(tables.values())), column):
        for name, table in tables.items():
            chosen = (table["column"] == column) & (table["value"] == value)
            row = _known(_rows(table[chosen])[0])
            cells = [html.with_interval(name, "")]
            cells += [html.with_interval(*estimate(row, rate)) for rate in RATES]
            cells += [f"{row[key]:,}" for key in ("genuine", "compared", "failures")]
            lines.append((value, cells))
    head = ["Slice", "Recognizer", "FNMR", "FMR", "Genuine", "Impostor", "Not found"]
    return html.table(head, lines)


def overlap(answers: Mapping[str, Answers]) -> str:
    """Figures with and without the pairs of people who were in training."""
    rows = rows_of(answers)
    known = int(max(row.get("overlap_pairs", 0) for row in rows))
    by_name = "People are compared by name; a set that numbers its people cannot be compared so."
    last = (*not_measured(answers, START), html.fine(by_name))
    if not known:
        text = "No pair shows anybody who was in training, as far as names tell."
        return html.section("Overlap with training", html.paragraph(text), *last)
    if not any(key.endswith(WITHOUT) for answer in answers.values() for key in answer.metrics):
        pairs = int(rows[0]["pairs"])
        text = (
            f"{'All ' if known == pairs else ''}{known:,} of {pairs:,} pairs show somebody who was "
            "in training: these figures say little about people whom the recognizers have not seen."
        )
        why = not_measured(answers, OVERLAP)
        return html.section("Overlap with training", html.paragraph(text), *why, *last)
    apart = [_without(answer.metrics) for answer in answers.values()]
    keys = {"accuracy": "Accuracy", "eer": "EER"}
    if finest := finest_fmr([*rows, *apart]):
        keys[f"{FNMR}{finest}"] = f"FNMR @ FMR {share(finest)}"
    keys = {key: title for key, title in keys.items() if key in rows[0]}
    lines = []
    for row, rest in zip(rows, apart, strict=True):
        for told, figures in (("all pairs", row), ("without", rest)):
            cells = [told, f"{figures['pairs']:,.0f}"]
            cells += [html.with_interval(*estimate(figures, key)) for key in keys]
            lines.append((str(row["recognizer"]), cells))
    return html.section(
        "Overlap with training",
        html.paragraph(
            f"{known:,} of {rows[0]['pairs']:,.0f} pairs show somebody who was in training. What "
            "counts for people whom the recognizers have not seen are the figures without them."
        ),
        html.table(["Recognizer", "", "Pairs", *keys.values()], lines),
        *last,
    )


def _without(metrics: Mapping[str, float]) -> dict[str, float]:
    return {
        key.removesuffix(WITHOUT): value for key, value in metrics.items() if key.endswith(WITHOUT)
    }
