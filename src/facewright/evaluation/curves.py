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

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from facewright.evaluation.pairs import Floats, Ints, Scored, checked

MOST_POINTS = 500  # of a curve in a plot
MIN_FALSE_MATCHES = 10  # expected at an FMR target, below which FNMR at it is not reported

Weights = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Counts:
    """Accepted pairs, summed over weights, at each of C + 1 thresholds from strict to lax."""

    thresholds: Floats  # (C + 1,) the first accepts nothing, the others are similarities
    impostor: Ints  # (R, C + 1)
    genuine: Ints  # (R, C + 1)
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
    columns = np.concatenate(([0], scored.cuts))
    impostor_sum, genuine_sum = (
        np.pad(np.cumsum(np.where(mask, within, 0), axis=1, dtype=np.int64), ((0, 0), (1, 0)))
        for mask in (~genuine, genuine)
    )
    if len(columns) < impostor_sum.shape[1]:  # there are ties
        impostor_sum, genuine_sum = impostor_sum[:, columns], genuine_sum[:, columns]
    values = scored.similarity[scored.cuts - 1]
    top = np.nextafter(values[0], np.inf) if len(values) else 1.0
    return Counts(
        thresholds=np.concatenate(([top], values)),
        impostor=impostor_sum,
        genuine=genuine_sum,
        impostor_total=impostor_sum[:, -1],
        genuine_total=weights[:, scored.genuine].sum(axis=1, dtype=np.int64),
    )


def fnmr_at_fmr(counts: Counts, fmr: float) -> tuple[Floats, Floats]:
    """FNMR and threshold `(R,)` at the laxest threshold whose FMR is not above `fmr`.

    No interpolation: the threshold is a similarity that occurred, and using it accepts at most
    that share of these impostor pairs.
    """
    limit = fmr * counts.impostor_total * (1 + 1e-9)  # 0.29 × 100 must allow 29
    last = (counts.impostor <= limit[:, None]).sum(axis=1) - 1
    total = np.maximum(counts.genuine_total, 1)
    fnmr = (total - counts.genuine[np.arange(len(last)), last]) / total
    return fnmr, counts.thresholds[last]


def equal_error_rate(counts: Counts) -> Floats:
    """`(R,)`: where FMR and FNMR are equal, on the straight line between neighbouring thresholds.

    1 where no impostor pair could be compared, since then nothing was shown.
    """
    gap = counts.fmr - counts.fnmr  # rises from -1 to the share of genuine pairs compared
    right = np.maximum((gap >= 0).argmax(axis=1), 1)
    rows = np.arange(len(gap))
    if gap.shape[1] == 1:
        return np.ones(len(gap))
    low, high = gap[rows, right - 1], gap[rows, right]
    part = -low / np.where(high > low, high - low, 1.0)
    before, after = counts.fmr[rows, right - 1], counts.fmr[rows, right]
    return np.where(counts.impostor_total > 0, before + part * (after - before), 1.0)


def area_under_roc(counts: Counts) -> Floats:
    """`(R,)`: chance that a genuine pair scores above an impostor pair, a tie counting half.

    (Hanley & McNeil, Radiology 1982.) A genuine pair with a face not found scores below all.
    """
    step, match = np.diff(counts.fmr, axis=1), 1.0 - counts.fnmr
    return np.asarray((step * (match[:, 1:] + match[:, :-1]) / 2).sum(axis=1))


def supported(scored: Scored, fmr: float) -> bool:
    """Whether the compared impostor pairs make MIN_FALSE_MATCHES false matches at `fmr` likely.

    With ten expected, the number seen has a relative standard error of about a third; with fewer,
    a few lucky pairs decide the threshold.
    """
    return fmr * scored.impostors_compared * (1 + 1e-9) >= MIN_FALSE_MATCHES


def fmr_bound(impostors: int) -> float:
    """Upper end of FMR at 95 % confidence when none of so many impostor pairs is accepted.

    One-sided Clopper–Pearson, 1 - 0.05^(1/n) ≈ 3/n, for independent pairs; 1 for none.
    """
    return 1.0 - 0.05 ** (1 / impostors) if impostors else 1.0


def roc(scores: pd.DataFrame) -> pd.DataFrame:
    """ROC of the scores, columns fmr, fnmr, threshold, from strict to lax, for a plot.

    At most MOST_POINTS rows, each a point of the exact curve: points inside a straight run go
    first, which changes nothing; of what is left, those evenly spread along the curve stay, with
    FMR taken linearly and by its logarithm.

    Raises:
        EvaluationError: the scores are refused by `checked`.
    """
    scored, _ = checked(scores)
    counts = accepted(scored, np.ones((1, scored.pairs), np.int32))
    keep = _corners(counts.impostor[0], counts.genuine[0])
    fmr, fnmr = counts.fmr[0, keep], counts.fnmr[0, keep]
    if len(keep) > MOST_POINTS:
        finest = 1.0 / max(scored.impostors_compared, 1)
        decades = np.log10(np.maximum(fmr, finest) / finest) / max(np.log10(1 / finest), 1.0)
        steps = np.abs(np.diff(decades)) + np.diff(fmr) - np.diff(fnmr)
        along = np.concatenate(([0.0], np.cumsum(steps)))
        chosen = np.unique(np.searchsorted(along, np.linspace(0.0, along[-1], MOST_POINTS)))
        chosen = np.unique(np.clip(np.concatenate(([0], chosen[1:-1], [len(fmr) - 1])), 0, None))
        keep, fmr, fnmr = keep[chosen], fmr[chosen], fnmr[chosen]
    return pd.DataFrame({"fmr": fmr, "fnmr": fnmr, "threshold": counts.thresholds[keep]})


def _corners(x: Ints, y: Ints) -> Ints:
    """Indices of the points at which the polyline turns, and of its ends."""
    dx, dy = np.diff(x), np.diff(y)
    turns = np.flatnonzero(dx[:-1] * dy[1:] != dx[1:] * dy[:-1]) + 1
    return np.unique(np.concatenate(([0], turns, [len(x) - 1]))).astype(np.int64)


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
