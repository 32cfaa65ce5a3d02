import re
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from facewright.errors import EvaluationError, StorageError
from facewright.evaluation.report import write_report
from facewright.evaluation.table import (
    bound_text,
    estimate,
    percent,
)

from ...generated_answers import CARDS, NAMES, crop, generated, questions, without


class _Page(HTMLParser):
    """Tags and text of a page; every tag but `meta` and `img` must be closed in its turn."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data


@pytest.fixture(scope="module")
def made() -> dict[str, Any]:
    answers, thresholds, parity = generated()
    return {"answers": answers, "thresholds": thresholds, "parity": parity}


def write(path: Path, made: dict[str, Any], **more: Any) -> tuple[_Page, str]:
    """The page, and its file with the space before % as any other."""
    values = {"title": "A & B", "notice": "Rendered people only <so far>.", "data": CARDS}
    write_report(path, **made | values | more)
    text = path.read_text(encoding="utf-8").replace("\u00a0", " ")
    return _Page(text), text


SECTIONS = [
    "Purpose and limits",
    "Verification",
    "Error rates along the threshold",
    "Similarities",
    "Thresholds",
    "Probabilities",
    "Identification",
    "Slices",
    "Overlap with training",
    "Parity between forms",
    "Data",
]


def headings(text: str) -> list[str]:
    return re.findall(r"<h2>(.*?)</h2>", text)


def part(text: str, heading: str) -> str:
    return text.split(f"<h2>{heading}</h2>")[1].split("</section>")[0]


def test_page_is_whole_and_self_contained_and_escapes_what_it_is_given(
    tmp_path: Path, made: dict[str, Any]
) -> None:
    page, text = write(
        tmp_path / "report.html",
        made,
        quantized=[{"against PyTorch": "student", "cosine_mean": 0.99312}],
        engines=[{"engine": "student-sm86", "run": True}, {"engine": "x", "why not": "no <GPU>"}],
    )
    assert not page.open
    assert not re.search(r"<(script|link|img|iframe|object|video)|url\((?!#)|@import|src=", text)
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text)
    assert "default-src 'none'" in text
    for word in ("A & B", "Rendered people only <so far>.", "research <only>", "no <GPU>"):
        assert word in page.words
    for word in ("cosine mean", "0.99312", "1,440", "student-sm86", *NAMES):
        assert word in page.words
    assert not re.search(r"\bnan\b|\binf\b|>None<", text)
    assert len(set(re.findall(r' id="([^"]+)"', text))) == text.count(' id="')


def test_sections_come_in_the_order_of_reading_and_the_list_leads_to_each(
    tmp_path: Path, made: dict[str, Any]
) -> None:
    _, text = write(tmp_path / "r", made)
    assert headings(text) == SECTIONS
    links = re.findall(r'<a href="#([^"]+)">(.*?)</a>', text)
    assert [words for _, words in links] == SECTIONS
    assert [name for name, _ in links] == re.findall(r'<section id="([^"]+)"', text)


def test_every_figure_stands_with_its_interval(tmp_path: Path, made: dict[str, Any]) -> None:
    _, text = write(tmp_path / "r", made)
    for answer in made["answers"].values():
        metrics = answer.metrics
        for key, section in (
            ("accuracy", "Verification"),
            ("eer", "Verification"),
            ("fnmr_at_fmr_0.01", "Verification"),
            ("fnmr_at_fmr_bound", "Verification"),
            ("fnmr_at_fmr_0.01", "Thresholds"),
            ("fnmr_at_fmr_bound", "Thresholds"),
            ("rank_1", "Identification"),
            ("rank_5", "Identification"),
        ):
            value, interval = estimate(metrics, key)
            assert f"{value}<small>{interval}</small>" in part(text, section), key
        for row in answer.slices.iloc[1:].dropna().to_dict("records"):
            value, interval = estimate(row, "fnmr")
            assert f"{value}<small>{interval}</small>" in part(text, "Slices")
        threshold = metrics["threshold_at_fmr_0.01"]
        assert f"{threshold:.4f}<small>[" in part(text, "Thresholds")
    assert text.count(f"<small>{estimate(metrics, 'accuracy')[1]}</small>") >= 1


def test_the_bound_is_told_and_a_target_that_is_not_supported_has_no_figure(
    tmp_path: Path, made: dict[str, Any]
) -> None:
    page, text = write(tmp_path / "r", made)
    told = bound_text(made["answers"]["teacher"].metrics)
    assert re.fullmatch(
        r"FMR ≤ \d(\.\d)?e-3 at 95 %: 2,\d{3} impostors, none accepted, pairs taken as independent",
        told,
    )
    assert told in page.words
    assert "FMR 1 %" in text
    assert "FMR 0.1 %" not in text  # 0.001 was asked for


def test_limits_are_those_of_the_data(tmp_path: Path, made: dict[str, Any]) -> None:
    _, text = write(tmp_path / "r", made)
    limits = part(text, "Purpose and limits")
    assert "does not show that a system is fit for commercial use" in limits
    assert "Training data: no legal or ethical basis" in limits
    assert "Verification data: no" not in limits
    assert "told apart by group" in limits
    assert "no photograph" in limits
    card = {"name": "doors", "source": "halfway", "licence": "own", "consent": "signed"}
    blind = {
        name: replace(a, slices=a.slices[a.slices["column"] != "group"])
        for name, a in made["answers"].items()
    }
    _, text = write(tmp_path / "r", made, data={"Verification": card}, answers=blind)
    limits = part(text, "Purpose and limits")
    assert "commercial" not in limits
    assert "is stated on its card" not in limits
    assert "Nothing is known of the people's age, sex, origin or skin" in unescape(limits)


def test_overlap_is_told_side_by_side_or_in_a_line(tmp_path: Path, made: dict[str, Any]) -> None:
    answers = made["answers"]
    _, text = write(tmp_path / "r", made)
    overlap, metrics = part(text, "Overlap with training"), answers["student"].metrics
    for key in ("accuracy", "eer"):
        for row in (key, f"{key}_without_overlap"):
            assert f"{percent(metrics[row])} %<small>" in overlap
    assert f"{metrics['overlap_pairs']:,} of {metrics['pairs']:,} pairs" in overlap

    ends = tuple(key for key in metrics if key.endswith("_without_overlap"))
    every = {name: without(answer, *ends) for name, answer in answers.items()}
    for answer in every.values():
        answer.metrics["overlap_pairs"] = answer.metrics["pairs"]
    _, text = write(tmp_path / "r", made, answers=every)
    assert f"All {metrics['pairs']:,} of {metrics['pairs']:,} pairs" in text
    assert "say little about people" in part(text, "Overlap with training")
    none = {
        name: replace(answer, metrics={**answer.metrics, "overlap_pairs": 0})
        for name, answer in every.items()
    }
    _, text = write(tmp_path / "r", made, answers=none)
    assert "No pair shows anybody who was in training" in part(text, "Overlap with training")


def test_parity_shows_the_change_of_fnmr(tmp_path: Path, made: dict[str, Any]) -> None:
    _, text = write(tmp_path / "r", made)
    student = made["parity"][0]
    rejected = {
        name: made["answers"][name].metrics["fnmr_at_fmr_0.01"] for name in ("teacher", "student")
    }
    change = 100 * (rejected["student"] - rejected["teacher"])
    assert f"{change:+.2f}<small>[" in part(text, "Parity between forms")
    assert f"{student.cosine_lowest:.4f}" in part(text, "Parity between forms")


def test_page_holds_no_name_of_an_image_or_a_person(tmp_path: Path, made: dict[str, Any]) -> None:
    _, plain = write(tmp_path / "r", made)
    _, faces = write(tmp_path / "r", made, faces=crop)
    asked = questions()
    for text in (plain, faces):
        assert not [id for id in asked.images["id"] if id in text]
        assert not [name for name in asked.images["identity"].unique() if name in text]


def test_a_page_without_faces_holds_no_picture_at_all(tmp_path: Path, made: dict[str, Any]) -> None:
    """As `show_faces: false` asks: no thumbnail, not even in a style or a plot."""
    page, text = write(tmp_path / "r", made, faces=None, shown="student")
    assert "img" not in page.tags
    assert "image" not in page.tags  # of SVG
    assert not re.search(r"data:image|base64|url\((?!#hatch\))", text)
    assert "Worst pairs" not in headings(text)
    assert "no photograph and no name" in part(text, "Purpose and limits")


def test_no_figure_looks_perfect_that_is_not(tmp_path: Path, made: dict[str, Any]) -> None:
    answer = made["answers"]["teacher"]
    near = {"auc": 0.99999, "accuracy": 0.99996, "eer": 0.00004}
    answers = {"teacher": replace(answer, metrics=answer.metrics | near)}
    given = {"answers": answers, "thresholds": made["thresholds"][:1]}
    near_parity = replace(made["parity"][0], cosine=0.99998, threshold_shift=0.00001)
    _, text = write(tmp_path / "r", made, **given, parity=[near_parity])
    for shown in ("0.99999<", ">99.996 %<", ">0.004 %<"):
        assert shown in part(text, "Verification")
    for shown in (">0.99998<", ">0.00001<"):
        assert shown in part(text, "Parity between forms")


def test_faces_are_shown_only_when_they_are_given(tmp_path: Path, made: dict[str, Any]) -> None:
    asked: list[str] = []

    def faces(id: str) -> np.ndarray:
        asked.append(id)
        return crop(id)

    _, text = write(tmp_path / "r", made, faces=faces, shown="student")
    scores = made["answers"]["student"].scores.dropna()
    expected = [
        scores[scores["label"] == 1].sort_values("similarity").iloc[:12],
        scores[scores["label"] == 0].sort_values("similarity", ascending=False).iloc[:12],
    ]
    pairs = pd.concat(expected)
    assert asked == [id for pair in pairs[["a", "b"]].to_numpy() for id in pair]
    assert text.count('src="data:image/jpeg;base64,') == len(asked) == 48
    assert not re.search(r'src="(?!data:image/jpeg;base64,)', text)
    assert "guard this page" in part(text, "Worst pairs")
    assert "holds no photograph" not in text
    for similarity in pairs["similarity"]:
        assert f"{similarity:.3f} " in part(text, "Worst pairs")


def test_empty_parts_are_left_out(tmp_path: Path, made: dict[str, Any]) -> None:
    nothing = pd.DataFrame()
    bare = {
        name: replace(
            without(answer, "accuracy", "threshold_accuracy", "calibration_error"),
            slices=nothing,
            sizes=nothing,
            cmc=nothing,
            reliability=nothing,
        )
        for name, answer in made["answers"].items()
    }
    given = {"answers": bare, "notice": "", "thresholds": [], "parity": [], "data": {}}
    page, text = write(tmp_path / "r", made, **given)
    left = ["Purpose and limits", "Verification", "Error rates along the threshold"]
    assert headings(text) == [*left, "Similarities", "Overlap with training"]
    assert "aside" not in page.tags
    assert "Accuracy" not in page.words


def test_page_of_a_recognizer_without_errors(tmp_path: Path, made: dict[str, Any]) -> None:
    scores = made["answers"]["teacher"].scores
    apart = scores.assign(
        similarity=np.where(scores["status"] == "ok", scores["label"] * 0.8, np.nan)
    )
    answers = {"teacher": replace(made["answers"]["teacher"], scores=apart)}
    given = {"answers": answers, "thresholds": made["thresholds"][:1], "parity": []}
    _, text = write(tmp_path / "r", made, **given)
    assert "nan" not in text.lower()


def test_a_recognizer_without_answers_and_an_unwritable_place_are_refused(
    tmp_path: Path, made: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = {"teacher": made["answers"]["teacher"]}
    with pytest.raises(EvaluationError, match="'student' has no scores"):
        write(tmp_path / "r", made, answers=one)
    with pytest.raises(EvaluationError, match="'other' has no scores"):
        write(tmp_path / "r", made, shown="other")
    with pytest.raises(EvaluationError, match="no recognizer"):
        write(tmp_path / "r", made, answers={}, thresholds=[])
    assert not (tmp_path / "r").exists()

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(StorageError, match="disk is full"):
        write(tmp_path / "r", made)


def test_page_of_a_few_pairs_says_that_they_support_nothing(
    tmp_path: Path, made: dict[str, Any]
) -> None:
    answer = made["answers"]["teacher"]
    kinds = answer.scores[answer.scores["status"] == "ok"].groupby("label")
    scores = kinds.head(6).reset_index(drop=True)
    few = without(answer, "fnmr_at", "threshold_at").metrics | {
        "pairs": 12,
        "genuine": 6,
        "impostor": 6,
        "failures": 0,
        "failures_impostor": 0,
        "fmr_bound": 1 - 0.05 ** (1 / 6),
    }
    answers = {"teacher": replace(answer, scores=scores, metrics=few)}
    page, text = write(tmp_path / "r", made, answers=answers, thresholds=[], parity=[])
    assert "6 compared impostor pairs support no FMR" in page.words
    assert "FMR ≤ 0.4 at 95 %: 6 impostors, none accepted" in page.words
    assert not re.search(r"\de\+\d", text)
