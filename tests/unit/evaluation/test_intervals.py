import numpy as np
import pytest
from scipy import stats

from facewright.evaluation.intervals import (
    clopper_pearson,
    fmr_bound,
    log_odds,
    lower_bound,
    mcnemar,
    share_of,
    upper_bound,
    wilson,
)

SEEN = [(0, 1), (1, 1), (0, 30), (3, 30), (45, 50), (50, 50), (17, 3000), (2999, 3000)]


def slow_tail(count: int, trials: int, share: float) -> float:
    """Chance of `count` or less, term by term."""
    term, total = (1 - share) ** trials, 0.0
    for k in range(count + 1):
        total += term
        term *= (trials - k) / (k + 1) * share / (1 - share)
    return total


def bisected(count: int, trials: int, error: float) -> float:
    """The share under which so few have a chance of `error`."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if slow_tail(count, trials, middle) > error else (low, middle)
    return low


@pytest.mark.parametrize(("count", "trials"), [(0, 30), (3, 30), (17, 50), (2, 500)])
@pytest.mark.parametrize("error", [0.05, 0.025, 0.01])
def test_bounds_agree_with_bisection_of_the_binomial_tail(
    count: int, trials: int, error: float
) -> None:
    upper = bisected(count, trials, error)
    assert upper_bound(count, trials, confidence=1 - error) == pytest.approx(upper, abs=1e-12)
    # The lower bound is the upper one of the trials without the property.
    lower = lower_bound(trials - count, trials, confidence=1 - error)
    assert lower == pytest.approx(1 - upper, abs=1e-12)


@pytest.mark.parametrize(("count", "trials"), SEEN)
@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99])
def test_intervals_agree_with_scipy(count: int, trials: int, confidence: float) -> None:
    test = stats.binomtest(count, trials)
    for ours, method in (
        (clopper_pearson(count, trials, confidence=confidence), "exact"),
        (wilson(count / trials, trials, confidence=confidence), "wilson"),
    ):
        theirs = test.proportion_ci(confidence, method=method)
        assert ours == pytest.approx((theirs.low, theirs.high), abs=1e-12)


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5])
def test_clopper_pearson_never_covers_less_than_it_says(share: float) -> None:
    trials = 60
    covered = [low <= share <= high for low, high in (clopper_pearson(k, 60) for k in range(61))]
    chances = stats.binom.pmf(np.arange(61), trials, share)
    assert chances[covered].sum() >= 0.95


def test_no_trial_says_nothing_and_more_than_there_were_is_a_mistake() -> None:
    assert clopper_pearson(0, 0) == (0.0, 1.0)
    with pytest.raises(ValueError, match="3 of 2 trials"):
        upper_bound(3, 2)


def test_fmr_bound_is_where_seeing_none_has_a_chance_of_one_in_twenty() -> None:
    assert (1 - fmr_bound(3000)) ** 3000 == pytest.approx(0.05)
    assert fmr_bound(1500) == pytest.approx(2e-3, rel=0.01)
    assert fmr_bound(0) == 1.0


@pytest.mark.parametrize(("lost", "won"), [(0, 0), (3, 0), (5, 5), (4, 11), (120, 80)])
def test_mcnemar_agrees_with_scipy(lost: int, won: int) -> None:
    expected = stats.binomtest(lost, lost + won).pvalue if lost + won else 1.0
    assert mcnemar(lost, won) == mcnemar(won, lost) == pytest.approx(expected)


def test_shares_come_back_from_their_log_odds() -> None:
    shares = np.array([0.0, 1e-4, 0.3, 0.5, 0.9999, 1.0])
    odds = log_odds(shares, 3000)
    assert np.isfinite(odds).all()
    assert [share_of(value, 3000) for value in odds] == pytest.approx(shares.tolist(), abs=1e-12)
    assert odds[3] == 0
    assert log_odds(1 - shares, 3000) == pytest.approx(-odds)
    assert (share_of(-99.0, 3000), share_of(99.0, 3000)) == (0.0, 1.0)


@pytest.mark.parametrize(("share", "trials"), [(0.1, 200), (0.4, 60), (0.03, 1000)])
def test_the_spread_of_log_odds_is_that_of_the_binomial(share: float, trials: int) -> None:
    seen = np.random.default_rng(0).binomial(trials, share, 100_000) / trials
    expected = np.sqrt(1 / (trials * share) + 1 / (trials * (1 - share)))
    assert log_odds(seen, trials).std() == pytest.approx(expected, rel=0.05)
