"""gate: may this recognizer become champion? The policy is mlflow/promotion.yaml."""

import json
from pathlib import Path

from facewright.files import whole_directory, write_json
from facewright.params import Gate
from facewright.progress import say
from facewright.registry.gate import decide, write_decision
from facewright.registry.promotion import champion
from facewright.stages.metrics import read_metrics


def run(*, evaluate: Path, output: Path, params: Gate) -> str:
    """Write `decision.json` and `policy.json`; returns the outcome, `promote` or `hold`."""
    facts = json.loads((evaluate / "evaluation.json").read_text(encoding="utf-8"))
    decision = decide(
        read_metrics(evaluate),
        pairs_digest=facts["pairs_digest"],
        policy=params.model_dump(),
        champion=champion(params.model),
    )
    with whole_directory(output) as folder:
        write_decision(folder / "decision.json", decision)
        write_json(folder / "policy.json", params.model_dump())
    for rule in decision.rules:
        say(f"gate: {'pass' if rule.passed else 'FAIL'} {rule.name}: {rule.evidence}")
    say(f"gate: {decision.outcome}, {decision.serve} would be served")
    return decision.outcome
