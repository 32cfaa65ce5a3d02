"""A person's decisions about the training sets: the lines of `data/cleaning.csv`.

What the columns mean stands in `validation/cleaning`.
"""

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from facewright.errors import DatasetError
from facewright.files import storage_errors

if TYPE_CHECKING:
    import _csv

CLEANING = "cleaning.csv"
COLUMNS = ("action", "dataset", "id", "identity", "to", "reason", "score")
ACTIONS = ("drop", "relabel", "merge", "keep")
NEEDED = COLUMNS[:5]  # the others are for people


@dataclass(frozen=True)
class Row:
    """One decision; `line` is the number of its (last) line."""

    line: int
    action: str
    dataset: str
    id: str
    identity: str
    to: str


def read_rows(path: Path) -> list[Row]:
    """The decisions in the file `path`; none, if there is no file.

    Raises:
        DatasetError: it is no such table; with the line.
    """
    with storage_errors(path):
        try:
            text = path.read_bytes().decode("utf-8-sig")
        except FileNotFoundError:
            return []
        except (IsADirectoryError, UnicodeDecodeError) as error:
            raise _unreadable(str(path), error) from error
    return parse_rows(text, where=str(path))


def parse_rows(text: str, *, where: str) -> list[Row]:
    """The decisions in `text`, the content of a `cleaning.csv`; `where` names it in errors.

    Raises:
        DatasetError: it is no such table; with the line.
    """
    reader = csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline=""), strict=True)
    try:
        return list(_rows(reader, where=where))
    except csv.Error as error:
        raise _unreadable(where, error) from error


def _rows(reader: "_csv.Reader", *, where: str) -> Iterator[Row]:
    head = next(reader, [])
    if tuple(head[: len(NEEDED)]) != NEEDED or set(head) - set(COLUMNS):
        raise DatasetError(
            f"{where}: its first line must be {','.join(COLUMNS)}: begin with that of proposals.csv"
        )
    for cells in reader:
        if cells:
            yield _row(
                cells,
                columns=len(head),
                line=reader.line_num,
                at=f"{where}, line {reader.line_num}",
            )


def _row(cells: list[str], *, columns: int, line: int, at: str) -> Row:
    if len(cells) != columns:
        raise DatasetError(
            f"{at}: {len(cells)} values instead of {columns}: put a name with a comma in quotes"
        )
    row = Row(line, *cells[: len(NEEDED)])
    if row.action not in ACTIONS:
        raise DatasetError(f"{at}: unknown action {row.action!r}: it is {', '.join(ACTIONS)}")
    if not row.id and not row.identity:
        raise DatasetError(f"{at}: names neither an image nor an identity: fill id or identity")
    if row.action == "relabel" and not row.id:
        raise DatasetError(f"{at}: relabel is for an image: fill id, or use merge")
    if row.action == "merge" and row.id:
        raise DatasetError(f"{at}: merge is for an identity: empty id, or use relabel")
    if (row.action in ("relabel", "merge")) != bool(row.to):
        raise DatasetError(
            f"{at}: `to` names the identity to {row.action} to: fill it"
            if not row.to
            else f"{at}: `to` means nothing beside {row.action}: empty it"
        )
    return row


def _unreadable(where: str, error: Exception) -> DatasetError:
    return DatasetError(f"{where} cannot be read as CSV in UTF-8: {error}: save it so")
