"""The ledger on PostgreSQL: two who promote at once, one altered byte, and what is served."""

from pathlib import Path

import numpy as np
import pytest

from facewright import cli
from facewright.engines import load_recognizer
from facewright.registry.audit import verify
from facewright.registry.ledger import read_ledger
from facewright.registry.lineage import Lineage
from facewright.registry.promotion import promote, register
from facewright.registry.tracking import connect
from tests.servers.inside import aliases, rows
from tests.servers.project import Capture, Project, refused, run
from tests.servers.stack import Stack
from tests.unit.registry.decisions import decided, evaluation_files
from tests.unit.registry.recognizers import Folders, write_networks
from tests.unit.registry.rivals import two_processes

pytestmark = pytest.mark.servers
ROUNDS = 3
LINEAGE = Lineage("m5.dir", "c0ffee", "p" * 64)


def test_of_two_promotions_at_once_one_wins_and_one_is_told(
    online: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folders, files = Folders(tmp_path), evaluation_files(tmp_path / "evaluation")
    models = [f"{tmp_path.name}-{number}" for number in range(ROUNDS)]
    for model in models:
        for seed in ("one", "two"):
            register(
                model=model,
                folders=folders(seed),
                metrics={},
                evaluation_files=files,
                decision=decided("promote", "student", None, folders=folders(seed), files=files),
                lineage=LINEAGE,
            )
    with two_processes() as say:
        for model in models:
            answers = say(f"promote {model}")
            assert sorted(answer == "done" for answer in answers) == [False, True], answers
            winner = answers.index("done") + 1
            assert f"version {winner}" in answers[2 - winner]
            assert aliases(online, model)["champion"] == winner
            entries = read_ledger(connect(), model).entries
            promoted = [entry.version for entry in entries if entry.action == "promote"]
            assert promoted == [winner]
            assert not verify(model).faults
        model = f"{tmp_path.name}-begun"
        assert say(f"enter {model}") == ["done", "done"]
    ledger = read_ledger(connect(), model)
    assert not ledger.faults
    assert sorted(entry.version for entry in ledger.entries) == [1, 2]
    left = rows(
        online, "SELECT count(*) FROM experiments WHERE name LIKE %s AND lifecycle_stage = %s",
        "%being made%", "active",
    )  # fmt: skip
    assert left == [(0,)]


def test_the_ledger_verifies_until_a_byte_is_altered(
    stack: Stack, project: Project, capsys: Capture
) -> None:
    command = ("ledger", "verify", "--model", project.model)
    run("run", "register")
    run("promote", "--model", project.model)
    run(*command, "--files")
    assert "2 entries hold; champion is version 1" in capsys.readouterr().out
    key = "value = replace(value, %s, %s) WHERE key = '000002' AND value LIKE %s RETURNING 1"
    mine = f'%"model":"{project.model}"%'
    change = f"UPDATE params SET {key}"
    assert rows(stack, change, '"action":"promote"', '"action":"promotf"', mine) == [(1,)]
    assert "entry 2: unknown action 'promotf'" in refused(capsys, *command)
    assert "does not verify: entry 2" in refused(capsys, "rollback", "--model", project.model)
    assert rows(stack, change, '"action":"promotf"', '"action":"promote"', mine) == [(1,)]
    assert cli.main(command) == 0


def test_what_is_served_is_loaded_through_the_server(
    online: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    monkeypatch.chdir(tmp_path)
    recognizers = write_networks(tmp_path / "made")
    files = evaluation_files(tmp_path / "evaluation")
    register(
        model=tmp_path.name,
        folders=recognizers,
        metrics={},
        evaluation_files=files,
        decision=decided("promote", "student-torch", None, folders=recognizers, files=files),
        lineage=LINEAGE,
    )
    promote(tmp_path.name)
    loaded = mlflow.pyfunc.load_model(f"models:/{tmp_path.name}@champion")
    crops = np.random.default_rng(0).integers(0, 256, (3, 112, 112, 3), dtype=np.uint8)
    expected = load_recognizer(recognizers["student-torch"]).embed(crops)
    np.testing.assert_array_equal(loaded.predict(crops), expected)
