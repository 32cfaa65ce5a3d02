"""A list of photos with their identities: a Parquet, CSV or TSV file, one row per photo.

Columns `path` (from the list's folder, or absolute) and `identity`; perhaps `person`, `source`,
`landmarks` (ten numbers, in text with blanks between them), `aligned` (true or false) and any
others of text or numbers, which are kept in the manifest.
"""

from collections.abc import Callable, Generator, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from facewright.datasets.form import RESERVED
from facewright.datasets.readers import Entry, checked_size, plain_name, readable
from facewright.datasets.readers.annotations import parse_points
from facewright.datasets.readers.text import check_columns, csv_rows
from facewright.errors import DatasetError

SUFFIXES = (".parquet", ".csv", ".tsv")
REQUIRED = ("path", "identity")
_TAKEN = RESERVED - frozenset(REQUIRED)
ROWS = 4096  # of a Parquet file, read at a time
_TRUTH = {"true": True, "1": True, "false": False, "0": False}

Row = tuple[str, dict[str, Any]]  # where it stands, its cells


def read_list(path: Path, *, find: Callable[[str, str], Entry] | None = None) -> Generator[Entry]:
    """Every photo of the list `path`, in its order, as its row states it.

    Args:
        find: (path in the list, where that stands) → its entry; else a file from `path`'s folder
            on, or wherever an absolute path leads: whoever gives a list here may read what is here.

    Raises:
        DatasetError: the list cannot be read, lacks a column or has one of a reserved name, or a
            row lacks a value, names a file that is not there, or has landmarks that are none.
            Rows of Parquet count from 1, lines of text too, that of the names included.
    """
    find = find or partial(_file, path.parent)
    for where, cells in _parquet(path) if path.suffix.lower() == ".parquet" else _text(path):
        name, identity = (_stated(cells.pop(column), column, where) for column in REQUIRED)
        if cells.get("landmarks") is not None:
            cells["landmarks"] = parse_points(cells["landmarks"], where=where)
        if cells.get("aligned") is not None:
            cells["aligned"] = _truth(cells["aligned"], where=where)
        plain_name(name, source=where)
        entry = find(name, where)
        yield Entry(entry.name, entry.size, entry.read, identity, cells)


def _stated(value: Any, column: str, where: str) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int) or not str(value).strip():
        raise DatasetError(f"{where}: its {column} is {value!r}: write it as text")
    return str(value)  # blanks may be part of a name


def _truth(value: Any, *, where: str) -> bool:
    truth = _TRUTH.get(str(value).strip().lower())
    if truth is None:
        raise DatasetError(f"{where}: aligned is {value!r}: write true or false")
    return truth


def _file(folder: Path, name: str, where: str) -> Entry:
    file = folder / name  # or `name` alone, if that is absolute
    with readable(f"{where}: {name!r}"):
        if not file.is_file():
            raise DatasetError(
                f"{where}: {name!r} is not there: paths are absolute or start from the list's "
                f"folder, {folder}"
            )
        # Two that this makes one, `../a.jpg` and `a.jpg`, are refused as two images of one name.
        whole = "/".join(part for part in name.split("/") if part not in ("", ".", ".."))
        entry = Entry(
            "/" * name.startswith("/") + whole, file.stat().st_size, partial(_read, file, where)
        )
    return checked_size(entry, source=where)


def _read(file: Path, where: str) -> bytes:
    with readable(f"{where}: {file.name!r}"):
        return file.read_bytes()


def _text(path: Path) -> Iterator[Row]:
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    for where, row in csv_rows(path, REQUIRED, delimiter=delimiter):
        _check_reserved(path, row)
        yield where, {name: cell or None for name, cell in row.items()}


def _parquet(path: Path) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            check_columns(path, file.schema_arrow.names, needed=REQUIRED)
            _check_reserved(path, file.schema_arrow.names)
            for field in file.schema_arrow:
                _check_type(path, field)
            number = 0
            for batch in file.iter_batches(ROWS):
                for cells in batch.to_pylist():
                    number += 1
                    yield f"{path}, row {number}", cells
    except (OSError, ValueError, pa.ArrowException) as error:  # text that is not UTF-8, too
        raise DatasetError(f"{path} cannot be read as a list ({error}): check it") from error


def _check_type(path: Path, field: Any) -> None:
    from pyarrow import types

    kind = field.type.value_type if types.is_dictionary(field.type) else field.type
    plain = (
        types.is_string(kind)
        or types.is_large_string(kind)
        or types.is_integer(kind)
        or types.is_floating(kind)
        or types.is_boolean(kind)
        or types.is_null(kind)
    )
    if not plain and field.name != "landmarks":
        raise DatasetError(
            f"{path}: the column {field.name!r} is {field.type}, and only text, numbers and truth "
            "values are kept: remove it"
        )


def _check_reserved(path: Path, columns: Iterable[str]) -> None:
    if taken := sorted(_TAKEN.intersection(columns)):
        raise DatasetError(
            f"{path}: the manifest has a column {taken[0]!r} of its own: rename that of the list"
        )
