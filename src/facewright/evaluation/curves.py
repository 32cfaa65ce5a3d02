"""Error rates along the threshold, for any weighting of the pairs.

A pair is accepted where its similarity is at least the threshold. A pair in which a face was not
found can never be accepted:

- FNMR (false non-match rate) counts it as a non-match: the rate is over *all* genuine pairs. In
  ISO/IEC 19795-1, whose FNMR is over the pairs that were compared, this is the FRR without
  enrolment, FTA + FNMR × (1 - FTA).
- FMR (false match rate) is over the impostor pairs in which both faces were found. The standard's
  FAR is FMR × (1 - FTA), which is never larger: a detector that loses faces must not look safer
  for it, nor may pairs that were never compared support a finer FMR.

`weights` is `(R, P) int32`: how often each of P pairs counts in each of R resamples. One row of
ones gives the plain figure.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from facewright.evaluation.intervals import FEW
from facewright.evaluation.pairs import Bools, Floats, Ints, Scored, checked, refuse_one_class

MOST_POINTS = 500  # of a curve in a plot

Weights = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Counts:
    """Accepted pairs, summed over weights, at each of C + 1 thresholds from strict to lax."""

    thresholds: Floats  # (C + 1,) the first accepts nothing, the others are similarities
    impostor: Weights  # (R, C + 1)
    genuine: Weights  # (R, C + 1)
    impostor_total: Ints  # (R,) compared
    genuine_total: Ints  # (R,) compared or not

    @property
    def fmr(self) -> Floats:
        """(R, C + 1), 0 where there is nothing to accept."""
        return self.impostor / np.maximum(self.impostor_total, 1)[:, None]

    @property
    def fnmr(self) -> Floats:
        """(R, C + 1), 1 where there is nothing to accept."""
        total = np.maximum(self.genuine_total, 1)[:, None]
        return (total - self.genuine) / total


def accepted(scored: Scored, weights: Weights) -> Counts:
    """Count what every threshold accepts."""
    within = weights[:, : scored.compared]
    genuine = scored.genuine[: scored.compared]
    impostor_sum, genuine_sum = np.zeros((2, len(weights), scored.compared + 1), np.int32)
    np.cumsum(within * genuine, axis=1, out=genuine_sum[:, 1:])
    np.cumsum(within, axis=1, out=impostor_sum[:, 1:])
    impostor_sum -= genuine_sum
    if len(scored.cuts) < scored.compared:  # there are ties
        columns = np.concatenate(([0], scored.cuts))
        impostor_sum, genuine_sum = impostor_sum[:, columns], genuine_sum[:, columns]
    lost = weights[:, scored.compared :][:, scored.genuine[scored.compared :]]
    return Counts(
        thresholds=scored.thresholds,
        impostor=impostor_sum,
        genuine=genuine_sum,
        impostor_total=impostor_sum[:, -1].astype(np.int64),
        genuine_total=genuine_sum[:, -1] + lost.sum(axis=1, dtype=np.int64),
    )


def fnmr_at_fmr(counts: Counts, fmr: float) -> tuple[Floats, Floats]:
    """FNMR and threshold `(R,)` at the laxest threshold whose FMR is not above `fmr`.

    No interpolation: the threshold is a similarity that occurred, and using it accepts at most
    that share of these impostor pairs.
    """
    rows = np.arange(len(counts.impostor))
    limit = fmr * counts.impostor_total * (1 + 1e-9)  # 0.29 × 100 must allow 29
    last = _first(lambda at: counts.impostor[rows, at] > limit, counts) - 1
    return _share_lost(counts, last), counts.thresholds[last]


def fnmr_at_threshold(counts: Counts, threshold: float) -> Floats:
    """`(R,)`: FNMR at a threshold that is given."""
    at = np.searchsorted(-counts.thresholds, -threshold, side="right") - 1
    return _share_lost(counts, np.full(len(counts.genuine), max(int(at), 0)))


def _share_lost(counts: Counts, at: Ints) -> Floats:
    total = np.maximum(counts.genuine_total, 1)
    return np.asarray((total - counts.genuine[np.arange(len(at)), at]) / total)


def _first(test: Callable[[Ints], Bools], counts: Counts) -> Ints:
    """`(R,)`: the first column that passes a test which, once passed, stays so; C + 1 if none."""
    rows, columns = counts.impostor.shape
    low, high = np.zeros(rows, np.int64), np.full(rows, columns)
    while (low < high).any():
        middle = (low + high) // 2
        open_ = low < high
        passed = test(np.minimum(middle, columns - 1))
        high = np.where(open_ & passed, middle, high)
        low = np.where(open_ & ~passed, middle + 1, low)
    return low


def equal_error_rate(counts: Counts) -> Floats:
    """`(R,)`: where FMR and FNMR are equal, on the straight line between neighbouring thresholds.

    1 where no impostor pair could be compared, since then nothing was shown.
    """
    rows = np.arange(len(counts.impostor))
    if counts.impostor.shape[1] == 1:
        return np.ones(len(rows))
    impostors = np.maximum(counts.impostor_total, 1)

    def rates(at: Ints) -> tuple[Floats, Floats]:
        return counts.impostor[rows, at] / impostors, _share_lost(counts, at)

    def crossed(at: Ints) -> Bools:  # FMR - FNMR rises from -1
        fmr, fnmr = rates(at)
        return np.asarray(fmr >= fnmr)

    right = np.clip(_first(crossed, counts), 1, counts.impostor.shape[1] - 1)
    (before, missed), (after, missed_after) = rates(right - 1), rates(right)
    low, high = before - missed, after - missed_after
    part = -low / np.where(high > low, high - low, 1.0)
    return np.where(counts.impostor_total > 0, before + part * (after - before), 1.0)


def best_threshold(counts: Counts) -> float:
    """Where the mean of FMR and FNMR is lowest, midway to the next similarity below.

    Of several equally good thresholds the highest, which accepts least. With as many genuine as
    impostor pairs this is the threshold of the most right decisions; a list of many more impostor
    pairs does not pull it up. `counts` are of one weighting, R = 1.
    """
    at = int((counts.fmr[0] + counts.fnmr[0]).argmin())
    here = float(counts.thresholds[at])
    if at in (0, len(counts.thresholds) - 1):
        return here
    below = float(counts.thresholds[at + 1])
    middle = below + (here - below) / 2
    return middle if middle > below else here  # neighbouring floats have no middle


def area_under_roc(counts: Counts) -> Floats:
    """`(R,)`: chance that a genuine pair scores above an impostor pair, a tie counting half.

    (Hanley & McNeil, Radiology 1982.) A genuine pair with a face not found scores below all.
    """
    step, match = np.diff(counts.fmr, axis=1), 1.0 - counts.fnmr
    return np.asarray((step * (match[:, 1:] + match[:, :-1]) / 2).sum(axis=1))


def supported(scored: Scored, fmr: float) -> bool:
    """Whether the compared impostor pairs make FEW false matches at `fmr` likely.

    With ten expected, the number seen has a relative standard error of about a third; with fewer,
    a few lucky pairs decide the threshold.
    """
    return fmr * scored.impostors_compared * (1 + 1e-9) >= FEW


def roc(scores: pd.DataFrame) -> pd.DataFrame:
    """`det` of scores.

    Raises:
        EvaluationError: the scores are refused by `checked`.
    """
    scored, _ = checked(scores)
    return _det(scored.similarity[: scored.compared], scored.genuine)


def det(similarity: npt.NDArray[np.floating], genuine: Bools) -> pd.DataFrame:
    """Error rates along the threshold: columns fmr, fnmr, threshold, from strict to lax.

    At most MOST_POINTS rows, each a point of the exact curve, and of few pairs all at which the
    curve turns. Of many, the points at rates that are evenly spread, taken linearly and by their
    logarithm, for FMR and for FNMR: enough for any scale of a plot.

    Args:
        similarity: `(P,)` float32 or float64, NaN where a face was not found. Ten million pairs
            take about 0.5 GB beside the arguments, which are left alone.
        genuine: `(P,)`.

    Raises:
        EvaluationError: all pairs are genuine, or all are impostors.
    """
    refuse_one_class(genuine)
    found = ~np.isnan(similarity)
    ranked, order = similarity[found], genuine[found]
    lost = genuine[~found]
    del found
    np.negative(ranked, out=ranked)
    places = ranked.argsort()
    ranked, order = ranked[places], order[places]
    del places
    np.negative(ranked, out=ranked)
    return _det(ranked, np.concatenate((order, lost)))


def _det(similarity: npt.NDArray[np.floating], genuine: Bools) -> pd.DataFrame:
    """From falling similarities; `genuine` goes on with the pairs that have none."""
    compared, lost = len(similarity), int(genuine[len(similarity) :].sum())
    matches = np.concatenate(([0], np.cumsum(genuine[:compared], dtype=np.int32)))
    keep = np.concatenate(
        ([0], np.flatnonzero(similarity[1:] != similarity[:-1]) + 1, [compared] * bool(compared))
    ).astype(np.int32)
    matches = matches[keep]
    # One array at a time: of ten million pairs each is 40 MB.
    keep, matches = (values[_corners(keep - matches, matches)] for values in (keep, matches))
    mates, others = int(matches[-1]) + lost, int(keep[-1] - matches[-1])
    if len(keep) > MOST_POINTS:
        chosen = _spread(keep - matches, mates - matches)
        keep, matches = keep[chosen], matches[chosen]
    values = np.asarray(similarity[np.maximum(keep[1:] - 1, 0)], np.float64)
    strictest = float(np.nextafter(np.float64(similarity[0]), np.inf)) if compared else 1.0
    return pd.DataFrame(
        {
            "fmr": (keep - matches) / max(others, 1),
            "fnmr": (mates - matches) / max(mates, 1),
            "threshold": [strictest, *values.tolist()],
        }
    )


def _spread(accepted: Weights, missed: Weights) -> Ints:
    """Indices of points of a curve: for each of some counts of errors the best point with it."""
    each = MOST_POINTS // 4

    def wanted(most: int) -> Floats:
        most = max(most, 1)
        return np.concatenate((np.linspace(0, most, each), np.geomspace(1, most, each)))

    strict = np.searchsorted(accepted, wanted(int(accepted[-1])), side="right") - 1
    lax = np.searchsorted(-missed, -wanted(int(missed[0])))
    ends = [0, len(accepted) - 1]
    return np.unique(np.concatenate((ends, strict, np.minimum(lax, ends[1])))).astype(np.int64)


def _corners(x: Weights, y: Weights) -> Ints:
    """Indices of the points at which the polyline turns, and of its ends."""
    level, upright = np.diff(y) == 0, np.diff(x) == 0
    straight = (level[:-1] & level[1:]) | (upright[:-1] & upright[1:])
    ends = np.unique([0, len(x) - 1])
    keep = np.union1d(ends, np.flatnonzero(~straight) + 1)
    # Equal similarities make slanted steps, of which some are in line.
    dx, dy = np.diff(x[keep]).astype(np.int64), np.diff(y[keep]).astype(np.int64)
    turns = np.flatnonzero(dx[:-1] * dy[1:] != dx[1:] * dy[:-1]) + 1
    return np.asarray(np.union1d(ends, keep[turns]))


def score_histogram(
    scores: pd.DataFrame, *, low: float = -1.0, high: float = 1.0, bins: int = 50
) -> pd.DataFrame:
    """Compared pairs per bin of similarity: columns low, high (of the bin), genuine, impostor.

    Similarities outside [low, high] go to the first or last bin; the sums are the compared pairs.
    """
    scored, _ = checked(scores)
    similarity = np.clip(scored.similarity[: scored.compared], low, high)
    genuine = scored.genuine[: scored.compared]
    edges = np.linspace(low, high, bins + 1)
    return pd.DataFrame(
        {
            "low": edges[:-1],
            "high": edges[1:],
            "genuine": np.histogram(similarity[genuine], edges)[0],
            "impostor": np.histogram(similarity[~genuine], edges)[0],
        }
    )
