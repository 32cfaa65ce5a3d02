"""promote: the registered version becomes champion, if the gate said so."""

from pathlib import Path

from facewright.files import whole_directory, write_json
from facewright.params import Gate
from facewright.progress import say
from facewright.registry.decision import read_decision
from facewright.registry.promotion import promote, was_rolled_back
from facewright.stages.metrics import read_written


def run(*, gate: Path, register: Path, output: Path, policy: Gate) -> None:
    """Write `promotion.json`: model, version, whether it was promoted, and why not.

    A version that a person rolled back stays back, whatever the gate says: `facewright promote
    VERSION` brings it in again.
    """
    decision = read_decision(gate / "decision.json")
    found = register / "version.json"
    registered = read_written(found, stage="register", keys=("model", "version"))
    model, version = registered["model"], registered["version"]
    reason = "" if decision.outcome == "promote" else decision.reason
    if not reason and was_rolled_back(model, version):
        reason = f"it was rolled back: `facewright promote {version}` brings it in again"
    with whole_directory(output) as folder:
        if not reason:
            promote(model, version, policy=policy.model_dump())
        result = {"model": model, "version": version, "promoted": not reason, "reason": reason}
        write_json(folder / "promotion.json", result)
    outcome = f"is not promoted: {reason}" if reason else "is champion"
    say(f"promote: {model} version {version} {outcome}")
