"""View 2 in full, tiny, on real faces: two folds, a model of one epoch each."""

from pathlib import Path

import pandas as pd
import pytest

from benchmarks import training_faces

pytestmark = pytest.mark.realdata


def test_two_folds_of_view_2_have_a_model_each(
    shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_faces, "DATA", shared_data)
    monkeypatch.setattr(training_faces, "WORK", tmp_path)
    result = training_faces.view2_full(True, 1, only=False)
    pairs = training_faces.QUICK_FOLDS * 2 * training_faces.QUICK_PAIRS
    assert result["view2_full_pairs"] == pairs
    assert 0 <= result["view2_full_accuracy_mean"] <= 1
    folder = tmp_path / "quick" / "view2_full"
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
