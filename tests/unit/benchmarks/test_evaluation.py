"""The benchmarks of the evaluation: the truth that they measure by, and what their figures say."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from benchmarks import evaluation_coverage
from benchmarks.evaluation_coverage import FMRS, Case, coverage, draw, gate, judged, truth
from benchmarks.evaluation_speed import looped_accuracy
from facewright.evaluation import verification_metrics

TINY = Case(people=200, pairs=400, finest=0.1, margin=0.03, better_by=0.04)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """One small case, in this process: another would not know of it."""
    monkeypatch.setattr(evaluation_coverage, "CASES", {"tiny": TINY})
    monkeypatch.setattr(evaluation_coverage, "worker_pool", lambda task: ThreadPoolExecutor(1))


@pytest.mark.parametrize("accuracy", [None, 0.95])
def test_the_truth_is_what_a_large_draw_shows(accuracy: float | None) -> None:
    large = Case(people=80_000, pairs=80_000, finest=0.01, accuracy=accuracy)
    (scores,), _ = draw(large, np.random.default_rng(0), shifts=(large.shift,))
    true = truth(large.shift)
    if accuracy is not None:
        assert true["accuracy"] == pytest.approx(accuracy, abs=1e-6)
    similarity, genuine = scores["similarity"].to_numpy(), scores["label"].to_numpy() == 1
    best = max(((similarity >= cut) == genuine).mean() for cut in np.linspace(0, 1, 201))
    assert best == pytest.approx(true["accuracy"], abs=0.004)
    for fmr in FMRS:
        cut = np.quantile(similarity[~genuine], 1 - fmr)
        fnmr = (similarity[genuine] < cut).mean()
        assert fnmr == pytest.approx(true[f"fnmr_at_fmr_{fmr:g}"], abs=0.012)
    cut = np.quantile(similarity[genuine], true["eer"])
    assert (similarity[~genuine] >= cut).mean() == pytest.approx(true["eer"], abs=0.006)


def test_coverage_is_the_share_of_intervals_that_hold_the_truth() -> None:
    rows = [(0.5, 0.4, 0.6, 0.49, 0.51), (0.8, 0.7, 0.9, 0.5, 0.9)]
    found = judged(np.array(rows), 0.55)
    assert found["coverage"] == 0.5
    assert found["coverage_independent"] == 0.5
    assert found["mean"] == 0.65
    assert found["mean_width"] == 0.2
    # The second interval would have to reach 2.5 times as far; 95 % of the way there is asked.
    assert found["relative_width"] == pytest.approx(1 / (0.5 + 0.95 * 2.0), abs=0.01)


@pytest.mark.usefixtures("tiny")
def test_coverage_on_a_small_case() -> None:
    found = coverage(24, 60, ["tiny"])
    assert found["coverage_experiments"] == 24
    rows = found["coverage"]["tiny"]
    # 200 impostor pairs do not support an FMR of 0.01.
    assert list(rows) == ["accuracy", "eer", "fnmr_at_fmr_0.1"]
    for figure, row in rows.items():
        assert row["truth"] == round(truth()[figure], 6)
        assert abs(row["mean"] - row["truth"]) < 0.03
        assert 18 / 24 <= row["coverage"] <= 1
        assert 0.03 < row["mean_width"] < 0.25
    shares = [row["coverage"] for row in rows.values()]
    assert found["coverage_95"] == [min(shares), max(shares)]
    assert coverage(24, 60, ["tiny"]) == found  # drawn by number


@pytest.mark.usefixtures("tiny")
def test_the_gate_on_a_small_case() -> None:
    found = gate(16, 60, ["tiny"])
    rows = found["gate"]["tiny"]
    assert list(rows) == ["accuracy", "fnmr_at_fmr_0.1"]
    for row in rows.values():
        for kind in ("equal", "at_margin"):
            assert row[kind] <= 4 / 16  # 5 % in truth: five of sixteen is a chance of 1 in 1,000
            assert row[kind] < row[f"{kind}_at_most"] < 1
        assert row["better"] <= row["twice"]
        assert row["twice"] >= 0.5  # better by 8 % of the pairs
    kinds = [row[kind] for row in rows.values() for kind in ("equal", "at_margin")]
    assert found["false_promotion_rate"] == max(kinds)


def test_loops_count_the_same_accuracy() -> None:
    (scores,), people = draw(TINY, np.random.default_rng(3))
    found = verification_metrics(scores, identities=people, fmr_targets=[0.1], bootstrap=0, seed=0)
    similarity, same, fold = (scores[name].to_numpy() for name in ("similarity", "label", "fold"))
    assert found["accuracy"] == pytest.approx(looped_accuracy(similarity, same == 1, fold))
