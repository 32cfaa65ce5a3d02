"""What the gate judges, gathered from an evaluation and the champion, and judged.

The gate does this, and `register` does it again, so that no file between the two is believed.
What is said of pairs is computed anew from the scores and must be what `metrics.json` and
`thresholds.json` say.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from facewright.errors import EvaluationError
from facewright.evaluation.calibration import calibrate
from facewright.evaluation.comparison import Comparison, compare, same_similarities
from facewright.evaluation.limits import IMAGES
from facewright.evaluation.metrics import verification_metrics
from facewright.evaluation.record import (
    FACTS,
    METRICS,
    SCORES,
    THRESHOLDS,
    people_of,
    read_scores,
)
from facewright.evaluation.table import is_number
from facewright.evaluation.thresholds import read_thresholds, thresholds_of
from facewright.files import file_digest
from facewright.registry.decision import Decision, others, try_of
from facewright.registry.gate import REFERENCE, TEACHER, Champion, Evidence, decide

SEED = 0  # of the bootstrap, as evaluate's: the same scores give the same decision
FORMS = ("student-int8",)  # compressed forms that may be served, the one to prefer first
JUDGED = (SCORES, METRICS, FACTS, THRESHOLDS)  # the files that a decision is on
OF_PAIRS = re.compile(
    r"(accuracy|accuracy_se|eer|auc|fmr_bound|threshold_accuracy|threshold_shift"
    r"|(fnmr|threshold)_at_fmr_[^_]+)(?P<end>_low|_high)?"
)
TOLERANCE = 1e-9  # of figures that are computed again
FITTED = 1e-6  # the same, relative: a calibration is fitted, and on another CPU ends elsewhere


def judge(
    evaluate: Path,
    *,
    facts: Mapping[str, Any],
    metrics: Mapping[str, float],
    policy: Mapping[str, Any],
    serving: Champion | None,
) -> Decision:
    """Gather the evidence, and say what the gate says to it today.

    Args:
        evaluate: the folder that evaluate wrote.
        facts: its `evaluation.json`.
        metrics: its `metrics.json`.
        policy: the keys of `mlflow/promotion.yaml`.
        serving: the champion to compare with.

    Raises:
        EvaluationError: a file is missing, the scores were edited, or the figures are not theirs.
        RegistryError: see `decide`.
    """
    champion = policy["champion"]
    scores = read_scores(evaluate / SCORES, digest=facts["scores_digest"])
    for name in (TEACHER, REFERENCE, *FORMS):
        if name not in scores:
            raise EvaluationError(f"{evaluate / SCORES} holds none of {name!r}: run evaluate again")
    figures = figures_again(evaluate, scores, metrics, bootstrap=facts["bootstrap"])
    check_thresholds(evaluate, scores, figures, facts=facts)
    engines = [name for name in scores if name not in (TEACHER, REFERENCE, *FORMS)]

    def compared(one: pd.DataFrame, other: pd.DataFrame, *, level: float) -> Comparison:
        return compare(
            one,
            other,
            identities=people_of(one),
            fmr_target=champion["fmr"],
            level=level,
            margin=champion["margin"],
            bootstrap=champion["bootstrap"],
            seed=SEED,
        )

    level = champion["level"]
    parity = {
        name: compared(scores[name], scores[REFERENCE], level=level) for name in (*FORMS, *engines)
    }
    parity[REFERENCE] = compared(scores[REFERENCE], scores[TEACHER], level=level)
    against, same = {}, []
    before = {}
    if serving:
        for name in (REFERENCE, *FORMS):
            own = try_of(scores=facts["scores_digest"], serve=name, policy=policy)
            before[name] = others(serving.judged, own)
    if serving and serving.scores is not None and serving.pairs_digest == facts["pairs_digest"]:
        for name in (REFERENCE, *FORMS):
            # Bonferroni's division: each further try on the same pairs is another chance of luck.
            against[name] = compared(scores[name], serving.scores, level=level / (before[name] + 1))
            if same_similarities(scores[name], serving.scores):
                same.append(name)
    evidence = Evidence(
        metrics=figures,
        pairs_digest=facts["pairs_digest"],
        weights=facts["weights"],
        files={name: file_digest(evaluate / name) for name in JUDGED},
        forms=FORMS,
        parity=parity,
        engines=engines,
        engines_not_run=facts["engines_not_run"],
        slices=facts["slices"],
        collected=facts["collected"],
        licences=facts["licences"],
        champion=serving,
        against=against,
        same=same,
        judged_before=before,
    )
    return decide(evidence, policy=policy, today=datetime.now(UTC).date())


def figures_again(
    evaluate: Path,
    scores: Mapping[str, pd.DataFrame],
    metrics: Mapping[str, float],
    *,
    bootstrap: int,
) -> dict[str, float]:
    """The figures, with those of pairs, and the shift of the threshold, computed from the scores.

    Intervals are computed of what may be served alone: nothing else is judged by them. Figures
    without overlap, of slices and searches, cosines and times do not follow from the scores.

    Args:
        bootstrap: resamples, as evaluate took them.

    Raises:
        EvaluationError: `metrics.json` says another figure, lacks one, or has one too many.
    """
    again: dict[str, dict[str, float]] = {}
    for name, frame in scores.items():
        again[name] = verification_metrics(
            frame,
            identities=people_of(frame),
            fmr_targets=_targets(metrics, name),
            bootstrap=bootstrap if name in (REFERENCE, *FORMS) else 0,
            seed=SEED,
        )
    for name, found in again.items():
        other = TEACHER if name == REFERENCE else REFERENCE
        if name != TEACHER:
            shift = found["threshold_accuracy"] - again[other]["threshold_accuracy"]
            found["threshold_shift"] = abs(shift)
    computed = {f"{name}.{key}": v for name, found in again.items() for key, v in found.items()}
    ends = tuple(f"{name}." for name in (REFERENCE, *FORMS))  # of which intervals were computed
    for key, said in metrics.items():
        name, _, figure = key.partition(".")
        of_pairs = name in scores and OF_PAIRS.fullmatch(figure)
        if of_pairs and key not in computed and (key.startswith(ends) or not of_pairs["end"]):
            raise _edited(evaluate, key, said, "nothing")
    for key, value in computed.items():
        if key not in metrics or not abs(metrics[key] - value) <= TOLERANCE:
            raise _edited(evaluate, key, metrics.get(key, "nothing"), value)
    return {**metrics, **computed}


def check_thresholds(
    evaluate: Path,
    scores: Mapping[str, pd.DataFrame],
    figures: Mapping[str, float],
    *,
    facts: Mapping[str, Any],
) -> None:
    """Refuse thresholds that are not those of the scores: they go with the version, into its card.

    The date and what ran the recognizer evaluate alone can say.

    Args:
        figures: from `figures_again`.

    Raises:
        EvaluationError: `thresholds.json` says another value, is of other weights or pairs, or
            lacks a recognizer or has one too many.
    """
    path = evaluate / THRESHOLDS
    found = {one.recognizer: one for one in read_thresholds(path)}
    if set(found) != set(scores):
        raise EvaluationError(
            f"{path} is of {', '.join(found) or 'none'}, and the scores are of "
            f"{', '.join(scores)}: run evaluate again"
        )
    for name, one in found.items():
        start = f"{name}."
        kind = one.calibration.kind if one.calibration else None
        wanted = thresholds_of(
            {key.removeprefix(start): v for key, v in figures.items() if key.startswith(start)},
            recognizer=name,
            weights_sha256=facts["weights"].get(name, ""),
            backend=one.backend,
            dataset=facts["verification_set"]["name"],
            pairs_digest=facts["pairs_digest"],
            subjects=facts.get("subjects", IMAGES),
            calibration=calibrate(scores[name], kind=kind) if kind else None,
            flip=facts["flip"],
        )
        said, again = dict(_flat(asdict(one))), dict(_flat(asdict(wanted)))
        for key in sorted({*said, *again} - {"date"}):
            if not _agree(said.get(key), again.get(key)):
                raise EvaluationError(
                    f"{path} says {said.get(key, 'nothing')} for {key} of {name}, and the scores "
                    f"and facts say {again.get(key, 'nothing')}: run evaluate again"
                )


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Plain values by path: `cohort.dataset`, `targets.0.low` …"""
    if isinstance(value, list | tuple):
        value = dict(enumerate(value))
    if not isinstance(value, dict):
        yield path, value
        return
    for name, part in value.items():
        yield from _flat(part, f"{path}.{name}" if path else str(name))


def _agree(said: object, found: object) -> bool:
    if isinstance(said, float) and isinstance(found, float):
        return math.isclose(said, found, rel_tol=FITTED, abs_tol=TOLERANCE)
    return said == found


def _targets(metrics: Mapping[str, float], name: str) -> list[float]:
    """The FMR targets that a recognizer has figures at."""
    start = f"{name}.fnmr_at_fmr_"
    said = (key.removeprefix(start) for key in metrics if key.startswith(start))
    return sorted((float(fmr) for fmr in said if is_number(fmr)), reverse=True)


def _edited(evaluate: Path, key: str, said: object, found: object) -> EvaluationError:
    return EvaluationError(
        f"{evaluate / METRICS} says {said} for {key}, and the scores say {found}: run evaluate "
        "again"
    )
