"""From similarity to the probability that two faces are of one person.

Such a probability holds for pairs of which as many are genuine as among those it was fitted on:
that share is the *prior*, and it is stated. In a verification set it is often one half; at a door
it is another, and `probability` can go over to it.

- `logistic`: one over one plus exp(-(slope × similarity + intercept)), by maximum likelihood on
  the smoothed targets of Platt (Advances in Large Margin Classifiers, 1999), with Newton's method
  as in Lin, Lin & Weng (Machine Learning 2007). With them separable scores have a solution too.
- `isotonic`: the rising step function that fits best, by pooling adjacent violators (Zadrozny &
  Elkan, KDD 2002), on the same targets, so that it never says 0 or 1.

Both never fall. Pairs in which a face was not found have no similarity, and do not count.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.optimize import isotonic_regression  # type: ignore[import-untyped]
from scipy.special import expit, logit  # type: ignore[import-untyped]

from facewright.errors import EvaluationError
from facewright.evaluation.intervals import wilson
from facewright.evaluation.pairs import Bools, Floats, Scored, checked

KINDS = ("logistic", "isotonic")
STEPS = 100  # of Newton; five to ten are usual
GRADIENT = 1e-10  # per pair, at which Newton is done
ROUNDING = 1e-14  # of a loss


@dataclass(frozen=True)
class Calibration:
    """How similarity becomes probability; plain values that JSON can hold."""

    kind: str
    prior: float  # share of genuine pairs among those that it was fitted on
    pairs: int
    slope: float | None = None  # logistic
    intercept: float | None = None
    similarities: tuple[float, ...] = ()  # isotonic: knots, rising, linear between them
    probabilities: tuple[float, ...] = ()

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "Calibration":
        """From the values of a JSON object.

        Raises:
            ValueError, TypeError: they are no calibration.
        """
        lists = {key: tuple(map(float, values[key])) for key in ("similarities", "probabilities")}
        calibration = cls(**{**values, **lists})
        knots = np.array([calibration.similarities, calibration.probabilities])
        numbers = [calibration.prior, calibration.slope or 0.0, calibration.intercept or 0.0]
        rising = bool((np.diff(knots) >= 0).all())
        known = calibration.slope is not None and calibration.intercept is not None
        if calibration.kind == "isotonic":
            known = knots.size > 0
        if calibration.kind not in KINDS or not (known and rising and np.isfinite(numbers).all()):
            raise ValueError("no calibration")
        return calibration


def calibrate(scores: pd.DataFrame, *, kind: str = "logistic") -> Calibration:
    """Fit a calibration to all compared pairs.

    Args:
        scores: from `score_pairs`; their order does not matter.
        kind: `logistic` or `isotonic`.

    Raises:
        EvaluationError: `checked` refuses the scores, or of one kind of pair none was compared.
    """
    scored, _ = checked(scores)
    return _fit(scored, np.ones(scored.compared, bool), kind=kind)


def probability(
    calibration: Calibration, similarity: npt.ArrayLike, *, prior: float | None = None
) -> Floats:
    """Probability in [0, 1] that a pair is genuine, in the shape of `similarity`; NaN for NaN.

    Args:
        prior: share of genuine pairs where it is used, in (0, 1), if that is another one than the
            calibration's: the odds are multiplied by the ratio of the priors' odds (Saerens et
            al., Neural Computation 2002).
    """
    values = np.asarray(similarity, np.float64)
    if calibration.kind == "logistic":
        found: Floats = expit((calibration.slope or 0.0) * values + (calibration.intercept or 0.0))
    else:
        found = np.interp(values, calibration.similarities, calibration.probabilities)
    if prior is None:
        return found
    if not 0 < prior < 1:
        raise ValueError(f"prior {prior} must be in (0, 1)")
    shifted: Floats = expit(logit(found) + logit(prior) - logit(calibration.prior))
    return shifted


def reliability(
    scores: pd.DataFrame, *, kind: str = "logistic", bins: int = 10
) -> tuple[pd.DataFrame, float]:
    """Are the probabilities true? Each fold's are from a calibration fitted on the others.

    Returns:
        One row per bin of equal width of probability that holds a pair: `low`, `high` (of the
        bin), `pairs`, `predicted` (mean probability), `genuine` (share), `genuine_low` and
        `genuine_high` (Wilson's 95 % interval); and the expected calibration error, the mean over
        pairs of |predicted - genuine| of their bins (Naeini et al., AAAI 2015).

    Raises:
        EvaluationError: as `calibrate`, there is one fold only, or the other folds of one have
            pairs of one kind only.
    """
    scored, _ = checked(scores)
    folds = scored.fold[: scored.compared]
    if len(scored.fold_names) < 2:
        raise EvaluationError(
            "all pairs are in one fold: a calibration is judged on folds that it did not see"
        )
    predicted = np.empty(scored.compared)
    for fold in np.unique(folds):
        inside = folds == fold
        calibration = _fit(scored, ~inside, kind=kind)
        predicted[inside] = probability(calibration, scored.similarity[: scored.compared][inside])
    edges = np.linspace(0, 1, bins + 1)
    code = np.clip(np.searchsorted(edges, predicted, side="right") - 1, 0, bins - 1)
    pairs = np.bincount(code, minlength=bins)
    genuine = np.bincount(code[scored.genuine[: scored.compared]], minlength=bins)
    kept = pairs > 0
    mean = np.bincount(code, weights=predicted, minlength=bins)[kept] / pairs[kept]
    share = genuine[kept] / pairs[kept]
    ends = [wilson(float(s), int(n)) for s, n in zip(share, pairs[kept], strict=True)]
    table = pd.DataFrame(
        {
            "low": edges[:-1][kept],
            "high": edges[1:][kept],
            "pairs": pairs[kept],
            "predicted": mean,
            "genuine": share,
            "genuine_low": [low for low, _ in ends],
            "genuine_high": [high for _, high in ends],
        }
    )
    return table, float(np.average(np.abs(mean - share), weights=pairs[kept]))


def _fit(scored: Scored, chosen: Bools, *, kind: str) -> Calibration:
    """From the compared pairs that `chosen` `(compared,)` names."""
    if kind not in KINDS:
        raise ValueError(f"kind {kind!r} must be one of {', '.join(KINDS)}")
    # Equal similarities as one, so that nothing depends on their order; they come sorted.
    rising = scored.similarity[: scored.compared][chosen][::-1]
    label = scored.genuine[: scored.compared][chosen][::-1]
    starts = np.flatnonzero(np.diff(rising, prepend=-np.inf))
    similarity = rising[starts]
    counts = np.diff(starts, append=len(rising)).astype(np.float64)
    positives = np.diff(np.append(0, np.cumsum(label))[np.append(starts, len(rising))])
    pairs, genuine = len(rising), int(label.sum())
    if genuine in (0, pairs):
        lacking = "genuine" if not genuine else "impostor"
        raise EvaluationError(
            f"not one of the {pairs} compared pairs to calibrate on is {lacking}: a probability "
            "needs both kinds (in all folds but one, where folds are left out)"
        )
    upper, lower = (genuine + 1) / (genuine + 2), 1 / (pairs - genuine + 2)  # Platt's targets
    targets = (positives * upper + (counts - positives) * lower) / counts
    prior = genuine / pairs
    if kind == "logistic":
        slope, intercept = fit_logistic(similarity, targets, counts)
        return Calibration(kind, prior, pairs, slope=slope, intercept=intercept)
    fitted = isotonic_regression(targets, weights=counts)
    blocks = np.asarray(fitted.blocks)
    knots = np.unique(np.concatenate((blocks[:-1], blocks[1:] - 1)))  # both ends of each step
    return Calibration(
        kind,
        prior,
        pairs,
        similarities=tuple(similarity[knots].tolist()),
        probabilities=tuple(fitted.x[knots].tolist()),
    )


def fit_logistic(x: Floats, targets: Floats, counts: Floats) -> tuple[float, float]:
    """Slope, at least 0, and intercept that make the targets most likely.

    Args:
        x: `(N,)`, not all alike or the slope is 0.
        targets: `(N,)` in [0, 1], the share that is genuine.
        counts: `(N,)`, how many pairs each stands for.
    """
    total = counts.sum()
    weights = counts / total
    mean = float(weights @ x)
    spread = float(np.sqrt(weights @ (x - mean) ** 2))
    share = float(weights @ targets)
    flat = (0.0, float(logit(share)))
    if spread < 1e-12:
        return flat
    design = np.stack([(x - mean) / spread, np.ones_like(x)])
    values = np.array([0.0, flat[1]])

    def loss(at: Floats) -> float:
        margin = at @ design
        return float(weights @ (np.logaddexp(0, margin) - targets * margin))

    for _ in range(STEPS):
        predicted = expit(values @ design)
        gradient = design @ (weights * (predicted - targets))
        if np.abs(gradient).max() < GRADIENT:
            break
        curvature = (design * (weights * predicted * (1 - predicted))) @ design.T
        step = np.linalg.solve(curvature + 1e-14 * np.eye(2), gradient)
        size, gain = 1.0, 1e-4 * float(gradient @ step)
        most = loss(values) + ROUNDING
        while size > ROUNDING and loss(values - size * step) > most - size * gain:
            size /= 2
        values = values - size * step
    slope = float(values[0] / spread)
    # The likelihood is concave: where its top falls, the best that does not fall is flat.
    return (slope, float(values[1] - slope * mean)) if slope > 0 else flat
