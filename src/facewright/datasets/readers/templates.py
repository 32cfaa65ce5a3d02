"""The lists of IJB-B and IJB-C's 1:1 protocol, as InsightFace and others hand them on.

- `ijbc_face_tid_mid.txt`: lines `1.jpg 69544 2872`, the image, its template and its medium. The
  images lie in one folder, which may be named; whose they are is not said there.
- `ijbc_template_pair_label.txt`: lines `1 11065 1`, two templates and the label.

(Whitelam et al., IARPA Janus Benchmark-B, CVPRW 2017; Maze et al., Benchmark-C, ICB 2018.)
"""

import csv
from pathlib import Path

import pandas as pd

from facewright.datasets.pairs import FOLDS, PAIR_COLUMNS
from facewright.datasets.readers.annotations import without_suffix
from facewright.datasets.readers.text import lines
from facewright.errors import DatasetError

_TEMPLATES = "an image, its template and its medium, with blanks between"
_NIST = "TEMPLATE_ID,"
_PAIRS = "two templates and the label 0 or 1, with blanks between"


def read_templates(path: Path) -> pd.DataFrame:
    """Which image is in which template, and from which medium: columns image, template, media.

    All three are text, an image's name as the list gives it, but for a `./` before it.

    Raises:
        DatasetError: the file cannot be read, is empty, is NIST's CSV, a line is not of this form
            or is there twice, or two names differ by their suffix alone: photos of a dataset are
            told apart without it.
    """
    if next((line for _, line in lines(path)), "").upper().startswith(_NIST):
        raise DatasetError(
            f"{path} is NIST's CSV, with boxes in photos that show others too: cut the faces out, "
            f"and write a line of {_TEMPLATES}, for each"
        )
    table = _read(path, ["image", "template", "media"], form=_TEMPLATES)
    table["image"] = table["image"].str.removeprefix("./")
    names = table["image"].drop_duplicates()
    again = names[names.map(without_suffix).duplicated(keep=False)]
    if len(again):
        stem = without_suffix(again.iloc[0])
        first, second = [name for name in again if without_suffix(name) == stem][:2]
        raise DatasetError(
            f"{path}: images {first!r} and {second!r} differ by their suffix alone: rename one of "
            "them, in the list and in its folder, or name one image the same way throughout"
        )
    twice = table[table.duplicated(["image", "template"])]
    if len(twice):
        image, template, _ = twice.iloc[0]
        raise DatasetError(
            f"{path}: image {image!r} is in template {template!r} twice ({len(twice)} such lines): "
            "get it again"
        )
    return table


def read_template_pairs(path: Path) -> pd.DataFrame:
    """Pairs of templates: columns fold, label (1 genuine, 0 impostor), a, b (templates, as text).

    Raises:
        DatasetError: the file cannot be read, is empty, or a line is not of this form.
    """
    table = _read(path, ["a", "b", "label"], form=_PAIRS)
    if not table["label"].isin(["0", "1"]).all():
        raise _bad_line(path, form=_PAIRS, last=("0", "1"))
    table["label"] = (table["label"] == "1").astype("int64")
    return with_folds(table)


def with_folds(pairs: pd.DataFrame) -> pd.DataFrame:
    """Pairs of a protocol without folds, with ten.

    The pairs of each label are cut into ten in the order given, so that every fold has its share
    of both, as for LFW's View 1.
    """
    groups = pairs.groupby("label")["a"]
    folds = groups.cumcount() * FOLDS // groups.transform("size")
    return pairs.assign(fold=folds)[PAIR_COLUMNS]


def _read(path: Path, columns: list[str], *, form: str) -> pd.DataFrame:
    """The three columns as text. IJB-C has 16 million pairs, too many to look at line by line."""
    try:
        table = pd.read_csv(
            path,
            sep=r"\s+",
            names=[*columns, "more"],
            header=None,
            index_col=False,
            dtype=str,
            keep_default_na=False,
            na_values=[""],
            quoting=csv.QUOTE_NONE,
            encoding="utf-8-sig",
        )
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path} cannot be read as text ({error}): check the path") from error
    except pd.errors.ParserError as error:
        raise _bad_line(path, form=form) from error
    if table.empty:
        raise DatasetError(f"{path} is empty: its lines must hold {form}")
    if table[columns].isna().to_numpy().any() or table["more"].notna().any():
        raise _bad_line(path, form=form)
    return table[columns]


def _bad_line(path: Path, *, form: str, last: tuple[str, ...] = ()) -> DatasetError:
    """Names the first line without three words, or with another than `last` at its end."""
    for number, line in lines(path):
        words = line.split()
        if len(words) != 3 or (last and words[2] not in last):
            return DatasetError(f"{path}, line {number}: {line!r} is not {form}: correct it")
    return DatasetError(f"{path} does not hold lines of {form}: get it again")
