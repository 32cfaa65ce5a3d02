"""What files beside the photos say of them: names of people, landmarks, lists of photos to keep.

VGGFace2 (Cao et al., FG 2018) brings `identity_meta.csv` (`Class_ID, Name, Sample_Num, Flag,
Gender`), `train_list.txt` and `test_list.txt` (`n000002/0001_01.jpg`), and
`bb_landmark/loose_landmark_train.csv` (`NAME_ID, P1X, P1Y, … P5Y`). Names for CASIA-WebFace (Yi et
al., 2014) are lines `0000045 Some_Name`. InsightFace's landmarks for IJB-B and IJB-C are lines
`1.jpg`, ten numbers and a score.
"""

import array
import csv
import hashlib
import posixpath
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from facewright.datasets.images import SUFFIXES
from facewright.datasets.readers.text import lines
from facewright.errors import DatasetError

POINTS = 10  # numbers: x and y of five landmarks
LARGEST = 1e7  # px, all of them together; no photo has that many
_DIGEST = 16  # bytes

Points = npt.NDArray[np.float32]


class PhotoNames:
    """Where in a list a photo stands. Three million names take 50 MB, since digests stand for them.

    A photo may be named by its id (`IDENTITY/STEM`) or its path in the source, with its suffix or
    without.
    """

    def __init__(self, names: Iterable[str]) -> None:
        digests = bytearray()
        for name in names:
            digests += _digest(without_suffix(name))
        keys = np.frombuffer(bytes(digests), dtype=f"S{_DIGEST}")
        self._order = np.argsort(keys, kind="stable")
        self._keys = keys[self._order]

    def __len__(self) -> int:
        return len(self._keys)

    def find(self, *names: str) -> int | None:
        """The place in the list of the first of these names that is there."""
        for name in names:
            key = np.frombuffer(_digest(without_suffix(name)), dtype=self._keys.dtype)
            at = int(np.searchsorted(self._keys, key)[0])
            if at < len(self._keys) and self._keys[at] == key[0]:
                return int(self._order[at])
        return None

    def twice(self) -> int | None:
        """The place of a name that is there before, if any."""
        same = np.flatnonzero(self._keys[1:] == self._keys[:-1])
        return int(self._order[same[0] + 1]) if len(same) else None


def _digest(name: str) -> bytes:
    return hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=_DIGEST).digest()


def without_suffix(name: str) -> str:
    """`name` without the suffix of an image, if it has one: others may be part of a name."""
    stem, suffix = posixpath.splitext(name)
    return stem if suffix.lower() in SUFFIXES else name


class Landmarks:
    """Five landmarks per photo, from lines `PATH<tab>10 numbers`, VGGFace2's csv, or IJB's list.

    The lines of the last have blanks, and a detector's score in the end, which says nothing here.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        self._numbers = array.array("f")
        self.names = PhotoNames(self._read(paths))

    def find(self, *names: str) -> Points | None:
        """(10,) float32 px, in the order of `form`; None for a photo that is not named."""
        at = self.names.find(*names)
        if at is None:
            return None
        return np.array(self._numbers[at * POINTS : (at + 1) * POINTS], np.float32)

    def _read(self, paths: Iterable[Path]) -> Iterator[str]:
        for path in paths:
            for number, line in lines(path):
                where = f"{path}, line {number}"
                name, *values = _fields(line)
                name = name.strip().strip('"')
                if name == "NAME_ID":
                    continue
                self._numbers.extend(_ten(values, where=where))
                yield name


def _fields(line: str) -> list[str]:
    """A name and numbers."""
    if "\t" in line or "," in line:
        return line.split("\t" if "\t" in line else ",")
    fields = line.split()
    return fields[:-1] if len(fields) == POINTS + 2 else fields


def read_landmarks(paths: Iterable[Path]) -> Landmarks:
    """The landmarks of these files, of which none may name a photo twice.

    Raises:
        DatasetError: a file cannot be read, has a line of another form, or names a photo twice.
    """
    paths = list(paths)
    found = Landmarks(paths)
    where = ", ".join(map(str, paths))
    if not len(found.names):
        raise DatasetError(f"{where} names no photo: give lines of a path and ten numbers")
    if (twice := found.names.twice()) is not None:
        raise DatasetError(f"{where}: photo {twice + 1} is named twice: remove one of its lines")
    return found


def parse_points(values: Any, *, where: str) -> Points:
    """(10,) float32 px from a list of numbers or text, or text with blanks between them.

    Raises:
        DatasetError: they are not ten numbers, or some lie in no photo.
    """
    if isinstance(values, str):
        values = values.split()
    return np.array(_ten(values, where=where), np.float32)


def _ten(values: Any, *, where: str) -> list[float]:
    try:
        points = [float(value) for value in values]
    except (TypeError, ValueError):
        points = []
    # What is no number is not smaller than any.
    if len(points) != POINTS or not sum(map(abs, points)) < LARGEST:
        raise DatasetError(
            f"{where}: landmarks are ten numbers, x and y of left eye, right eye, nose and the "
            "mouth's corners: correct them"
        )
    return points


def read_photo_names(path: Path, *, below: Path | None = None) -> PhotoNames:
    """The photos that a list names, one a line; what lies in the folder `below` perhaps absolute.

    Raises:
        DatasetError: the file cannot be read, or names no photo.
    """
    tops = [f"{top}/" for top in (below.absolute(), below.resolve())] if below else []
    names = PhotoNames(_inside(line.strip(), tops) for _, line in lines(path))
    if not len(names):
        raise DatasetError(f"{path} names no photo: give one path a line")
    return names


def _inside(name: str, tops: list[str]) -> str:
    """`name` without the folder that it starts with, if that is one of `tops`."""
    top = next((top for top in ["./", *tops] if name.startswith(top)), "")
    return name.removeprefix(top)


def read_names(path: Path) -> dict[str, Mapping[str, str]]:
    """What is known of each identity: `person`, and from VGGFace2's `identity_meta.csv` `gender`.

    Else lines of an identity and a name, with a blank or a tab between.

    Raises:
        DatasetError: the file cannot be read, has a line of another form, or names nobody.
    """
    rows = lines(path)
    first, head = next(rows, (0, ""))
    known: dict[str, Mapping[str, str]] = {}
    if head.replace(" ", "").startswith("Class_ID,"):
        for number, line in rows:
            values = _cells(line, where=f"{path}, line {number}")
            if len(values) < 5 or not values[0]:
                raise DatasetError(f"{path}, line {number}: {line!r} has not five columns")
            stated = {"person": values[1], "gender": values[4]}
            known[values[0]] = {column: value for column, value in stated.items() if value}
    else:
        for number, line in chain([(first, head)] if head else [], rows):
            identity, *name = line.split("\t", 1) if "\t" in line else line.split(None, 1)
            if not name or not name[0].strip():
                raise DatasetError(
                    f"{path}, line {number}: {line!r} is no identity with its name after a blank"
                )
            known[identity.strip()] = {"person": name[0].strip()}
    if not known:
        raise DatasetError(f"{path} names nobody: give lines of an identity and a name")
    return known


def _cells(line: str, *, where: str) -> list[str]:
    try:
        return [value.strip() for value in next(csv.reader([line], skipinitialspace=True))]
    except csv.Error as error:
        raise DatasetError(f"{where} is no line of CSV ({error}): correct it") from error
