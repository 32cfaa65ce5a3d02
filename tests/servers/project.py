"""A project in which everything up to the gate has run, and the commands in it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from facewright import cli
from facewright.evaluation.record import read_facts
from facewright.files import write_yaml
from facewright.models.recognizer import read_card
from facewright.params import load_policy
from facewright.registry.decision import write_decision
from facewright.registry.evidence import judge
from tests.unit.registry.evaluations import write_evaluation
from tests.unit.registry.recognizers import write_recognizer

ROOT = Path(__file__).parents[2]
PATIENCE = 120  # seconds: a busy machine is slow; a server that is gone refuses at once
RECOGNIZERS = {  # name in the version: folder below artifacts/, format
    "teacher": ("train/teacher", "torch"),
    "student-torch": ("distill/student", "torch"),
    "student": ("quantize/student", "onnx"),
    "student-int8": ("quantize/student-int8", "onnx"),
}
Capture = pytest.CaptureFixture[str]


@dataclass(frozen=True)
class Project:
    """A folder in which everything up to the gate has run."""

    root: Path
    model: str

    def artifact(self, name: str) -> Path:
        return self.root / "artifacts" / RECOGNIZERS[name][0]


def make_project(root: Path, model: str) -> Project:
    """Write artifacts in `root` whose model is named so."""
    made = Project(root, model)
    for number, (name, (_, kind)) in enumerate(RECOGNIZERS.items()):
        # Large enough for a kill to fall between the first and the last.
        content = model.encode() + np.random.default_rng(number).bytes(4_000_000)
        write_recognizer(made.artifact(name), name=name, kind=kind, content=content)
    artifacts = made.root / "artifacts"
    for folder in ("compile", "evaluate", "gate"):
        (artifacts / folder).mkdir()
    evaluate = artifacts / "evaluate"
    weights = {name: read_card(made.artifact(name)).weights_sha256 for name in RECOGNIZERS}
    metrics = write_evaluation(evaluate, skill=3.0, weights=weights)
    (artifacts / "evaluate" / "report.html").write_text("<html></html>")
    ours, theirs = (where / "mlflow" / "promotion.yaml" for where in (root, ROOT))
    ours.parent.mkdir()
    write_yaml(ours, load_policy(theirs).model_dump() | {"model": model})
    policy = load_policy(ours).model_dump()
    decision = judge(
        evaluate, facts=read_facts(evaluate), metrics=metrics, policy=policy, serving=None
    )
    write_decision(artifacts / "gate" / "decision.json", decision)
    return made


def run(*words: str) -> None:
    assert cli.main(words) == 0


def refused(capsys: Capture, *words: str) -> str:
    """The one line that a command says."""
    capsys.readouterr()
    assert cli.main(words) == 2
    said = capsys.readouterr().err
    print(said)
    lines = [line for line in said.splitlines() if not line.startswith("mlflow: ")]
    assert len(lines) == 1, said
    assert lines[0].startswith("facewright: ")
    return lines[0]
