"""The spread of a figure over people who could have been asked instead of these.

Pairs that share a person err together, so it is people who are drawn, with replacement: a genuine
pair counts as often as its person was drawn, an impostor pair as often as the product of its two
(Bolle et al., Comput. Vis. Image Underst. 2004, on why pairs of one person must stay together;
Snijders & Borgatti, Connections 1999, for the product).

The product is right for what two impostor pairs have in common by a shared person, and three times
too much for what each pair of people contributes alone: the variance of m·m' is 3, not 1 (Owen,
Ann. Appl. Stat. 2007). What they contribute alone is measured by drawing pairs of people, as if
nobody were shared, and taken off twice:

    V = V_people - 2 · V_alone

V is never less than what wholly independent pairs would give: two noisy estimates could take off
too much, and people whose pairs err in turn, so that each of them is right as often as the others,
would seem to leave nothing to chance. The deviations of the people's resamples, whose shape holds
the skewness, are shrunk or stretched to V.

Resamples of few things show too little spread. Deviations are therefore stretched as Student's t
stretches the normal interval (Hesterberg, Am. Stat. 2015) by the number of what the figure rests
on: people, or for a threshold at an FMR the different couples of people that it falsely matches,
which can be a handful where few people meet again and again. For the same reason impostor pairs
of the same two people are drawn each for itself, which takes off less than drawing couples would.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from scipy import special

from facewright.evaluation.curves import Weights
from facewright.evaluation.intervals import CONFIDENCE, normal_quantile
from facewright.evaluation.pairs import Bools, Floats, Ints

MOST_LOOKED_AT = 1000  # pairs of a kind, one of which nearly always is in a resample
TINY = 1e-6  # of a variance: below it is rounding
CELLS = 500_000  # resamples × pairs worked on at a time; keeps a chunk's arrays in the cache

# How often a pair is drawn, by a number of 16 bits: Poisson's chances of mean 1, rounded to 2⁻¹⁶.
POISSON = np.searchsorted(
    special.pdtr(np.arange(9), 1.0), (np.arange(65_536) + 0.5) / 65_536
).astype(np.int32)

Statistics = Callable[[Weights], Mapping[str, Floats]]


@dataclass(frozen=True)
class Sides:
    """Who is in each of P pairs."""

    first: Ints  # (P,) index of a person
    second: Ints  # (P,)
    genuine: Bools  # (P,)
    people: int

    def permuted(self, order: Ints) -> "Sides":
        return Sides(self.first[order], self.second[order], self.genuine[order], self.people)


def deviations(
    statistics: Statistics,
    sides: Sides,
    *,
    count: int,
    seed: int,
    units: Mapping[str, int] | None = None,
    tail: float = (1 - CONFIDENCE) / 2,
) -> dict[str, Floats]:
    """`(count,)` deviations of each statistic from what all pairs give, as people vary.

    Args:
        statistics: weights `(r, P)` to values `(r,)` by name.
        sides: of the pairs, in the order of the weights.
        count: resamples of people, and as many of pairs for the correction.
        seed: the same seed gives the same deviations, whatever the statistic.
        units: how many independent things a statistic rests on, if fewer than all people.
        tail: chance beyond the end of an interval that is read from them. Student's tails are the
            longer against the normal ones the farther out one looks: of less, more stretch.
    """
    point = statistics(np.ones((1, len(sides.first)), np.int32))
    seeds = np.random.SeedSequence(seed).spawn(3)
    people, alone, independent = (
        _drawn(statistics, draw(sides, count=count, seed=source))
        for draw, source in zip((of_people, of_impostors, of_pairs), seeds, strict=True)
    )
    found = {}
    for name, value in point.items():
        spread = people[name].var()
        least = independent[name].var()
        wanted = max(spread - 2 * alone[name].var(), least)
        if spread > TINY * least:
            found[name] = (people[name] - value[0]) * np.sqrt(wanted / spread)
        else:  # every draw of people gives the same
            found[name] = independent[name] - value[0]
        rests = min((units or {}).get(name, sides.people), sides.people)
        found[name] *= _stretch(rests, tail)
    return found


def _stretch(units: int, tail: float) -> float:
    """Student's quantile over the normal one at a tail, and the spread about a fitted mean."""
    free = max(units - 1, 1)
    ratio = special.stdtrit(free, 1 - tail) / special.ndtri(1 - tail)
    return float(ratio * np.sqrt(1 + 1 / free))


def couples(sides: Sides, chosen: Bools) -> int:
    """How many different couples of people the chosen impostor pairs hold."""
    chosen = chosen & ~sides.genuine
    low, high = np.sort(np.stack((sides.first[chosen], sides.second[chosen])), axis=0)
    return len(np.unique(low * sides.people + high))


def _drawn(statistics: Statistics, resamples: Iterator[Weights]) -> dict[str, Floats]:
    chunks = [statistics(weights) for weights in resamples]
    return {name: np.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]}


def of_people(sides: Sides, *, count: int, seed: int | np.random.SeedSequence) -> Iterator[Weights]:
    """Weights `(r, P) int32` of `count` resamples of people, in chunks.

    A resample in which one kind is missing altogether, which only tiny sets have, is drawn again.
    """
    impostor = ~sides.genuine

    def draw(rng: np.random.Generator, rows: int) -> Weights:
        drawn = rng.integers(0, sides.people, (rows, sides.people))
        drawn += np.arange(rows)[:, None] * sides.people
        times = np.bincount(drawn.ravel(), minlength=rows * sides.people).astype(np.int32)
        times = times.reshape(rows, sides.people)
        weights = times[:, sides.first]
        return np.multiply(weights, times[:, sides.second], out=weights, where=impostor)

    return _chunks(draw, sides, count=count, seed=seed)


def of_impostors(
    sides: Sides, *, count: int, seed: int | np.random.SeedSequence
) -> Iterator[Weights]:
    """Weights of resamples of the impostor pairs alone, as if no two had a person in common."""
    impostor = np.flatnonzero(~sides.genuine)

    def draw(rng: np.random.Generator, rows: int) -> Weights:
        weights = np.ones((rows, len(sides.first)), np.int32)
        weights[:, impostor] = _poisson(rng, (rows, len(impostor)))
        return weights

    return _chunks(draw, sides, count=count, seed=seed)


def of_pairs(sides: Sides, *, count: int, seed: int | np.random.SeedSequence) -> Iterator[Weights]:
    """Weights of resamples of all pairs, as if no two had a person in common."""

    def draw(rng: np.random.Generator, rows: int) -> Weights:
        return _poisson(rng, (rows, len(sides.first)))

    return _chunks(draw, sides, count=count, seed=seed)


def _poisson(rng: np.random.Generator, shape: tuple[int, int]) -> Weights:
    """Poisson's numbers of mean 1, each chance rounded to 2⁻¹⁶: ten times as fast as numpy's."""
    return np.asarray(POISSON[rng.integers(0, len(POISSON), shape, dtype=np.uint16)])


def _chunks(
    draw: Callable[[np.random.Generator, int], Weights],
    sides: Sides,
    *,
    count: int,
    seed: int | np.random.SeedSequence,
) -> Iterator[Weights]:
    rng = np.random.default_rng(seed)
    chunk = max(1, CELLS // max(len(sides.first), sides.people))
    kinds = np.flatnonzero(sides.genuine), np.flatnonzero(~sides.genuine)
    left = count
    while left:
        weights = draw(rng, min(chunk, left))
        keep = _any(weights, kinds[0]) & _any(weights, kinds[1])
        if not keep.all():
            weights = weights[keep]
        left -= len(weights)
        if len(weights):
            yield weights


def _any(weights: Weights, pairs: Ints) -> Bools:
    """`(r,)`: whether a resample holds any of these pairs."""
    found = np.asarray(weights[:, pairs[:MOST_LOOKED_AT]].any(axis=1))
    if not found.all() and len(pairs) > MOST_LOOKED_AT:
        found[~found] = weights[~found][:, pairs].any(axis=1)
    return found


def interval(
    value: float, deviation: Floats, *, confidence: float = CONFIDENCE
) -> tuple[float, float]:
    """Interval from the quantiles of the deviations, as skewed as they are."""
    ends = np.quantile(deviation, ((1 - confidence) / 2, (1 + confidence) / 2))
    return value + float(ends[0]), value + float(ends[1])


def normal_interval(
    value: float, deviation: Floats, *, confidence: float = CONFIDENCE
) -> tuple[float, float]:
    """Interval from the standard deviation alone, symmetric."""
    reach = float(normal_quantile(confidence) * deviation.std())
    return value - reach, value + reach
