"""Verification protocols, told apart by looking at them.

- LFW's, and plain lists: see `lfw`.
- CALFW (Zheng et al., 2017) and CPLFW (Zheng and Deng, 2018): `pairs_CALFW.txt` and the like, where
  two lines `NAME_0001.jpg NUMBER` make a pair. NUMBER is 0 for an impostor pair; for a genuine one
  it is its fold from 1, or always 1. The photos lie in one folder.
- CFP (Sengupta et al., WACV 2016): a folder `Protocol/Split/FP` (or FF) with a folder per fold of
  `same.txt` and `diff.txt`, whose lines `1,35` are numbers in `Protocol/Pair_list_F.txt` and, the
  second of FP, `Pair_list_P.txt`. The photos lie at `Data/Images/001/frontal/01.jpg`.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from facewright.datasets.pairs import PAIR_COLUMNS, fold_of
from facewright.datasets.readers.lfw import AGEDB, FLAT, Pair, read_pairs
from facewright.datasets.readers.text import all_lines
from facewright.errors import DatasetError

CFP = re.compile(r"(?:.*/)?(?P<identity>\d{3})/(?P<view>frontal|profile)/(?P<stem>\d+)\.\w+")

_HALF = re.compile(r"(\S.*\.\w+)\s+(\d+)")


@dataclass(frozen=True)
class Protocol:
    """Verification pairs (columns fold, label, a, b), and whether all photos lie in one folder."""

    pairs: pd.DataFrame
    flat: bool = False


def read_protocol(path: Path) -> Protocol:
    """The pairs that the file or folder `path` lists.

    Raises:
        DatasetError: it cannot be read, or a line has none of the forms above.
    """
    if path.is_dir():
        return Protocol(_cfp(path))
    lines = all_lines(path)
    if lines and _HALF.fullmatch(lines[0]) and "\t" not in lines[0]:
        return Protocol(_halves(path, lines), flat=True)
    # A photo that stands alone in a list lies so, as a rule.
    bare = {name.strip() for line in lines for name in line.split("\t")[2:] if "/" not in name}
    flat = any(FLAT.fullmatch(name) and not AGEDB.fullmatch(name) for name in bare)
    return Protocol(read_pairs(path), flat=flat)


def _halves(path: Path, lines: list[str]) -> pd.DataFrame:
    halves = []
    for line in lines:
        half = _HALF.fullmatch(line)
        photo = half and FLAT.fullmatch(half[1])
        if not half or not photo:
            raise DatasetError(f"{path}: {line!r} is no photo NAME_0001.jpg with a number after it")
        halves.append((f"{photo['identity']}/{photo['stem']}", int(half[2])))
    pairs: list[Pair] = []
    numbers = []
    for (a, number), (b, again) in zip(halves[::2], halves[1::2], strict=False):
        if number != again:
            raise DatasetError(
                f"{path}: {a!r} and {b!r} make a pair, and have the numbers {number} and {again}: "
                "get it again"
            )
        pairs.append((0, int(number > 0), a, b))
        numbers.append(number)
    if len(halves) % 2:
        raise DatasetError(f"{path}: the last photo, {halves[-1][0]!r}, has no other: get it again")
    table = pd.DataFrame(pairs, columns=PAIR_COLUMNS)
    # Ten folds with their share of both labels, as in LFW's View 1.
    groups = table.groupby("label")["fold"]
    places = zip(groups.cumcount(), groups.transform("size"), strict=True)
    table["fold"] = [fold_of(place, size) for place, size in places]
    if max(numbers) > 1:
        genuine = table["label"] == 1
        table.loc[genuine, "fold"] = [number - 1 for number in numbers if number]
    return table


def _cfp(folder: Path) -> pd.DataFrame:
    split = folder.resolve()  # the names of those above are needed
    if split.name not in ("FF", "FP") or split.parent.name != "Split":
        raise DatasetError(
            f"{folder} is no protocol: name the folder Protocol/Split/FP or Protocol/Split/FF of "
            "CFP, or a pairs file"
        )
    lists = split.parent.parent
    first = _photos(lists / "Pair_list_F.txt")
    second = _photos(lists / "Pair_list_P.txt") if split.name == "FP" else first
    pairs: list[Pair] = []
    folds = sorted(path for path in split.iterdir() if path.is_dir())
    for fold, folder in enumerate(folds):
        for label, name in ((1, "same.txt"), (0, "diff.txt")):
            for line in all_lines(folder / name):
                try:
                    a, b = line.split(",")
                    pairs.append((fold, label, first[int(a)], second[int(b)]))
                except (ValueError, KeyError) as error:
                    raise DatasetError(
                        f"{folder / name}: {line!r} is no pair of numbers in the lists in {lists}: "
                        "get the protocol again"
                    ) from error
    if not pairs:
        raise DatasetError(f"{folder} holds no folds: get the protocol of CFP again")
    return pd.DataFrame(pairs, columns=PAIR_COLUMNS)


def _photos(path: Path) -> dict[int, str]:
    """The id of each photo by its number, from lines `1 ../Data/Images/001/frontal/01.jpg`."""
    photos = {}
    for line in all_lines(path):
        number, _, name = line.strip().partition(" ")
        photo = CFP.fullmatch(name.strip())
        if not photo or not number.isdecimal():
            raise DatasetError(f"{path}: {line!r} is no number with the path of a photo of CFP")
        photos[int(number)] = cfp_id(photo)
    return photos


def cfp_id(photo: re.Match[str]) -> str:
    """`001/frontal-01`: the number alone would name two photos of a person."""
    return f"{photo['identity']}/{photo['view']}-{photo['stem']}"
