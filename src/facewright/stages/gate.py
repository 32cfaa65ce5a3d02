"""gate: may this recognizer become champion? The policy is mlflow/promotion.yaml."""

from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from facewright.errors import EvaluationError
from facewright.evaluation.comparison import Comparison, compare
from facewright.evaluation.record import SCORES, people_of, read_facts, read_scores
from facewright.files import whole_directory
from facewright.params import Gate
from facewright.progress import say
from facewright.registry.gate import REFERENCE, TEACHER, Evidence, decide, write_decision
from facewright.registry.promotion import champion
from facewright.stages.metrics import read_metrics

SEED = 0  # of the bootstrap: the same scores give the same decision
FORMS = ("student-int8",)  # compressed forms that may be served, the one to prefer first


def run(*, evaluate: Path, output: Path, params: Gate) -> str:
    """Write `decision.json`; returns `promote`, `hold` or `insufficient evidence`."""
    facts = read_facts(evaluate)
    scores = read_scores(evaluate / SCORES, digest=facts["scores_digest"])
    for name in (TEACHER, REFERENCE, *FORMS):
        if name not in scores:
            raise EvaluationError(f"{evaluate / SCORES} holds none of {name!r}: run evaluate again")
    engines = [name for name in scores if name not in (TEACHER, REFERENCE, *FORMS)]
    serving = champion(params.model)

    def compared(one: pd.DataFrame, other: pd.DataFrame) -> Comparison:
        return compare(
            one,
            other,
            identities=people_of(one),
            fmr_target=params.champion.fmr,
            level=params.champion.level,
            margin=params.champion.margin,
            bootstrap=params.champion.bootstrap,
            seed=SEED,
        )

    against = {}
    if serving and serving.scores is not None and serving.pairs_digest == facts["pairs_digest"]:
        against = {name: compared(scores[name], serving.scores) for name in (REFERENCE, *FORMS)}
    parity = {name: compared(scores[name], scores[REFERENCE]) for name in (*FORMS, *engines)}
    parity[REFERENCE] = compared(scores[REFERENCE], scores[TEACHER])
    metrics = read_metrics(evaluate)
    decision = decide(
        Evidence(
            metrics=metrics,
            pairs_digest=facts["pairs_digest"],
            weights=facts["weights"],
            scores_digest=facts["scores_digest"],
            forms=FORMS,
            parity=parity,
            engines=engines,
            engines_not_run=facts["engines_not_run"],
            slices=facts["slices"],
            collected=facts["collected"],
            licences=facts["licences"],
            champion=serving,
            against=against,
        ),
        policy=params.model_dump(),
        today=datetime.now(UTC).date(),
    )
    with whole_directory(output) as folder:
        write_decision(folder / "decision.json", decision)
    for rule in decision.rules:
        say(f"gate: {rule.result.upper():7} {rule.name}: {rule.evidence}")
    say(f"gate: {decision.outcome}, {decision.serve} would be served")
    return decision.outcome
