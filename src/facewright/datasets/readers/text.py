"""Text files: what holds for every list that a user gives, whatever its lines say."""

import csv
from collections.abc import Collection, Generator, Iterator, Sequence
from pathlib import Path

from facewright.errors import DatasetError


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """(number from 1, line) of every line that holds something, without blanks at its end.

    Raises:
        DatasetError: the file cannot be read, or is not UTF-8.
    """
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, 1):
                if text := line.rstrip():
                    yield number, text
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path} cannot be read as text ({error}): check the path") from error


def all_lines(path: Path) -> list[str]:
    """The same without their numbers."""
    return [line for _, line in lines(path)]


def csv_rows(
    path: Path, columns: Collection[str], *, delimiter: str = ","
) -> Generator[tuple[str, dict[str, str]]]:
    """(where it stands, cells by column) of every row below the line with the columns' names.

    The file may have more than `columns`; empty lines are passed over.

    Raises:
        DatasetError: the file cannot be read, is not UTF-8 or no CSV (RFC 4180), lacks a column or
            has one twice, or a row has more or fewer cells; with its line.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            names = [name.strip() for name in next(reader, [])]
            check_columns(path, names, needed=columns)
            for row in reader:
                where = f"{path}, line {reader.line_num}"
                if row and len(row) != len(names):
                    raise DatasetError(
                        f"{where} has {len(row)} cells, and there are {len(names)} columns: "
                        "correct it"
                    )
                if row:
                    yield where, dict(zip(names, row, strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{path} cannot be read as CSV ({error}): check the file") from error


def check_columns(path: Path, names: Sequence[str], *, needed: Collection[str]) -> None:
    """Refuse a table that lacks a column, or has one twice or without a name."""
    if absent := [name for name in needed if name not in names]:
        raise DatasetError(
            f"{path} lacks the column {' and '.join(absent)}; it has {', '.join(names)}: "
            "name its columns in the first line"
        )
    if twice := sorted({name for name in names if names.count(name) > 1 or not name}):
        raise DatasetError(f"{path} has two columns {twice[0]!r}, or one without a name: rename it")
