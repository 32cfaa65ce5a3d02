import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from facewright.errors import EvaluationError, StorageError
from facewright.evaluation import report, verification_metrics
from facewright.evaluation.table import number, percent

NAMES = ("teacher", "student", "student-int8-openvino-with-a-long-name")


@pytest.fixture(scope="module")
def evaluated(make_scores: Callable) -> tuple[list[dict[str, Any]], dict[str, pd.DataFrame]]:
    rows, scores = [], {}
    for seed, name in enumerate(NAMES):
        scores[name], identities = make_scores(seed=seed, failures=0.02, per_fold=220)
        figures = verification_metrics(
            scores[name],
            identities=identities,
            fmr_targets=[0.1, 0.01, 0.001],
            bootstrap=100,
            seed=0,
        )
        rows.append({"recognizer": name, "megabytes": 10.44, "latency_ms": 3.219, **figures})
    return rows, scores


def test_table_is_aligned_and_fits_the_terminal(evaluated: tuple) -> None:
    rows, _ = evaluated
    lines = report.table(rows).splitlines()
    assert len(lines) == 2 + len(rows)
    assert max(map(len, lines)) <= 100
    assert len({len(line) for line in lines}) == 1
    assert "FNMR @ FMR 1 %" in lines[0]
    assert f"{percent(rows[0]['accuracy'])} % [{percent(rows[0]['accuracy_low'])}, " in lines[2]
    assert lines[2].split()[-2:] == ["10.4", "3.22"]


def test_table_reports_the_finest_fmr_that_all_rows_have(evaluated: tuple) -> None:
    rows, _ = evaluated
    coarse = {key: value for key, value in rows[1].items() if "0.01" not in key}
    assert "FNMR @ FMR 10 %" in report.table([rows[0], coarse])
    none = {key: value for key, value in coarse.items() if not key.startswith("fnmr")}
    assert "FNMR" not in report.table([rows[0], none])
    assert report.table([{**none, "megabytes": None}]).split()[-2] == "–"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.91234, "91.2"), (1.0, "100.0"), (0.9996, "99.96"), (0.0004, "0.04")],
)
def test_per_cent_does_not_round_an_error_away(value: float, text: str) -> None:
    assert percent(value) == text


def test_numbers_have_three_digits() -> None:
    assert [number(v) for v in (None, 0.01234, 8.213, 143.6)] == ["–", "0.0123", "8.21", "144"]


class _Page(HTMLParser):
    """Tags and text of a page; every tag but `meta` must be closed in its turn."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data


def write(path: Path, evaluated: tuple, **more: Any) -> _Page:
    rows, scores = evaluated
    values = {"title": "A & B", "notice": "Rendered people only <so far>."} | more
    report.write_report(path, rows=rows, scores=scores, **values)
    return _Page(path.read_text(encoding="utf-8"))


def test_page_is_whole_self_contained_and_holds_the_figures(
    tmp_path: Path, evaluated: tuple
) -> None:
    page = write(
        tmp_path / "report.html",
        evaluated,
        parity=[{"compared": "student, FP32 and INT8", "mean cosine": 0.99312}],
        engines=[{"engine": "student-sm86", "built": True}, {"engine": "x", "why not": "no GPU"}],
        data={"licence": "CC0-1.0 <x>", "images": 1440},
    )
    assert not page.open
    assert page.tags.count("svg") == 1 + len(NAMES)
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"<(script|link|img|iframe)|url\((?!#)|@import|src=", text)
    assert "Rendered people only <so far>." in page.words
    for word in ("A & B", "0.99312", "CC0-1.0 <x>", "1,440", "student-sm86", "no GPU", *NAMES):
        assert word in page.words
    for row in evaluated[0]:
        assert percent(row["fnmr_at_fmr_0.01"]) in page.words
    assert "nan" not in text.lower()


def test_page_holds_no_name_of_an_image_or_a_person(tmp_path: Path, evaluated: tuple) -> None:
    write(tmp_path / "report.html", evaluated)
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    _, scores = evaluated
    assert not [name for name in set(scores["teacher"]["a"]) if name in text]


def test_empty_parts_are_left_out(tmp_path: Path, evaluated: tuple) -> None:
    page = write(tmp_path / "report.html", evaluated, notice="")
    assert "aside" not in page.tags
    assert "Engines" not in page.words


def test_page_of_a_detector_that_finds_nothing(tmp_path: Path, make_scores: Callable) -> None:
    scores, identities = make_scores(failures=1.1)
    figures = verification_metrics(
        scores, identities=identities, fmr_targets=[0.1], bootstrap=100, seed=0
    )
    rows = [{"recognizer": "teacher", **figures}]
    report.write_report(
        tmp_path / "r.html", title="t", notice="", rows=rows, scores={"teacher": scores}
    )
    assert "nan" not in (tmp_path / "r.html").read_text().lower()
    assert "0.0 %" in report.table(rows)


def test_missing_scores_and_an_unwritable_place_are_refused(
    tmp_path: Path, evaluated: tuple, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, scores = evaluated
    with pytest.raises(EvaluationError, match="'student' has no scores"):
        report.write_report(
            tmp_path / "r", title="", notice="", rows=rows, scores={"teacher": scores["teacher"]}
        )
    with pytest.raises(EvaluationError, match="no recognizer"):
        report.write_report(tmp_path / "r", title="", notice="", rows=[], scores={})

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(StorageError, match="disk is full"):
        write(tmp_path / "r", evaluated)
