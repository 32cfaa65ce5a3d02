"""Whoever can write to MLflow, and holds no trusted key, changes nothing unseen."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from facewright.errors import RegistryError
from facewright.files import file_digest
from facewright.registry.audit import verify
from facewright.registry.chain import Draft, examine, sign
from facewright.registry.ledger import append, read_ledger
from facewright.registry.ledger_keys import signer
from facewright.registry.promotion import champion, promote, rollback
from facewright.registry.tracking import connect
from facewright.registry.versions import get_version
from tests.unit.registry.runs import said
from tests.unit.registry.test_ledger import alter

MODEL = "facewright"
NAME = f"facewright-ledger/{MODEL}"
TAG = "facewright.ledger"

Add = Callable[..., int]


def folder(store: Path, version: int) -> Path:
    """`model/` of a version."""
    run_id = connect().get_model_version(MODEL, str(version)).run_id
    (found,) = (store / "mlartifacts").rglob(f"{run_id}/artifacts/model")
    return found


def alias() -> int | None:
    found = connect().get_registered_model(MODEL).aliases.get("champion")
    return None if found is None else int(found)


def refused(line: str, *calls: Callable[[], object]) -> None:
    for call in calls:
        with pytest.raises(RegistryError, match=line):
            call()


def test_no_file_of_a_version_is_exchanged_unseen(add: Add, store: Path) -> None:
    add("one", scores=b"scores")
    assert not verify(MODEL, files=True).faults
    model, before = folder(store, 1), said()
    names = sorted(p.relative_to(model).as_posix() for p in model.rglob("*") if p.is_file())
    assert {"MLmodel", "requirements.txt", "version.json", "files.json"} < set(names)
    assert {"evaluation/scores.parquet", "recognizers/teacher/model.safetensors"} < set(names)
    for name in names:
        content = (model / name).read_bytes()
        (model / name).write_bytes(content + b" ")
        refused(f"facewright version 1: {name} was changed in run ", lambda: promote(MODEL))
        assert verify(MODEL, files=True).faults == (f"version 1: {name} was changed",)
        (model / name).unlink()
        gone = f"{name} is gone|{name} of facewright version 1 is gone"
        refused(gone, lambda: promote(MODEL))
        (model / name).write_bytes(content)
    (model / "recognizers" / "student" / "more.bin").write_bytes(b"")
    told = "'recognizers/student/more.bin' was added"
    refused(told, lambda: promote(MODEL))
    assert verify(MODEL, files=True).faults == (f"version 1: {told}",)
    assert (said(), alias()) == (before, None)


def test_a_list_of_files_that_was_written_anew_is_not_believed(add: Add, store: Path) -> None:
    add("one")
    promote(MODEL)
    model = folder(store, 1)
    loader, listed = model / "MLmodel", model / "files.json"
    digest = file_digest(loader)
    loader.write_text(loader.read_text().replace("facewright.registry.pyfunc", "somebody.elses"))
    listed.write_text(listed.read_text().replace(digest, file_digest(loader)))
    calls = (lambda: champion(MODEL), lambda: promote(MODEL, 1))
    refused(r"files\.json was changed in run ", *calls)
    tag = "facewright.files_digest"
    connect().set_model_version_tag(MODEL, "1", tag, file_digest(listed))
    refused("the ledger knows facewright version 1 with other content", *calls)
    assert verify(MODEL).faults


def test_what_is_loaded_of_the_champion_is_looked_at_by_whoever_compares_with_it(
    add: Add, store: Path
) -> None:
    add("one")
    promote(MODEL)
    model = folder(store, 1)
    for name in ("MLmodel", "requirements.txt", "version.json", "recognizers/student/model.onnx"):
        content = (model / name).read_bytes()
        (model / name).write_bytes(content + b" ")
        told = f"{name} was changed in run"
        refused(told, lambda: champion(MODEL), lambda: promote(MODEL, 1))
        assert verify(MODEL).faults == (f"version 1: {name} was changed",)
        (model / name).write_bytes(content)
    (model / "recognizers" / "teacher" / "model.safetensors").write_bytes(b"others")
    assert champion(MODEL) is not None  # nobody loads it
    refused("teacher/model.safetensors was changed", lambda: promote(MODEL, 1))
    assert not verify(MODEL).faults
    assert verify(MODEL, files=True).faults


def test_a_rollback_returns_to_nothing_that_was_exchanged(add: Add, store: Path) -> None:
    add("one")
    promote(MODEL)
    add("two", against=1)
    promote(MODEL)
    weights = folder(store, 1) / "recognizers" / "student" / "model.onnx"
    content, before = weights.read_bytes(), said()
    weights.write_bytes(b"others")
    refused(r"student/model\.onnx was changed in run", lambda: rollback(MODEL))
    assert (said(), alias()) == (before, 2)
    weights.write_bytes(content)
    assert rollback(MODEL).version == 1  # type: ignore[union-attr]


def test_a_version_that_was_made_to_point_elsewhere_is_told(add: Add, store: Path) -> None:
    add("one")
    promote(MODEL)
    add("two", against=1)
    client = connect()
    mine, other = (client.get_model_version(MODEL, str(number)) for number in (1, 2))
    update = "update model_versions set run_id = ?, source = ?, storage_location = ? where "
    at_one = update + "name = 'facewright' and version = 1"
    calls = (lambda: champion(MODEL), lambda: promote(MODEL, 1))
    for run_id, source in (
        (other.run_id, other.source),
        (mine.run_id, other.source),
        (other.run_id, mine.source),
        (mine.run_id, f"{mine.source}/recognizers"),
    ):
        alter(store, at_one, run_id, source, source)
        refused("the ledger knows facewright version 1 with other content", *calls)
        assert any("version 1 says another origin now" in fault for fault in verify(MODEL).faults)
    # MLflow has the place twice: it shows the one, and loads from the other.
    alter(store, at_one, mine.run_id, mine.source, other.source)
    refused("facewright version 1 lies in 'runs:/", *calls)
    assert any("facewright version 1 lies in 'runs:/" in fault for fault in verify(MODEL).faults)
    alter(store, at_one, mine.run_id, mine.source, mine.source)
    assert champion(MODEL) is not None
    assert not verify(MODEL).faults


def test_a_model_that_mlflow_lays_over_a_version_is_told(add: Add, tmp_path: Path) -> None:
    import mlflow

    add("one")
    promote(MODEL)
    client = connect()
    run = client.get_run(client.get_model_version(MODEL, "1").run_id).info
    made = client.create_logged_model(run.experiment_id, name="model", source_run_id=run.run_id)
    (tmp_path / "laid").mkdir()
    (tmp_path / "laid" / "more.txt").write_text("")
    client.log_model_artifacts(made.model_id, str(tmp_path / "laid"))
    into = tmp_path / "got"
    into.mkdir()
    mlflow.artifacts.download_artifacts(f"models:/{MODEL}@champion", dst_path=str(into))
    assert list(into.rglob("more.txt"))
    told = f"MLflow loads facewright version 1 with its model {made.model_id} laid over it"
    refused(told, lambda: champion(MODEL), lambda: promote(MODEL, 1))
    assert any(told in fault for fault in verify(MODEL).faults)
    client.delete_logged_model(made.model_id)
    assert champion(MODEL) is not None
    assert not verify(MODEL).faults


def test_a_version_that_lies_elsewhere_is_not_vouched_for_as_ones_own(add: Add) -> None:
    add("one")
    client = connect()
    made = client.get_model_version(MODEL, "1")
    client.create_registered_model("other")
    source = f"runs:/{made.run_id}/model/recognizers"
    client.create_model_version("other", source, run_id=made.run_id, tags=made.tags)
    client.create_model_version("other", made.source, run_id=made.run_id, tags=made.tags)
    assert add("one", model="other") == 2  # as if a registration had been killed after it made it


def test_an_older_decision_does_not_count_again(add: Add) -> None:
    add("one")
    client = connect()
    accepted = client.get_model_version(MODEL, "1").tags
    add("one", outcome="hold")
    refused("says hold", lambda: promote(MODEL))
    for tag in ("facewright.decision", "facewright.outcome", "facewright.reason"):
        client.set_model_version_tag(MODEL, "1", tag, accepted[tag])
    refused(
        r"the decision on facewright version 1 \(\w{12}\) is not the ledger's last one \(reject, e",
        lambda: promote(MODEL),
    )
    (fault,) = verify(MODEL).faults
    assert fault.startswith("version 1: its present decision, ")
    assert alias() is None
    add("one")  # the gate says it again
    assert [action for action, *_ in said()] == ["register", "reject", "accept"]
    assert promote(MODEL).version == 1
    assert not verify(MODEL).faults


def test_the_alias_challenger_chooses_nothing(add: Add) -> None:
    add("one")
    promote(MODEL)
    add("two", against=1)
    add("three", against=1)
    connect().set_registered_model_alias(MODEL, "challenger", "2")
    assert promote(MODEL).version == 3
    connect().delete_registered_model_alias(MODEL, "challenger")
    add("two", against=3)  # what was registered again is last
    connect().set_registered_model_alias(MODEL, "challenger", "3")
    assert promote(MODEL).version == 2


def test_a_ledger_without_its_tag_is_found_by_what_it_holds(add: Add) -> None:
    add("one")
    client, before = connect(), said()
    ledger = read_ledger(client, MODEL)
    client.delete_tag(ledger.run_id, TAG)
    assert said() == before
    assert promote(MODEL).version == 1
    found = client.get_experiment_by_name(NAME).experiment_id
    decoy = client.create_run(found, tags={TAG: MODEL}).info.run_id
    refused("holds 2 ledgers in place of one", lambda: champion(MODEL), lambda: add("two"))
    client.rename_experiment(found, "moved away")
    refused("was renamed in MLflow, to 'moved away'", lambda: champion(MODEL), lambda: add("two"))
    client.delete_run(ledger.run_id)
    other = client.create_experiment(NAME)
    client.create_run(other, tags={TAG: MODEL})
    told = "was renamed in MLflow, to 'moved away'; to mend that: give the empty one"
    refused(told, lambda: champion(MODEL), lambda: add("two"))
    client.restore_run(ledger.run_id)
    client.rename_experiment(other, "an empty one")
    client.rename_experiment(found, NAME)
    client.delete_run(decoy)
    refused("holds 2 ledgers", lambda: champion(MODEL))  # one that is deleted might be the true one


def test_a_copy_without_the_end_does_not_take_the_name_of_the_ledger(
    add: Add, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Anybody can do this through MLflow's API, with entries that are truly signed."""
    add("one")
    promote(MODEL)
    add("two", against=1)
    promote(MODEL)
    client = connect()
    ledger = read_ledger(client, MODEL)
    copy = client.create_experiment("a copy")
    run_id = client.create_run(copy, tags={TAG: MODEL}).info.run_id
    for number, line in enumerate(ledger.lines[:2], 1):
        client.log_param(run_id, f"{number:06d}", line)
    assert not verify(MODEL).faults  # a copy takes nothing away
    with monkeypatch.context() as patch:
        patch.setenv("FACEWRIGHT_LEDGER_KEY", str(store / "strangers.key"))
        stranger = signer()
    made_up = client.create_run(copy).info.run_id
    draft = Draft("register", 7, "me", "", "promote", "e" * 64, "f" * 64)
    begun = examine((), model=MODEL, trusted={})
    client.log_param(made_up, "000001", sign(draft, begun, stranger).line())
    assert not verify(MODEL).faults  # nor does what nobody trusts

    client.rename_experiment(client.get_experiment_by_name(NAME).experiment_id, "moved away")
    client.rename_experiment(copy, NAME)
    client.set_registered_model_alias(MODEL, "champion", "1")
    monkeypatch.setenv("FACEWRIGHT_LEDGER_KEY", str(store / "somebodys.key"))  # who saw nothing yet
    refused("holds 2 ledgers in place of one", lambda: champion(MODEL))
    client.delete_run(made_up)
    alter(store, "delete from params where run_uuid = ?", made_up)
    refused(
        "was renamed in MLflow, to 'moved away'; to mend that: give the other one that has",
        lambda: champion(MODEL),
        lambda: promote(MODEL),
        lambda: rollback(MODEL),
        lambda: verify(MODEL),
        lambda: add("three", against=1),
    )


def test_a_ledger_under_many_runs_is_found(add: Add, monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow gives long answers in pages: whoever adds runs pushes the ledger onto another."""
    from mlflow import MlflowClient

    add("one")
    client, before = connect(), said()
    found = client.get_experiment_by_name(NAME).experiment_id
    for _ in range(4):
        client.create_run(found)
    real = MlflowClient.search_runs

    def short(self: Any, *arguments: Any, **named: Any) -> Any:
        return real(self, *arguments, **{**named, "max_results": 2})

    monkeypatch.setattr(MlflowClient, "search_runs", short)
    assert said() == before
    assert promote(MODEL).version == 1


def test_an_entry_that_says_another_outcome_than_its_decision_is_told(add: Add) -> None:
    """Signed by a trusted key, and sound in itself: only the decision tells that it was held."""
    add("one", outcome="hold")
    client = connect()
    version = get_version(client, MODEL, 1)
    draft = Draft("accept", 1, "me", "", "promote", version.evidence, version.lineage)
    append(client, MODEL, draft, needed=lambda ledger: True)
    told = "entry 3: version 1 has the outcome 'promote', and its decision 'hold'"
    assert told in verify(MODEL).faults
    append(client, MODEL, replace(draft, action="promote"), needed=lambda ledger: True)
    assert told.replace("entry 3", "entry 4") in verify(MODEL).faults


def test_a_signed_promotion_of_what_the_gate_held_is_told(add: Add) -> None:
    add("one", outcome="hold")
    client = connect()
    version = get_version(client, MODEL, 1)
    draft = Draft("promote", 1, "me", "", "hold", version.evidence, version.lineage)
    append(client, MODEL, draft, needed=lambda ledger: True)
    client.set_registered_model_alias(MODEL, "champion", "1")
    (fault,) = verify(MODEL).faults
    assert fault.startswith("entry 3: it promotes version 1 by 'hold' (")
    refused("does not verify: entry 3: it promotes", lambda: champion(MODEL))
