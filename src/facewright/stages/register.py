"""register: all forms of the recognizer become one version in MLflow, the challenger."""

import json
from pathlib import Path

from facewright.files import whole_directory, write_json
from facewright.progress import say
from facewright.registry.gate import read_decision
from facewright.registry.lineage import Lineage
from facewright.registry.promotion import register
from facewright.stages.metrics import read_metrics


def run(
    *,
    train: Path,
    distill: Path,
    quantize: Path,
    compile: Path,
    evaluate: Path,
    gate: Path,
    output: Path,
    lineage: Lineage,
) -> None:
    """Write `version.json`: model, version, aliases. The same content is registered once."""
    folders = {
        "teacher": train / "teacher",
        "student-torch": distill / "student",
        "student": quantize / "student",
        "student-int8": quantize / "student-int8",
    }
    folders |= {card.parent.name: card.parent for card in sorted(compile.glob("*/recognizer.yaml"))}
    facts = json.loads((evaluate / "evaluation.json").read_text(encoding="utf-8"))
    with whole_directory(output) as folder:
        version = register(
            model=json.loads((gate / "policy.json").read_text(encoding="utf-8"))["model"],
            folders=folders,
            metrics=read_metrics(evaluate),
            evaluation_files=sorted(file for file in evaluate.iterdir() if file.is_file()),
            decision=read_decision(gate / "decision.json"),
            lineage=lineage,
            flip=bool(facts.get("flip", False)),
        )
        write_json(folder / "version.json", {"model": version.model, "version": version.version})
    say(f"register: {version.model} version {version.version} ({', '.join(version.aliases)})")
