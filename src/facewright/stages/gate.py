"""gate: may this recognizer become champion? The policy is mlflow/promotion.yaml."""

from pathlib import Path

from facewright.evaluation.record import read_facts
from facewright.files import whole_directory
from facewright.params import Gate
from facewright.progress import say
from facewright.registry.decision import write_decision
from facewright.registry.evidence import judge
from facewright.registry.promotion import champion
from facewright.stages.metrics import read_metrics


def run(*, evaluate: Path, output: Path, params: Gate) -> str:
    """Write `decision.json`; returns `promote`, `hold` or `insufficient evidence`."""
    decision = judge(
        evaluate,
        facts=read_facts(evaluate),
        metrics=read_metrics(evaluate, stage="evaluate"),
        policy=params.model_dump(),
        serving=champion(params.model),
    )
    with whole_directory(output) as folder:
        write_decision(folder / "decision.json", decision)
    for rule in decision.rules:
        say(f"gate: {rule.result.upper():7} {rule.name}: {rule.evidence}")
    say(f"gate: {decision.outcome}, {decision.serve} would be served")
    return decision.outcome
