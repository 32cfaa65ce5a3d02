from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facewright.errors import EvaluationError
from facewright.evaluation.folds import Folds, check_folds, correct_decisions, fold_accuracies
from facewright.evaluation.pairs import Scored, checked


def of(label: np.ndarray, similarity: np.ndarray, fold: np.ndarray) -> Scored:
    order = np.argsort(-similarity, kind="stable")
    ranked = similarity[order]
    cuts = np.append(np.flatnonzero(np.diff(ranked)) + 1, len(ranked))
    names = tuple(str(k) for k in range(fold.max() + 1))
    return Scored(ranked, label[order].astype(bool), fold[order], names, len(ranked), cuts)


def slow(scored: Scored) -> list[float]:
    """Nested loops over folds and over every threshold between neighbouring similarities."""
    ok = np.arange(scored.pairs) < scored.compared
    result = []
    for k in range(len(scored.fold_names)):
        train = [i for i in range(scored.pairs) if scored.fold[i] != k and ok[i]]
        test = [i for i in range(scored.pairs) if scored.fold[i] == k]
        values = sorted({scored.similarity[i] for i in train}, reverse=True)
        candidates = [np.nextafter(values[0], np.inf)]
        candidates += [(a + b) / 2 for a, b in pairwise(values)]
        candidates.append(values[-1])
        best, best_correct = candidates[0], -1
        for threshold in candidates:
            correct = sum((scored.similarity[i] >= threshold) == scored.genuine[i] for i in train)
            if correct > best_correct:
                best, best_correct = threshold, correct
        right = sum(
            ok[i] and bool((scored.similarity[i] >= best) == scored.genuine[i]) for i in test
        )
        result.append(right / len(test))
    return result


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("decimals", [None, 1])
def test_accuracies_agree_with_nested_loops(
    make_scores: Callable, seed: int, decimals: int | None
) -> None:
    scores, _ = make_scores(seed=seed, decimals=decimals, failures=0.05, gap=1.5, per_fold=8)
    scored, _ = checked(scores)
    fast, _ = fold_accuracies(Folds.of(scored), np.ones((1, scored.pairs), np.int32))
    np.testing.assert_allclose(fast[0], slow(scored), atol=1e-12)


@pytest.mark.parametrize("decimals", [None, 1])
def test_weights_count_like_repeated_pairs(make_scores: Callable, decimals: int | None) -> None:
    scores, _ = make_scores(decimals=decimals, failures=0.05, gap=1.5)
    scored, rows = checked(scores)
    times = np.random.default_rng(3).poisson(1.0, (5, len(rows))).astype(np.int32)
    fast, thresholds = fold_accuracies(Folds.of(scored), times)
    for k in range(len(times)):
        repeated, _ = checked(scores.iloc[np.repeat(rows, times[k])])
        again, cut = fold_accuracies(Folds.of(repeated), np.ones((1, repeated.pairs), np.int32))
        np.testing.assert_allclose(fast[k], again[0], atol=1e-12)
        np.testing.assert_allclose(thresholds[k], cut[0])


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(st.integers(-64, 64), min_size=8, max_size=30),
    scale=st.sampled_from([0.25, 0.5, 2.0, 8.0]),
)
def test_a_monotone_change_of_the_similarities_changes_no_decision(
    values: list[int], scale: float
) -> None:
    similarity = np.array(values) / 64
    label, fold = np.arange(len(values)) % 2, np.arange(len(values)) // 2 % 3
    ones = np.ones((1, len(values)), np.int32)
    plain, cut = fold_accuracies(Folds.of(of(label, similarity, fold)), ones)
    np.testing.assert_array_equal(
        plain, fold_accuracies(Folds.of(of(label, similarity * scale, fold)), ones)[0]
    )
    # Bending the scale moves the middle of a gap, so a pair of the judged fold inside the gap may
    # change sides; the pairs that the threshold was learned from may not.
    bent_cut = fold_accuracies(Folds.of(of(label, np.exp(3 * similarity), fold)), ones)[1]
    for k in range(3):
        decided = similarity[fold != k] >= cut[0, k]
        np.testing.assert_array_equal(decided, np.exp(3 * similarity[fold != k]) >= bent_cut[0, k])


def test_perfect_separation_is_right_everywhere() -> None:
    rng = np.random.default_rng(0)
    label, fold = np.tile([1, 0], 100), np.repeat(np.arange(10), 20)
    similarity = np.where(label == 1, rng.uniform(0.7, 0.9, 200), rng.uniform(0.0, 0.2, 200))
    accuracy, threshold = fold_accuracies(
        Folds.of(of(label, similarity, fold)), np.ones((1, 200), np.int32)
    )
    assert (accuracy == 1).all()
    assert ((threshold > 0.4) & (threshold < 0.5)).all()


def test_the_threshold_of_a_fold_ignores_the_fold() -> None:
    # Fold 0 alone would want a threshold near 0.35; the others want 0.75 and make it wrong.
    label = np.array([1, 0, 1, 0, 1, 0])
    similarity = np.array([0.4, 0.3, 0.9, 0.6, 0.9, 0.6])
    accuracy, threshold = fold_accuracies(
        Folds.of(of(label, similarity, np.array([0, 0, 1, 1, 2, 2]))), np.ones((1, 6), np.int32)
    )
    assert threshold[0, 0] == pytest.approx(0.75)
    assert accuracy[0, 0] == 0.5


def test_neighbouring_floats_are_told_apart() -> None:
    low = 0.3
    high = np.nextafter(low, 1)
    accuracy, _ = fold_accuracies(
        Folds.of(
            of(np.array([1, 0, 1, 0]), np.array([high, low, high, low]), np.array([0, 0, 1, 1]))
        ),
        np.ones((1, 4), np.int32),
    )
    assert accuracy.tolist() == [[1.0, 1.0]]


def test_a_failure_is_an_error_for_genuine_and_impostor_alike(make_scores: Callable) -> None:
    scores, _ = make_scores(gap=40.0)  # perfectly apart
    for label in (0, 1):
        one = scores.index[(scores["label"] == label) & (scores["fold"] == 2)][0]
        lost = scores.copy()
        lost.loc[one, ["similarity", "status"]] = [np.nan, "failure"]
        scored, _ = checked(lost)
        accuracy, _ = fold_accuracies(Folds.of(scored), np.ones((1, scored.pairs), np.int32))
        np.testing.assert_allclose(accuracy[0], [1, 1, 1 - 1 / 40, 1, 1])


def test_folds_from_which_nothing_can_be_learned_are_refused(make_scores: Callable) -> None:
    scores, _ = make_scores(folds=3)
    assert not check_folds(checked(scores.assign(fold=1))[0])  # nothing to learn from, no error
    kept = scores[(scores["label"] == 0) | (scores["fold"] == 1)]
    with pytest.raises(EvaluationError, match="only fold '1' has genuine pairs"):
        check_folds(checked(kept)[0])
    assert check_folds(checked(scores[(scores["label"] == 0) | (scores["fold"] != 1)])[0])


def test_decisions_add_up_to_the_accuracies(make_scores: Callable) -> None:
    scores, _ = make_scores(decimals=2, failures=0.05, gap=1.5)
    scored, _ = checked(scores)
    accuracy, threshold = fold_accuracies(Folds.of(scored), np.ones((1, scored.pairs), np.int32))
    right = correct_decisions(scored, threshold[0])
    assert not right[scored.compared :].any()  # a face that was not found is never right
    for k in range(5):
        assert right[scored.fold == k].mean() == pytest.approx(accuracy[0, k], abs=1e-12)
