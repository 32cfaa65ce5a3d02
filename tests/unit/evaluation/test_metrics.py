import json
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from facewright.errors import EvaluationError
from facewright.evaluation import verification_metrics
from facewright.evaluation.metrics import identity_resamples, wilson

SETTINGS = {"fmr_targets": [0.1, 0.01], "bootstrap": 200, "seed": 0}


def test_figures_are_finite_ordered_and_the_same_again(make_scores: Callable) -> None:
    scores, identities = make_scores(per_fold=40, failures=0.02)
    metrics = verification_metrics(scores, identities=identities, **SETTINGS)
    json.dumps(metrics, allow_nan=False)
    for name in ("accuracy", "eer", "fnmr_at_fmr_0.1", "threshold_at_fmr_0.1"):
        assert metrics[f"{name}_low"] <= metrics[name] <= metrics[f"{name}_high"]
        assert metrics[f"{name}_low"] < metrics[f"{name}_high"]
    assert metrics["pairs"] == metrics["genuine"] + metrics["impostor"] == 400
    failed = (scores["status"] == "failure").sum()
    assert metrics["failures"] == failed > 0
    assert metrics["failures_genuine"] + metrics["failures_impostor"] == failed
    assert metrics == verification_metrics(scores, identities=identities, **SETTINGS)
    # The order of the pairs does not matter to the point figures.
    turned = verification_metrics(scores[::-1], identities=identities, **SETTINGS)
    for name in ("accuracy", "eer", "auc", "fnmr_at_fmr_0.1", "threshold_accuracy"):
        assert turned[name] == pytest.approx(metrics[name], abs=1e-12)


def test_an_fmr_that_the_impostors_do_not_support_is_left_out(make_scores: Callable) -> None:
    scores, identities = make_scores(per_fold=20)  # 100 impostor pairs
    metrics = verification_metrics(scores, identities=identities, **SETTINGS)
    assert "fnmr_at_fmr_0.1" in metrics
    assert not [name for name in metrics if "0.01" in name]


def test_standard_error_is_over_the_folds() -> None:
    # Two folds, one right everywhere and one at chance: mean 0.75, s = 0.3536, s/√2 = 0.25.
    scores = pd.DataFrame(
        {
            "fold": [0, 0, 1, 1],
            "label": [1, 0, 1, 0],
            "a": ["x/1", "x/1", "y/1", "y/1"],
            "b": ["x/2", "y/1", "y/2", "x/2"],
            "similarity": [0.9, 0.1, 0.3, 0.2],
            "status": "ok",
        }
    )
    people = {name: name[0] for name in ("x/1", "x/2", "y/1", "y/2")}
    metrics = verification_metrics(scores, identities=people, **SETTINGS)
    # Fold 1 is judged at 0.5, midway in fold 0: its genuine pair is lost. Fold 0 at 0.25: right.
    assert metrics["accuracy"] == 0.75
    assert metrics["accuracy_se"] == pytest.approx(0.25)


def test_perfect_scores_do_not_claim_certainty(make_scores: Callable) -> None:
    scores, identities = make_scores(gap=40.0)
    metrics = verification_metrics(scores, identities=identities, **SETTINGS)
    assert metrics["accuracy"] == metrics["auc"] == 1
    assert metrics["eer"] == metrics["fnmr_at_fmr_0.1"] == 0
    assert (metrics["accuracy_low"], metrics["accuracy_high"]) == pytest.approx(wilson(1.0, 200))
    assert metrics["fnmr_at_fmr_0.1_high"] == pytest.approx(wilson(0.0, 100)[1])
    assert metrics["eer_high"] == pytest.approx(wilson(0.0, 100)[1])


def test_a_detector_that_finds_nothing_scores_nothing(make_scores: Callable) -> None:
    scores, identities = make_scores(failures=1.1)
    metrics = verification_metrics(scores, identities=identities, **SETTINGS)
    assert metrics["accuracy"] == metrics["auc"] == 0
    assert metrics["eer"] == metrics["fmr_bound"] == 1
    assert metrics["failures"] == 200
    assert not [name for name in metrics if name.startswith("fnmr")]


def test_wilson_by_its_definition() -> None:
    # The ends are where the share is 1.96 of *their own* standard errors away.
    for share, trials in ((0.9, 50), (0.5, 10), (0.0, 30)):
        for end in wilson(share, trials):
            if 0 < end < 1:
                distance = abs(share - end) / np.sqrt(end * (1 - end) / trials)
                assert distance == pytest.approx(1.959964, abs=1e-5)


def test_weights_come_from_how_often_an_identity_was_drawn() -> None:
    first, second = np.array([0, 1, 0, 0, 1]), np.array([0, 1, 1, 2, 2])
    genuine = first == second
    weights = np.concatenate(
        list(identity_resamples(first, second, genuine, people=3, count=4000, seed=0))
    )
    assert weights.shape == (4000, 5)
    m0, m1 = weights[:, 0], weights[:, 1]
    m2 = 3 - m0 - m1
    np.testing.assert_array_equal(weights[:, 2:], np.stack([m0 * m1, m0 * m2, m1 * m2], axis=1))
    assert (weights[:, :2].any(axis=1) & weights[:, 2:].any(axis=1)).all()


def test_resamples_do_not_depend_on_the_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = np.array([0, 1, 0, 2]), np.array([0, 1, 1, 0])

    def draw() -> np.ndarray:
        chunks = identity_resamples(first, second, first == second, people=3, count=50, seed=4)
        return np.concatenate(list(chunks))

    whole = draw()
    monkeypatch.setattr("facewright.evaluation.metrics.CELLS", 28)
    np.testing.assert_array_equal(whole, draw())


def test_intervals_cover_the_truth_where_people_differ() -> None:
    """Everybody has a difficulty of their own, so pairs of one person err together."""
    people, folds, experiments = 60, 5, 60
    # The truth, from the model: similarity ± noise of 0.35 around ±0.5, shifted by difficulty.
    rng = np.random.default_rng(0)
    covered, naive = 0, 0
    truth = _accuracy_of_the_model(rng, size=400_000)
    for experiment in range(experiments):
        scores, identities = _simulate(np.random.default_rng([1, experiment]), people, folds)
        metrics = verification_metrics(
            scores, identities=identities, fmr_targets=[0.1], bootstrap=200, seed=experiment
        )
        covered += metrics["accuracy_low"] <= truth <= metrics["accuracy_high"]
        low, high = wilson(metrics["accuracy"], len(scores))
        naive += low <= truth <= high
    assert covered / experiments >= 0.93
    assert naive < covered  # pairs taken as independent would claim too much


def _simulate(
    rng: np.random.Generator, people: int, folds: int
) -> tuple[pd.DataFrame, dict[str, str]]:
    hard = rng.normal(0, 0.6, people)
    one = np.repeat(np.arange(people), 10)
    i = rng.integers(0, people, len(one))
    j = (i + rng.integers(1, people, len(one))) % people
    genuine = 0.5 - hard[one] + rng.normal(0, 0.35, len(one))
    impostor = -0.5 + rng.normal(0, 0.35, len(one))
    scores = pd.DataFrame(
        {
            "fold": np.tile(np.arange(len(one)) % folds, 2),
            "label": np.repeat([1, 0], len(one)),
            "a": [f"{k}/1" for k in (*one, *i)],
            "b": [f"{k}/2" for k in (*one, *j)],
            "similarity": np.concatenate((genuine, impostor)),
            "status": "ok",
        }
    )
    return scores, {f"{k}/{x}": str(k) for k in range(people) for x in (1, 2)}


def _accuracy_of_the_model(rng: np.random.Generator, *, size: int) -> float:
    genuine = 0.5 - rng.normal(0, 0.6, size) + rng.normal(0, 0.35, size)
    impostor = -0.5 + rng.normal(0, 0.35, size)
    cuts = np.linspace(-1, 1, 201)
    return float(max(((genuine >= t).mean() + (impostor < t).mean()) / 2 for t in cuts))


def test_refusals_reach_the_caller(make_scores: Callable) -> None:
    scores, identities = make_scores()
    with pytest.raises(EvaluationError, match="in one fold"):
        verification_metrics(scores.assign(fold=0), identities=identities, **SETTINGS)
    with pytest.raises(EvaluationError, match="has no identity"):
        verification_metrics(scores, identities={}, **SETTINGS)
    with pytest.raises(EvaluationError, match="not one pair"):
        verification_metrics(scores.iloc[:0], identities=identities, **SETTINGS)
