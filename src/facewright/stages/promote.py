"""promote: the registered version becomes champion, if the gate said so."""

import json
from pathlib import Path

from facewright.files import whole_directory, write_json
from facewright.progress import say
from facewright.registry.gate import read_decision
from facewright.registry.promotion import promote


def run(*, gate: Path, register: Path, output: Path) -> None:
    """Write `promotion.json`: model, version, and whether it is champion."""
    decision = read_decision(gate / "decision.json")
    registered = json.loads((register / "version.json").read_text(encoding="utf-8"))
    model, version = registered["model"], registered["version"]
    with whole_directory(output) as folder:
        promoted = decision.outcome == "promote"
        if promoted:
            promote(model, version)
        result = {"model": model, "version": version, "promoted": promoted}
        write_json(folder / "promotion.json", result)
    outcome = "is champion" if promoted else f"is not promoted: {decision.reason}"
    say(f"promote: {model} version {version} {outcome}")
