import json
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from facewright.errors import EvaluationError
from facewright.evaluation import verification_metrics
from facewright.evaluation.intervals import clopper_pearson, fmr_bound, wilson
from facewright.evaluation.metrics import _ends

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


def test_below_the_finest_target_there_is_a_bound(make_scores: Callable) -> None:
    scores, identities = make_scores(per_fold=40, failures=0.05)
    metrics = verification_metrics(scores, identities=identities, **SETTINGS)
    found = scores[scores["status"] == "ok"]
    impostor, genuine = (found.loc[found["label"] == k, "similarity"] for k in (0, 1))
    assert metrics["fmr_bound"] == fmr_bound(len(impostor))
    threshold = metrics["threshold_at_fmr_bound"]
    assert threshold == np.nextafter(impostor.max(), np.inf)
    total = (scores["label"] == 1).sum()
    assert metrics["fnmr_at_fmr_bound"] == pytest.approx(1 - (genuine >= threshold).sum() / total)
    low, high = metrics["fnmr_at_fmr_bound_low"], metrics["fnmr_at_fmr_bound_high"]
    assert low < metrics["fnmr_at_fmr_bound"] < high
    assert "threshold_at_fmr_bound_low" not in metrics


def test_without_folds_the_figures_by_folds_are_left_out(make_scores: Callable) -> None:
    scores, identities = make_scores(per_fold=40)
    whole = verification_metrics(scores, identities=identities, **SETTINGS)
    plain = verification_metrics(scores.assign(fold=0), identities=identities, **SETTINGS)
    assert {name for name in whole if name not in plain} == {
        "accuracy",
        "accuracy_low",
        "accuracy_high",
        "accuracy_se",
    }
    key = "threshold_accuracy"
    assert {**plain, key: 0} == {name: whole[name] for name in plain} | {key: 0}


@pytest.mark.parametrize(("seed", "impostors"), [(0, 1), (1, 1), (2, 20)])
def test_without_folds_the_threshold_is_that_of_the_fewest_errors(
    make_scores: Callable, seed: int, impostors: int
) -> None:
    """Also where there are many more impostor pairs, which must not count for more."""
    scores, identities = make_scores(seed=seed, failures=0.05, decimals=2, per_fold=30)
    scores["fold"] = 0
    many = [
        scores[scores["label"] == 0].assign(a=lambda f, k=k: f["a"] + f"#{k}")  # type: ignore[misc]
        for k in range(1, impostors)
    ]
    scores = pd.concat([scores, *many], ignore_index=True)
    identities |= {name: name.partition("/")[0] for name in scores["a"]}
    metrics = verification_metrics(scores, identities=identities, **SETTINGS | {"bootstrap": 0})
    found, genuine = scores["status"] == "ok", scores["label"] == 1
    similar = np.sort(scores["similarity"].dropna().unique())

    def wrong(threshold: float) -> float:
        accepted = found & (scores["similarity"] >= threshold)
        fnmr = 1 - accepted[genuine].mean()
        return float(fnmr + accepted[found & ~genuine].mean())

    fewest = min(map(wrong, similar))
    assert wrong(metrics["threshold_accuracy"]) == pytest.approx(fewest)
    best = max(value for value in similar if wrong(value) <= fewest + 1e-12)
    below = similar[similar < best].max()
    assert metrics["threshold_accuracy"] == pytest.approx((best + below) / 2)


def test_without_resamples_there_are_figures_and_no_intervals(make_scores: Callable) -> None:
    scores, identities = make_scores(per_fold=40)
    whole = verification_metrics(scores, identities=identities, **SETTINGS)
    bare = verification_metrics(scores, identities=identities, **SETTINGS | {"bootstrap": 0})
    assert bare == {k: v for k, v in whole.items() if not k.endswith(("_low", "_high"))}


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
    people = metrics["identities"]
    assert people < 100
    for name, value in (("accuracy", 1.0), ("fnmr_at_fmr_0.1", 0.0), ("eer", 0.0)):
        ends = (metrics[f"{name}_low"], metrics[f"{name}_high"])
        assert ends == pytest.approx(wilson(value, people)), name


@pytest.mark.parametrize("errors", [1, 2, 5])
def test_a_few_errors_have_an_interval_near_the_exact_one(
    make_scores: Callable, errors: int
) -> None:
    scores, identities = make_scores(gap=40.0, people=2000, per_fold=300)
    wrong = scores.index[scores["label"] == 1][:errors]
    scores.loc[wrong, "similarity"] = -0.9
    metrics = verification_metrics(scores, identities=identities, **SETTINGS | {"bootstrap": 1000})
    low, high = clopper_pearson(errors, 1500)
    assert metrics["fnmr_at_fmr_0.1"] == errors / 1500
    assert metrics["fnmr_at_fmr_0.1_high"] == pytest.approx(high, rel=0.35)
    assert 0 <= metrics["fnmr_at_fmr_0.1_low"] < 2.5 * low + 0.1 / 1500


def test_a_detector_that_finds_nothing_scores_nothing(make_scores: Callable) -> None:
    scores, identities = make_scores(failures=1.1)
    metrics = verification_metrics(scores, identities=identities, **SETTINGS)
    assert metrics["accuracy"] == metrics["auc"] == 0
    assert metrics["eer"] == metrics["fmr_bound"] == 1
    assert metrics["failures"] == 200
    assert not [name for name in metrics if name.startswith(("fnmr", "threshold_at"))]


@pytest.mark.parametrize("noise", [0.0, 1e-8])
def test_scores_that_are_all_alike_are_refused(make_scores: Callable, noise: float) -> None:
    """A recognizer that collapsed: no figure, and no interval of width zero, says a thing."""
    scores, identities = make_scores(per_fold=20)
    alike = 0.5 + noise * np.random.default_rng(0).random(len(scores))
    with pytest.raises(EvaluationError, match="all 200 pairs that were compared have one simil"):
        verification_metrics(scores.assign(similarity=alike), identities=identities, **SETTINGS)


def test_intervals_cover_the_truth_where_people_differ() -> None:
    """Everybody has a difficulty of their own, so pairs of one person err together."""
    people, folds, experiments = 60, 5, 60
    # The truth, from the model: similarity ± noise of 0.35 around ±0.5, shifted by difficulty.
    rng = np.random.default_rng(0)
    covered, naive = 0, 0
    accuracies, widths = [], []
    truth = _accuracy_of_the_model(rng, size=400_000)
    for experiment in range(experiments):
        scores, identities = _simulate(np.random.default_rng([1, experiment]), people, folds)
        metrics = verification_metrics(
            scores, identities=identities, fmr_targets=[0.1], bootstrap=200, seed=experiment
        )
        covered += metrics["accuracy_low"] <= truth <= metrics["accuracy_high"]
        low, high = wilson(metrics["accuracy"], len(scores))
        naive += low <= truth <= high
        accuracies.append(metrics["accuracy"])
        widths.append(metrics["accuracy_high"] - metrics["accuracy_low"])
    # Not so wide that they could not miss: a normal interval of the experiments' spread is 1.
    assert 0.9 < np.mean(widths) / (2 * 1.96 * np.std(accuracies, ddof=1)) < 1.4
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
            "a": [f"{k}/{n}a" for n, k in enumerate((*one, *i))],
            "b": [f"{k}/{n}b" for n, k in enumerate((*one, *j))],
            "similarity": np.concatenate((genuine, impostor)),
            "status": "ok",
        }
    )
    return scores, {x: x.partition("/")[0] for x in (*scores["a"], *scores["b"])}


def _accuracy_of_the_model(rng: np.random.Generator, *, size: int) -> float:
    genuine = 0.5 - rng.normal(0, 0.6, size) + rng.normal(0, 0.35, size)
    impostor = -0.5 + rng.normal(0, 0.35, size)
    cuts = np.linspace(-1, 1, 201)
    return float(max(((genuine >= t).mean() + (impostor < t).mean()) / 2 for t in cuts))


def test_refusals_reach_the_caller(make_scores: Callable) -> None:
    scores, identities = make_scores()
    alone = scores[(scores["label"] == 0) | (scores["fold"] == 1)]
    with pytest.raises(EvaluationError, match="only fold '1' has genuine pairs"):
        verification_metrics(alone, identities=identities, **SETTINGS)
    with pytest.raises(EvaluationError, match="is there twice"):
        verification_metrics(pd.concat([scores] * 2), identities=identities, **SETTINGS)
    with pytest.raises(EvaluationError, match="has no identity"):
        verification_metrics(scores, identities={}, **SETTINGS)
    with pytest.raises(EvaluationError, match="not one pair"):
        verification_metrics(scores.iloc[:0], identities=identities, **SETTINGS)


@pytest.mark.parametrize("errors", [0, 1, 9])
@pytest.mark.parametrize("people", [20, 2000])
def test_hardly_any_error_claims_no_certainty(errors: int, people: int) -> None:
    """One resample in a hundred that differs by a hair must not make an interval of a hair, nor
    500 pairs of 20 people one of 500 trials."""
    trials = 500
    deviation = np.zeros(100)
    deviation[0] = 1e-3  # on the scale of log-odds
    for value in (errors / trials, 1 - errors / trials):
        low, high = _ends(value, deviation, trials=trials, people=people)
        least = wilson(value, min(trials, people))
        assert low <= least[0]
        assert high >= least[1]
