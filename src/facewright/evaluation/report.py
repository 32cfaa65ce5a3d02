"""The evaluation as one HTML page that needs nothing else: no script, font or image from outside.

It holds figures and curves; photographs only where the caller hands faces over, and never a name.
"""

import re
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from facewright.errors import EvaluationError
from facewright.evaluation import markup as html
from facewright.evaluation.assess import Answers
from facewright.evaluation.faces import Faces
from facewright.evaluation.limits import INTENDED, NOT_INTENDED, composition, limits, words_of
from facewright.evaluation.parity import Parity
from facewright.evaluation.report_forms import (
    data_section,
    engines_section,
    faces_section,
    parity_section,
)
from facewright.evaluation.report_people import identification, overlap, slices
from facewright.evaluation.report_rates import (
    curves,
    probabilities,
    rows_of,
    similarities,
    thresholds_section,
    verification,
)
from facewright.evaluation.slices import ALL
from facewright.evaluation.style import STYLE
from facewright.evaluation.table import bound_text
from facewright.evaluation.thresholds import Thresholds
from facewright.files import storage_errors

# The browser itself holds the page to its word: no script, nothing from outside.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def write_report(
    path: Path,
    *,
    title: str,
    notice: str,
    answers: Mapping[str, Answers],
    thresholds: Sequence[Thresholds] = (),
    parity: Sequence[Parity] = (),
    quantized: Sequence[Mapping[str, Any]] = (),
    engines: Sequence[Mapping[str, Any]] = (),
    data: Mapping[str, Mapping[str, Any]] | None = None,
    faces: Faces | None = None,
    shown: str | None = None,
) -> None:
    """Write the page.

    Args:
        notice: what the figures do not say; it stands in a box above everything. Empty for none.
        answers: by recognizer, of the same questions; the first one is the reference.
        thresholds: of these recognizers.
        parity: of forms with what they were made of.
        quantized: what quantize measured, one mapping per ONNX recognizer, column title → value.
        engines: one mapping per engine, column title → value.
        data: cards by use ("Training", "Verification"), title → value.
        faces: gives the crop of an image. With it the page shows photographs of the worst pairs;
            the caller must be allowed to.
        shown: the recognizer whose pairs those are; the first one if not given.

    Raises:
        EvaluationError: there is no recognizer, or `thresholds` or `shown` name another one.
        StorageError: `path` cannot be written.
    """
    names = [one.recognizer for one in thresholds] + ([shown] if shown else [])
    lacking = [name for name in names if name not in answers]
    if lacking or not answers:
        what = f"recognizer {lacking[0]!r} has no scores" if lacking else "no recognizer was given"
        raise EvaluationError(f"{path}: {what}: evaluate again")
    shown = shown or next(iter(answers))
    sections = [
        _purpose(answers, data or {}, faces is not None),
        verification(answers),
        curves(answers),
        similarities(answers),
        thresholds_section(thresholds, answers) if thresholds else "",
        probabilities(answers),
        identification(answers),
        slices(answers),
        overlap(answers),
        parity_section(parity, quantized),
        engines_section(engines),
        faces_section(shown, answers[shown], faces) if faces else "",
        data_section(data or {}),
    ]
    body = [_header(title, notice, sections), *filter(None, sections)]
    # A number and its sign stay on one line.
    content = re.sub(r"(?<=\d) %", "\u00a0%", chr(10).join(body))
    page = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{escape(title)}</title>\n<style>\n{STYLE}</style>"
        f"</head>\n<body>{_hatch()}<main>\n{content}\n</main></body></html>\n"
    )
    with storage_errors(path):
        path.write_text(page, encoding="utf-8")


def _purpose(
    answers: Mapping[str, Answers], data: Mapping[str, Mapping[str, Any]], faces: bool
) -> str:
    row = rows_of(answers)[0]
    columns = [
        str(name)
        for answer in answers.values()
        if len(answer.slices)
        for name in answer.slices["column"].unique()
        if name != ALL
    ]
    what = html.paragraph(
        f"How well {html.listed(list(answers))} tell whether two {words_of(row).long} show "
        f"one person, measured on {row['genuine']:,.0f} genuine and {row['impostor']:,.0f} "
        "impostor pairs. What it says of pairs is computed from the scores that lie beside this "
        "page, and can be computed again; searches, cosines and times were measured as it was "
        "made. Brackets hold 95 % intervals; chance moves the figures without one too."
    )
    says = [
        INTENDED,
        NOT_INTENDED,
        composition(row, list(dict.fromkeys(columns))),
        "The figures hold for people and photographs like these.",
        f"Errors rarer than the pairs can show are not reported. {bound_text(row)}.",
        *limits(data, row),
    ]
    if not faces:
        says.append("This page holds no photograph and no name of a person.")
    return html.section("Purpose and limits", what, html.bullets(says))


def _header(title: str, notice: str, sections: Sequence[str]) -> str:
    box = f'<aside class="notice"><p>{escape(notice)}</p></aside>' if notice else ""
    headings = [
        found.groups()
        for part in sections
        if (found := re.match(r'<section id="([^"]+)"><h2>(.*?)</h2>', part))
    ]
    links = "".join(f'<a href="#{name}">{words}</a>' for name, words in headings)
    return f'<header><h1>{escape(title)}</h1>{box}<nav aria-label="Sections">{links}</nav></header>'


def _hatch() -> str:
    """The pattern of shaded areas; one for all plots, so that its name is there once."""
    return (
        '<svg class="patterns" aria-hidden="true" xmlns="http://www.w3.org/2000/svg"><defs>'
        '<pattern id="hatch" width="7" height="7" patternUnits="userSpaceOnUse" '
        'patternTransform="rotate(45)"><rect width="7" height="7" class="shade"/>'
        '<line y2="7" class="hatch"/></pattern></defs></svg>'
    )
