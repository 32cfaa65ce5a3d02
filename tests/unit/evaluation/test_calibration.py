import json
from collections.abc import Callable
from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from facewright.errors import EvaluationError
from facewright.evaluation.calibration import (
    KINDS,
    Calibration,
    calibrate,
    fit_logistic,
    probability,
    reliability,
)
from facewright.evaluation.intervals import wilson


def platt(label: np.ndarray) -> np.ndarray:
    genuine = label.sum()
    return np.where(label == 1, (genuine + 1) / (genuine + 2), 1 / (len(label) - genuine + 2))


def compared(scores: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    found = scores[scores["status"] == "ok"]
    return found["similarity"].to_numpy(), found["label"].to_numpy()


@pytest.mark.parametrize(("gap", "decimals"), [(1.0, None), (3.0, 2), (0.3, 1)])
def test_logistic_agrees_with_scikit_learn(make_scores: Callable, gap: float, decimals) -> None:
    scores, _ = make_scores(per_fold=80, gap=gap, decimals=decimals, failures=0.05)
    x, label = compared(scores)
    peer = LogisticRegression(C=np.inf, tol=1e-12, solver="newton-cholesky", max_iter=500)
    # Smoothed targets are both labels at once, with weights.
    targets = platt(label)
    both = (np.tile(x, 2)[:, None], np.repeat([1, 0], len(x)))
    peer.fit(*both, sample_weight=np.concatenate((targets, 1 - targets)))
    ours = calibrate(scores)
    assert ours.slope == pytest.approx(peer.coef_[0, 0], rel=1e-6)
    assert ours.intercept == pytest.approx(peer.intercept_[0], rel=1e-6)
    np.testing.assert_allclose(
        probability(ours, x), peer.predict_proba(x[:, None])[:, 1], atol=1e-6
    )
    # And with the labels themselves.
    peer.fit(x[:, None], label)
    slope, intercept = fit_logistic(x, label.astype(float), np.ones(len(x)))
    assert (slope, intercept) == pytest.approx((peer.coef_[0, 0], peer.intercept_[0]), rel=1e-6)


@pytest.mark.parametrize("decimals", [None, 1])
def test_isotonic_agrees_with_scikit_learn(make_scores: Callable, decimals: int) -> None:
    scores, _ = make_scores(gap=1.0, decimals=decimals, failures=0.05)
    x, label = compared(scores)
    peer = IsotonicRegression(out_of_bounds="clip").fit(x, platt(label))
    grid = np.concatenate((x, np.linspace(-1, 1, 500)))
    found = probability(calibrate(scores, kind="isotonic"), grid)
    np.testing.assert_allclose(found, peer.predict(grid), atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("decimals", [None, 2])
def test_it_never_falls_and_is_true_on_its_own_pairs(
    make_scores: Callable, kind: str, decimals: int
) -> None:
    scores, _ = make_scores(per_fold=100, gap=1.5, decimals=decimals)
    calibration = calibrate(scores, kind=kind)
    grid = probability(calibration, np.linspace(-1, 1, 2001))
    assert (np.diff(grid) >= 0).all()
    assert ((grid > 0) & (grid < 1)).all()
    assert grid[-1] > 0.9 > 0.1 > grid[0]
    x, label = compared(scores)
    found, targets = probability(calibration, x), platt(label)
    assert found.mean() == pytest.approx(targets.mean(), abs=1e-9)
    assert (calibration.prior, calibration.pairs) == (label.mean(), len(label))
    if kind == "isotonic":  # in each of its steps
        for value in np.unique(found):
            assert targets[found == value].mean() == pytest.approx(value)


@pytest.mark.parametrize("kind", KINDS)
def test_neither_the_order_nor_failures_change_anything(make_scores: Callable, kind: str) -> None:
    scores, _ = make_scores(gap=1.0, decimals=2, failures=0.1)
    one = calibrate(scores, kind=kind)
    assert calibrate(scores.sample(frac=1, random_state=3), kind=kind) == one
    assert calibrate(scores[scores["status"] == "ok"], kind=kind) == one


@pytest.mark.parametrize("kind", KINDS)
def test_perfect_scores_have_a_finite_calibration(make_scores: Callable, kind: str) -> None:
    scores, _ = make_scores(gap=40.0)
    calibration = calibrate(scores, kind=kind)
    x, label = compared(scores)
    found = probability(calibration, x)
    # A hundred of each kind: nobody may be surer than about 1 in 100.
    assert 0.004 < found.min() < found.max() < 0.996
    assert found[label == 1].min() > 0.9 > 0.1 > found[label == 0].max()


def test_scores_that_fall_give_the_prior_everywhere(make_scores: Callable) -> None:
    scores, _ = make_scores(gap=1.0)
    turned = scores.assign(similarity=-scores["similarity"])
    alike = scores.assign(similarity=0.5)
    for some, kind in ((turned, "logistic"), (alike, "logistic"), (alike, "isotonic")):
        np.testing.assert_allclose(probability(calibrate(some, kind=kind), [-1, 0, 1]), 0.5)


@pytest.mark.parametrize("kind", KINDS)
def test_another_prior_is_bayes_rule(make_scores: Callable, kind: str) -> None:
    scores, _ = make_scores(gap=1.5, per_fold=100)
    calibration = calibrate(scores, kind=kind)
    grid = np.linspace(-0.3, 0.6, 50)
    found = probability(calibration, grid)
    np.testing.assert_allclose(probability(calibration, grid, prior=0.5), found)
    rare = probability(calibration, grid, prior=0.01)
    by_hand = found * 0.01 / 0.5 / (found * 0.01 / 0.5 + (1 - found) * 0.99 / 0.5)
    np.testing.assert_allclose(rare, by_hand)
    with pytest.raises(ValueError, match="prior"):
        probability(calibration, grid, prior=0.0)


@pytest.mark.parametrize("kind", KINDS)
def test_it_goes_through_json(make_scores: Callable, kind: str) -> None:
    scores, _ = make_scores(gap=1.0)
    calibration = calibrate(scores, kind=kind)
    values = json.loads(json.dumps(asdict(calibration), allow_nan=False))
    assert Calibration.of(values) == calibration
    assert np.isnan(probability(calibration, np.nan))
    for wrong in (
        {"kind": "magic"},
        {"prior": np.nan},
        {"slope": None, "similarities": [], "probabilities": []},
        {"similarities": [0.0, 1.0], "probabilities": [0.9, 0.1]},
        {"similarities": [0.0]},
    ):
        with pytest.raises((ValueError, TypeError)):
            Calibration.of(values | wrong)


def test_reliability_is_over_folds_that_were_not_seen(make_scores: Callable) -> None:
    scores, _ = make_scores(gap=1.5, per_fold=40, failures=0.05)
    table, error = reliability(scores, bins=4)
    predicted = pd.Series(np.nan, index=scores.index)
    for fold in scores["fold"].unique():
        inside = scores["fold"] == fold
        calibration = calibrate(scores[~inside])
        predicted[inside] = probability(calibration, scores.loc[inside, "similarity"])
    found = scores["status"] == "ok"
    total = 0.0
    for row in table.itertuples():
        there = found & (predicted >= row.low) & (predicted < row.high)
        share = scores.loc[there, "label"].mean()
        assert row.pairs == there.sum()
        assert row.genuine == pytest.approx(share)
        assert row.predicted == pytest.approx(predicted[there].mean())
        assert (row.genuine_low, row.genuine_high) == pytest.approx(wilson(share, row.pairs))
        total += row.pairs * abs(row.predicted - row.genuine)
    assert table["pairs"].sum() == found.sum()
    assert error == pytest.approx(total / found.sum())


@pytest.mark.parametrize("kind", KINDS)
def test_a_fold_that_is_unlike_the_others_shows(make_scores: Callable, kind: str) -> None:
    scores, _ = make_scores(gap=2.0, per_fold=100, folds=3)
    assert reliability(scores, kind=kind)[1] < 0.06
    easier = scores["similarity"] + 0.4 * (scores["fold"] == 1)
    assert reliability(scores.assign(similarity=easier), kind=kind)[1] > 0.12


def test_refusals(make_scores: Callable) -> None:
    scores, _ = make_scores(failures=0.05)
    with pytest.raises(EvaluationError, match="all pairs are in one fold"):
        reliability(scores.assign(fold=0))
    parted = scores.assign(fold=scores["label"])
    with pytest.raises(EvaluationError, match="compared pairs to calibrate on is"):
        reliability(parted)
    lost = scores.assign(status="failure")
    with pytest.raises(EvaluationError, match="not one of the 0 compared pairs"):
        calibrate(lost)
    with pytest.raises(EvaluationError, match="although both faces were found"):
        calibrate(scores.assign(similarity=np.nan))
    with pytest.raises(EvaluationError, match="pairs are genuine"):
        calibrate(scores[scores["label"] == 1])
    with pytest.raises(ValueError, match="kind 'beta' must be one of logistic, isotonic"):
        calibrate(scores, kind="beta")
