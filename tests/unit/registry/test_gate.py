"""The gate's table of cases, and that nothing unclear ever promotes."""

from pathlib import Path

import pytest

from facewright.errors import RegistryError
from facewright.registry.gate import Champion, decide, read_decision, write_decision

POLICY = {
    "model": "facewright",
    "min_accuracy": 0.85,
    "max_int8_accuracy_drop": 0.02,
    "min_int8_speedup": 1.0,
    "max_accuracy_drop_from_champion": 0.01,
}
PAIRS = "a" * 64


def metrics(
    fp32: float = 0.92, int8: float = 0.92, fp32_ms: float = 4.0, int8_ms: float = 2.0
) -> dict[str, float]:
    return {
        "teacher.accuracy": 0.94,
        "student.accuracy": fp32,
        "student-int8.accuracy": int8,
        "student.latency_ms": fp32_ms,
        "student-int8.latency_ms": int8_ms,
    }


def champion(accuracy: float, *, pairs: str = PAIRS, serve: str = "student-int8") -> Champion:
    return Champion(
        version=3, serve=serve, metrics={f"{serve}.accuracy": accuracy}, pairs_digest=pairs
    )


@pytest.mark.parametrize(
    ("values", "serve"),
    [
        (metrics(), "student-int8"),
        (metrics(int8=0.95), "student-int8"),  # better
        (metrics(int8=0.90), "student-int8"),  # worse by exactly the margin: 0.92 - 0.90 > 0.02
        (metrics(int8=0.899), "student"),  # worse by more
        (metrics(int8_ms=4.0), "student-int8"),  # as fast
        (metrics(int8_ms=4.1), "student"),  # slower
        (metrics(int8=0.5, int8_ms=9.0), "student"),
        (metrics(int8=float("nan")), "student"),
        (metrics(int8_ms=float("nan")), "student"),
        (metrics(fp32_ms=0.0, int8_ms=0.0), "student-int8"),
    ],
)
def test_int8_serves_only_if_good_and_fast_enough(values: dict[str, float], serve: str) -> None:
    decision = decide(values, pairs_digest=PAIRS, policy=POLICY, champion=None)
    assert decision.serve == serve
    assert decision.outcome == "promote"  # the choice alone holds nothing back


def test_speedup_is_a_ratio() -> None:
    policy = POLICY | {"min_int8_speedup": 2.0}
    for int8_ms, serve in ((2.0, "student-int8"), (2.1, "student")):
        decision = decide(
            metrics(int8_ms=int8_ms), pairs_digest=PAIRS, policy=policy, champion=None
        )
        assert decision.serve == serve


@pytest.mark.parametrize(
    ("values", "outcome"),
    [
        (metrics(0.85, 0.85), "promote"),
        (metrics(0.85, 0.84), "hold"),  # INT8 serves and is below the floor
        (metrics(0.85, 0.80), "promote"),  # FP32 serves instead
        (metrics(0.849, 0.80), "hold"),
        (metrics(float("nan"), float("nan")), "hold"),
        (metrics(float("nan"), 0.9), "hold"),
    ],
)
def test_floor_is_for_what_serves(values: dict[str, float], outcome: str) -> None:
    decision = decide(values, pairs_digest=PAIRS, policy=POLICY, champion=None)
    assert decision.outcome == outcome


@pytest.mark.parametrize(
    ("best", "outcome"),
    [
        (champion(0.92), "promote"),  # equal
        (champion(0.90), "promote"),  # the challenger is better
        (champion(0.93), "promote"),  # worse by exactly the margin
        (champion(0.9301), "hold"),  # worse by more
        (champion(0.95, serve="student"), "hold"),  # what the champion serves is what counts
        (champion(float("nan")), "hold"),
        (champion(0.10, pairs="b" * 64), "hold"),  # other pairs: no comparison, however good
        (champion(0.10, pairs=""), "hold"),  # registered by something else
        (Champion(version=3, serve="student", metrics={}, pairs_digest=PAIRS), "hold"),
    ],
)
def test_no_worse_than_the_champion_on_the_same_pairs(best: Champion, outcome: str) -> None:
    decision = decide(metrics(), pairs_digest=PAIRS, policy=POLICY, champion=best)
    assert decision.outcome == outcome
    assert decision.champion == 3
    assert "version 3" in decision.rules[-1].evidence
    if outcome == "hold":
        assert decision.reason.startswith("champion: ")


def test_other_pairs_name_both_and_the_way_out() -> None:
    best = champion(0.10, pairs="b" * 64)
    decision = decide(metrics(), pairs_digest=PAIRS, policy=POLICY, champion=best)
    evidence = decision.rules[-1].evidence
    assert "version 3 was evaluated on other pairs (bbbbbbbbbbbb, now aaaaaaaaaaaa)" in evidence
    assert "register under another `model` in the policy" in evidence
    assert "\n" not in evidence


def test_evidence_is_one_line_with_the_numbers() -> None:
    values = metrics(0.9211, 0.9133, 4.25, 1.75) | {
        "student-int8.accuracy_low": 0.8912,
        "student-int8.accuracy_high": 0.9301,
    }
    decision = decide(values, pairs_digest=PAIRS, policy=POLICY, champion=champion(0.9155))
    evidence = {rule.name: rule.evidence for rule in decision.rules}
    assert {"0.9133", "0.9211", "0.0078"} <= set(_numbers(evidence["int8_accuracy"]))
    assert {"1.750", "4.250"} <= set(_numbers(evidence["int8_speed"]))
    assert {"0.9133", "0.8912", "0.9301", "0.8500"} <= set(_numbers(evidence["min_accuracy"]))
    assert {"0.9133", "0.9155", "0.0022"} <= set(_numbers(evidence["champion"]))
    assert all("\n" not in line for line in evidence.values())


def _numbers(text: str) -> list[str]:
    return "".join(c if c.isdigit() or c == "." else " " for c in text).split()


@pytest.mark.parametrize("key", ["student.accuracy", "student-int8.latency_ms"])
def test_missing_metric_is_refused_by_name(key: str) -> None:
    values = metrics()
    del values[key]
    with pytest.raises(RegistryError, match=key):
        decide(values, pairs_digest=PAIRS, policy=POLICY, champion=None)


def test_decision_survives_its_file(tmp_path: Path) -> None:
    decision = decide(metrics(), pairs_digest=PAIRS, policy=POLICY, champion=champion(0.99))
    path = tmp_path / "decision.json"
    write_decision(path, decision)
    assert read_decision(path) == decision


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"rules": []}', '{"rules": [{"name": "x"}]}'])
def test_file_without_a_decision_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "decision.json"
    path.write_text(text)
    with pytest.raises(RegistryError, match="holds no decision"):
        read_decision(path)
    with pytest.raises(RegistryError, match="run the gate first"):
        read_decision(tmp_path / "none.json")
