"""What a stage measured, read back."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from facewright.errors import FacewrightError
from facewright.evaluation.curves import det
from facewright.stages.metrics import read_roc


def test_a_curve_is_that_of_one_recognizer_from_strict_to_lax(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    genuine = np.arange(400) % 2 == 0
    curves = [
        det(rng.normal(size=400) + good * genuine, genuine).assign(recognizer=name)
        for name, good in (("teacher", 4.0), ("student", 0.0))
    ]
    pd.concat(curves).to_csv(tmp_path / "roc.csv", index=False)
    areas = {}
    for name in ("teacher", "student"):
        curve = read_roc(tmp_path, name)
        assert set(curve) == {"fpr", "tpr", "threshold"}
        assert np.isfinite(curve["threshold"]).all()  # JSON has no infinity
        assert (np.diff(curve["fpr"]) >= 0).all()
        assert (np.diff(curve["tpr"]) >= 0).all()
        assert (np.diff(curve["threshold"]) <= 0).all()
        areas[name] = np.trapezoid(curve["tpr"], curve["fpr"])
    assert areas["teacher"] > 0.99
    assert areas["student"] == pytest.approx(0.5, abs=0.1)
    with pytest.raises(FacewrightError, match=r"roc.csv has no student-int8: run evaluate again"):
        read_roc(tmp_path, "student-int8")
    with pytest.raises(FacewrightError, match="is missing: run evaluate first"):
        read_roc(tmp_path / "elsewhere", "teacher")
