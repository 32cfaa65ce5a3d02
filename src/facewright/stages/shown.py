"""What Kubeflow's pages show of a stage: curves, counts and the gate's rules."""

from pathlib import Path

import numpy as np
import pandas as pd

from facewright.errors import FacewrightError
from facewright.evaluation.record import SCORES, read_facts, read_scores
from facewright.registry.decision import read_decision
from facewright.stages.metrics import read_metrics

CATEGORIES = ["same person", "different people"]


def roc_points(evaluate: Path, recognizer: str) -> dict[str, list[float]]:
    """FMR (`fpr`), 1 - FNMR (`tpr`) and `threshold` along the ROC curve of a recognizer.

    Raises:
        FacewrightError: evaluate has not run, or measured no such recognizer.
    """
    try:
        table = pd.read_csv(evaluate / "roc.csv", dtype={"recognizer": str})
    except FileNotFoundError as error:
        raise FacewrightError(f"{evaluate / 'roc.csv'} is missing: run evaluate first") from error
    own = table[table["recognizer"] == recognizer]
    if own.empty:
        raise FacewrightError(f"{evaluate / 'roc.csv'} has no {recognizer}: run evaluate again")
    # The strictest threshold is infinite, which JSON cannot hold; no cosine is above 1 either.
    thresholds = np.minimum(own["threshold"], 1.0)
    return {
        "fpr": own["fmr"].tolist(),
        "tpr": (1 - own["fnmr"]).tolist(),
        "threshold": thresholds.tolist(),
    }


def confusion(evaluate: Path, recognizer: str) -> list[list[int]]:
    """Pairs by truth (rows) and answer (columns), both in the order of `CATEGORIES`.

    At the threshold of `accuracy`, the mean of the folds'. A pair in which a face was not found
    is answered `different people`.

    Raises:
        EvaluationError: evaluate has not run, or its record was edited.
    """
    scores = read_scores(evaluate / SCORES, digest=read_facts(evaluate)["scores_digest"])[
        recognizer
    ]
    threshold = read_metrics(evaluate, stage="evaluate")[f"{recognizer}.threshold_accuracy"]
    accepted = (scores["similarity"] >= threshold) & (scores["status"] == "ok")
    same = scores["label"] == 1
    return [
        [int((truth & told).sum()) for told in (accepted, ~accepted)] for truth in (same, ~same)
    ]


def decision_text(gate: Path) -> str:
    """The gate's decision as Markdown: the outcome, and every rule with what it found.

    Raises:
        RegistryError: the gate has not run.
    """
    decision = read_decision(gate / "decision.json")
    rows = [
        f"| {rule.result} | {rule.name} | {rule.evidence.replace('|', '∣')} |"
        for rule in decision.rules
    ]
    head = f"## {decision.outcome}\n\n`{decision.serve}` would be served. {decision.reason}"
    return "\n".join([head, "", "| result | rule | evidence |", "|---|---|---|", *rows, ""])
