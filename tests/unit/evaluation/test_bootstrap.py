from itertools import pairwise

import numpy as np
import pytest

from facewright.evaluation import bootstrap
from facewright.evaluation.bootstrap import (
    Sides,
    deviations,
    interval,
    of_impostors,
    of_pairs,
    of_people,
)


def sides(people: int, pairs: int, *, seed: int = 0) -> Sides:
    """As many genuine pairs as impostor pairs."""
    rng = np.random.default_rng(seed)
    one, i = rng.integers(0, people, (2, pairs))
    j = (i + rng.integers(1, people, pairs)) % people
    first, second = np.concatenate((one, i)), np.concatenate((one, j))
    return Sides(first, second, first == second, people)


def share(values: np.ndarray, chosen: np.ndarray) -> bootstrap.Statistics:
    """Weighted mean of the values of the chosen pairs."""

    def statistic(weights: np.ndarray) -> dict[str, np.ndarray]:
        return {"mean": weights[:, chosen] @ values[chosen] / weights[:, chosen].sum(axis=1)}

    return statistic


def test_weights_come_from_how_often_a_person_was_drawn() -> None:
    first, second = np.array([0, 1, 0, 0, 1]), np.array([0, 1, 1, 2, 2])
    pairs = Sides(first, second, first == second, 3)
    weights = np.concatenate(list(of_people(pairs, count=4000, seed=0)))
    assert weights.shape == (4000, 5)
    m0, m1 = weights[:, 0], weights[:, 1]
    m2 = 3 - m0 - m1
    np.testing.assert_array_equal(weights[:, 2:], np.stack([m0 * m1, m0 * m2, m1 * m2], axis=1))
    assert (weights[:, :2].any(axis=1) & weights[:, 2:].any(axis=1)).all()


def test_pairs_alone_have_weights_of_variance_one() -> None:
    pairs = sides(40, 300)
    alone = np.concatenate(list(of_impostors(pairs, count=2000, seed=0)))
    assert (alone[:, pairs.genuine] == 1).all()
    every = np.concatenate(list(of_pairs(pairs, count=2000, seed=0)))
    for weights in (alone[:, ~pairs.genuine], every):
        assert weights.mean() == pytest.approx(1.0, abs=0.01)
        assert weights.var() == pytest.approx(1.0, abs=0.02)
        together = np.corrcoef(weights[:, :20].T) - np.eye(20)
        assert abs(together).max() < 0.1


@pytest.mark.parametrize("draw", [of_people, of_impostors, of_pairs])
def test_resamples_do_not_depend_on_the_chunk(
    draw: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = sides(5, 8)
    whole = np.concatenate(list(draw(pairs, count=50, seed=4)))  # type: ignore[operator]
    monkeypatch.setattr(bootstrap, "CELLS", 48)
    np.testing.assert_array_equal(
        whole,
        np.concatenate(list(draw(pairs, count=50, seed=4))),  # type: ignore[operator]
    )


def test_spread_of_impostor_pairs_is_that_of_the_formula() -> None:
    """x = a_i + a_j + e: the variance of the mean over fixed pairs is known in closed form."""
    people, pairs = 400, 3000
    these = sides(people, pairs)
    impostor = ~these.genuine
    meetings = np.bincount(np.concatenate((these.first[impostor], these.second[impostor])))
    for person, pair in ((0.0, 1.0), (0.5, 1.0), (1.0, 0.0)):
        truth = person**2 * (meetings.astype(float) ** 2).sum() / pairs**2 + pair**2 / pairs
        found = []
        for seed in range(6):
            rng = np.random.default_rng(seed)
            a = rng.normal(0, person, people)
            values = a[these.first] + a[these.second] + rng.normal(0, pair, 2 * pairs)
            spread = deviations(share(values, impostor), these, count=400, seed=seed)
            found.append(spread["mean"].var())
        assert np.mean(found) == pytest.approx(truth, rel=0.15)


def test_spread_of_genuine_pairs_is_that_of_their_people() -> None:
    these = sides(300, 1500)
    rng = np.random.default_rng(0)
    a = rng.normal(0, 1, 300)
    values = a[these.first] + rng.normal(0, 0.5, 3000)
    met = np.bincount(these.first[these.genuine], minlength=300).astype(float)
    truth = (met**2).sum() / 1500**2 + 0.25 / 1500
    spread = deviations(share(values, these.genuine), these, count=1000, seed=0)
    assert spread["mean"].var() == pytest.approx(truth, rel=0.25)


@pytest.mark.parametrize("seed", range(5))
def test_the_spread_is_never_below_that_of_independent_pairs(seed: int) -> None:
    # One person scores high in half of her pairs and low in the others: her pairs cancel out.
    these = sides(6, 60, seed=seed)
    values = np.where(np.arange(120) % 2, 1.0, -1.0)
    statistic = share(values, ~these.genuine)
    spread = deviations(statistic, these, count=800, seed=seed)["mean"].std()
    pairs = np.concatenate(
        [statistic(w)["mean"] for w in of_pairs(these, count=800, seed=seed + 100)]
    )
    assert spread > 0.9 * pairs.std()  # two estimates of 800 draws each


def test_the_spread_shrinks_as_people_become_more() -> None:
    widths = []
    for people in (30, 120, 480, 1920):
        these = sides(people, 5 * people)
        rng = np.random.default_rng(1)
        a = rng.normal(0, 1, people)
        values = a[these.first] + a[these.second] + rng.normal(0, 1, 10 * people)
        spread = deviations(share(values, ~these.genuine), these, count=300, seed=0)["mean"]
        low, high = interval(0.0, spread)
        widths.append(high - low)
    assert all(1.5 < a / b < 2.7 for a, b in pairwise(widths))  # √4


def test_no_spread_stays_none() -> None:
    these = sides(10, 20)
    spread = deviations(share(np.ones(40), these.genuine), these, count=50, seed=0)
    assert not spread["mean"].any()


def test_a_wider_interval_is_surer() -> None:
    drawn = np.random.default_rng(0).normal(0, 1, 100_000)
    assert interval(5.0, drawn) == pytest.approx((3.04, 6.96), abs=0.03)
    assert interval(5.0, drawn, confidence=0.9) == pytest.approx((3.355, 6.645), abs=0.03)
