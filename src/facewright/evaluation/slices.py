"""Error rates of parts of the pairs, all at one threshold: for whom does the recognizer fail?

The threshold is that of the whole set, as it would be in use; a threshold per slice would hide
what is looked for (Grother et al., FRVT Part 3: Demographic Effects, NISTIR 8280, 2019). FMR is
over compared impostor pairs, FNMR over all genuine pairs, as in `curves`.

Which slice a pair belongs to:

- Text and truth values are categories. A pair belongs to a value if both images have it; all other
  pairs are in the row MIXED.
- Numbers are cut into bins, by quantiles over the images or at given edges. A pair belongs to the
  bin of its *worse* image, since that is the one that decides: the lower number, or the higher one
  where the caller says so. Numbers that are codes must be made text first.
- A pair of which an image has no value, as where no face was found, is in the row MIXED.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd

from facewright.errors import EvaluationError
from facewright.evaluation.intervals import wilson
from facewright.evaluation.pairs import OK, Bools, Floats, Ints, checked

ALL = "all"  # the column and the value of the row of all pairs
MIXED = "mixed or unknown"
MIN_EXPECTED = 10  # errors at the rate of all pairs, below which a slice has no say in a ratio
MOST_VALUES = 100  # of a category
HIGH_IS_WORSE = ("turn",)
ERRORS = {"fmr": ("false_matches", "compared"), "fnmr": ("false_non_matches", "genuine")}


@dataclass(frozen=True)
class Ratio:
    """How many times higher a rate is in one slice than in another."""

    ratio: float
    highest: str  # value of the column
    lowest: str
    at_least: bool  # the lowest had no error: the upper end of its interval stands in for its rate


def slice_table(
    scores: pd.DataFrame,
    *,
    images: pd.DataFrame,
    columns: Sequence[str],
    threshold: float,
    bins: int = 4,
    edges: Mapping[str, Sequence[float]] | None = None,
    high_is_worse: Collection[str] = HIGH_IS_WORSE,
) -> pd.DataFrame:
    """FMR and FNMR of all pairs, and of each slice along each column, at one threshold.

    Args:
        scores: from `score_pairs`.
        images: one row per image, with `id` and `columns`; see `with_derived`.
        columns: of `images`, those to slice by.
        threshold: a pair is accepted where its similarity is at least this.
        bins: how many, of equal numbers of images, a column of numbers is cut into. Fewer where
            many images have the same number.
        edges: instead of quantiles, rising edges by column: [0.2, 0.4] makes three bins, and a
            number on an edge is in the upper one.
        high_is_worse: columns of numbers of which the higher one of a pair decides.

    Returns:
        Columns `column`, `value`, `genuine`, `compared` (impostor pairs in which both faces were
        found), `failures` (pairs in which one was not), `false_matches`, `false_non_matches`,
        `fmr`, `fnmr`, and `_low` and `_high` of both: Wilson's 95 % interval, pairs taken as
        independent. A rate over no pair is NaN. The first row is of all pairs; then for each
        column its values or bins in order, and MIXED where there are such pairs.

    Raises:
        EvaluationError: `checked` refuses the scores, the threshold is not finite, a column is
            missing or has more than MOST_VALUES categories, no image has a value, or an image of a
            pair is not in `images` or twice.
    """
    if not math.isfinite(threshold):
        raise EvaluationError(f"the threshold is {threshold}: choose one from the scores")
    checked(scores)
    for column in ("id", *columns):
        if column not in images.columns:
            raise EvaluationError(
                f"the images have no column {column!r}; they have {', '.join(images.columns)}"
            )
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
    outcomes = _Outcomes.of(scores, threshold)
    tables = [outcomes.rows(ALL, [ALL], np.zeros(len(scores), np.int64))]
    used = np.unique(np.concatenate(sides))
    for column in columns:
        values = images[column].iloc[used]
        if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
            cuts = (edges or {}).get(column)
            names, codes = _binned(values, column, bins=bins, edges=cuts)
            worse = np.maximum if column in high_is_worse else np.minimum
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
        tables.append(outcomes.rows(column, names, pair))
    return pd.concat(tables, ignore_index=True)


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


def largest_ratio(table: pd.DataFrame, rate: str) -> dict[str, Ratio | None]:
    """For each column the highest rate of a slice ÷ the lowest one, of slices that have a say.

    A slice has a say where ten errors or more would be expected in it at the rate of all pairs;
    MIXED has none. None where fewer than two slices have a say. The largest of many ratios is
    above 1 by chance too: look at the slices' intervals.

    Args:
        table: from `slice_table`.
        rate: `fmr` or `fnmr`.
    """
    if rate not in ERRORS:
        raise ValueError(f"rate {rate!r} must be fmr or fnmr")
    errors, trials = ERRORS[rate]
    overall = table.loc[table["column"] == ALL, rate].iloc[0]
    ratios: dict[str, Ratio | None] = {}
    for column, part in table[table["column"] != ALL].groupby("column", sort=False):
        enough = overall * part[trials] * (1 + 1e-9) >= MIN_EXPECTED
        part = part[enough & (part["value"] != MIXED)]
        if len(part) < 2:
            ratios[str(column)] = None
            continue
        top = part.loc[part[rate].idxmax()]
        least = part.loc[part[rate].idxmin()]
        none = int(least[errors]) == 0
        bottom = least[f"{rate}_high"] if none else least[rate]
        ratios[str(column)] = Ratio(
            ratio=max(1.0, float(top[rate] / bottom)),
            highest=str(top["value"]),
            lowest=str(least["value"]),
            at_least=none,
        )
    return ratios


@dataclass(frozen=True)
class _Outcomes:
    """What became of each pair."""

    genuine: Bools
    compared: Bools
    accepted: Bools

    @classmethod
    def of(cls, scores: pd.DataFrame, threshold: float) -> "_Outcomes":
        found = (scores["status"] == OK).to_numpy()
        similarity: Floats = scores["similarity"].to_numpy(dtype=np.float64)
        accepted = found & (np.where(found, similarity, -np.inf) >= threshold)
        return cls((scores["label"] == 1).to_numpy(), found, accepted)

    def rows(self, column: str, names: Sequence[str], pair: Ints) -> pd.DataFrame:
        """A row per name; `pair` is the index of the name that each pair belongs to."""
        counts = {
            name: np.bincount(pair[mask], minlength=len(names))
            for name, mask in {
                "genuine": self.genuine,
                "compared": ~self.genuine & self.compared,
                "failures": ~self.compared,
                "false_matches": ~self.genuine & self.accepted,
                "false_non_matches": self.genuine & ~self.accepted,
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


def _binned(
    values: "pd.Series[float]", column: str, *, bins: int, edges: Sequence[float] | None
) -> tuple[list[str], Ints]:
    """Names of bins, and the bin of each value, -1 for none."""
    numbers = np.asarray(values.to_numpy(dtype=np.float64, na_value=np.nan), np.float64)
    known = np.isfinite(numbers)
    if not known.any():
        raise EvaluationError(f"column {column!r} has no number for any image of the pairs")
    if edges is None:
        ranked = np.sort(numbers[known])
        inner = np.unique(ranked[np.arange(1, bins) * len(ranked) // bins])
        inner = inner[inner > ranked[0]]  # else the first bin would be empty
    else:
        inner = np.asarray(edges, np.float64)
        if not len(inner) or not np.isfinite(inner).all() or (np.diff(inner) <= 0).any():
            raise EvaluationError(f"the edges of column {column!r} must rise: {list(edges)}")
    code = np.where(known, np.searchsorted(inner, numbers, side="right"), -1)
    if not len(inner):
        return [f"{numbers[known].min():g}"], code
    names = [
        f"below {inner[0]:g}",
        *(f"{low:g} to {high:g}" for low, high in pairwise(inner)),
        f"{inner[-1]:g} and more",
    ]
    return names, code


def _empty(marks: object) -> bool:
    return marks is None or (isinstance(marks, float) and math.isnan(marks))
