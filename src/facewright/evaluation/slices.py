"""Error rates of parts of the pairs, all at one threshold: for whom does the recognizer fail?

The threshold is that of the whole set, as it would be in use; a threshold per slice would hide
what is looked for (Grother et al., FRVT Part 3: Demographic Effects, NISTIR 8280, 2019). FMR is
over compared impostor pairs, FNMR over all genuine pairs, as in `curves`.

Which slice a pair belongs to:

- Text and truth values are categories. A pair belongs to a value if both images have it; all other
  pairs are in the row MIXED.
- Numbers, also those that a list brought as text, are cut into bins, by quantiles over the images.
  A pair belongs to the bin of its *worse* image, since that is the one that decides: the lower
  number, of HIGH_IS_WORSE the higher one. Codes must not look like numbers: `tone 3`, not `3`.
- A pair of which an image has no value, as where no face was found, is in the row MIXED.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from facewright.errors import EvaluationError
from facewright.evaluation.intervals import wilson
from facewright.evaluation.pairs import OK, Bools, Floats, Ints, checked

ALL = "all"  # the column and the value of the row of all pairs
MIXED = "mixed or unknown"
MOST_VALUES = 100  # of a category
HIGH_IS_WORSE = ("turn",)
NAMES = ("id", "identity", "person")  # columns that name people or their photos
ERRORS = {"fmr": ("false_matches", "compared"), "fnmr": ("false_non_matches", "genuine")}


def slice_table(
    scores: pd.DataFrame,
    *,
    images: pd.DataFrame,
    columns: Sequence[str],
    threshold: float,
    bins: int = 4,
) -> pd.DataFrame:
    """FMR and FNMR of all pairs, and of each slice along each column, at one threshold.

    Args:
        scores: from `score_pairs`.
        images: one row per image, with `id` and `columns`; see `with_derived`.
        columns: of `images`, those to slice by.
        threshold: a pair is accepted where its similarity is at least this.
        bins: how many, of equal numbers of images, a column of numbers is cut into. Fewer where
            many images have the same number.

    Returns:
        Columns `column`, `value`, `genuine`, `compared` (impostor pairs in which both faces were
        found), `failures` (pairs in which one was not), `false_matches`, `false_non_matches`,
        `fmr`, `fnmr`, and `_low` and `_high` of both: Wilson's 95 % interval, pairs taken as
        independent. A rate over no pair is NaN. The first row is of all pairs; then for each
        column its values or bins in order, and MIXED where there are such pairs.

    Raises:
        EvaluationError: `checked` refuses the scores or `sliceable` a column, the threshold is not
            finite, a column has more than MOST_VALUES categories, no image has a value, or an
            image of a pair is not in `images` or twice.
    """
    if not math.isfinite(threshold):
        raise EvaluationError(f"the threshold is {threshold}: choose one from the scores")
    checked(scores)
    outcomes = Outcomes.of(scores, threshold)
    tables = [outcomes.rows(ALL, [ALL], np.zeros(len(scores), np.int64))]
    for column, names, pair in cut(scores, images=images, columns=columns, bins=bins):
        tables.append(outcomes.rows(column, names, pair))
    return pd.concat(tables, ignore_index=True)


def cut(
    scores: pd.DataFrame, *, images: pd.DataFrame, columns: Sequence[str], bins: int
) -> Iterator[tuple[str, list[str], Ints]]:
    """Of each column its name, the names of its slices, and for each pair the index of its slice.

    Arguments and errors are those of `slice_table`.
    """
    images = sliceable(images, columns=columns)
    index = pd.Index(images["id"])
    if not index.is_unique:
        raise EvaluationError(f"image {index[index.duplicated()][0]!r} is there twice")
    sides = [index.get_indexer(pd.Index(scores[side])) for side in ("a", "b")]
    for rows, side in zip(sides, ("a", "b"), strict=True):
        if (rows < 0).any():
            name = scores[side].iloc[int((rows < 0).argmax())]
            raise EvaluationError(
                f"image {name!r} of a pair is not among the images: check the manifest against "
                "the pairs"
            )
    used = np.unique(np.concatenate(sides))
    for column in columns:
        values = images[column].iloc[used]
        if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
            names, codes = _binned(values, column, bins=bins)
            worse = np.maximum if column in HIGH_IS_WORSE else np.minimum
        else:
            names, codes, worse = *_categories(values, column), None
        code = np.full(len(images), -1)
        code[used] = codes
        one, other = (code[rows] for rows in sides)
        known = (one >= 0) & (other >= 0)
        if worse is None:
            pair = np.where(known & (one == other), one, -1)
        else:
            pair = np.where(known, worse(one, other), -1)
        if (pair < 0).any():
            names, pair = [*names, MIXED], np.where(pair < 0, len(names), pair)
        yield column, names, pair


def sliceable(images: pd.DataFrame, *, columns: Sequence[str]) -> pd.DataFrame:
    """`id` and `columns` of the images, in which numbers are numbers, whatever brought them.

    Numbers that are not finite are missing.

    Raises:
        EvaluationError: a column is not there, is there twice, names people, or holds lists.
    """
    where = "evaluate.slices"
    for column in columns:
        if column in NAMES:
            raise EvaluationError(
                f"{where}: {column!r} names people or photos, which no report may: slice by a "
                "column that many photos share"
            )
        if column not in images.columns:
            there = ", ".join(str(name) for name in images.columns if name not in NAMES)
            raise EvaluationError(
                f"{where}: the photos have no column {column!r}, they have {there}: correct the "
                "name, or import the photos with a list that has it"
            )
        if list(columns).count(column) > 1:
            raise EvaluationError(f"{where} names the column {column!r} twice: name it once")
        if images[column].map(pd.api.types.is_list_like).any():
            raise EvaluationError(
                f"{where}: the column {column!r} holds lists, must hold one word or number for "
                "each photo: name another one"
            )
    found = {column: _numbers(images[column]) for column in columns}
    return pd.DataFrame({"id": images["id"], **found})


def _numbers(values: "pd.Series[Any]") -> "pd.Series[Any]":
    """Numbers as numbers, if all that is known is a number; else the values as they are."""
    kind = pd.api.types.infer_dtype(values, skipna=True)
    if kind not in ("string", "integer", "floating", "mixed-integer-float", "decimal"):
        return values
    try:
        numbers = pd.to_numeric(values)
    except (ValueError, TypeError):
        return values
    return numbers.where(np.isfinite(numbers.to_numpy(np.float64, na_value=np.nan)))


def with_derived(images: pd.DataFrame) -> pd.DataFrame:
    """The images with two more columns to slice by, where what they need is there.

    - `photos`: how many images its identity has, from `identity`; a column of that name stays.
    - `turn`: how far the head is turned to a side, from the five `landmarks` (10 numbers: x and y
      of left eye, right eye, nose, left and right corner of the mouth): 0 where the nose lies
      midway between the two sides of eyes and mouth, 1 where it lies on one of them. NaN without
      landmarks.
    """
    added = images.copy()
    if "photos" not in images.columns and "identity" in images.columns:
        added["photos"] = images.groupby("identity")["identity"].transform("size")
    if "turn" not in images.columns and "landmarks" in images.columns:
        marks = [np.full(10, np.nan) if _empty(m) else m for m in images["landmarks"]]
        points = np.array(marks, np.float64).reshape(-1, 5, 2)
        left, right = (points[:, 0] + points[:, 3]) / 2, (points[:, 1] + points[:, 4]) / 2
        way = right - left
        length = np.einsum("nx,nx->n", way, way)
        along = np.einsum("nx,nx->n", points[:, 2] - left, way)
        place = np.divide(along, length, out=np.full(len(points), np.nan), where=length > 0)
        added["turn"] = np.abs(2 * place - 1)
    return added


@dataclass(frozen=True)
class Outcomes:
    """What became of each pair."""

    genuine: Bools
    compared: Bools
    accepted: Bools

    @classmethod
    def of(cls, scores: pd.DataFrame, threshold: float) -> "Outcomes":
        found = (scores["status"] == OK).to_numpy()
        similarity: Floats = scores["similarity"].to_numpy(dtype=np.float64)
        accepted = found & (np.where(found, similarity, -np.inf) >= threshold)
        return cls((scores["label"] == 1).to_numpy(), found, accepted)

    def of_rate(self, rate: str) -> tuple[Bools, Bools]:
        """Which pairs are errors of a rate, and which count for it."""
        if rate == "fmr":
            return ~self.genuine & self.accepted, ~self.genuine & self.compared
        return self.genuine & ~self.accepted, self.genuine

    def rows(self, column: str, names: Sequence[str], pair: Ints) -> pd.DataFrame:
        """A row per name; `pair` is the index of the name that each pair belongs to."""
        (false_matches, compared), (misses, genuine) = map(self.of_rate, ("fmr", "fnmr"))
        counts = {
            name: np.bincount(pair[mask], minlength=len(names))
            for name, mask in {
                "genuine": genuine,
                "compared": compared,
                "failures": ~self.compared,
                "false_matches": false_matches,
                "false_non_matches": misses,
            }.items()
        }
        table = pd.DataFrame({"column": column, "value": list(names), **counts})
        for rate, (errors, trials) in ERRORS.items():
            ends = [
                (wrong / of, *wilson(wrong / of, of)) if of else (np.nan,) * 3
                for wrong, of in zip(table[errors].tolist(), table[trials].tolist(), strict=True)
            ]
            table[[rate, f"{rate}_low", f"{rate}_high"]] = np.array(ends, np.float64)
        return table


def _categories(values: "pd.Series[str]", column: str) -> tuple[list[str], Ints]:
    codes, found = pd.factorize(values, sort=True)
    if not 0 < len(found) <= MOST_VALUES:
        raise EvaluationError(
            f"column {column!r} has {len(found)} different values, must have 1 to {MOST_VALUES}: "
            "slice by another one"
        )
    return [str(value) for value in found], codes.astype(np.int64)


def _binned(values: "pd.Series[float]", column: str, *, bins: int) -> tuple[list[str], Ints]:
    """Names of bins, and the bin of each value, -1 for none."""
    numbers = np.asarray(values.to_numpy(dtype=np.float64, na_value=np.nan), np.float64)
    known = np.isfinite(numbers)
    if not known.any():
        raise EvaluationError(f"column {column!r} has no number for any image of the pairs")
    ranked = np.sort(numbers[known])
    inner = np.unique(ranked[np.arange(1, bins) * len(ranked) // bins])
    inner = inner[inner > ranked[0]]  # else the first bin would be empty
    code = np.where(known, np.searchsorted(inner, numbers, side="right"), -1)
    if not len(inner):
        return _shown(numbers[known][:1]), code
    edges = _shown(inner)
    names = [
        f"below {edges[0]}",
        *(f"{low} to {high}" for low, high in pairwise(edges)),
        f"{edges[-1]} and more",
    ]
    return names, code


def _shown(edges: Floats) -> list[str]:
    """Different numbers as different texts: whole ones in full, others to three digits or more."""
    for digits in range(3, 18):  # seventeen tell any two apart
        whole = [max(digits, len(f"{abs(edge):.0f}")) for edge in edges]
        texts = [f"{edge:.{most}g}" for edge, most in zip(edges, whole, strict=True)]
        if len(set(texts)) == len(texts):
            break
    return texts


def _empty(marks: object) -> bool:
    return marks is None or (isinstance(marks, float) and math.isnan(marks))
