"""How many times more often a recognizer fails for one slice of the pairs than for another.

The interval of a ratio is that of its logarithm as people vary (`bootstrap`), since a person who
is hard to tell fails in many pairs of one slice.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import sparse

from facewright.evaluation.bootstrap import Sides, couples, deviations, normal_interval
from facewright.evaluation.curves import Weights
from facewright.evaluation.intervals import FEW
from facewright.evaluation.pairs import Bools, Floats, Ints, identity_codes
from facewright.evaluation.slices import ALL, ERRORS, MIXED, Outcomes, cut


@dataclass(frozen=True)
class Ratio:
    """How many times higher a rate is in one slice than in another."""

    ratio: float
    highest: str  # value of the column
    lowest: str
    at_least: bool  # the lowest had no error: the upper end of its interval stands in for its rate


def largest_ratio(table: pd.DataFrame, rate: str) -> dict[str, Ratio | None]:
    """For each column the highest rate of a slice ÷ the lowest one, of slices that have a say.

    A slice has a say where ten errors or more would be expected in it at the rate of all pairs;
    MIXED has none. None where fewer than two slices have a say. For a slice without an error the
    upper end of its interval stands in, so that the lowest one may be another with an error, of
    more pairs. The largest of many ratios is above 1 by chance too: see `ratio_figures`.

    Args:
        table: from `slice_table`.
        rate: `fmr` or `fnmr`.
    """
    ratios: dict[str, Ratio | None] = {}
    for column, part in _with_a_say(table, rate).items():
        if len(part) < 2:
            ratios[column] = None
            continue
        top = part.iloc[int(part[rate].to_numpy().argmax())]
        others = part.drop(index=top.name)
        errors = ERRORS[rate][0]
        bottoms = others[rate].where(others[errors] > 0, others[f"{rate}_high"])
        least = others.iloc[int(bottoms.to_numpy().argmin())]
        ratios[column] = Ratio(
            ratio=max(1.0, float(top[rate] / bottoms.min())),
            highest=str(top["value"]),
            lowest=str(least["value"]),
            at_least=int(least[errors]) == 0,
        )
    return ratios


def ratio_figures(
    scores: pd.DataFrame,
    table: pd.DataFrame,
    *,
    identities: Mapping[str, str],
    images: pd.DataFrame,
    columns: Sequence[str],
    threshold: float,
    bins: int,
    bootstrap: int,
    seed: int,
) -> dict[str, float]:
    """`fnmr_ratio_COLUMN` and `fmr_ratio_COLUMN`, the largest, with `_low` and `_high`.

    `_low` is the lower end of the 95 % interval of the highest slice over the lowest, `_high` the
    highest upper end of any slice over the lowest: a slice of few pairs may be the worst of all,
    though it does not look so here. No ends where the lowest slice had no error.

    Args:
        scores, images, columns, threshold, bins: those that `slice_table` made the table of.
        identities: identity of every image in the pairs.
        bootstrap: number of resamples; 0 leaves the intervals out.
        seed: of the bootstrap.
    """
    found = {rate: largest_ratio(table, rate) for rate in ERRORS}
    figures = {
        f"{rate}_ratio_{column}": ratio.ratio
        for rate, ratios in found.items()
        for column, ratio in ratios.items()
        if ratio is not None
    }
    if not (bootstrap and figures):
        return figures
    first, second, people = identity_codes(scores, identities=identities)
    sides = Sides(first, second, first == second, people)
    outcomes = Outcomes.of(scores, threshold)
    heard: list[_Slice] = []
    over_lowest: dict[str, list[tuple[int, int]]] = {}  # of each figure, slices and their lowest
    for column, names, pair in cut(scores, images=images, columns=columns, bins=bins):
        for rate in ERRORS:
            ratio = found[rate][column]
            if ratio is None or ratio.at_least:
                continue
            values = _with_a_say(table, rate)[column]["value"].tolist()
            at = {value: len(heard) + k for k, value in enumerate(values)}
            lowest = at.pop(ratio.lowest)
            heard += [
                _Slice.of(outcomes, sides, rate, inside=pair == names.index(value))
                for value in values
            ]
            # The highest comes first.
            others = sorted(at, key=lambda value: value != ratio.highest)
            over_lowest[f"{rate}_ratio_{column}"] = [
                (at[value], lowest) for value in others if heard[at[value]].rate
            ]
    if not heard:
        return figures
    errors = _columns([one.errors for one in heard], sides)
    trials = _columns([one.trials for one in heard], sides)
    wanted = [two for chosen in over_lowest.values() for two in chosen]

    def statistics(weights: Weights) -> dict[str, Floats]:
        # Half an error more, so that the logarithm is finite (Haldane, Ann. Hum. Genet. 1956).
        rates = np.log((weights @ errors + 0.5) / (weights @ trials + 0.5))
        return {f"{one} {other}": rates[:, one] - rates[:, other] for one, other in wanted}

    deviation = deviations(
        statistics,
        sides,
        count=bootstrap,
        seed=seed,
        units={f"{a} {b}": min(heard[a].units, heard[b].units) for a, b in wanted},
    )
    for figure, chosen in over_lowest.items():
        ends = [
            normal_interval(float(np.log(heard[a].rate / heard[b].rate)), deviation[f"{a} {b}"])
            for a, b in chosen
        ]
        figures[f"{figure}_low"] = float(np.exp(ends[0][0]))
        figures[f"{figure}_high"] = float(np.exp(max(high for _, high in ends)))
    return figures


@dataclass(frozen=True)
class _Slice:
    """The pairs of a slice that count for one rate."""

    errors: Ints  # indices of pairs
    trials: Ints
    units: int  # people in its genuine pairs, or different couples that it falsely matches

    @classmethod
    def of(cls, outcomes: Outcomes, sides: Sides, rate: str, *, inside: Bools) -> "_Slice":
        wrong, tried = (mask & inside for mask in outcomes.of_rate(rate))
        units = couples(sides, wrong) if rate == "fmr" else len(np.unique(sides.first[tried]))
        return cls(np.flatnonzero(wrong), np.flatnonzero(tried), units)

    @property
    def rate(self) -> float:
        return len(self.errors) / len(self.trials)


def _columns(chosen: Sequence[Ints], sides: Sides) -> sparse.csr_array:
    """`(P, S)`: 1 where a pair is chosen. Few are, and there may be millions of pairs."""
    column = np.repeat(np.arange(len(chosen)), [len(rows) for rows in chosen])
    ones = np.ones(len(column))
    shape = (len(sides.first), len(chosen))
    return sparse.csr_array((ones, (np.concatenate(chosen), column)), shape=shape)


def _with_a_say(table: pd.DataFrame, rate: str) -> dict[str, pd.DataFrame]:
    """The rows of each column that have a say, see `largest_ratio`."""
    if rate not in ERRORS:
        raise ValueError(f"rate {rate!r} must be fmr or fnmr")
    overall = table.loc[table["column"] == ALL, rate].iloc[0]
    parts = table[table["column"] != ALL].groupby("column", sort=False)
    return {
        str(column): part[
            (overall * part[ERRORS[rate][1]] * (1 + 1e-9) >= FEW) & (part["value"] != MIXED)
        ]
        for column, part in parts
    }
