"""What MLflow says of a version counts only as far as entries of the ledger say it too."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from facewright.errors import RegistryError
from facewright.registry.audit import verify
from facewright.registry.chain import Draft
from facewright.registry.history import explain
from facewright.registry.ledger import append, read_ledger
from facewright.registry.promotion import champion, promote, rollback
from facewright.registry.tracking import connect
from facewright.registry.versions import decision_digest, get_decision, get_version
from tests.unit.registry.decisions import decided
from tests.unit.registry.runs import said, version_numbers

MODEL = "facewright"
OTHER_CONTENT = r"the ledger knows facewright version {} with other content \(entry {}\)"

Add = Callable[..., int]


def alias() -> int | None:
    found = connect().get_registered_model(MODEL).aliases.get("champion")
    return None if found is None else int(found)


def test_a_forged_decision_promotes_nothing(add: Add) -> None:
    add("one")
    promote(MODEL)
    add("two", outcome="hold", against=1)
    client, before = connect(), said()
    version = client.get_model_version(MODEL, "2")
    new = decided("promote", "student", 1, folders={}, files=[])
    for forged in (new, get_decision(client, get_version(client, MODEL, 1))):
        path = f"decisions/{decision_digest(forged)}.json"
        client.log_dict(version.run_id, forged.values(), path)
        client.set_model_version_tag(MODEL, "2", "facewright.decision", path)
        client.set_model_version_tag(MODEL, "2", "facewright.outcome", "promote")
        with pytest.raises(RegistryError, match="no entry of the ledger holds the decision on fac"):
            promote(MODEL, 2)
        (fault,) = verify(MODEL).faults
        assert fault.startswith("version 2: its present decision, ")
        assert "…, is not the last one that was entered: " in fault
        assert "THIS IS NOT THE LAST DECISION ON IT IN THE LEDGER" in explain(MODEL, 2)
    assert (said(), alias()) == (before, 1)
    add("two", outcome="hold", against=1)  # the gate's own decision counts again
    assert not verify(MODEL).faults
    assert said() == before
    client.set_model_version_tag(MODEL, "2", "facewright.outcome", "promote")
    assert verify(MODEL).faults
    add("two", against=1)  # and a later one of the gate is entered before it counts
    assert said()[len(before) :] == [("accept", 2, 1)]
    assert not verify(MODEL).faults
    assert promote(MODEL, 2).version == 2


def test_a_version_that_was_made_by_hand_is_neither_promoted_nor_vouched_for(add: Add) -> None:
    add("one")
    client = connect()
    made = client.get_model_version(MODEL, "1")
    forged = made.tags | {"facewright.served_digest": "0" * 64}
    client.create_registered_model("other")
    client.create_model_version("other", made.source, run_id=made.run_id, tags=forged)
    (fault,) = verify("other").faults
    assert fault.startswith("version 1 is in no entry: made without facewright, or by a command")
    with pytest.raises(RegistryError, match="no entry of the ledger holds the decision on other"):
        promote("other", 1)
    # The same content is registered beside it, as if it were not there.
    assert add("one", model="other") == 2
    assert said("other") == [("register", 2, None)]
    assert promote("other").version == 2
    (fault,) = verify("other").faults
    assert fault.startswith("version 1 is in no entry")


def test_a_model_that_was_deleted_and_made_anew_is_told(add: Add) -> None:
    add("one")
    promote(MODEL)
    add("two", against=1)
    promote(MODEL)
    client, before = connect(), said()
    run_id = client.get_model_version(MODEL, "1").run_id
    client.delete_registered_model(MODEL)
    calls = (champion, promote, rollback, lambda _: add("three", against=2))
    for call in calls:
        with pytest.raises(RegistryError, match="facewright was deleted in MLflow, and its ledger"):
            call(MODEL)
    assert version_numbers() == []

    client.create_registered_model(MODEL)
    with pytest.raises(RegistryError, match=OTHER_CONTENT.format(1, 1)):
        add("three", against=2)
    client.create_model_version(MODEL, f"runs:/{run_id}/model", run_id=run_id)
    for number, entry, call in (
        (2, 3, lambda: promote(MODEL, 2)),  # it serves, as the ledger says
        (1, 1, lambda: promote(MODEL, 1)),
    ):
        with pytest.raises(RegistryError, match=OTHER_CONTENT.format(number, entry)):
            call()
    assert alias() is None
    client.set_registered_model_alias(MODEL, "champion", "1")  # as if a promotion had been killed
    for number, entry, call in (
        (2, 3, lambda: champion(MODEL)),
        (2, 3, lambda: rollback(MODEL)),
    ):
        with pytest.raises(RegistryError, match=OTHER_CONTENT.format(number, entry)):
            call()
    assert alias() == 1
    client.set_registered_model_alias(MODEL, "champion", "2")
    with pytest.raises(RegistryError, match=OTHER_CONTENT.format(1, 1)):
        rollback(MODEL)
    assert (said(), alias()) == (before, 2)
    assert "entry 1: version 1 says another origin now: its tags, or its run, were changed" in (
        verify(MODEL).faults
    )


def test_tags_of_the_champion_are_believed_only_as_entered(add: Add) -> None:
    add("one")
    promote(MODEL)
    add("two", against=1)
    for tag in ("facewright.served_digest", "facewright.scores_digest"):
        before = connect().get_model_version(MODEL, "1").tags.get(tag)
        connect().set_model_version_tag(MODEL, "1", tag, "0" * 64)
        for call in (lambda: champion(MODEL), lambda: promote(MODEL, 1)):
            with pytest.raises(RegistryError, match=OTHER_CONTENT.format(1, 1)):
                call()
        if before is None:
            connect().delete_model_version_tag(MODEL, "1", tag)
        else:
            connect().set_model_version_tag(MODEL, "1", tag, before)
    assert champion(MODEL).version == 1  # type: ignore[union-attr]
    connect().set_model_version_tag(MODEL, "1", "facewright.serve", "teacher")
    assert promote(MODEL, 2).version == 2  # away from it, but not back
    with pytest.raises(RegistryError, match=OTHER_CONTENT.format(1, 1)):
        rollback(MODEL)
    assert alias() == 2


def test_a_champion_that_was_deleted_is_left_behind(
    add: Add, capsys: pytest.CaptureFixture[str]
) -> None:
    from facewright import cli

    add("one")
    promote(MODEL)
    add("two", against=1)
    promote(MODEL)
    connect().delete_model_version(MODEL, "2")
    line = "version 2 was deleted in MLflow, and `facewright rollback` returns to the champion be"
    for call in (lambda: champion(MODEL), lambda: promote(MODEL, 1)):
        with pytest.raises(RegistryError, match=line):
            call()
    assert any(line in fault for fault in verify(MODEL).faults)
    back = rollback(MODEL)
    assert back is not None
    assert (back.version, alias()) == (1, 1)
    with pytest.raises(RegistryError, match="version 1 replaced no champion"):
        rollback(MODEL)  # one that is there is not retired

    connect().delete_model_version(MODEL, "1")
    with pytest.raises(RegistryError, match="version 1 was deleted in MLflow"):
        champion(MODEL)
    assert cli.main(["rollback", "--model", MODEL]) == 0
    assert "facewright has no champion: the last one was deleted" in capsys.readouterr().out
    assert said()[-2:] == [("rollback", 1, 2), ("retire", 1, 1)]
    assert champion(MODEL) is None
    with pytest.raises(RegistryError, match="no champion to roll back from"):
        rollback(MODEL)
    assert not verify(MODEL).faults
    add("three")
    assert promote(MODEL).version == 3
    assert not verify(MODEL).faults

    entry = read_ledger(connect(), MODEL).entries[-1]
    retired = Draft("retire", 3, "me", "", "", entry.evidence, entry.lineage)
    append(connect(), MODEL, retired, needed=lambda _: True)
    assert f"entry {entry.number + 1}: version 3 is said to be deleted, and is there" in (
        verify(MODEL).faults
    )
    with pytest.raises(RegistryError, match="remove that alias in MLflow"):
        champion(MODEL)


def test_an_alias_without_a_promotion_makes_no_champion(add: Add) -> None:
    add("one")
    connect().set_registered_model_alias(MODEL, "champion", "1")
    for call in (lambda: champion(MODEL), lambda: promote(MODEL), lambda: rollback(MODEL)):
        with pytest.raises(RegistryError, match="is version 1 in MLflow, and none in the ledger: "):
            call()
    (fault,) = verify(MODEL).faults
    assert "remove that alias in MLflow" in fault
    connect().delete_registered_model_alias(MODEL, "champion")
    assert promote(MODEL).version == 1


def killed(*arguments: Any, **named: Any) -> None:
    raise KeyboardInterrupt


def test_a_killed_registration_is_entered_by_the_next_and_its_double_removed(
    add: Add, monkeypatch: pytest.MonkeyPatch
) -> None:
    from facewright.registry import registration

    with monkeypatch.context() as patch:
        patch.setattr(registration, "append", killed)
        with pytest.raises(KeyboardInterrupt):
            add("one")
    (fault,) = verify(MODEL).faults
    assert fault.startswith("version 1 is in no entry")
    add("one")
    assert not verify(MODEL).faults

    client = connect()
    made = client.get_model_version(MODEL, "1")
    # Another registered it at the same moment and was killed before it took its version back.
    client.create_model_version(MODEL, made.source, run_id=made.run_id, tags=made.tags)
    with pytest.raises(RegistryError, match="no entry of the ledger holds the decision on facew"):
        promote(MODEL, 2)
    (fault,) = verify(MODEL).faults
    assert fault.startswith("version 2 is in no entry")
    assert add("one") == 1
    assert version_numbers() == [1]
    assert said() == [("register", 1, None)]
    assert not verify(MODEL).faults


@pytest.mark.parametrize("step", ["log_dict", "create_model_version"])
def test_a_run_of_another_evaluation_is_not_reused(
    add: Add, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    with monkeypatch.context() as patch:
        patch.setattr(mlflow.MlflowClient, step, killed)
        with pytest.raises(KeyboardInterrupt):
            add("one", scores=b"first")
    add("one", scores=b"second")
    assert not verify(MODEL, files=True).faults
    promote(MODEL)
    run_id = connect().get_model_version(MODEL, "1").run_id
    got = Path(connect().download_artifacts(run_id, "model/evaluation/scores.parquet"))
    assert got.read_bytes() == b"second"
