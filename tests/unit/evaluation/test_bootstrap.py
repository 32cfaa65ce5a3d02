import numpy as np
import pytest
from scipy import stats

from facewright.evaluation import bootstrap
from facewright.evaluation.bootstrap import (
    Sides,
    couples,
    deviations,
    interval,
    normal_interval,
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


@pytest.mark.parametrize(("person", "pair"), [(0.0, 1.0), (0.5, 1.0), (1.0, 0.0)])
def test_spread_of_impostor_pairs_is_that_of_the_formula(person: float, pair: float) -> None:
    """A mean over pairs, its variance by influences: each pair's own, and of two that share."""
    people, pairs = 200, 800
    these = sides(people, pairs)
    impostor = ~these.genuine
    first, second = these.first[impostor], these.second[impostor]
    ratios = []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        a = rng.normal(0, person, people)
        values = a[these.first] + a[these.second] + rng.normal(0, pair, 2 * pairs)
        influence = (values[impostor] - values[impostor].mean()) / pairs
        by_person = np.bincount(first, influence, people) + np.bincount(second, influence, people)
        # Squares of the people's sums hold each pair's own square twice.
        expected = max((by_person**2).sum() - (influence**2).sum(), (influence**2).sum())
        spread = deviations(share(values, impostor), these, count=300, seed=seed)["mean"]
        ratios.append(spread.var() / expected)
    assert np.mean(ratios) == pytest.approx(1.0, abs=0.2)
    # Without the correction, pairs that err alone would seem to vary three times as much.
    if person == 0:
        draws = share(values, impostor)
        drawn = [draws(weights)["mean"] for weights in of_people(these, count=600, seed=0)]
        assert np.concatenate(drawn).var() > 2 * expected


def test_spread_of_genuine_pairs_is_that_of_their_people() -> None:
    these = sides(200, 800)
    rng = np.random.default_rng(0)
    a = rng.normal(0, 1, 200)
    values = a[these.first] + rng.normal(0, 0.5, 1600)
    met = np.bincount(these.first[these.genuine], minlength=200).astype(float)
    truth = (met**2).sum() / 800**2 + 0.25 / 800
    spread = deviations(share(values, these.genuine), these, count=600, seed=0)
    assert spread["mean"].var() == pytest.approx(truth, rel=0.25)


def paired(people: int, each: int) -> Sides:
    """As many genuine pairs of every person, and as many impostor pairs of her and the next."""
    one = np.repeat(np.arange(people), each)
    first, second = np.tile(one, 2), np.concatenate((one, (one + 1) % people))
    return Sides(first, second, first == second, people)


@pytest.mark.parametrize("genuine", [True, False])
@pytest.mark.parametrize("off", [0, 1])
def test_the_spread_is_never_below_that_of_independent_pairs(genuine: bool, off: int) -> None:
    """Half of everybody's pairs are right and half wrong: who is drawn makes no difference."""
    people, each = 30, 10
    these = paired(people, each)
    chosen = these.genuine == genuine
    values = np.tile([1.0, -1.0], people * each)
    values[np.flatnonzero(chosen)[:off]] *= -1  # but for one person, nearly
    statistic = share(values, chosen)
    drawn = np.concatenate([statistic(w)["mean"] for w in of_people(these, count=600, seed=0)])
    truth = values[chosen].std() / np.sqrt(chosen.sum())  # of a mean of independent pairs
    assert drawn.std() < 0.2 * truth
    spread = deviations(statistic, these, count=600, seed=0)["mean"]
    assert spread.std() > 0.93 * truth  # an estimate of 600 draws
    assert spread.std() < 1.15 * truth


def test_the_spread_shrinks_as_people_become_more() -> None:
    widths = []
    for people in (30, 120, 480):
        these = sides(people, 4 * people)
        rng = np.random.default_rng(1)
        a = rng.normal(0, 1, people)
        values = a[these.first] + a[these.second] + rng.normal(0, 1, 8 * people)
        spread = deviations(share(values, ~these.genuine), these, count=200, seed=0)["mean"]
        low, high = interval(0.0, spread)
        widths.append(high - low)
    assert widths[0] > widths[1] > widths[2]
    assert widths[0] / widths[2] == pytest.approx(4, rel=0.35)  # √16


def test_no_spread_stays_none() -> None:
    these = sides(10, 20)
    spread = deviations(share(np.ones(40), these.genuine), these, count=50, seed=0)
    assert not spread["mean"].any()


def test_a_wider_interval_is_surer() -> None:
    drawn = np.random.default_rng(0).normal(0, 1, 100_000)
    for ends in (interval, normal_interval):
        assert ends(5.0, drawn) == pytest.approx((3.04, 6.96), abs=0.03)
        assert ends(5.0, drawn, confidence=0.9) == pytest.approx((3.355, 6.645), abs=0.03)
    low, high = interval(0.0, drawn**3)
    assert -low == pytest.approx(high, rel=0.1)
    assert interval(0.0, np.exp(drawn))[0] > 0 > normal_interval(0.0, np.exp(drawn))[0]


def test_couples_are_counted_once_in_either_order_and_only_of_impostors() -> None:
    first, second = np.array([0, 1, 2, 0, 3, 3]), np.array([1, 0, 0, 1, 3, 1])
    pairs = Sides(first, second, first == second, 4)
    assert couples(pairs, np.ones(6, bool)) == 3  # {0, 1}, {0, 2}, {1, 3}
    assert couples(pairs, np.arange(6) == 4) == 0
    assert couples(pairs, np.isin(np.arange(6), (0, 1, 3))) == 1


@pytest.mark.parametrize("units", [2, 5, 30])
def test_what_rests_on_little_is_stretched_as_students_t(units: int) -> None:
    these = sides(100, 300)
    values = np.random.default_rng(0).normal(0, 1, 600)
    statistic = share(values, ~these.genuine)
    plain = deviations(statistic, these, count=50, seed=0, units={"mean": 100})["mean"]
    few = deviations(statistic, these, count=50, seed=0, units={"mean": units})["mean"]
    expected, base = (
        stats.t.ppf(0.975, n - 1) / stats.norm.ppf(0.975) * np.sqrt(n / (n - 1))
        for n in (units, 100)
    )
    np.testing.assert_allclose(few / plain, expected / base)


@pytest.mark.parametrize("tail", [0.05, 0.025, 0.005, 0.0005])
def test_the_stretch_is_that_of_the_tail_that_is_read(tail: float) -> None:
    """Five units at 0.5 %: Student's is 1.79 times the normal quantile, and 1.42 times at 2.5 %."""
    these = sides(100, 300)
    values = np.random.default_rng(0).normal(0, 1, 600)
    usual, asked = (
        deviations(share(values, these.genuine), these, count=50, seed=0, units=few, **more)["mean"]
        for few in ({"mean": 5},)
        for more in ({}, {"tail": tail})
    )

    def ratio(tail: float) -> float:
        return float(stats.t.ppf(1 - tail, 4) / stats.norm.ppf(1 - tail))

    np.testing.assert_allclose(asked / usual, ratio(tail) / ratio(0.025))
    assert ratio(0.005) == pytest.approx(1.787, abs=1e-3)
