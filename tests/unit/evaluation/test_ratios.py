import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest

from facewright.evaluation.intervals import wilson
from facewright.evaluation.ratios import largest_ratio, ratio_figures
from facewright.evaluation.slices import MIXED, slice_table


def rates(*rows: tuple[str, int, int]) -> pd.DataFrame:
    """A table of genuine pairs: value, false non-matches, pairs."""
    total = ("all", sum(row[1] for row in rows), sum(row[2] for row in rows))
    table = pd.DataFrame([total, *rows], columns=["value", "false_non_matches", "genuine"])
    table["column"] = ["all", *["site"] * len(rows)]
    table["fnmr"] = table["false_non_matches"] / table["genuine"]
    ends = zip(table["fnmr"], table["genuine"], strict=True)
    table["fnmr_high"] = [wilson(share, trials)[1] for share, trials in ends]
    return table


def test_the_largest_ratio_is_of_slices_with_enough_pairs() -> None:
    # 114 of 2,100: 0.0543 overall, so that 184 pairs are needed.
    table = rates(("a", 10, 1000), ("b", 40, 900), ("c", 30, 100), (MIXED, 34, 100))
    ratio = largest_ratio(table, "fnmr")["site"]
    assert ratio is not None
    assert ratio.ratio == pytest.approx((40 / 900) / (10 / 1000))
    assert (ratio.highest, ratio.lowest, ratio.at_least) == ("b", "a", False)
    assert largest_ratio(rates(("a", 10, 1000), ("b", 3, 60)), "fnmr") == {"site": None}
    assert largest_ratio(rates(("a", 0, 1000), ("b", 0, 600)), "fnmr") == {"site": None}


def test_a_slice_without_errors_gives_a_ratio_that_is_at_least() -> None:
    ratio = largest_ratio(rates(("a", 0, 500), ("b", 50, 500)), "fnmr")["site"]
    assert ratio is not None
    assert ratio.at_least
    assert ratio.ratio == pytest.approx(0.1 / wilson(0.0, 500)[1])


def slow_ratio(table: pd.DataFrame) -> tuple[float, str, str] | None:
    """Over all couples of slices that have a say, the largest ratio that the pairs can show."""
    slices = table[(table["column"] != "all") & (table["value"] != MIXED)]
    heard = [r for r in slices.itertuples() if table["fnmr"][0] * r.genuine >= 10 * (1 - 1e-9)]
    if len(heard) < 2:
        return None
    top = max(heard, key=lambda r: r.fnmr)
    rest = [r for r in heard if r is not top]
    bottoms = [(r.fnmr if r.false_non_matches else r.fnmr_high, r.value) for r in rest]
    bottom, name = min(bottoms)
    return max(1.0, top.fnmr / bottom), top.value, name


def test_a_slice_of_few_pairs_without_errors_does_not_hide_a_better_one() -> None:
    """`few` has no error in 100 pairs: up to 3.7 %. `many` has 1 in 1,000, and is lower."""
    table = rates(("few", 0, 100), ("many", 1, 1000), ("bad", 250, 500))
    ratio = largest_ratio(table, "fnmr")["site"]
    assert ratio is not None
    assert (ratio.highest, ratio.lowest, ratio.at_least) == ("bad", "many", False)
    assert ratio.ratio == pytest.approx(500)


@pytest.mark.parametrize("seed", range(40))
def test_the_largest_ratio_is_that_of_looking_at_all(seed: int) -> None:
    rng = np.random.default_rng(seed)
    pairs = rng.integers(20, 2000, 5)
    errors = rng.binomial(pairs, rng.choice([0.0, 0.002, 0.05, 0.3], 5))
    table = rates(*zip("vwxyz", errors.tolist(), pairs.tolist(), strict=True))
    expected, found = slow_ratio(table), largest_ratio(table, "fnmr")["site"]
    assert (found is None) == (expected is None)
    if found and expected:
        assert (found.ratio, found.highest) == (pytest.approx(expected[0]), expected[1])
        assert found.lowest == expected[2]
        assert found.at_least == (errors["vwxyz".index(found.lowest)] == 0)


def test_another_rate_is_refused() -> None:
    with pytest.raises(ValueError, match="must be fmr or fnmr"):
        largest_ratio(rates(("a", 1, 2)), "far")


def made_of(groups: Sequence[tuple[str, np.ndarray]]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Genuine pairs, of each site an array `(people, pairs of each)` of errors; images with sites.

    A pair with an error has similarity 0, the others 1. Of impostor pairs there are a few.
    """
    rows, images = [], []
    for site, wrong in groups:
        for person, errors in enumerate(wrong):
            for k, error in enumerate(errors):
                a, b = (f"{site}{person}/{k}{side}" for side in "ab")
                rows.append((0, 1, a, b, float(not error)))
                images += [(a, f"{site}{person}", site), (b, f"{site}{person}", site)]
    first = [row[2] for row in rows]
    for k in range(20):
        rows.append((0, 0, first[k], first[-1 - k], -1.0))
    scores = pd.DataFrame(rows, columns=["fold", "label", "a", "b", "similarity"])
    return scores.assign(status="ok"), pd.DataFrame(images, columns=["id", "identity", "site"])


def figures_of(
    scores: pd.DataFrame, images: pd.DataFrame, *, bootstrap: int = 1000
) -> dict[str, float]:
    how = {"images": images, "columns": ["site"], "threshold": 0.5, "bins": 4}
    return ratio_figures(
        scores,
        slice_table(scores, **how),
        identities=dict(zip(images["id"], images["identity"], strict=True)),
        bootstrap=bootstrap,
        seed=3,
        **how,
    )


def ends_of(figures: dict[str, float]) -> tuple[float, float]:
    return figures["fnmr_ratio_site_low"], figures["fnmr_ratio_site_high"]


def shares(*groups: tuple[str, int, int]) -> list[tuple[str, np.ndarray]]:
    """Of each site its pairs, each of another person, and how many are errors."""
    return [(site, (np.arange(pairs) < wrong)[:, None]) for site, wrong, pairs in groups]


def test_of_independent_pairs_the_interval_is_that_of_the_textbook() -> None:
    """Katz et al., Biometrics 1978: the variance of a logarithm of a ratio of two shares."""
    found = figures_of(*made_of(shares(("a", 120, 600), ("b", 60, 600))))
    assert found["fnmr_ratio_site"] == pytest.approx(2.0)
    spread = math.sqrt(1 / 120 - 1 / 600 + 1 / 60 - 1 / 600)
    low, high = ends_of(found)
    assert low == pytest.approx(2 * math.exp(-1.96 * spread), rel=0.05)
    assert high == pytest.approx(2 * math.exp(1.96 * spread), rel=0.05)


def test_people_whose_pairs_fail_together_make_it_wider() -> None:
    apart = [(site, errors.reshape(60, 10)) for site, errors in shares(("a", 120, 600))]
    apart += [(site, errors.reshape(60, 10)) for site, errors in shares(("b", 60, 600))]
    mixed = [(site, np.ascontiguousarray(errors.reshape(10, 60).T)) for site, errors in apart]
    # 12 of 60 people fail always; or all 60 people fail in 2 of 10 pairs.
    together, spread_out = (ends_of(figures_of(*made_of(groups))) for groups in (apart, mixed))
    width = [math.log(high / low) for low, high in (together, spread_out)]
    assert width[0] > 2.5 * width[1]


def test_the_upper_end_is_that_of_the_slice_that_may_be_the_worst() -> None:
    known = shares(("a", 200, 2000), ("b", 360, 2000))
    two = ends_of(figures_of(*made_of(known)))
    with_few = ends_of(figures_of(*made_of([*known, *shares(("c", 14, 100))])))
    assert with_few[0] == pytest.approx(two[0], rel=0.05)
    assert with_few[1] > 1.1 * two[1]


def test_without_errors_in_one_slice_or_without_resamples_there_are_no_ends() -> None:
    scores, images = made_of(shares(("a", 0, 400), ("b", 60, 400)))
    assert set(figures_of(scores, images)) == {"fnmr_ratio_site"}
    scores, images = made_of(shares(("a", 20, 400), ("b", 60, 400)))
    assert figures_of(scores, images, bootstrap=0) == {"fnmr_ratio_site": pytest.approx(3.0)}


def test_it_covers_the_truth() -> None:
    """Of people of different difficulty, each with five pairs; the true ratio is 2."""
    rng = np.random.default_rng(8)
    covered = 0
    for _ in range(200):
        groups = []
        for site, mean in (("a", 0.3), ("b", 0.15)):
            hard = rng.beta(2, 2 / mean - 2, (60, 1))
            groups.append((site, rng.random((60, 5)) < hard))
        low, high = ends_of(figures_of(*made_of(groups), bootstrap=100))
        covered += low <= 2 <= high
    assert 180 <= covered <= 199
