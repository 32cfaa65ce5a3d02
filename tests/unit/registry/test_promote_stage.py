"""The stages gate and promote on a real store: the graph promotes on evidence alone, and never
undoes what a person did."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from facewright.errors import EvaluationError, FacewrightError, RegistryError
from facewright.files import values_digest
from facewright.models.recognizer import read_card
from facewright.params import Gate
from facewright.registry import registration
from facewright.registry.audit import verify
from facewright.registry.decision import Rule, read_decision, write_decision
from facewright.registry.lineage import Lineage
from facewright.registry.promotion import champion, promote, register, rollback, was_rolled_back
from facewright.stages import gate as gate_stage
from facewright.stages import promote as promote_stage
from facewright.stages import register as register_stage
from tests.unit.registry.decisions import decided
from tests.unit.registry.evaluations import write_evaluation
from tests.unit.registry.recognizers import write_recognizer
from tests.unit.registry.runs import version_numbers

MODEL = "facewright"
POLICY = Gate.model_validate(
    yaml.safe_load((Path(__file__).parents[3] / "mlflow" / "promotion.yaml").read_text())
)

Graph = Callable[..., dict[str, Any]]
LINEAGE = Lineage("m5.dir", "c0ffee", "p" * 64)
OWN = {"teacher": "train", "student": "quantize", "student-int8": "quantize"}
WHERE = {  # of each recognizer's folder, and its kind
    "train/teacher": "torch",
    "distill/student": "torch",
    "quantize/student": "onnx",
    "quantize/student-int8": "onnx",
}


class Made:
    """Artifacts of a run that differ by `seed`, up to evaluate's; then the stages that follow."""

    def __init__(self, root: Path, seed: str, *, skill: float, pairs: str) -> None:
        self.root = root
        self.folders = {}
        for where, kind in WHERE.items():
            name = "student-torch" if where == "distill/student" else Path(where).name
            content = f"{seed} {name}".encode()
            made = write_recognizer(root / where, name=name, kind=kind, content=content)
            self.folders[name] = made
        (root / "compile").mkdir(exist_ok=True)
        weights = {name: read_card(made).weights_sha256 for name, made in self.folders.items()}
        self.evaluate, self.decision = root / "evaluate", root / "gate" / "decision.json"
        write_evaluation(self.evaluate, skill=skill, seed=seed, pairs=pairs, weights=weights)

    def gate(self, policy: Gate = POLICY) -> str:
        return gate_stage.run(evaluate=self.evaluate, output=self.root / "gate", params=policy)

    def register(self, policy: Gate = POLICY) -> int:
        register_stage.run(
            train=self.root / "train",
            distill=self.root / "distill",
            quantize=self.root / "quantize",
            compile=self.root / "compile",
            evaluate=self.evaluate,
            gate=self.root / "gate",
            output=self.root / "register",
            policy=policy,
            lineage=LINEAGE,
        )
        return int(json.loads((self.root / "register" / "version.json").read_text())["version"])

    def promote(self, policy: Gate = POLICY) -> dict[str, Any]:
        promote_stage.run(
            gate=self.root / "gate",
            register=self.root / "register",
            output=self.root / "promote",
            policy=policy,
        )
        text = (self.root / "promote" / "promotion.json").read_text()
        result: dict[str, Any] = json.loads(text)
        return result


@pytest.fixture
def make(store: Path) -> Callable[..., Made]:
    """Artifacts up to evaluate's, by `seed`."""

    def run(seed: str, *, skill: float = 3.0, pairs: str = "a" * 64) -> Made:
        return Made(store / seed, seed, skill=skill, pairs=pairs)

    return run


@pytest.fixture
def graph(make: Callable[..., Made]) -> Graph:
    """Gate, register and promote recognizers that differ by `seed`; returns `promotion.json`."""

    def run(seed: str, **options: Any) -> dict[str, Any]:
        made = make(seed, **options)
        outcome = made.gate()
        made.register()
        return made.promote() | {"outcome": outcome}

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
    own = {name: root / where / name for name, where in OWN.items()}

    def registered(recognizers: dict[str, Path]) -> None:
        files = sorted((root / "evaluate").iterdir())
        register(
            model=MODEL,
            folders=recognizers,
            metrics={},
            evaluation_files=files,
            decision=decision,
            lineage=LINEAGE,
        )

    with pytest.raises(RegistryError, match="the gate judged other weights of "):
        registered(other)
    write_evaluation(root / "evaluate", skill=1.0, seed="two")
    with pytest.raises(RegistryError, match="the gate judged other scores "):
        registered(own)
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
                policy=POLICY,
                lineage=LINEAGE,
            )
        assert str(error.value) == line

    found, metrics = gate / "decision.json", evaluate / "metrics.json"
    register_stage_says(f"{found} is missing: run the gate first")
    held = (Rule("accuracy", "outcome", "fail", ""),)
    unnamed = decided("hold", "student", None, held, folders={}, files=[])
    write_decision(found, unnamed)
    register_stage_says("the gate's decision names no model: run gate again")
    write_decision(found, replace(unnamed, policy={"model": "m"}))
    register_stage_says(f"{metrics} is missing: run evaluate first")
    metrics.write_text('{"student.acc')
    register_stage_says(f"{metrics} holds no JSON: run evaluate again")
    metrics.write_text("[]")
    register_stage_says(f"{metrics} lacks values: run evaluate again")
    found.unlink()

    def promote_stage_says(line: str) -> None:
        with pytest.raises(FacewrightError) as error:
            promote_stage.run(
                gate=gate, register=registered, output=tmp_path / "out", policy=POLICY
            )
        assert str(error.value) == line

    promote_stage_says(f"{gate / 'decision.json'} is missing: run the gate first")
    write_decision(gate / "decision.json", unnamed)
    promote_stage_says(f"{registered / 'version.json'} is missing: run register first")
    (registered / "version.json").write_text('{"model": "m"}')
    promote_stage_says(f"{registered / 'version.json'} lacks model, version: run register again")
    assert not (tmp_path / "out").exists()


def edit(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


def passes(values: dict[str, Any]) -> None:
    values["outcome"] = "promote"
    for rule in values["rules"]:
        rule["result"] = "pass"


def has_no_champion(values: dict[str, Any]) -> None:
    passes(values)
    values["champion"] = None


def has_a_lower_floor(values: dict[str, Any]) -> None:
    passes(values)
    values["policy"]["at_least"] = {"accuracy": 0.1}


def has_one_rule(values: dict[str, Any]) -> None:
    passes(values)
    values["rules"] = values["rules"][-1:]


@pytest.mark.parametrize("change", [passes, has_no_champion, has_a_lower_floor, has_one_rule])
@pytest.mark.parametrize("skill", [1.0, 2.4, 3.0])  # below the floor, worse, no better
def test_an_edited_decision_is_not_registered(
    graph: Graph, make: Callable[..., Made], change: Callable[..., None], skill: float
) -> None:
    graph("one")
    made = make("two", skill=skill)
    assert made.gate() != "promote"
    edit(made.decision, change)
    told = r"decision\.json is not what the gate says to this evaluation and policy \(.*rules"
    if change is has_no_champion:
        told = "the gate judged facewright when the champion was none; it is version 1 now: run"
    with pytest.raises(RegistryError, match=told):
        made.register()
    assert version_numbers() == [1]
    assert made.gate() != "promote"
    assert made.register() == 2  # as it was decided
    edit(made.decision, change)
    with pytest.raises(RegistryError, match=r"the gate says (hold|insufficient evidence) to facew"):
        made.promote()
    assert serving() == 1


def test_a_lower_floor_in_the_decision_alone_is_told(make: Callable[..., Made]) -> None:
    made = make("one", skill=1.0)
    lax = POLICY.model_copy(update={"at_least": {"accuracy": 0.1}})
    assert made.gate(lax) == "promote"
    with pytest.raises(RegistryError, match=r"to this evaluation and policy \(.*policy.* differ\)"):
        made.register()
    assert made.register(lax) == 1
    with pytest.raises(
        RegistryError, match=r"by another policy than mlflow/promotion\.yaml is now"
    ):
        made.promote()
    assert serving() is None


@pytest.mark.parametrize(
    "figures",
    [
        {"accuracy": 0.99},
        {"accuracy_low": 0.95},
        {"threshold_shift": 0.0},
        {"fnmr_at_fmr_0.1": 0.0},
        {"fnmr_at_fmr_0.001": 0.0},  # which the pairs do not support
        {"eer_high": None},
    ],
)
def test_figures_of_pairs_must_be_those_of_the_scores(
    make: Callable[..., Made], figures: dict[str, float | None]
) -> None:
    made = make("one", skill=1.0)
    (key, value) = next(iter(figures.items()))
    edit(made.evaluate / "metrics.json", lambda values: values.update({f"student.{key}": value}))
    with pytest.raises(
        EvaluationError, match=rf"metrics\.json says .* for student\.{key}, and the"
    ):
        made.gate()
    assert not made.decision.exists()


@pytest.mark.parametrize("name", ["metrics.json", "evaluation.json"])
def test_an_evaluation_that_was_edited_after_the_gate_is_not_registered(
    make: Callable[..., Made], name: str
) -> None:
    """What does not follow from the scores can be edited before the gate, and not after it."""
    made = make("one")
    assert made.gate() == "promote"

    def change(values: dict[str, Any]) -> None:
        values |= {"student-int8.latency_ms": 1.0} if name == "metrics.json" else {"notice": "!"}

    edit(made.evaluate / name, change)
    with pytest.raises(RegistryError, match=r"is not what the gate says .* \(files differ\)"):
        made.register()
    assert made.gate() == "promote"
    assert made.register() == 1


def test_each_further_challenger_needs_surer_evidence(make: Callable[..., Made]) -> None:
    """Tried often enough on the same pairs, one that is no better wins by luck."""

    def told(made: Made) -> str:
        (rule,) = (rule for rule in read_decision(made.decision).rules if rule.name == "champion")
        return rule.evidence

    first = make("one")
    first.gate()
    first.register()
    first.promote()
    for k, seed in enumerate(("two", "three", "four")):
        made = make(seed)
        made.gate()
        share = {0: "95%", 1: "97.5% (level 0.05 ÷ 2", 2: "98.33% (level 0.05 ÷ 3"}[k]
        assert f"must be better at {share}" in told(made)
        made.register()
        made.gate()  # the same one once more is no further try
        assert f"must be better at {share}" in told(made)


def test_the_same_challenger_asked_another_question_needs_surer_evidence(
    make: Callable[..., Made],
) -> None:
    """Otherwise one could try figure after figure, each at the undivided level."""

    def told(policy: Gate) -> str:
        made.gate(policy)
        (rule,) = (rule for rule in read_decision(made.decision).rules if rule.name == "champion")
        return rule.evidence

    def with_other(**champion: Any) -> Gate:
        changed = POLICY.champion.model_copy(update=champion)
        return POLICY.model_copy(update={"champion": changed})

    first = make("one")
    first.gate()
    first.register()
    first.promote()
    made = make("two")
    assert "must be better at 95%" in told(POLICY)
    made.register()
    assert "must be better at 95%" in told(POLICY)
    fp32 = POLICY.parity.model_copy(update={"min_speedup": 100.0})
    for other in (
        with_other(figure="fnmr"),
        with_other(fmr=0.2),
        POLICY.model_copy(update={"parity": fp32}),  # the student is served
    ):
        assert "must be better at 97.5% (level 0.05 ÷ 2: other tests before: 1)" in told(other)
    made.register(other)
    assert "must be better at 97.5%" in told(POLICY)


@pytest.mark.parametrize("moment", ["sound_ledger", "_enter"])
def test_a_challenger_that_another_overtook_is_not_entered(
    make: Callable[..., Made], monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """Two that are registered at once must not both be judged as the first."""
    first = make("one")
    first.gate()
    first.register()
    first.promote()
    mine, other = make("two"), make("three")
    mine.gate()
    other.gate()
    real = getattr(registration, moment)

    def late(*arguments: Any, **named: Any) -> Any:
        monkeypatch.setattr(registration, moment, real)
        other.register()
        return real(*arguments, **named)

    monkeypatch.setattr(registration, moment, late)
    told = "faster: other tests that facewright version 1 has stood: 1, and the gate knew of 0: run"
    with pytest.raises(RegistryError, match=told):
        mine.register()
    others = [1, 2 if moment == "sound_ledger" else 3]
    assert version_numbers() == others
    assert not verify(MODEL).faults
    assert not (mine.root / "register").exists()
    mine.gate()
    mine.register()
    assert len(version_numbers()) == 3
    assert not verify(MODEL).faults


def of_older_scores(values: dict[str, Any]) -> None:
    for target in values["recognizers"][2]["targets"]:
        for key in ("threshold", "low", "high"):
            target[key] += 0.01


def more_false_matches(values: dict[str, Any]) -> None:
    values["recognizers"][2]["targets"][0]["fmr"] = 0.01


def a_lesser_error(values: dict[str, Any]) -> None:
    values["recognizers"][1]["targets"][0]["fnmr"] = 0.0


def other_weights(values: dict[str, Any]) -> None:
    values["recognizers"][2]["weights_sha256"] = "0" * 64


def other_pairs(values: dict[str, Any]) -> None:
    values["recognizers"][0]["cohort"]["pairs_digest"] = "0" * 64


def no_mirror_images(values: dict[str, Any]) -> None:
    values["recognizers"][0]["flip"] = False


def another_calibration(values: dict[str, Any]) -> None:
    values["recognizers"][0]["calibration"]["slope"] *= 1.01


def one_fewer(values: dict[str, Any]) -> None:
    del values["recognizers"][0]


@pytest.mark.parametrize(
    "change",
    [
        *(of_older_scores, more_false_matches, a_lesser_error, other_weights),
        *(other_pairs, no_mirror_images, another_calibration, one_fewer),
    ],
)
def test_thresholds_must_be_those_of_the_scores(
    make: Callable[..., Made], change: Callable[..., None]
) -> None:
    """They go into the version and its card; their own digest is easily written anew."""
    made = make("one")
    path = made.evaluate / "thresholds.json"
    before = path.read_bytes()

    def edited(values: dict[str, Any]) -> None:
        change(values)
        del values["digest"]
        values["digest"] = values_digest(values)

    edit(path, edited)
    with pytest.raises(EvaluationError, match=r"thresholds\.json (says|is of) .*: run evaluate ag"):
        made.gate()
    path.write_bytes(before)
    made.gate()
    edit(path, edited)  # after the gate
    with pytest.raises(EvaluationError, match=r"thresholds\.json (says|is of) .*: run evaluate ag"):
        made.register()
    assert version_numbers() == []


def test_thresholds_of_an_earlier_run_are_refused(make: Callable[..., Made]) -> None:
    earlier, made = make("one", skill=2.9), make("two")
    shutil.copy(earlier.evaluate / "thresholds.json", made.evaluate)
    with pytest.raises(EvaluationError, match=r"thresholds\.json says .* of teacher, and the scor"):
        made.gate()


def test_the_date_of_thresholds_is_that_which_was_judged(make: Callable[..., Made]) -> None:
    made = make("one")
    made.gate()

    def later(values: dict[str, Any]) -> None:
        values["recognizers"][0]["date"] = "2020-01-31"
        del values["digest"]
        values["digest"] = values_digest(values)

    edit(made.evaluate / "thresholds.json", later)
    with pytest.raises(RegistryError, match=r"is not what the gate says .* \(files differ\)"):
        made.register()
