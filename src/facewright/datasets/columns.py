"""A dataset's tables and what their columns hold: checked when read, of one kind when written."""

import numbers
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import yaml

from facewright.errors import DatasetError

LARGEST = 2**62  # bytes: more than any file has
DAMAGE = (  # what yaml, pyarrow and pandas raise at files that were damaged
    AttributeError,
    IndexError,
    KeyError,
    NotImplementedError,
    OSError,
    TypeError,
    ValueError,  # pyarrow's own errors, too
    yaml.YAMLError,
)


class Unread:
    """A field of a dataclass with a `root`: a table, read when it is first asked for.

    One that is given to the class is that one (see descriptor-typed fields of dataclasses).
    """

    def __init__(self, read: Callable[[Path], Any]) -> None:
        self._read = read

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: Any, owner: type) -> Any:
        if instance is None:
            return None  # the default
        values = vars(instance)
        if values[self._name] is None:
            values[self._name] = self._read(instance.root)
        return values[self._name]

    def __set__(self, instance: Any, value: Any) -> None:
        vars(instance)[self._name] = value


def check_values(
    table: pd.DataFrame, *, path: Path, text: Sequence[str], whole: Sequence[str]
) -> None:
    """Refuse a table without these columns, of text and of whole numbers from 0, in every row.

    Args:
        path: where the table was read from. Rows count from 1.
    """
    if absent := [name for name in (*text, *whole) if name not in table.columns]:
        raise DatasetError(f"{path} lacks {', '.join(absent)}: import or pull it again")
    for name in table.columns:
        if isinstance(table[name].dtype, pd.StringDtype):
            try:
                pa.array(table[name]).validate(full=True)
            except pa.ArrowException as error:  # Parquet's text is bytes that nobody has checked
                raise DatasetError(
                    f"{path}: its column {name!r} is damaged ({error}): import or pull it again"
                ) from error
    for name in text:
        _require(_is_text(table[name]), table[name], path=path, what="text")
    for name in whole:
        _require(_is_whole(table[name]), table[name], path=path, what="a whole number from 0")


def _is_text(values: "pd.Series[Any]") -> npt.NDArray[np.bool_]:
    if isinstance(values.dtype, pd.StringDtype):
        return values.notna().to_numpy(bool)
    return np.array([isinstance(value, str) for value in values], bool)


def _is_whole(values: "pd.Series[Any]") -> npt.NDArray[np.bool_]:
    if pd.api.types.is_integer_dtype(values):
        return values.between(0, LARGEST).fillna(False).to_numpy(bool)
    if pd.api.types.is_float_dtype(values) and values.isna().any():
        return values.notna().to_numpy(bool)  # a gap made fractions of whole numbers
    return np.zeros(len(values), bool)


def _require(
    good: npt.NDArray[np.bool_], values: "pd.Series[Any]", *, path: Path, what: str
) -> None:
    if not good.all():
        row = int(np.argmin(good))
        value = values.iloc[row]
        value = value.item() if isinstance(value, np.generic) else value
        raise DatasetError(
            f"{path}, row {row + 1}: its {values.name} is {value!r} and must be {what}: "
            "import or pull it again"
        )


def kind_of(value: object) -> str:
    """`numbers`, `text`, `truth values` or `lists`; nothing for what is missing."""
    if value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value)):
        return ""
    if isinstance(value, bool | np.bool_):
        return "truth values"
    if isinstance(value, numbers.Real):
        return "numbers"
    return "text" if isinstance(value, str) else "lists"


def stored(name: str, values: Sequence[object], *, before: str) -> tuple[pa.Array, str]:
    """`values` as a column, and their kind; `before` is the kind of the rows above, if any.

    Raises:
        DatasetError: they are of several kinds, or Arrow cannot hold them.
    """
    kind = before or next(filter(None, map(kind_of, values)), "")
    try:
        column = pa.array(values, from_pandas=True)  # what is not a number is missing
        others = {next(filter(None, map(kind_of, values)), kind)} - {kind}
    except (pa.ArrowException, ValueError, OverflowError) as error:
        others = {*map(kind_of, values)} - {kind, ""}
        if not others:
            raise DatasetError(
                f"the column {name!r} holds {kind} that cannot be stored ({error}): correct it"
            ) from error
    if others:
        kinds = " and ".join(sorted({kind, *others}))
        raise DatasetError(f"the column {name!r} holds {kinds}: give it one kind")
    return column, kind
