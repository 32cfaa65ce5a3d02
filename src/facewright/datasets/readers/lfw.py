"""The protocol files of Labeled Faces in the Wild (Huang et al., 2007), and plain lists like them.

A photo is written as NAME and NUMBER there, and lies at `NAME/NAME_NUMBER.jpg` with four digits.
"""

import re
from pathlib import Path, PurePosixPath

import pandas as pd

from facewright.datasets.pairs import PAIR_COLUMNS, fold_of
from facewright.datasets.readers.annotations import without_suffix
from facewright.datasets.readers.text import all_lines
from facewright.errors import DatasetError

# A photo whose name says who it is: `Some_Name_0001.jpg`, and as in AgeDB `12_SomeName_35_f.jpg`.
FLAT = re.compile(r"(?:.*/)?(?P<stem>(?P<identity>[^/]+)_\d+)\.\w+")
AGEDB = re.compile(
    r"(?:.*/)?(?P<stem>\d+_(?P<identity>[^/]+)_(?P<age>\d+)_(?P<gender>[mfMF]))\.\w+"
)

Pair = tuple[int, int, str, str]


def read_people(path: Path) -> list[str]:
    """The names in `people.txt`, `peopleDevTrain.txt` and the like, or one name a line.

    LFW's files have lines that hold a count only, and `NAME<tab>NUMBER OF PHOTOS`.

    Raises:
        DatasetError: the file cannot be read, or names nobody.
    """
    lines = all_lines(path)
    if any("\t" in line for line in lines):
        # Only a line without a tab is a count: people may be numbers.
        lines = [line.split("\t")[0] for line in lines if "\t" in line or not line.isdigit()]
    names = list(dict.fromkeys(name.strip() for name in lines))
    if not names:
        raise DatasetError(f"{path} names nobody: give one name a line, or an LFW people file")
    return names


def read_pairs(path: Path) -> pd.DataFrame:
    """Verification pairs: columns fold (from 0), label (1 genuine, 0 impostor), a, b (image ids).

    Three forms: LFW View 2 (`pairs.txt`: ten folds), LFW View 1 (`pairsDevTest.txt`: no folds; the
    pairs of each label are cut into ten, so that every fold has its share of both),
    and tab separated `fold, label, path a, path b`, with or without a line of column names. A path
    is a photo's folder and name, or its name alone where that says who it is (see `FLAT`, `AGEDB`).

    Raises:
        DatasetError: the file cannot be read, holds no pair, fewer or more than it announces, or
            a line in none of these forms.
    """
    lines = all_lines(path)
    if not lines:
        raise DatasetError(f"{path}: no verification pair was found: check the pairs file")
    head = lines[0].split()
    if len(head) <= 2 and all(value.isdigit() for value in head):
        pairs = _lfw_pairs(path, lines[1:], counts=[int(value) for value in head])
    else:
        pairs = _listed_pairs(path, lines)
    if not pairs:
        raise DatasetError(f"{path}: no verification pair was found: check the pairs file")
    return pd.DataFrame(pairs, columns=PAIR_COLUMNS)


def _lfw_pairs(path: Path, lines: list[str], *, counts: list[int]) -> list[Pair]:
    """`counts`: [pairs per label] or [folds, pairs per label and fold]; each fold genuine first."""
    folds, size = counts if len(counts) == 2 else (1, counts[0])
    if len(lines) != folds * size * 2:
        raise DatasetError(
            f"{path} announces {folds * size * 2} pairs and holds {len(lines)}: get it again"
        )
    pairs = []
    for number, line in enumerate(lines):
        values = line.split()
        fold, place = divmod(number, size * 2)
        label = int(place < size)
        if len(counts) == 1:
            fold = fold_of(place % size, size)
        try:
            if label:
                name, a, b = values
                other = name
            else:
                name, a, other, b = values
            pairs.append((fold, label, _photo(name, int(a)), _photo(other, int(b))))
        except ValueError as error:
            raise _bad_line(path, line) from error
    return pairs


def _listed_pairs(path: Path, lines: list[str]) -> list[Pair]:
    pairs = []
    for number, line in enumerate(lines):
        values = [value.strip() for value in line.split("\t")]
        if number == 0 and values[:2] == ["fold", "label"]:
            continue
        if len(values) != 4 or not values[0].isdigit() or values[1] not in ("0", "1"):
            raise _bad_line(path, line)
        ids = [_id_of(value) for value in values[2:]]
        if "" in ids:
            raise _bad_line(path, line)
        pairs.append((int(values[0]), int(values[1]), ids[0], ids[1]))
    return pairs


def _photo(name: str, number: int) -> str:
    return f"{name}/{name}_{number:04d}"


def _id_of(path: str) -> str:
    """The photo's folder, or whoever its name says, and its name without suffix; else nothing."""
    folder, name = PurePosixPath(path).parent.name, PurePosixPath(path).name
    if not folder and (photo := AGEDB.fullmatch(name) or FLAT.fullmatch(name)):
        return f"{photo['identity']}/{photo['stem']}"
    return f"{folder}/{without_suffix(name)}" if folder else ""


def _bad_line(path: Path, line: str) -> DatasetError:
    return DatasetError(
        f"{path}: {line!r} is no pair: give an LFW pairs file, or fold, label (0 or 1), path and "
        "path, separated by tabs"
    )
