"""Sections of the report on forms of a recognizer, on faces, and on the data."""

from collections.abc import Mapping, Sequence
from typing import Any

from facewright.evaluation import markup as html
from facewright.evaluation.assess import Answers
from facewright.evaluation.faces import MOST_PAIRS, Faces, gallery, worst_pairs
from facewright.evaluation.parity import Parity
from facewright.evaluation.table import decimals, share
from facewright.evaluation.thresholds import targets_of


def parity_section(parity: Sequence[Parity], quantized: Sequence[Mapping[str, Any]]) -> str:
    """How alike the forms are; empty where there is one only."""
    content = []
    if parity:
        lines = [
            (one.form, [html.with_interval(one.reference, ""), *_cells(one)]) for one in parity
        ]
        head = ["Form", "Against", "Cosine, mean", "Cosine, lowest", "Threshold shift"]
        head += ["FNMR change", "at FMR"]
        content = [
            html.paragraph("The same crops and pairs through two forms of one recognizer."),
            html.table(head, lines),
            html.fine(
                "Cosine of the two embeddings of each verification crop. Threshold shift: of the "
                "mean threshold of the folds, without folds of that with the fewest errors. FNMR "
                "change, in points, at each form's own "
                "threshold; its 95 % interval (Agresti and Min) takes these thresholds as given "
                "and pairs as independent. A student differs from its teacher by design; INT8 and "
                "engines should not differ from the student."
            ),
        ]
    if quantized:
        content += [
            html.subheading("Against PyTorch, on training crops"),
            html.plain_table(
                [{key.replace("_", " "): value for key, value in row.items()} for row in quantized]
            ),
            html.fine("As the stage quantize measured it: cosines of embeddings."),
        ]
    return html.section("Parity between forms", *content) if content else ""


def _cells(one: Parity) -> list[str]:
    cells = [decimals(one.cosine, 4), decimals(one.cosine_lowest, 4)]
    cells.append("–" if one.threshold_shift is None else decimals(one.threshold_shift, 4))
    if one.fmr is None or one.fnmr_change is None:
        return [*cells, "–", "–"]
    ends = f"[{_points(one.fnmr_change_low)}, {_points(one.fnmr_change_high)}]"
    return [*cells, html.with_interval(_points(one.fnmr_change), ends), share(f"{one.fmr:g}")]


def _points(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:+.2f}"


def engines_section(engines: Sequence[Mapping[str, Any]]) -> str:
    if not engines:
        return ""
    return html.section(
        "Engines",
        html.paragraph(
            "Compiled from the ONNX files, each for one kind of GPU. One that does not run on this "
            "machine has no figures here."
        ),
        html.plain_table(engines),
    )


def faces_section(name: str, answer: Answers, faces: Faces) -> str:
    """The worst pairs of one recognizer, as photographs."""
    targets = targets_of(answer.metrics)
    threshold = targets[-1].threshold if targets else answer.metrics["threshold_accuracy"]
    at = f"the threshold for FMR {share(f'{targets[-1].fmr:g}')}" if targets else "its threshold"
    lost = int(answer.metrics["failures"])
    content = [
        '<aside class="notice"><p>These are photographs of people, put here because '
        "evaluate.show_faces is on: guard this page as the photographs themselves.</p></aside>"
    ]
    headings = {
        "genuine": "One person, hardly alike",
        "impostor": "Two people, very alike",
    }
    for kind, pairs in worst_pairs(answer.scores).items():
        content.append(html.subheading(headings[kind]))
        content.append(gallery(pairs, faces, threshold=threshold))
    content.append(
        html.fine(
            f"Up to {MOST_PAIRS} pairs of each kind, by the similarity that {name} gives them, and "
            f"what {at}, {threshold:.4f}, says. Look for wrong labels first. {lost:,} pairs with a "
            "face not found cannot be shown."
        )
    )
    return html.section("Worst pairs", *content)


def data_section(data: Mapping[str, Mapping[str, Any]]) -> str:
    """The data cards, by what each was used for."""
    content = []
    for use, values in data.items():
        content += [html.subheading(use), html.facts(values)]
    return html.section("Data", *content) if content else ""
