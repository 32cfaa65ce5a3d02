"""Challengers that were really trained, against a champion: held, not told apart, promoted."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.shell import shell

pytestmark = pytest.mark.pipeline
STAGES = ("train", "distill", "quantize", "compile", "evaluate", "gate", "register", "promote")
SMALLER = {  # seconds of training, and engines are no matter here
    "train": {"network": "resnet_small", "epochs": 3, "warmup": 0.2},
    "distill": {"epochs": 4},
    "compile": {"builder": "off"},
    "evaluate": {"latency_calls": 10},
}


@pytest.fixture(scope="module")
def aside(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the crops of the sample set, and a registry of its own."""
    folder = tmp_path_factory.mktemp("promotion")
    for stage in ("validate", "align"):
        shutil.copytree(project / "artifacts" / stage, folder / "artifacts" / stage)
    (folder / "mlflow").mkdir()
    policy = (project / "mlflow" / "promotion.yaml").read_text()
    # A champion of three epochs is no good recognizer; here only the comparison is of interest.
    changed = policy.replace("  accuracy: 0.85", "  accuracy: 0.5")
    changed = changed.replace("  max_fnmr_rise: 0.1", "  max_fnmr_rise: null")
    assert changed.count("null") == policy.count("null") + 1
    (folder / "mlflow" / "promotion.yaml").write_text(changed)
    return folder


def challenge(aside: Path, project: Path, **train: Any) -> dict[str, Any]:
    """Train, register and perhaps promote a recognizer; returns decision and promotion."""
    values = yaml.safe_load((project / "params.yaml").read_text())
    for section, changes in SMALLER.items():
        values[section] |= changes
    values["train"] |= train
    (aside / "params.yaml").write_text(yaml.safe_dump(values))
    for stage in STAGES:
        done = shell(aside, sys.executable, "-m", "facewright.cli", "run", stage)
        assert done.returncode == 0, done.stderr[-2000:]
    read = {
        name: json.loads((aside / "artifacts" / name / f"{file}.json").read_text())
        for name, file in (("gate", "decision"), ("promote", "promotion"))
    }
    return read["gate"] | read["promote"]


def test_worse_equal_and_better_challengers(aside: Path, project: Path) -> None:
    first = challenge(aside, project)
    assert (first["outcome"], first["promoted"]) == ("promote", True)

    worse = challenge(aside, project, epochs=1, seed=2)
    assert (worse["outcome"], worse["promoted"]) == ("hold", False)
    assert "champion: accuracy of" in worse["reason"]

    equal = challenge(aside, project, seed=3)
    assert (equal["outcome"], equal["promoted"]) == ("insufficient evidence", False)

    better = challenge(aside, project, epochs=10, seed=4)
    assert (better["outcome"], better["promoted"]) == ("promote", True)

    history = shell(aside, sys.executable, "-m", "facewright.cli", "history").stdout.splitlines()
    at = history[0].index("action")
    assert sum(line[at:].startswith("promote") for line in history[1:]) == 2
    verified = shell(aside, sys.executable, "-m", "facewright.cli", "ledger", "verify")
    assert verified.returncode == 0, verified.stderr
