from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from facewright.errors import EvaluationError
from facewright.evaluation import curves, roc, score_histogram
from facewright.evaluation.curves import (
    accepted,
    area_under_roc,
    det,
    equal_error_rate,
    fnmr_at_fmr,
    fnmr_at_threshold,
    supported,
)
from facewright.evaluation.pairs import checked


def frame(genuine: list[float], impostor: list[float]) -> pd.DataFrame:
    """Scores; NaN is a failure."""
    similarity = np.array(genuine + impostor)
    return pd.DataFrame(
        {
            "fold": 0,
            "label": [1] * len(genuine) + [0] * len(impostor),
            "a": "",
            "b": "",
            "similarity": similarity,
            "status": np.where(np.isnan(similarity), "failure", "ok"),
        }
    )


def counts_of(scores: pd.DataFrame) -> curves.Counts:
    scored, _ = checked(scores)
    return accepted(scored, np.ones((1, scored.pairs), np.int32))


def slow_rates(scores: pd.DataFrame, threshold: float) -> tuple[float, float]:
    """FMR and FNMR."""
    genuine, genuine_yes, impostor, impostor_yes = 0, 0, 0, 0
    for row in scores.itertuples():
        if row.label == 1:
            genuine += 1
            genuine_yes += row.status == "ok" and row.similarity >= threshold
        elif row.status == "ok":
            impostor += 1
            impostor_yes += row.similarity >= threshold
    return impostor_yes / impostor, (genuine - genuine_yes) / genuine


@pytest.mark.parametrize("decimals", [None, 1])
def test_rates_agree_with_counting_pair_by_pair(make_scores: Callable, decimals: int) -> None:
    scores, _ = make_scores(decimals=decimals, failures=0.1)
    counts = counts_of(scores)
    assert (counts.fmr[0, 0], counts.fnmr[0, 0]) == (0, 1)
    for k, threshold in enumerate(counts.thresholds):
        assert (counts.fmr[0, k], counts.fnmr[0, k]) == slow_rates(scores, threshold)


@pytest.mark.parametrize("decimals", [None, 1, 0])
def test_auc_agrees_with_scikit_learn(make_scores: Callable, decimals: int) -> None:
    scores, _ = make_scores(decimals=decimals, gap=1.0)
    expected = roc_auc_score(scores["label"], scores["similarity"])
    assert area_under_roc(counts_of(scores))[0] == pytest.approx(expected, abs=1e-12)


def test_auc_loses_in_proportion_to_genuine_failures() -> None:
    assert area_under_roc(counts_of(frame([0.9, 0.8, np.nan, np.nan], [0.1])))[0] == 0.5


@pytest.mark.parametrize("fmr", [0.0999, 0.1, 0.29, 0.5])
def test_fnmr_at_fmr_is_the_lowest_that_any_threshold_gives(
    make_scores: Callable, fmr: float
) -> None:
    scores, _ = make_scores(decimals=2, failures=0.05, gap=1.0)
    fnmr, threshold = fnmr_at_fmr(counts_of(scores), fmr)
    candidates = [slow_rates(scores, t) for t in [*scores["similarity"].dropna(), 9.0]]
    assert fnmr[0] == min(n for m, n in candidates if m <= fmr)
    assert slow_rates(scores, threshold[0]) == (pytest.approx(fmr, abs=0.05), fnmr[0])
    assert slow_rates(scores, threshold[0])[0] <= fmr


def test_exactly_the_allowed_false_matches_are_used() -> None:
    # 29 of 100 impostors lie above the only genuine pair: 0.29 × 100 is 28.999… in floats.
    scores = frame([0.5], [0.9 - i / 1000 for i in range(29)] + [0.1] * 71)
    assert fnmr_at_fmr(counts_of(scores), 0.29)[0][0] == 0.0
    assert fnmr_at_fmr(counts_of(scores), 0.28)[0][0] == 1.0


def test_lost_impostors_cannot_make_a_recognizer_look_safer() -> None:
    # Of ten impostors, eight are lost; one of the two compared passes at the genuine score.
    scores = frame([0.5], [0.6, 0.1] + [np.nan] * 8)
    assert fnmr_at_fmr(counts_of(scores), 0.4)[0][0] == 1.0
    assert fnmr_at_fmr(counts_of(scores), 0.5)[0][0] == 0.0


@pytest.mark.parametrize(
    ("genuine", "impostor", "expected"),
    [
        ([0.9, 0.8], [0.2, 0.1], 0.0),
        ([0.2, 0.1], [0.9, 0.8], 1.0),
        ([0.9, 0.8, 0.7, 0.3], [0.6, 0.2, 0.1, 0.0], 0.25),
        ([0.5, 0.5], [0.5, 0.5], 0.5),
        ([0.9, np.nan], [0.2, 0.1], 0.5),
        ([np.nan, np.nan], [0.2, 0.1], 1.0),
        ([0.9], [np.nan, np.nan], 1.0),
        ([np.nan], [np.nan], 1.0),
    ],
)
def test_equal_error_rate_by_hand(
    genuine: list[float], impostor: list[float], expected: float
) -> None:
    assert equal_error_rate(counts_of(frame(genuine, impostor)))[0] == pytest.approx(expected)


@pytest.mark.parametrize("decimals", [None, 1])
def test_equal_error_rate_is_the_same_from_the_other_side(
    make_scores: Callable, decimals: int
) -> None:
    scores, _ = make_scores(decimals=decimals, gap=1.0)
    mirrored = scores.assign(label=1 - scores["label"], similarity=-scores["similarity"])
    one, other = (equal_error_rate(counts_of(s))[0] for s in (scores, mirrored))
    assert one == pytest.approx(other, abs=1e-12)
    assert 0.1 < one < 0.5


def test_weights_count_like_repeated_pairs(make_scores: Callable) -> None:
    scores, _ = make_scores(decimals=2, failures=0.05, gap=1.0)
    scored, rows = checked(scores)
    times = np.random.default_rng(1).integers(0, 4, (3, len(rows))).astype(np.int32)
    weighted = accepted(scored, times)
    for k in range(len(times)):
        repeated = counts_of(scores.iloc[np.repeat(rows, times[k])])
        assert equal_error_rate(weighted)[k] == pytest.approx(equal_error_rate(repeated)[0])
        assert area_under_roc(weighted)[k] == pytest.approx(area_under_roc(repeated)[0])
        assert fnmr_at_fmr(weighted, 0.1)[0][k] == fnmr_at_fmr(repeated, 0.1)[0][0]


def test_only_fmr_that_ten_false_matches_support() -> None:
    scored, _ = checked(frame([0.5], [0.1] * 1000 + [np.nan] * 500))
    assert supported(scored, 0.01)
    assert not supported(scored, 0.0099)


def test_fnmr_at_a_threshold_agrees_with_counting(make_scores: Callable) -> None:
    scores, _ = make_scores(decimals=2, failures=0.05, gap=1.0)
    for threshold in (-2.0, 0.1, 0.105, 0.3, scores["similarity"].max(), 2.0):
        fnmr = fnmr_at_threshold(counts_of(scores), threshold)[0]
        assert fnmr == slow_rates(scores, threshold)[1]


def test_roc_of_few_points_is_exact_and_finite(make_scores: Callable) -> None:
    scores, _ = make_scores(decimals=2, failures=0.05)
    curve = roc(scores)
    assert np.isfinite(curve.to_numpy()).all()
    for row in curve.itertuples():
        assert (row.fmr, row.fnmr) == slow_rates(scores, row.threshold)
    every = [slow_rates(scores, t) for t in sorted(scores["similarity"].dropna())]
    # The straight runs that were left out lie on the curve that was kept.
    for fmr, fnmr in every:
        at = curve[curve["fmr"] == fmr]["fnmr"]
        low, high = (at.min(), at.max()) if len(at) else [np.interp(fmr, curve.fmr, curve.fnmr)] * 2
        assert low - 1e-12 <= fnmr <= high + 1e-12


def test_roc_of_many_points_keeps_real_ones_and_both_ends(make_scores: Callable) -> None:
    scores, _ = make_scores(per_fold=4000, gap=1.5)
    curve, counts = roc(scores), counts_of(scores)
    assert 300 < len(curve) <= 500
    real = set(zip(counts.fmr[0], counts.fnmr[0], counts.thresholds, strict=True))
    assert set(curve.itertuples(index=False, name=None)) <= real
    assert curve.iloc[0].tolist()[:2] == [0.0, 1.0]
    assert curve.iloc[-1].tolist()[:2] == [1.0, 0.0]
    assert curve["fmr"].is_monotonic_increasing
    assert curve["fnmr"].is_monotonic_decreasing
    assert curve["threshold"].is_monotonic_decreasing
    assert ((curve["fmr"] > 0) & (curve["fmr"] < 0.01)).sum() > 50  # the left decades are there
    exact = np.interp(np.linspace(0.01, 1, 50), counts.fmr[0], counts.fnmr[0])
    kept = np.interp(np.linspace(0.01, 1, 50), curve["fmr"], curve["fnmr"])
    assert np.abs(exact - kept).max() < 0.01


def test_roc_when_no_face_was_found_is_one_point_that_accepts_nothing() -> None:
    curve = roc(frame([np.nan], [np.nan]))
    assert curve[["fmr", "fnmr"]].to_numpy().tolist() == [[0.0, 1.0]]


def test_histogram_holds_every_compared_pair(make_scores: Callable) -> None:
    scores, _ = make_scores(failures=0.1)
    histogram = score_histogram(scores, low=0.0, high=0.3, bins=10)
    found = scores[scores["status"] == "ok"]
    assert histogram["genuine"].sum() == (found["label"] == 1).sum()
    assert histogram["impostor"].sum() == (found["label"] == 0).sum()
    bin3 = found["similarity"].between(histogram["low"][3], histogram["high"][3], inclusive="left")
    assert histogram["genuine"][3] == (bin3 & (found["label"] == 1)).sum()


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_det_of_bare_arrays_is_the_curve_of_the_scores(make_scores: Callable, kind: type) -> None:
    scores, _ = make_scores(decimals=2, failures=0.05, per_fold=400)
    similarity = scores["similarity"].to_numpy().astype(kind)
    curve = det(similarity, scores["label"].to_numpy() == 1)
    expected = roc(scores.assign(similarity=similarity.astype(float)))
    pd.testing.assert_frame_equal(curve, expected)
    assert np.array_equal(
        similarity, scores["similarity"].to_numpy().astype(kind), equal_nan=True
    )  # not sorted in place


def test_det_reaches_the_fewest_errors_of_both_kinds(make_scores: Callable) -> None:
    scores, _ = make_scores(per_fold=4000, gap=3.0)
    curve, counts = roc(scores), counts_of(scores)
    for rate in ("fmr", "fnmr"):
        exact = np.unique(getattr(counts, rate)[0])
        kept = np.unique(curve[rate])
        assert kept[:12].tolist() == exact[:12].tolist()  # 0, 1, 2 … errors
    # Each point is the best with as many errors of the one kind, or of the other.
    for row in curve.itertuples():
        as_strict = counts.fnmr[0][counts.fmr[0] <= row.fmr].min()
        as_lax = counts.fmr[0][counts.fnmr[0] <= row.fnmr].min()
        assert row.fnmr == as_strict or row.fmr == as_lax


def test_det_of_one_class_is_refused() -> None:
    with pytest.raises(EvaluationError, match="all 3 pairs are genuine"):
        det(np.array([0.1, 0.2, 0.3]), np.ones(3, bool))
