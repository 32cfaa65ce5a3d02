"""Registering, promoting and rolling back in a real store."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from facewright.errors import EngineError, RegistryError
from facewright.models.recognizer import read_card
from facewright.registry.decision import Decision, Rule
from facewright.registry.lineage import Lineage
from facewright.registry.promotion import (
    Version,
    champion,
    promote,
    register,
    rollback,
    was_rolled_back,
)
from facewright.registry.tracking import RECOGNIZER_TAG, connect, track
from tests.unit.registry.decisions import decided, evaluation_files
from tests.unit.registry.runs import runs, version_numbers

MODEL = "facewright"
PAIRS = "a" * 64
LINEAGE = Lineage(data_md5="m5.dir", git_commit="c0ffee", params_digest="p" * 64)
METRICS = {
    "student.accuracy": 0.92,
    "student-int8.accuracy": 0.91,
    "student.latency_ms": 4.0,
    "student-int8.latency_ms": 2.0,
    "teacher.fnmr_at_fmr_0.001": float("nan"),
}
LEAST = 0.85

Go = Callable[..., Version]


@pytest.fixture
def go(store: Path, folders: Callable[..., dict[str, Path]]) -> Go:
    """Gate and register recognizers that differ by `seed`."""
    report = store / "report.html"
    report.write_text("<html></html>")

    def run(
        seed: str,
        *,
        metrics: Mapping[str, float] = METRICS,
        serve: str = "student-int8",
        engine: bytes | None = None,
        change: Callable[[Decision], Decision] = lambda decision: decision,
        **policy: Any,
    ) -> Version:
        made = folders(seed, engine=engine)
        files = evaluation_files(store / "evaluation")
        decision = gated(
            metrics["student-int8.accuracy"], serve=serve, folders=made, files=files, policy=policy
        )
        return register(
            model=MODEL,
            folders=made,
            metrics=metrics,
            evaluation_files=[report, *files],
            decision=change(decision),
            lineage=LINEAGE,
        )

    return run


def gated(accuracy: float, *, serve: str, **given: Any) -> Decision:
    """What a gate with one rule says, against the champion that serves now."""
    passed = accuracy >= LEAST
    evidence = f"student-int8 {accuracy:.4f}, at least {LEAST}"
    rule = Rule("accuracy", "outcome", "pass" if passed else "fail", evidence)
    serving = champion(MODEL)
    against = serving.version if serving else None
    return decided("promote" if passed else "hold", serve, against, (rule,), pairs=PAIRS, **given)


def test_a_version_holds_everything(go: Go, store: Path) -> None:
    version = go("one")
    assert (version.version, version.serve, version.aliases) == (1, "student-int8", ("challenger",))
    tags = version.tags
    assert tags["facewright.data_md5"] == "m5.dir"
    assert tags["facewright.git_commit"] == "c0ffee"
    assert tags["facewright.params_digest"] == "p" * 64
    assert tags["facewright.pairs_digest"] == PAIRS
    assert tags["facewright.data_digest"] == "d" * 64
    assert tags["facewright.outcome"] == "promote"

    import mlflow

    client = connect()
    got = store / "got"
    got.mkdir()
    uri = client.tracking_uri
    mlflow.artifacts.download_artifacts(
        f"models:/{MODEL}@challenger", dst_path=str(got), tracking_uri=uri, registry_uri=uri
    )
    for name in ("teacher", "student", "student-int8"):
        assert read_card(got / "recognizers" / name).name == name
    served = read_card(got / "recognizers" / version.serve)
    assert tags["facewright.served_digest"] == served.weights_sha256
    assert (got / "evaluation" / "report.html").read_text() == "<html></html>"
    about = json.loads((got / "version.json").read_text())
    assert about["facewright.serve"] == "student-int8"
    assert client.get_run(version.run_id).data.metrics["student.accuracy"] == 0.92


def test_the_training_run_is_the_parent(go: Go, folders: Callable[..., dict[str, Path]]) -> None:
    digest = read_card(folders("one")["teacher"]).weights_sha256
    with track("train", params={}, tags={RECOGNIZER_TAG: digest}) as run:
        pass
    version = go("one")
    assert version.tags["facewright.parent_run"] == run.run_id
    tags = connect().get_run(version.run_id).data.tags
    assert tags["mlflow.parentRunId"] == run.run_id
    assert "facewright.parent_run" not in go("two").tags


def test_registering_twice_registers_once(go: Go) -> None:
    figures = METRICS | {"student-sm86.fnmr_at_fmr_0.001": 0.7, "student-sm86.accuracy": 0.92}
    first = go("one", engine=b"build 1", metrics=figures)
    assert go("one", engine=b"build 1", metrics=figures) == first
    # Timings are never the same twice, nor are the bytes of an engine that is built again and
    # with them the last digits of its figures.
    later = {
        "student.latency_ms": 4.1,
        "student-sm86.fnmr_at_fmr_0.001": 0.69,
        "student-sm86.accuracy": 0.9201,
    }
    assert go("one", engine=b"build 2", metrics=figures | later).version == 1
    # On a machine that cannot run the engine its figures are missing.
    assert go("one", engine=b"build 2").version == 1
    assert version_numbers() == [1]
    assert len(runs()) == 1


def test_other_content_is_another_version(go: Go) -> None:
    go("one")
    assert go("two").version == 2
    assert go("two", metrics=METRICS | {"student.accuracy": 0.921}).version == 3
    assert go("two", metrics=METRICS | {"teacher.fnmr_at_fmr_0.001": 0.5}).version == 4
    again = go("one")
    assert (again.version, again.aliases) == (1, ("challenger",))
    assert version_numbers() == [1, 2, 3, 4]


@pytest.mark.parametrize(
    "step", ["log_artifacts", "log_artifact", "log_batch", "create_model_version"]
)
def test_an_interrupted_registration_is_completed(
    go: Go, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    def down(*arguments: Any, **named: Any) -> None:
        raise mlflow.MlflowException("the server went away")

    with monkeypatch.context() as patch:
        patch.setattr(mlflow.MlflowClient, step, down)
        with pytest.raises(RegistryError, match="cannot be registered: the server went away"):
            go("one")
    assert version_numbers() == []
    version = go("one")
    assert version_numbers() == [1]
    assert [run.info.status for run in runs()] == ["FINISHED"]
    client = connect()
    files = {f.path for f in client.list_artifacts(version.run_id, "model/recognizers/student")}
    assert len(files) == 2
    assert client.list_artifacts(version.run_id, "model/evaluation")
    assert promote(MODEL).version == 1


def test_a_kill_before_the_alias_is_completed(go: Go, monkeypatch: pytest.MonkeyPatch) -> None:
    import mlflow

    def killed(*arguments: Any, **named: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(mlflow.MlflowClient, "set_registered_model_alias", killed)
        with pytest.raises(KeyboardInterrupt):
            go("one")
    assert go("one").aliases == ("challenger",)
    assert version_numbers() == [1]


def test_promote_and_roll_back(go: Go) -> None:
    assert champion(MODEL) is None
    go("one")
    assert champion(MODEL) is None
    first = promote(MODEL)
    assert set(first.aliases) == {"champion", "challenger"}
    assert promote(MODEL, 1) == first  # nothing to do
    best = champion(MODEL)
    assert best is not None
    assert (best.version, best.serve, best.pairs_digest) == (1, "student-int8", PAIRS)
    assert best.served_digest == first.tags["facewright.served_digest"]
    assert best.scores is not None

    for number, seed in ((2, "two"), (3, "three")):
        go(seed)
        assert promote(MODEL).version == number
        assert champion(MODEL).version == number

    back = rollback(MODEL)
    assert (back.version, back.aliases) == (2, ("champion",))
    assert rollback(MODEL).version == 1
    with pytest.raises(RegistryError, match="version 1 replaced no champion"):
        rollback(MODEL)
    assert promote(MODEL, 2).version == 2  # its decision was against version 1
    assert rollback(MODEL).version == 1


def test_a_person_takes_back_and_a_person_brings_in_again(go: Go) -> None:
    go("one")
    promote(MODEL)
    go("two")
    promote(MODEL)
    assert not was_rolled_back(MODEL, 2)
    rollback(MODEL)
    assert was_rolled_back(MODEL, 2)
    assert not was_rolled_back(MODEL, 1)
    assert go("two").version == 2
    assert was_rolled_back(MODEL, 2)  # to gate and register it again is no person's promotion
    assert champion(MODEL).version == 1  # type: ignore[union-attr]
    assert "champion" in promote(MODEL, 2).aliases
    assert not was_rolled_back(MODEL, 2)
    with pytest.raises(RegistryError, match="has no version 7"):
        was_rolled_back(MODEL, 7)


def test_stages_are_never_used(go: Go) -> None:
    go("one")
    promote(MODEL)
    assert connect().get_model_version(MODEL, "1").current_stage == "None"


def test_a_held_version_is_not_promoted(go: Go) -> None:
    go("one", metrics=METRICS | {"student.accuracy": 0.8, "student-int8.accuracy": 0.8})
    with pytest.raises(RegistryError, match=r"says hold to facewright version 1: accuracy: .*0\.8"):
        promote(MODEL)
    assert champion(MODEL) is None


def test_a_decision_against_an_older_champion_does_not_count(go: Go) -> None:
    go("one")
    promote(MODEL)
    go("two")
    go("three")
    promote(MODEL, 2)
    with pytest.raises(RegistryError, match="champion was version 1; it is version 2 now"):
        promote(MODEL, 3)
    assert go("three").version == 3  # gated anew, against version 2
    assert promote(MODEL, 3).version == 3
    paths = connect().list_artifacts(promote(MODEL, 3).run_id, "decisions")
    assert len(paths) == 2  # both decisions are kept


def test_gating_the_champion_against_itself_changes_nothing(go: Go) -> None:
    go("one")
    before = promote(MODEL)
    assert go("one") == before


def test_an_edited_decision_is_refused(go: Go, store: Path) -> None:
    go("one", metrics=METRICS | {"student.accuracy": 0.8, "student-int8.accuracy": 0.8})
    (path,) = (store / "mlartifacts").rglob("decisions/*.json")
    path.write_text(path.read_text().replace('"hold"', '"promote"'))
    with pytest.raises(RegistryError, match="was edited"):
        promote(MODEL)


def test_what_is_not_there_is_one_line(go: Go) -> None:
    for call in (promote, rollback):
        with pytest.raises(RegistryError, match="no registered model 'facewright'"):
            call(MODEL)
    go("one")
    with pytest.raises(RegistryError, match="has no version 7: there are 1"):
        promote(MODEL, 7)
    with pytest.raises(RegistryError, match="no champion to roll back from"):
        rollback(MODEL)
    connect().create_registered_model("made-by-hand")
    with pytest.raises(RegistryError, match="the ledger of made-by-hand has no version: register"):
        promote("made-by-hand")


def test_recognizers_are_checked_before_anything_is_written(
    go: Go, store: Path, folders: Callable[..., dict[str, Path]]
) -> None:
    with pytest.raises(RegistryError, match="'student-int4', which is not among"):
        go("one", serve="student-int4")
    files = evaluation_files(store / "evaluation")
    other = decided("promote", "student-int4", None, folders=folders("one"), files=files)
    broken = folders("one")
    (broken["teacher"] / "model.safetensors").write_bytes(b"other")
    with pytest.raises(EngineError, match="digest"):
        register(
            model=MODEL,
            folders=broken,
            metrics=METRICS,
            evaluation_files=[],
            decision=other,
            lineage=LINEAGE,
        )
    assert connect().get_experiment_by_name("facewright") is None


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"weights": {}}, "names no weights of student-int8, which it serves"),
        ({"weights": {"student-int8": ""}}, "names no weights of student-int8"),
        ({"weights": {"student-int8": "0" * 64}}, "the gate judged other weights of student-int8"),
        ({"files": {}}, r"the gate judged other scores \(none\)"),
        ({"rules": ()}, r"follows from nothing \(no rule was judged\)"),
        ({"rules": (Rule("speed", "serve", "pass", ""),)}, "no rule was judged"),
        ({"rules": (Rule("x", "outcome", "fine", ""),)}, "a rule says 'fine'"),
        ({"rules": (Rule("x", "outcome", "fail", ""),)}, "was edited: it says promote, and its r"),
        ({"rules": (Rule("x", "outcome", "unclear", ""),)}, "its rules insufficient evidence"),
    ],
)
def test_no_check_of_a_decision_can_be_switched_off(
    go: Go, changes: dict[str, Any], line: str
) -> None:
    with pytest.raises(RegistryError, match=line):
        go("one", change=lambda decision: replace(decision, **changes))
    assert connect().get_experiment_by_name("facewright") is None


@pytest.mark.parametrize(
    ("name", "what"),
    [("scores.parquet", "scores"), ("metrics.json", "figures"), ("evaluation.json", "facts")],
)
@pytest.mark.parametrize("judged", ["", "0" * 64, None])
def test_every_file_that_was_judged_is_that_which_is_registered(
    go: Go, name: str, what: str, judged: str | None
) -> None:
    def other(decision: Decision) -> Decision:
        left = {file: digest for file, digest in decision.files.items() if file != name}
        return replace(decision, files=left | ({} if judged is None else {name: judged}))

    with pytest.raises(RegistryError, match=f"the gate judged other {what} .* in {name} "):
        go("one", change=other)


def test_a_decision_by_another_policy_does_not_promote(go: Go) -> None:
    go("one", model=MODEL, at_least={"accuracy": 0.8})
    stricter = {"model": MODEL, "at_least": {"accuracy": 0.9}}
    told = "judged facewright version 1 by another policy than mlflow/promotion.yaml is now: run"
    with pytest.raises(RegistryError, match=told):
        promote(MODEL, policy=stricter)
    assert champion(MODEL) is None
    assert promote(MODEL, policy=stricter | {"at_least": {"accuracy": 0.8}}).version == 1
    assert promote(MODEL, 1, policy=stricter).version == 1  # serves already


def test_data_that_have_become_too_old_do_not_promote(go: Go) -> None:
    today = datetime.now(UTC).date()
    days = {"verify/faces": (today - timedelta(days=40)).isoformat()}
    for most, promoted in ((39, False), (40, True)):
        go(
            f"{most}",
            change=lambda decision: replace(decision, collected=days),
            data={"max_age_days": most},
        )
        if promoted:
            assert promote(MODEL).serve == "student-int8"
        else:
            told = r"too old now \(verify/faces 40 days old; at most 39 days\): run the gate again"
            with pytest.raises(RegistryError, match=told):
                promote(MODEL)


def test_the_champion_knows_who_was_compared_with_it(go: Go, store: Path) -> None:
    """Challengers with other scores are other tries; the same scores once more are none."""
    go("one")
    promote(MODEL)
    assert not champion(MODEL).judged
    for k, seed in enumerate(("two", "three", "two"), 1):
        go(seed)  # with the same scores all
        assert len(champion(MODEL).judged) == 1, k
    connect().delete_model_version(MODEL, "3")
    assert len(champion(MODEL).judged) == 2  # nobody can tell any more
    connect().set_model_version_tag(MODEL, "2", "facewright.scores_digest", "0" * 64)
    assert len(champion(MODEL).judged) == 2  # the decision says it, and its digest is signed
    run = connect().get_model_version(MODEL, "2").run_id
    for path in (store / "mlartifacts").rglob(f"{run}/artifacts/decisions/*.json"):
        path.write_text(path.read_text().replace('"student-int8"', '"student"'))
    assert {name[:9] for name in champion(MODEL).judged} == {"version 2", "version 3"}


@pytest.mark.parametrize(
    "other",
    [
        {"serve": "student"},
        {"champion": {"figure": "fnmr", "fmr": 0.1}},
        {"champion": {"figure": "accuracy", "fmr": 0.01}},
    ],
)
def test_the_same_challenger_compared_otherwise_is_another_try(
    go: Go, other: dict[str, Any]
) -> None:
    go("one")
    promote(MODEL)
    compared = {"figure": "accuracy", "fmr": 0.1}
    for _ in range(2):  # the exact same test once more is none
        go("two", champion=compared)
        assert len(champion(MODEL).judged) == 1
    go("two", **({"champion": compared} | other))
    assert len(champion(MODEL).judged) == 2
