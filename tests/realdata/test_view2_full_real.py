"""View 2 in full, tiny, on real faces: two folds, a model of one epoch each."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks import training_faces

pytestmark = pytest.mark.realdata


def accuracy(others: pd.DataFrame, own: pd.DataFrame) -> float:
    """By a loop: of one fold's pairs, at the highest threshold that is best for the other fold's.

    A pair of which a face was not found is decided wrongly.
    """

    def correct(pairs: pd.DataFrame, threshold: float) -> int:
        found = pairs[pairs["status"] == "ok"]
        return int(((found["similarity"] >= threshold) == (found["label"] == 1)).sum())

    ranked = np.unique(others["similarity"].dropna())
    between = [-1.5, *(ranked[:-1] + ranked[1:]) / 2, 1.5]
    best = max(between, key=lambda threshold: (correct(others, threshold), threshold))
    return correct(own, best) / len(own)


def test_two_folds_of_view_2_have_a_model_each(
    shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_faces, "DATA", shared_data)
    monkeypatch.setattr(training_faces, "WORK", tmp_path)
    result = training_faces.view2_full(True, 1, only=False)
    pairs = training_faces.QUICK_FOLDS * 2 * training_faces.QUICK_PAIRS
    assert result["view2_full_pairs"] == pairs
    folder = tmp_path / "quick" / "view2_full"
    scores = [
        pd.read_parquet(folder / f"fold-{fold}" / "seed-1" / "scores.parquet")
        for fold in range(training_faces.QUICK_FOLDS)
    ]
    assert sum(map(len, scores)) == pairs
    accuracies = [accuracy(scores[1], scores[0]), accuracy(scores[0], scores[1])]
    assert result["view2_full_accuracy_mean"] == pytest.approx(np.mean(accuracies), abs=1e-5)
    for fold in range(training_faces.QUICK_FOLDS):
        assert result["view2_full_folds"][str(fold)]["train_crops"] > 40
        halves = [
            set(
                pd.read_parquet(
                    folder / f"fold-{fold}" / "artifacts" / "align" / half / "manifest.parquet"
                )["identity"]
            )
            for half in ("train", "verify")
        ]
        assert not halves[0] & halves[1]
    # What is done is kept: no stage runs again.
    monkeypatch.setattr(training_faces, "facewright", None)
    assert training_faces.view2_full(True, 1, only=False) == result
