"""The stages gate and promote on a real store: the graph promotes on evidence alone, and never
undoes what a person did."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from facewright.errors import EvaluationError, FacewrightError, RegistryError
from facewright.models.recognizer import read_card
from facewright.params import Gate
from facewright.registry.gate import Decision, read_decision, write_decision
from facewright.registry.lineage import Lineage
from facewright.registry.promotion import champion, promote, register, rollback, was_rolled_back
from facewright.stages import gate as gate_stage
from facewright.stages import promote as promote_stage
from facewright.stages import register as register_stage
from tests.unit.registry.evaluations import write_evaluation

MODEL = "facewright"
POLICY = Gate.model_validate(
    yaml.safe_load((Path(__file__).parents[3] / "mlflow" / "promotion.yaml").read_text())
)

Graph = Callable[..., dict[str, Any]]


@pytest.fixture
def graph(store: Path, folders: Callable[[str], dict[str, Path]]) -> Graph:
    """Gate, register and promote recognizers that differ by `seed`; returns `promotion.json`."""

    def run(seed: str, *, skill: float = 3.0, pairs: str = "a" * 64) -> dict[str, Any]:
        root = store / seed
        evaluate, gate, registered = (root / name for name in ("evaluate", "gate", "register"))
        registered.mkdir(parents=True, exist_ok=True)
        recognizers = folders(seed)
        weights = {name: read_card(made).weights_sha256 for name, made in recognizers.items()}
        metrics = write_evaluation(evaluate, skill=skill, seed=seed, pairs=pairs, weights=weights)
        gate_stage.run(evaluate=evaluate, output=gate, params=POLICY)
        version = register(
            model=MODEL,
            folders=recognizers,
            metrics=metrics,
            evaluation_files=sorted(evaluate.iterdir()),
            decision=read_decision(gate / "decision.json"),
            lineage=Lineage("m5.dir", "c0ffee", "p" * 64),
        )
        (registered / "version.json").write_text(
            json.dumps({"model": MODEL, "version": version.version})
        )
        promote_stage.run(gate=gate, register=registered, output=root / "promote")
        result: dict[str, Any] = json.loads((root / "promote" / "promotion.json").read_text())
        return result | {"outcome": read_decision(gate / "decision.json").outcome}

    return run


def serving() -> int | None:
    best = champion(MODEL)
    return best.version if best else None


def test_a_good_version_is_promoted_and_running_again_changes_nothing(graph: Graph) -> None:
    expected = {"model": MODEL, "version": 1, "promoted": True, "reason": "", "outcome": "promote"}
    assert graph("one") == expected
    assert serving() == 1
    assert graph("one") == expected
    assert serving() == 1


def test_worse_equal_and_better_challengers(graph: Graph) -> None:
    graph("one")
    worse = graph("two", skill=2.4)
    assert (worse["outcome"], worse["promoted"], serving()) == ("hold", False, 1)
    assert "champion: accuracy of student-int8" in worse["reason"]
    equal = graph("three")
    assert (equal["outcome"], equal["promoted"]) == ("insufficient evidence", False)
    assert serving() == 1
    better = graph("four", skill=3.6)
    assert (better["outcome"], better["promoted"]) == ("promote", True)
    assert serving() == better["version"] == 4


def test_below_the_floor_it_is_held_and_the_reason_is_the_gates(graph: Graph) -> None:
    result = graph("one", skill=1.0)
    assert not result["promoted"]
    assert result["reason"].startswith("accuracy: ")
    assert serving() is None


def test_a_champion_on_other_pairs_is_never_replaced(graph: Graph) -> None:
    graph("one")
    result = graph("two", skill=4.0, pairs="b" * 64)
    assert (result["outcome"], result["promoted"], serving()) == ("hold", False, 1)
    assert "was evaluated on other pairs" in result["reason"]


def test_edited_scores_never_promote(graph: Graph, store: Path) -> None:
    graph("one")
    path = store / "two" / "evaluate" / "scores.parquet"

    def edited(path: Path) -> None:
        table = pd.read_parquet(path)
        table.loc[table["label"] == 1, "similarity"] = 0.99
        table.to_parquet(path, index=False)

    write_evaluation(path.parent, skill=2.9, seed="two")
    edited(path)
    gate = store / "two" / "gate"
    with pytest.raises(EvaluationError, match=r"scores\.parquet was changed after it was written"):
        gate_stage.run(evaluate=path.parent, output=gate, params=POLICY)
    assert not gate.exists()
    # Nor may those of the champion be, with which a challenger is compared.
    (kept,) = (store / "mlartifacts").rglob("evaluation/scores.parquet")
    edited(kept)
    write_evaluation(path.parent, skill=2.9, seed="two")
    with pytest.raises(RegistryError, match="scores of facewright version 1 were edited"):
        gate_stage.run(evaluate=path.parent, output=gate, params=POLICY)
    assert serving_version(store) == 1


def test_a_decision_holds_for_what_was_judged_alone(
    graph: Graph, store: Path, folders: Callable[[str], dict[str, Path]]
) -> None:
    graph("one")
    root, other = store / "one", folders("two")
    decision = read_decision(root / "gate" / "decision.json")
    lineage = Lineage("m5.dir", "c0ffee", "p" * 64)

    def registered(recognizers: dict[str, Path]) -> None:
        files = sorted((root / "evaluate").iterdir())
        register(
            model=MODEL,
            folders=recognizers,
            metrics={},
            evaluation_files=files,
            decision=decision,
            lineage=lineage,
        )

    with pytest.raises(RegistryError, match="the gate judged other weights of "):
        registered(other)
    write_evaluation(root / "evaluate", skill=1.0, seed="two")
    with pytest.raises(RegistryError, match="the gate judged other scores "):
        registered(folders("one"))
    assert serving_version(store) == 1


@pytest.mark.parametrize("missing", ["weights", "rows", "licences", "scores_digest"])
def test_an_evaluation_of_before_is_one_line(store: Path, missing: str) -> None:
    write_evaluation(store / "evaluate", skill=3.0)
    path = store / "evaluate" / "evaluation.json"
    facts = json.loads(path.read_text())
    del facts[missing]
    path.write_text(json.dumps(facts))
    with pytest.raises(EvaluationError, match=rf"evaluation\.json lacks {missing}: run evaluate"):
        gate_stage.run(evaluate=store / "evaluate", output=store / "gate", params=POLICY)


def serving_version(store: Path) -> int:
    from facewright.registry.tracking import connect

    return int(connect().get_model_version_by_alias(MODEL, "champion").version)


def test_what_a_person_rolled_back_stays_back_until_a_person_promotes_it(
    graph: Graph, capsys: pytest.CaptureFixture[str]
) -> None:
    graph("one")
    assert graph("two", skill=3.6)["promoted"]
    rollback(MODEL)
    capsys.readouterr()
    result = graph("two", skill=3.6)  # the gate, against version 1 once more, says `promote`
    assert (result["version"], result["promoted"]) == (2, False)
    assert result["reason"] == "it was rolled back: `facewright promote 2` brings it in again"
    assert "promote: facewright version 2 is not promoted: it was rolled back" in (
        capsys.readouterr().err
    )
    assert serving() == 1
    assert was_rolled_back(MODEL, 2)

    promote(MODEL, 2)
    assert graph("two", skill=3.6)["promoted"]
    assert serving() == 2


def test_another_version_after_a_rollback_is_promoted(graph: Graph) -> None:
    graph("one")
    graph("two", skill=3.6)
    rollback(MODEL)
    assert graph("three", skill=3.7)["promoted"]
    assert serving() == 3


def test_inputs_that_are_missing_are_one_line_with_the_stage_to_run(tmp_path: Path) -> None:
    gate, evaluate, registered = (tmp_path / name for name in ("gate", "evaluate", "register"))
    for folder in (gate, evaluate, registered):
        folder.mkdir()

    def register_stage_says(line: str) -> None:
        with pytest.raises(FacewrightError) as error:
            register_stage.run(
                train=tmp_path,
                distill=tmp_path,
                quantize=tmp_path,
                compile=tmp_path,
                evaluate=evaluate,
                gate=gate,
                output=tmp_path / "out",
                lineage=Lineage("m5.dir", "c0ffee", "p" * 64),
            )
        assert str(error.value) == line

    found, metrics = gate / "decision.json", evaluate / "metrics.json"
    register_stage_says(f"{found} is missing: run the gate first")
    write_decision(found, Decision("hold", "student", None, "a" * 64, ()))
    register_stage_says("the gate's decision names no model: run gate again")
    named = Decision("hold", "student", None, "a" * 64, (), policy={"model": "m"})
    write_decision(found, named)
    register_stage_says(f"{metrics} is missing: run evaluate first")
    metrics.write_text('{"student.acc')
    register_stage_says(f"{metrics} holds no JSON: run evaluate again")
    metrics.write_text("[]")
    register_stage_says(f"{metrics} lacks values: run evaluate again")
    found.unlink()

    def promote_stage_says(line: str) -> None:
        with pytest.raises(FacewrightError) as error:
            promote_stage.run(gate=gate, register=registered, output=tmp_path / "out")
        assert str(error.value) == line

    promote_stage_says(f"{gate / 'decision.json'} is missing: run the gate first")
    write_decision(gate / "decision.json", Decision("hold", "student", None, "a" * 64, ()))
    promote_stage_says(f"{registered / 'version.json'} is missing: run register first")
    (registered / "version.json").write_text('{"model": "m"}')
    promote_stage_says(f"{registered / 'version.json'} lacks model, version: run register again")
    assert not (tmp_path / "out").exists()
