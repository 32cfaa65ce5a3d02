"""The ledger in a real store: what was changed is named, and of two at once one wins."""

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from facewright import cli
from facewright.errors import RegistryError
from facewright.registry.audit import verify
from facewright.registry.ledger import read_ledger
from facewright.registry.promotion import champion, promote, rollback, was_rolled_back
from facewright.registry.tracking import connect
from tests.unit.registry.rivals import two_processes
from tests.unit.registry.runs import said, version_numbers

MODEL = "facewright"
ROUNDS = 4  # of two processes that promote at once

Add = Callable[..., int]


def alter(store: Path, statement: str, *values: Any) -> None:
    """What somebody who owns the database can do."""
    with closing(sqlite3.connect(store / "mlflow.db")) as database:
        assert database.execute(statement, values).rowcount == 1
        database.commit()


def test_who_did_what_when_and_why(add: Add, store: Path) -> None:
    add("one")
    add("one")  # again: nothing new
    promote(MODEL, actor="Ada", reason="the first one")
    assert promote(MODEL, 1).version == 1  # nothing to do, nothing to write
    add("two", outcome="hold", against=1)  # again: nothing new
    add("three", outcome="hold", against=1)
    add("three", against=1)  # another evaluation: what the gate says changes
    promote(MODEL, actor="Ada")
    rollback(MODEL, actor="Bob", reason="complaints")
    assert said() == [
        ("register", 1, None),
        ("promote", 1, None),
        ("register", 2, 1),
        ("reject", 2, 1),
        ("register", 3, 1),
        ("reject", 3, 1),
        ("accept", 3, 1),
        ("promote", 3, 1),
        ("rollback", 1, 3),
    ]
    ledger = verify(MODEL)
    assert not ledger.faults
    who = [(entry.actor, entry.reason) for entry in ledger.entries if entry.action != "register"]
    assert who == [
        ("Ada", "the first one"),
        ("the graph", "min_accuracy: two 0.9, at least 0.85"),
        ("the graph", "min_accuracy: three 0.9, at least 0.85"),
        ("the graph", "all rules passed"),
        ("Ada", "all rules passed"),
        ("Bob", "complaints"),
    ]
    assert was_rolled_back(MODEL, 3)
    first = ledger.entries[0]
    (decision,) = (store / "mlartifacts").rglob(f"decisions/{first.evidence}.json")
    assert json.loads(decision.read_text())["outcome"] == "promote"
    with pytest.raises(RegistryError, match="the reason has 601 characters: write at most 600"):
        promote(MODEL, 3, reason="x" * 601)
    assert len(said()) == 9
    longest = "ü" * 600  # the longest form of an entry still fits into a parameter
    assert promote(MODEL, 3, reason=longest, actor="ü" * 200).version == 3
    assert verify(MODEL).entries[-1].reason == longest


def test_what_was_changed_is_named_and_nothing_is_promoted(
    add: Add,
    store: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    add("one")
    promote(MODEL)
    add("two", against=1)
    promote(MODEL)
    earlier = store / "earlier.jsonl"
    command = ["ledger", "verify", "--model", MODEL]
    assert cli.main(["ledger", "export", str(earlier), "--model", MODEL]) == 0
    assert cli.main([*command, "--extends", str(earlier)]) == 0
    assert "4 entries hold; champion is version 2" in capsys.readouterr().out
    (line,) = [line for line in earlier.read_text().splitlines() if '"number":2' in line]
    change = "update params set value = ? where key = ?"

    altered = line.replace('"actor":"', '"actor":"X')
    alter(store, change, altered, "000002")
    for call in (lambda: promote(MODEL, 1), lambda: rollback(MODEL), lambda: champion(MODEL)):
        with pytest.raises(RegistryError, match=r"does not verify: entry 2: its content was chang"):
            call()
    assert cli.main(command) == 2
    told = capsys.readouterr()
    assert "entry 2: its content was changed: the hash disagrees" in told.out.splitlines()
    assert told.err.startswith(f"facewright: the ledger of {MODEL} has 2 faults, first: entry 2: ")

    alter(store, change, line, "000002")
    alter(store, "update params set key = ? where key = ?", "000009", "000004")
    assert "entry 4: it is missing" in verify(MODEL).faults
    alter(store, "update params set key = ? where key = ?", "note", "000009")
    assert "parameter 'note' of the ledger's run is no entry's number" in verify(MODEL).faults
    alter(store, "delete from params where key = ?", "note")
    # The chain itself cannot tell that its end was taken away. Whoever saw it can; and to others
    # the alias and an export can.
    assert verify(MODEL).faults[0].startswith("entry 4 that was seen here (")
    monkeypatch.setenv("FACEWRIGHT_LEDGER_KEY", str(store / "somebody-elses.key"))
    assert [fault[:40] for fault in verify(MODEL).faults] == [
        "champion is version 2 in MLflow, and ver"
    ]
    connect().set_registered_model_alias(MODEL, "champion", "1")
    assert not verify(MODEL).faults
    assert verify(MODEL, extends=earlier).faults == (f"entry 4: it is not the one in {earlier}",)
    earlier.write_text("")  # one that was cut off must not pass as the beginning of any ledger
    assert cli.main([*command, "--extends", str(earlier)]) == 2
    assert f"{earlier} holds no entry" in capsys.readouterr().out


def test_an_origin_or_a_decision_that_was_changed_later_is_named(add: Add, store: Path) -> None:
    add("one")
    connect().set_model_version_tag(MODEL, "1", "facewright.git_commit", "another")
    with pytest.raises(
        RegistryError, match=r"knows facewright version 1 with other content \(entry 1\)"
    ):
        promote(MODEL)
    (fault,) = verify(MODEL).faults
    assert fault == "entry 1: version 1 says another origin now: its tags, or its run, were changed"
    connect().set_model_version_tag(MODEL, "1", "facewright.git_commit", "c0ffee")
    assert promote(MODEL).version == 1
    (decision,) = (store / "mlartifacts").rglob("decisions/*.json")
    decision.write_text(decision.read_text().replace("0.9", "0.8"))
    (fault,) = verify(MODEL).faults
    assert fault.startswith("entry 1: version 1 has not the decision ")
    decision.unlink()
    assert verify(MODEL).faults[0].startswith("entry 1: version 1 has not the decision ")


def test_a_kill_between_the_entry_and_the_alias_is_completed_by_the_next_command(
    add: Add, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import mlflow

    def killed(*arguments: Any, **named: Any) -> None:
        raise KeyboardInterrupt

    def cut_off(call: Callable[[str], object]) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(mlflow.MlflowClient, "set_registered_model_alias", killed)
            with pytest.raises(KeyboardInterrupt):
                call(MODEL)

    def alias() -> int | None:
        serving: int | None = connect().get_registered_model(MODEL).aliases.get("champion")
        return None if serving is None else int(serving)

    add("one")
    cut_off(promote)
    assert alias() is None
    assert "`facewright promote 1` puts the alias back" in verify(MODEL).faults[0]
    assert champion(MODEL).version == 1  # type: ignore[union-attr]  # so says the gate
    add("two", against=1)
    capsys.readouterr()
    assert promote(MODEL, 2).version == 2
    assert "version 1 is champion now, as the ledger says" in capsys.readouterr().err
    assert alias() == 2

    cut_off(rollback)
    assert alias() == 2
    with pytest.raises(RegistryError, match="version 1 replaced no champion"):
        rollback(MODEL)  # not a second time: the first is completed, and it says where that leads
    assert alias() == 1
    assert not verify(MODEL).faults
    assert [action for action, *_ in said()].count("rollback") == 1


def test_an_alias_that_somebody_else_made_at_the_same_moment_is_no_error(
    add: Add, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL refuses the second insert, whether it says the same or not."""
    import mlflow

    add("one")
    add("two")
    real = mlflow.MlflowClient.set_registered_model_alias
    others = iter(["1", "2"])  # the first time the same as ours, then another

    def second(client: Any, model: str, alias: str, version: str) -> None:
        other = next(others, None)
        real(client, model, alias, version if other is None else other)
        if other is not None:
            raise mlflow.MlflowException("duplicate key value violates unique constraint")

    monkeypatch.setattr(mlflow.MlflowClient, "set_registered_model_alias", second)
    assert "champion" in promote(MODEL, 1).aliases
    connect().delete_registered_model_alias(MODEL, "champion")
    assert "champion" in promote(MODEL, 1).aliases
    assert not verify(MODEL).faults


def test_an_alias_that_was_moved_past_the_ledger_is_told_and_put_back(add: Add) -> None:
    add("one")
    promote(MODEL)
    add("two", against=1)
    add("three", against=1)
    connect().set_registered_model_alias(MODEL, "champion", "3")
    line = (
        "champion of facewright is version 3 in MLflow, and version 1 in the ledger: "
        "`facewright promote 1` puts the alias back"
    )
    for call in (lambda: promote(MODEL, 2), lambda: rollback(MODEL), lambda: champion(MODEL)):
        with pytest.raises(RegistryError, match=line):
            call()
    assert promote(MODEL, 1).aliases == ("champion",)
    assert promote(MODEL, 2).version == 2
    assert not verify(MODEL).faults


def test_a_rollback_passes_over_a_version_that_was_deleted(add: Add) -> None:
    for number, seed in enumerate(("one", "two", "three"), 1):
        add(seed, against=number - 1 or None)
        promote(MODEL)
    connect().delete_model_version(MODEL, "2")
    assert rollback(MODEL).version == 1
    assert was_rolled_back(MODEL, 3)
    assert not verify(MODEL).faults


def test_only_the_first_key_is_trusted_by_itself(
    add: Add, store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    add("one")
    (file,) = (store / "mlflow" / "ledger-keys").glob("*.pub")
    assert f"{file.relative_to(store)} is trusted from now on: commit it" in capsys.readouterr().err
    monkeypatch.setenv("FACEWRIGHT_LEDGER_KEY", str(store / "another.key"))
    with pytest.raises(RegistryError, match=r"your ledger key \w{16} is not among the trusted one"):
        promote(MODEL)
    with pytest.raises(RegistryError, match="is not among the trusted one"):
        add("two")
    assert version_numbers() == [1]  # nor is a version made that could not be entered
    assert said() == [("register", 1, None)]
    assert cli.main(["ledger", "key", "--trust", "another"]) == 0
    assert promote(MODEL).version == 1
    file.unlink()
    with pytest.raises(RegistryError, match=r"entry 1: key .* of 'the graph' is not trusted"):
        promote(MODEL)


def test_a_ledger_that_was_deleted_is_not_begun_anew(add: Add) -> None:
    add("one")
    client = connect()
    found = client.get_experiment_by_name("facewright-ledger/facewright")
    client.delete_experiment(found.experiment_id)
    with pytest.raises(RegistryError, match="deleted in MLflow: restore it with `mlflow experimen"):
        promote(MODEL)
    client.restore_experiment(found.experiment_id)
    (run,) = client.search_runs([found.experiment_id])
    client.delete_run(run.info.run_id)
    with pytest.raises(RegistryError, match="restore it with `mlflow runs restore --run-id"):
        promote(MODEL)
    client.restore_run(run.info.run_id)
    client.create_run(found.experiment_id, tags={"facewright.ledger": MODEL})
    with pytest.raises(RegistryError, match="holds 2 ledgers in place of one"):
        promote(MODEL)


@pytest.fixture
def both(store: Path) -> Iterator[Callable[[str], list[str]]]:
    with two_processes() as say:
        yield say


def test_of_two_promotions_at_once_one_wins_and_one_is_told(
    add: Add, both: Callable[[str], list[str]]
) -> None:
    for number in range(ROUNDS):
        model = f"model-{number}"
        for seed in ("one", "two"):
            add(seed, model=model)
        answers = both(f"promote {model}")
        assert sorted(answer == "done" for answer in answers) == [False, True], answers
        winner = answers.index("done") + 1
        assert champion(model).version == winner  # type: ignore[union-attr]
        assert [entry for entry in said(model) if entry[0] == "promote"] == [
            ("promote", winner, None)
        ]
        told = answers[2 - winner]
        assert f"version {winner}" in told
        assert "run the gate again" in told
        assert not verify(model).faults

    # Two that begin a ledger at once: there is one, and both are in it.
    for number in range(ROUNDS, 2 * ROUNDS):
        model = f"model-{number}"
        assert both(f"enter {model}") == ["done", "done"]
        ledger = read_ledger(connect(), model)
        assert not ledger.faults
        assert {entry.version for entry in ledger.entries} == {1, 2}
    names = [found.name for found in connect().search_experiments() if "ledger" in found.name]
    assert sorted(names) == [f"facewright-ledger/model-{number}" for number in range(2 * ROUNDS)]
