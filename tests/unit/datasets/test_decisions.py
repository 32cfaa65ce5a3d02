"""Decisions: the lines of a cleaning.csv, as text or as a file."""

from pathlib import Path

import pytest

from facewright.datasets.decisions import ACTIONS, CLEANING, COLUMNS, Row, parse_rows, read_rows
from facewright.errors import DatasetError

HEAD = ",".join(COLUMNS)
TEXT = f'{HEAD}\ndrop,one,a,,,,\n\nmerge,one,,"Ann, B","Bea\nC",same_name,1\n'
ROWS = [Row(2, "drop", "one", "a", "", ""), Row(5, "merge", "one", "", "Ann, B", "Bea\nC")]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_file_is_read_as_its_text(tmp_path: Path, encoding: str, end: str) -> None:
    path = tmp_path / CLEANING
    path.write_text(TEXT.replace("1\n", "1" + end), encoding=encoding, newline="")
    assert read_rows(path) == parse_rows(TEXT, where="here") == ROWS


def test_no_file_has_no_rows(tmp_path: Path) -> None:
    assert read_rows(tmp_path / CLEANING) == []


def test_what_is_for_people_may_be_left_out() -> None:
    for columns in (COLUMNS[:5], COLUMNS[:6], (*COLUMNS[:5], "score", "reason")):
        head = ",".join(columns)
        row = ",".join(["keep", "one", "a", "", "", "why", "1"][: len(columns)])
        assert parse_rows(f"{head}\n{row}\n", where="here") == [Row(2, "keep", "one", "a", "", "")]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", f"here: its first line must be {HEAD}"),
        ("id,action\n", f"here: its first line must be {HEAD}"),
        (f"{HEAD},more\n", f"here: its first line must be {HEAD}"),
        (f'{HEAD}\ndrop,one,"a,,,,', "here cannot be read as CSV in UTF-8: .*: save it so"),
        (
            f"{HEAD}\nburn,one,a,,,,",
            f"here, line 2: unknown action 'burn': it is {', '.join(ACTIONS)}",
        ),
        (f"{HEAD}\n\ndrop,one,a", "here, line 3: 3 values instead of 7"),
    ],
)
def test_other_text_is_refused_with_its_line(text: str, said: str) -> None:
    with pytest.raises(DatasetError, match=said):
        parse_rows(text, where="here")


def test_what_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / CLEANING).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(
        DatasetError, match=r"cleaning\.csv cannot be read as CSV in UTF-8: .*: save it so"
    ):
        read_rows(tmp_path / CLEANING)
