"""The evaluation as one HTML page that needs nothing else: no script, font or image from outside.

It holds figures and curves only; no photo and no name of a person.
"""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from facewright.errors import EvaluationError
from facewright.evaluation.curves import MIN_FALSE_MATCHES, roc, score_histogram
from facewright.evaluation.plots import SERIES, histogram_plot, roc_plot
from facewright.evaluation.style import STYLE
from facewright.evaluation.table import (
    FNMR,
    fmr_targets,
    number,
    percent,
    share,
    table,
    with_interval,
)
from facewright.files import storage_errors

__all__ = ["table", "write_report"]


def write_report(
    path: Path,
    *,
    title: str,
    notice: str,
    rows: Sequence[Mapping[str, Any]],
    scores: Mapping[str, pd.DataFrame],
    parity: Sequence[Mapping[str, Any]] = (),
    engines: Sequence[Mapping[str, Any]] = (),
    data: Mapping[str, Any] | None = None,
) -> None:
    """Write the page.

    Args:
        notice: what the figures do not say; it stands in a box above everything. Empty for none.
        rows: as `table` takes them, one per recognizer, the first being the reference.
        scores: frames from `score_pairs`, by the same names as in `rows`.
        parity: one mapping per comparison of two forms of a recognizer, column title → value.
        engines: one mapping per engine, column title → value.
        data: facts about the data, title → value.

    Raises:
        EvaluationError: there is no row, or a row has no scores.
        StorageError: `path` cannot be written.
    """
    names = [str(row["recognizer"]) for row in rows]
    lacking = [name for name in names if name not in scores]
    if lacking or not names:
        what = f"recognizer {lacking[0]!r} has no scores" if lacking else "no recognizer was given"
        raise EvaluationError(f"{path}: {what}: evaluate again")
    shown = {name: scores[name] for name in names}
    box = f'<aside class="notice"><p>{escape(notice)}</p></aside>' if notice else ""
    body = [
        f"<header><h1>{escape(title)}</h1>{box}</header>",
        _section("Verification", _main_table(rows) + _how_to_read(rows)),
        _section("ROC", _roc(rows, shown)),
        _section("Similarities", _histograms(rows, shown)),
    ]
    for heading, table_rows, text in (
        ("Parity", parity, "The same crops through two forms of one recognizer."),
        ("Engines", engines, "Compiled from the ONNX files, each for one kind of GPU."),
    ):
        if table_rows:
            body.append(_section(heading, f"<p>{text}</p>" + _plain_table(table_rows)))
    if data:
        facts = "".join(
            f"<div><dt>{escape(str(key))}</dt><dd>{escape(_cell(value))}</dd></div>"
            for key, value in data.items()
        )
        body.append(_section("Data", f"<dl>{facts}</dl>"))
    page = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{escape(title)}</title>\n<style>\n{STYLE}</style>"
        f"</head>\n<body><main>\n{chr(10).join(body)}\n</main></body></html>\n"
    )
    with storage_errors(path):
        path.write_text(page, encoding="utf-8")


def _section(heading: str, content: str) -> str:
    return f"<section><h2>{escape(heading)}</h2>\n{content}</section>"


def _main_table(rows: Sequence[Mapping[str, Any]]) -> str:
    targets = fmr_targets(rows)
    head = ["Recognizer", "Accuracy", *(f"FNMR @ FMR {share(fmr)}" for fmr in targets)]
    head += ["EER", "AUC", "Not found", "MB", "ms / face"]
    lines = []
    for row in rows:
        cells = [_estimate(row, "accuracy")]
        cells += [_estimate(row, FNMR + fmr) for fmr in targets]
        cells += [_estimate(row, "eer"), f"{row['auc']:.4f}", f"{row['failures']:.0f}"]
        cells += [number(row.get("megabytes")), number(row.get("latency_ms"))]
        lines.append((str(row["recognizer"]), cells))
    return _table(head, lines)


def _estimate(row: Mapping[str, Any], key: str) -> str:
    if key not in row:
        return "–"
    value, interval = with_interval(row, key).split(" [")
    return f"{value}<small>[{interval}</small>"


def _how_to_read(rows: Sequence[Mapping[str, Any]]) -> str:
    row = rows[0]
    compared = int(row["impostor"] - row["failures_impostor"])
    finest = MIN_FALSE_MATCHES / compared if compared else 1.0
    folds = "each fold judged at the threshold that the other folds choose"
    return (
        '<p class="fine">'
        f"{row['pairs']:,.0f} pairs ({row['genuine']:,.0f} genuine, {row['impostor']:,.0f} "
        f"impostor) of {row['identities']:,.0f} identities. Accuracy is the mean over folds, "
        f"{folds}; its standard error over folds is {percent(row['accuracy_se'])} points for "
        f"{escape(str(row['recognizer']))}. "
        "Brackets hold 95 % intervals from a bootstrap over identities. Not found: pairs in which "
        "a face was not detected; they are errors in the accuracy at any threshold, and genuine "
        "ones are non-matches in the FNMR. FMR is taken over the impostor pairs in which both "
        f"faces were found. {compared:,} such pairs support an FMR down to {100 * finest:.2g} % "
        f"({MIN_FALSE_MATCHES} false matches expected); FNMR at a smaller FMR is left out. At a "
        "threshold that accepts none of them, all that can be said is "
        f"FMR ≤ {100 * row['fmr_bound']:.2g} % at 95 % confidence, were the pairs independent. "
        "ms / face is the median for one aligned crop on one thread, embedded as for these figures "
        "(with its mirror image where that is averaged in); detection comes on top.</p>"
    )


def _roc(rows: Sequence[Mapping[str, Any]], scores: Mapping[str, pd.DataFrame]) -> str:
    compared = max(1.0, max(row["impostor"] - row["failures_impostor"] for row in rows))
    curves = {name: roc(frame) for name, frame in scores.items()}
    plot = roc_plot(curves, finest=1 / compared, supported=MIN_FALSE_MATCHES / compared)
    legend = "".join(
        f'<li><i class="key s{i % SERIES}"></i>{escape(name)}</li>' for i, name in enumerate(curves)
    )
    return f'<figure>{plot}</figure><ul class="legend">{legend}</ul>'


def _histograms(rows: Sequence[Mapping[str, Any]], scores: Mapping[str, pd.DataFrame]) -> str:
    values = pd.concat([frame["similarity"] for frame in scores.values()]).dropna()
    # Whole quarters, so that the ticks are round; wide enough for all recognizers.
    low = float(np.floor(4 * values.min()) / 4) if len(values) else -1.0
    high = max(float(np.ceil(4 * values.max()) / 4) if len(values) else 1.0, low + 0.25)
    counted = {name: score_histogram(frame, low=low, high=high) for name, frame in scores.items()}
    tallest = max(
        float(frame[kind].max() / max(int(frame[kind].sum()), 1))
        for frame in counted.values()
        for kind in ("genuine", "impostor")
    )
    figures = "".join(
        f"<figure><figcaption>{escape(str(row['recognizer']))}</figcaption>"
        + histogram_plot(
            str(row["recognizer"]),
            counted[str(row["recognizer"])],
            threshold=row["threshold_accuracy"],
            tallest=max(np.ceil(50 * tallest), 1) / 50,  # whole, even per cent
        )
        + "</figure>"
        for row in rows
    )
    legend = (
        '<ul class="legend"><li><i class="key genuine"></i>genuine</li>'
        '<li><i class="key impostor"></i>impostor</li>'
        '<li><i class="key threshold"></i>mean threshold of the folds</li></ul>'
    )
    return f'<div class="panels">{figures}</div>{legend}'


def _plain_table(rows: Sequence[Mapping[str, Any]]) -> str:
    head = list(dict.fromkeys(key for row in rows for key in row))
    lines = [
        (_cell(row.get(head[0])), [escape(_cell(row.get(key))) for key in head[1:]]) for row in rows
    ]
    return _table(head, lines)


def _table(head: Sequence[str], lines: Sequence[tuple[str, Sequence[str]]]) -> str:
    """`lines` are a name, which is escaped here, and cells that are HTML already."""
    titles = "".join(f'<th scope="col">{escape(str(title))}</th>' for title in head)
    body = "".join(
        f'<tr><th scope="row">{escape(name)}</th>'
        + "".join(f"<td>{cell}</td>" for cell in cells)
        + "</tr>"
        for name, cells in lines
    )
    return (
        f'<div class="wide"><table><thead><tr>{titles}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    if isinstance(value, (float, np.floating)):
        return f"{value:.7g}"
    if isinstance(value, (int, np.integer)):
        return f"{value:,}"
    return str(value)
