"""Progress passes everything on, and tells of it whether the end is known or not."""

import pytest

from facewright.progress import progress


def test_items_pass_through_and_the_last_line_counts_them(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert list(progress(range(7), total=7, label="work")) == list(range(7))
    line = capsys.readouterr().err
    assert line.startswith("work: 7/7, ")
    assert line.count("\n") == 1


def test_an_unknown_total_is_not_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(progress(iter("abc"), total=None, label="import")) == ["a", "b", "c"]
    line = capsys.readouterr().err
    assert line.startswith("import: 3, ")
    assert "left" not in line
