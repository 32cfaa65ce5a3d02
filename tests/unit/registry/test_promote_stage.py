"""The stages gate and promote on a real store: the graph never undoes what a person did."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from facewright.params import Gate
from facewright.registry.gate import read_decision
from facewright.registry.lineage import Lineage
from facewright.registry.promotion import champion, promote, register, rollback, was_rolled_back
from facewright.stages import gate as gate_stage
from facewright.stages import promote as promote_stage

MODEL = "facewright"
POLICY = Gate(
    model=MODEL,
    min_accuracy=0.85,
    max_int8_accuracy_drop=0.02,
    min_int8_speedup=1.0,
    max_accuracy_drop_from_champion=0.01,
)

Graph = Callable[..., dict[str, Any]]


@pytest.fixture
def graph(store: Path, folders: Callable[[str], dict[str, Path]]) -> Graph:
    """Gate, register and promote recognizers that differ by `seed`; returns `promotion.json`."""

    def run(seed: str, *, accuracy: float = 0.92) -> dict[str, Any]:
        root = store / seed
        evaluate, gate, registered = (root / name for name in ("evaluate", "gate", "register"))
        for folder in (evaluate, registered):
            folder.mkdir(parents=True, exist_ok=True)
        metrics = {
            "student.accuracy": accuracy,
            "student-int8.accuracy": accuracy,
            "student.latency_ms": 4.0,
            "student-int8.latency_ms": 2.0,
        }
        (evaluate / "metrics.json").write_text(json.dumps(metrics))
        (evaluate / "evaluation.json").write_text(json.dumps({"pairs_digest": "a" * 64}))
        gate_stage.run(evaluate=evaluate, output=gate, params=POLICY)
        version = register(
            model=MODEL,
            folders=folders(seed),
            metrics=metrics,
            evaluation_files=[],
            decision=read_decision(gate / "decision.json"),
            lineage=Lineage("m5.dir", "c0ffee", "p" * 64),
        )
        (registered / "version.json").write_text(
            json.dumps({"model": MODEL, "version": version.version})
        )
        promote_stage.run(gate=gate, register=registered, output=root / "promote")
        result: dict[str, Any] = json.loads((root / "promote" / "promotion.json").read_text())
        return result

    return run


def serving() -> int | None:
    best = champion(MODEL)
    return best.version if best else None


def test_a_good_version_is_promoted_and_running_again_changes_nothing(graph: Graph) -> None:
    expected = {"model": MODEL, "version": 1, "promoted": True, "reason": ""}
    assert graph("one") == expected
    assert serving() == 1
    assert graph("one") == expected
    assert serving() == 1


def test_a_held_version_is_not_promoted_and_the_reason_is_the_gates(graph: Graph) -> None:
    result = graph("one", accuracy=0.6)
    assert not result["promoted"]
    assert result["reason"].startswith("min_accuracy: ")
    assert serving() is None


def test_what_a_person_rolled_back_stays_back_until_a_person_promotes_it(
    graph: Graph, capsys: pytest.CaptureFixture[str]
) -> None:
    graph("one")
    assert graph("two")["promoted"]
    rollback(MODEL)
    capsys.readouterr()
    result = graph("two")  # the gate, against version 1 once more, says `promote`
    assert (result["version"], result["promoted"]) == (2, False)
    assert result["reason"] == "it was rolled back: `facewright promote 2` brings it in again"
    assert "promote: facewright version 2 is not promoted: it was rolled back" in (
        capsys.readouterr().err
    )
    assert serving() == 1
    assert was_rolled_back(MODEL, 2)

    promote(MODEL, 2)
    assert graph("two") == {"model": MODEL, "version": 2, "promoted": True, "reason": ""}
    assert serving() == 2


def test_another_version_after_a_rollback_is_promoted(graph: Graph) -> None:
    graph("one")
    graph("two")
    rollback(MODEL)
    assert graph("three")["promoted"]
    assert serving() == 3
