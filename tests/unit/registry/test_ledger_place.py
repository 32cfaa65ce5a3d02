"""Where the ledger lies: it is begun once, however its beginners die, and never begun anew."""

from collections.abc import Callable
from typing import Any

import pytest

from facewright.errors import RegistryError
from facewright.registry.chain import Draft
from facewright.registry.ledger import append, read_ledger
from facewright.registry.promotion import champion, promote
from facewright.registry.tracking import connect
from tests.unit.registry.runs import said

MODEL = "facewright"
NAME = f"facewright-ledger/{MODEL}"

Add = Callable[..., int]


def test_a_ledger_that_was_renamed_is_not_begun_anew(add: Add) -> None:
    add("one")
    client, before = connect(), said()
    found = client.get_experiment_by_name(NAME).experiment_id
    client.rename_experiment(found, "moved away")
    rename = f"`mlflow experiments rename --experiment-id {found} --new-name {NAME}`"

    def refused(mend: str) -> None:
        for call in (champion, promote, lambda _: add("two")):
            with pytest.raises(RegistryError) as error:
                call(MODEL)
            assert str(error.value) == (
                f"the ledger of {MODEL} was renamed in MLflow, to 'moved away'; to mend that: "
                f"{mend}"
            )

    refused(rename)
    other = client.create_experiment(NAME)
    client.create_run(other, tags={"facewright.ledger": MODEL})
    refused(f"give the empty one that has its name another, then {rename}")
    client.rename_experiment(other, "out of the way")
    client.delete_experiment(found)
    refused(f"`mlflow experiments restore --experiment-id {found}`, then {rename}")
    client.restore_experiment(found)
    client.rename_experiment(found, NAME)
    assert said() == before
    assert promote(MODEL).version == 1


def enter(model: str, version: int = 1) -> None:
    draft = Draft("register", version, "me", "", "promote", "", "")
    append(connect(), model, draft, needed=lambda _: True)


def being_made() -> list[str]:
    return [found.name for found in connect().search_experiments() if "being made" in found.name]


def test_a_beginner_that_is_killed_stops_nobody(
    store: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    def killed(*arguments: Any, **named: Any) -> None:
        raise KeyboardInterrupt

    real = mlflow.MlflowClient.rename_experiment
    for step in ("create_run", "set_terminated", "rename_experiment", "log_param"):
        with monkeypatch.context() as patch:
            patch.setattr(mlflow.MlflowClient, step, killed)
            with pytest.raises(KeyboardInterrupt):
                enter(step)
        assert len(being_made()) == (step != "log_param")
        assert read_ledger(connect(), step).entries == ()
        enter(step)
        assert being_made() == []
        assert said(step) == [("register", 1, None)]

    def late(outcome: Callable[..., None]) -> Callable[..., None]:
        """Another begins the ledger between our experiment and its name."""

        def rename(client: Any, experiment: str, name: str) -> None:
            monkeypatch.setattr(mlflow.MlflowClient, "rename_experiment", real)
            enter(name.rpartition("/")[2], 2)
            outcome(client, experiment, name)

        return rename

    for model, outcome in (("raced", real), ("raced-and-killed", killed)):
        monkeypatch.setattr(mlflow.MlflowClient, "rename_experiment", late(outcome))
        if outcome is killed:
            with pytest.raises(KeyboardInterrupt):
                enter(model)
        enter(model)
        assert being_made() == []
        ledger = read_ledger(connect(), model)
        assert not ledger.faults
        assert [entry.version for entry in ledger.entries] == [2, 1]
