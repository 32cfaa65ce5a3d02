"""Is one recognizer better than another, as far as the same pairs can tell?"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from facewright.errors import EvaluationError
from facewright.evaluation.bootstrap import Sides, couples, deviations, interval, normal_interval
from facewright.evaluation.curves import Weights, accepted, fnmr_at_fmr, supported
from facewright.evaluation.folds import Folds, check_folds, correct_decisions, fold_accuracies
from facewright.evaluation.intervals import CONFIDENCE, FEW, lower_bound, mcnemar, upper_bound
from facewright.evaluation.pairs import (
    COLUMNS,
    Bools,
    Floats,
    Scored,
    checked,
    identity_codes,
    image_codes,
    refuse_alike,
)

BETTER, NOT_WORSE, WORSE, UNCLEAR = "better", "not_worse", "worse", "unclear"


@dataclass(frozen=True)
class Difference:
    """One figure of both recognizers. Each `gain` is a share, positive: the challenger is better.

    `verdict` is `better` if `lower` > 0 and McNemar's exact test agrees, one-sided at the same
    level; else `not_worse` if there is a margin and `lower` > -margin; `worse` if `upper` <
    -margin; else `unclear`: these pairs do not tell.
    """

    challenger: float
    champion: float
    gain: float
    low: float  # ends of the 95 % interval of the gain
    high: float
    lower: float  # one-sided bounds of the gain, each wrong with a chance of `level`
    upper: float
    trials: int  # pairs that the figure is a share of
    won: int  # of them, those that the challenger alone decides rightly
    lost: int  # those that the champion alone decides rightly
    mcnemar_p: float  # two-sided exact p-value of `won` against `lost`, pairs as if independent
    verdict: str


@dataclass(frozen=True)
class Comparison:
    """Plain values; `dataclasses.asdict` makes it JSON."""

    level: float
    margin: float
    fmr_target: float
    identities: int
    accuracy: Difference | None  # None where all pairs are in one fold
    fnmr: Difference | None  # None where the impostor pairs do not support the FMR


def compare(
    challenger: pd.DataFrame,
    champion: pd.DataFrame,
    *,
    identities: Mapping[str, str],
    fmr_target: float,
    level: float = 0.05,
    margin: float = 0.0,
    bootstrap: int,
    seed: int,
) -> Comparison:
    """Compare two recognizers on the same pairs, by accuracy and by FNMR at an FMR.

    Both are judged on the very same resamples of identities (`bootstrap`), each at thresholds of
    its own, learned anew in every resample: pairs that are hard for both cancel out, and a
    threshold that was lucky is not taken for skill. What the two decide differently is counted
    at the fold's thresholds for the accuracy, and over the genuine pairs at the target's threshold
    for the FNMR. Bounds reach to the farther of the resamples' quantiles and the normal interval of
    their spread. Where fewer than ten pairs are decided differently, the bounds reach at least as
    far as exact ones (Clopper–Pearson of `won` and of `lost`, each at half the error), because
    resamples of hardly any difference show hardly any spread. The spread is stretched for the few
    things it rests on as `level` asks, and at least as the 95 % interval does.

    Args:
        challenger, champion: from `score_pairs`, of the same pairs in any order; which image of a
            pair comes first does not matter. Images are matched by what `a` and `b` hold: for
            scores of two evaluations digests of the photos, as in `pairs_digest`.
        fmr_target: share in (0, 1).
        level: chance of a wrong one-sided bound, in (0, 0.5).
        margin: loss that does not matter, a share of pairs, 0 or more.
        bootstrap: number of resamples, 1 or more.

    Raises:
        EvaluationError: the pairs are not the same, or nothing can be said from the scores: see
            `verification_metrics`.
    """
    frames = _aligned(challenger, champion)
    first, second, people = identity_codes(frames[0], identities=identities)
    sides = Sides(first, second, first == second, people)
    (one, one_rows), (other, other_rows) = (checked(frame) for frame in frames)
    for scored in (one, other):
        refuse_alike(scored)
    folds = tuple(map(Folds.of, (one, other))) if check_folds(one) else (None, None)
    at_fmr = all(supported(scored, fmr_target) for scored in (one, other))

    def figures(scored: Scored, parts: Folds | None, weights: Weights) -> dict[str, Floats]:
        found = {}
        if parts:
            found["accuracy"] = np.nanmean(fold_accuracies(parts, weights)[0], axis=1)
        if at_fmr:
            found["fnmr"] = fnmr_at_fmr(accepted(scored, weights), fmr_target)[0]
        return found

    def gains(weights: Weights) -> dict[str, Floats]:
        new = figures(one, folds[0], weights[:, one_rows])
        old = figures(other, folds[1], weights[:, other_rows])
        return {key: (new[key] - old[key]) * _sign(key) for key in new}

    ones = np.ones((1, len(sides.first)), np.int32)
    new, old = figures(one, folds[0], ones), figures(other, folds[1], ones)
    found, units = {}, {}
    decided: dict[str, Bools] = {}
    for key in new:
        decided[key] = np.zeros((2, len(sides.first)), bool)
        for side, (scored, rows) in enumerate(((one, one_rows), (other, other_rows))):
            decided[key][side, rows] = _decisions(key, scored, fmr_target)
    if "fnmr" in new:  # an impostor pair that is decided wrongly is falsely matched
        units["fnmr"] = min(couples(sides, ~right) for right in decided["fnmr"])
    # One spread for all ends, stretched for the farthest: the 95 % interval's, or the bound's.
    tail = min(level, (1 - CONFIDENCE) / 2)
    spread = {}
    if new:
        spread = deviations(gains, sides, count=bootstrap, seed=seed, units=units, tail=tail)
    for key, (mine, theirs) in decided.items():
        judged = sides.genuine if key == "fnmr" else np.ones_like(mine)
        found[key] = _difference(
            float(new[key][0]),
            float(old[key][0]),
            spread[key],
            sign=_sign(key),
            trials=int(judged.sum()),
            won=int((judged & mine & ~theirs).sum()),
            lost=int((judged & ~mine & theirs).sum()),
            level=level,
            margin=margin,
        )
    return Comparison(
        level=level,
        margin=margin,
        fmr_target=fmr_target,
        identities=people,
        accuracy=found.get("accuracy"),
        fnmr=found.get("fnmr"),
    )


def same_similarities(one: pd.DataFrame, other: pd.DataFrame) -> bool:
    """Whether two recognizers say exactly the same of each pair; see `compare` for the frames.

    Raises:
        EvaluationError: the pairs are not the same.
    """
    first, second = (frame["similarity"].to_numpy(np.float64) for frame in _aligned(one, other))
    return np.array_equal(first, second, equal_nan=True)


def _sign(figure: str) -> int:
    return 1 if figure == "accuracy" else -1


def _decisions(figure: str, scored: Scored, fmr_target: float) -> Bools:
    """`(P,)`: whether each pair is decided rightly."""
    ones = np.ones((1, scored.pairs), np.int32)
    if figure == "accuracy":
        return correct_decisions(scored, fold_accuracies(Folds.of(scored), ones)[1][0])
    threshold = fnmr_at_fmr(accepted(scored, ones), fmr_target)[1][0]
    return np.asarray((scored.similarity >= threshold) == scored.genuine)


def _difference(
    new: float,
    old: float,
    spread: Floats,
    *,
    sign: int,
    trials: int,
    won: int,
    lost: int,
    level: float,
    margin: float,
) -> Difference:
    gain = (new - old) * sign
    low, high = _reach(gain, spread, confidence=0.95)
    lower, upper = _reach(gain, spread, confidence=1 - 2 * level)
    if won + lost < FEW:
        few_low, few_high = _exact(won, lost, trials, error=0.025)
        few_lower, few_upper = _exact(won, lost, trials, error=level)
        low, high = min(low, few_low), max(high, few_high)
        lower, upper = min(lower, few_lower), max(upper, few_upper)
    # One-sided, as the bound: by chance as many or more would be won of those decided differently.
    luck = lower_bound(won, won + lost, confidence=1 - level) <= 0.5
    if lower > 0 and not luck:
        verdict = BETTER
    elif margin > 0 and lower > -margin:
        verdict = NOT_WORSE
    else:
        verdict = WORSE if upper < -margin else UNCLEAR
    return Difference(
        challenger=new,
        champion=old,
        gain=gain,
        low=low,
        high=high,
        lower=lower,
        upper=upper,
        trials=trials,
        won=won,
        lost=lost,
        mcnemar_p=mcnemar(lost, won),
        verdict=verdict,
    )


def _reach(gain: float, spread: Floats, *, confidence: float) -> tuple[float, float]:
    """The farther ends of two intervals: either alone can be too short where few pairs decide."""
    lows, highs = zip(
        interval(gain, spread, confidence=confidence),
        normal_interval(gain, spread, confidence=confidence),
        strict=True,
    )
    return min(lows), max(highs)


def _exact(won: int, lost: int, trials: int, *, error: float) -> tuple[float, float]:
    """Bounds of the share won less the share lost, each wrong with a chance of `error` or less."""
    sure = 1 - error / 2
    return (
        lower_bound(won, trials, confidence=sure) - upper_bound(lost, trials, confidence=sure),
        upper_bound(won, trials, confidence=sure) - lower_bound(lost, trials, confidence=sure),
    )


def _aligned(challenger: pd.DataFrame, champion: pd.DataFrame) -> list[pd.DataFrame]:
    """Both frames with their rows in one order, whatever order they and their two sides are in."""
    frames = [challenger, champion]
    for frame in frames:
        missing = [column for column in COLUMNS if column not in frame.columns]
        if missing:
            raise EvaluationError(
                f"the scores have no column {missing[0]!r}: score the pairs again"
            )
    parts = [image_codes(frame) for frame in frames]
    # Codes of the sorted ids of both, so that the order of the rows is of no matter.
    places, both = pd.factorize(np.concatenate([ids for _, ids in parts]), sort=True)
    folds, labels = (
        pd.factorize(np.concatenate([frame[name].to_numpy() for frame in frames]), sort=True)
        for name in ("fold", "label")
    )
    keys, taken = [], 0
    for (image, ids), frame, start in zip(parts, frames, (0, len(challenger)), strict=True):
        low, high = np.sort(places[taken : taken + len(ids)][image], axis=0)
        rows = slice(start, start + len(frame))
        key = (low * len(both) + high) * len(folds[1]) + folds[0][rows]
        keys.append(key * len(labels[1]) + labels[0][rows])
        taken += len(ids)
    orders = [np.argsort(key, kind="stable") for key in keys]
    one, other = (key[order] for key, order in zip(keys, orders, strict=True))
    if len(one) != len(other) or (one != other).any():
        alone = [len(np.setdiff1d(a, b)) for a, b in ((one, other), (other, one))]
        raise EvaluationError(
            f"challenger and champion were scored on different pairs ({alone[0]} and {alone[1]} "
            "are in one alone): score both on the same pairs"
        )
    return [
        frame if np.array_equal(order, np.arange(len(order))) else frame.iloc[order]
        for frame, order in zip(frames, orders, strict=True)
    ]
