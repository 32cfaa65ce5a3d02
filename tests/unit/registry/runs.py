"""What stands in the configured store, for the tests of what writes there."""

from typing import Any

import pytest

from facewright.registry import server
from facewright.registry.ledger import read_ledger

TRAIN = {"params": {"seed": 1, "sgd": {"rate": 0.1}}, "tags": {"k": "v"}}
Capture = pytest.CaptureFixture[str]


def runs() -> list[Any]:
    client = server.open_client()
    found = client.get_experiment_by_name("facewright")
    return list(client.search_runs([found.experiment_id])) if found else []


def curve(run: Any, key: str) -> list[tuple[int, float]]:
    history = server.open_client().get_metric_history(run.info.run_id, key)
    return sorted((point.step, point.value) for point in history)


def files(run: Any, folder: str | None = None) -> list[str]:
    return [f.path for f in server.open_client().list_artifacts(run.info.run_id, folder)]


def said(model: str = "facewright") -> list[tuple[str, int, int | None]]:
    """The ledger's entries: action, version, champion before."""
    entries = read_ledger(server.open_client(), model).entries
    return [(entry.action, entry.version, entry.previous_champion) for entry in entries]


def version_numbers(model: str = "facewright") -> list[int]:
    found = server.open_client().search_model_versions(f"name='{model}'")
    return sorted(int(version.version) for version in found)
