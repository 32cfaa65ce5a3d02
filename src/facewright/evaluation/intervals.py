"""Intervals of a share that was seen in independent trials."""

import math

import numpy as np
import numpy.typing as npt
from scipy import special

CONFIDENCE = 0.95
FEW = 10  # errors, seen or to be expected, below which next to nothing is known of their rate


def normal_quantile(confidence: float = CONFIDENCE) -> float:
    """Deviations to either side of the mean within which a normal value lies: 1.96 for 95 %."""
    return float(special.ndtri((1 + confidence) / 2))


def wilson(share: float, trials: int, *, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Wilson's score interval (JASA 1927): all shares at which the one seen is not surprising.

    Its coverage is the confidence on average over shares, a little less for some.

    Args:
        share: in [0, 1], as seen; it need not be a whole number of trials (an EER is not).
        trials: 1 or more.
    """
    z = normal_quantile(confidence)
    spread = z * math.sqrt(share * (1 - share) / trials + z**2 / (4 * trials**2))
    centre = share + z**2 / (2 * trials)
    scale = 1 + z**2 / trials
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def clopper_pearson(
    count: int, trials: int, *, confidence: float = CONFIDENCE
) -> tuple[float, float]:
    """Clopper and Pearson's exact interval (Biometrika 1934): never covers less than it says.

    Each end alone is a bound at half the error, `1 - (1 - confidence) / 2`.

    Args:
        count: trials with the property, 0 to `trials`.
        trials: 0 or more; no trial says nothing, (0, 1).
    """
    half = (1 + confidence) / 2
    return (
        lower_bound(count, trials, confidence=half),
        upper_bound(count, trials, confidence=half),
    )


def lower_bound(count: int, trials: int, *, confidence: float = CONFIDENCE) -> float:
    """One-sided Clopper–Pearson: the share under which `count` or more has a chance of 5 %."""
    _check(count, trials)
    return float(special.betaincinv(count, trials - count + 1, 1 - confidence)) if count else 0.0


def upper_bound(count: int, trials: int, *, confidence: float = CONFIDENCE) -> float:
    """One-sided Clopper–Pearson: the share under which `count` or less has a chance of 5 %."""
    _check(count, trials)
    if count == trials:
        return 1.0
    return float(special.betaincinv(count + 1, trials - count, confidence))


def fmr_bound(impostors: int, *, confidence: float = CONFIDENCE) -> float:
    """The FMR that is excluded when none of so many impostor pairs is accepted.

    The upper bound for 0 of n, 1 - 0.05^(1/n) ≈ 3/n, for independent pairs; 1 for no pair.
    """
    return upper_bound(0, impostors, confidence=confidence)


def mcnemar(lost: int, won: int) -> float:
    """Two-sided exact p-value of McNemar's test (Psychometrika 1947).

    Of the pairs that one recognizer decides rightly and the other wrongly, each is as likely
    `lost` as `won` if both are equally good: a binomial at one half. 1 without such a pair.
    """
    return min(1.0, 2 * float(special.bdtr(min(lost, won), lost + won, 0.5)))


def log_odds(share: npt.NDArray[np.float64], trials: int) -> npt.NDArray[np.float64]:
    """ln((n·x + ½) / (n·(1 - x) + ½)): on this scale the spread of a share is even on both sides.

    The halves keep 0 and 1 finite and remove most of the bias (Haldane, Ann. Hum. Genet. 1956).
    """
    return np.asarray(np.log((trials * share + 0.5) / (trials * (1 - share) + 0.5)))


def share_of(odds: float, trials: int) -> float:
    """The share, within [0, 1], that has these log-odds."""
    share = float(special.expit(odds)) * (1 + 1 / trials) - 0.5 / trials
    return min(max(share, 0.0), 1.0)


def _check(count: int, trials: int) -> None:
    if not 0 <= count <= trials:
        raise ValueError(f"{count} of {trials} trials")
