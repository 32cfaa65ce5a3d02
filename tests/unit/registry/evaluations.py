"""Evaluations as the stage leaves them, of recognizers that are as good as is asked."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from facewright.evaluation import verification_metrics
from facewright.evaluation.calibration import calibrate
from facewright.evaluation.record import FACTS, SCORES, data_facts
from facewright.evaluation.thresholds import thresholds_of, write_thresholds
from facewright.files import file_digest

FORMS = ("teacher", "student", "student-int8")
FOLDS, PEOPLE, PAIRS = 10, 20, 40  # people and pairs of each kind per fold


def write_evaluation(
    folder: Path,
    *,
    skill: float,
    seed: str = "",
    pairs: str = "a" * 64,
    weights: Mapping[str, str] = {},
) -> dict[str, float]:
    """Write `scores.parquet`, `metrics.json`, `evaluation.json`; returns the metrics.

    The faces are the same each time, and as hard; what a recognizer makes of them differs a little
    by `seed`. With a skill of 3 about 93 % of the pairs are decided rightly.
    """
    shared, own = np.random.default_rng(1), np.random.default_rng(list(seed.encode()))
    fold = np.repeat(np.arange(FOLDS), PAIRS)
    one = fold * PEOPLE + shared.integers(0, PEOPLE, len(fold))
    other = fold * PEOPLE + (one % PEOPLE + shared.integers(1, PEOPLE, len(fold))) % PEOPLE
    label = np.repeat([1, 0], len(fold))
    hard = shared.normal(0, 1, len(label))
    hard += own.normal(0, 0.2, len(label))
    frames = []
    for form in FORMS:
        raw = label * skill + hard + own.normal(0, 0.02, len(label))
        first, second = np.tile(one, 2), np.concatenate((one, other))
        frames.append(
            pd.DataFrame(
                {
                    "fold": np.tile(fold, 2),
                    "label": label,
                    "a": [f"{person}/{k}a" for k, person in enumerate(first)],
                    "b": [f"{person}/{k}b" for k, person in enumerate(second)],
                    "similarity": np.tanh(raw / 4),
                    "status": "ok",
                    "recognizer": form,
                    "person_a": first,
                    "person_b": second,
                }
            )
        )
    scores = pd.concat(frames, ignore_index=True)
    folder.mkdir(parents=True, exist_ok=True)
    scores.to_parquet(folder / SCORES, index=False)
    metrics: dict[str, float] = {}
    rows: list[dict[str, Any]] = []
    of = {"student": "teacher", "student-int8": "student"}
    for form, frame in zip(FORMS, frames, strict=True):
        found = verification_metrics(
            frame,
            identities={image: image.partition("/")[0] for image in {*frame["a"], *frame["b"]}},
            fmr_targets=(0.1,),
            bootstrap=100,
            seed=0,
        )
        latency = {"student-int8": 2.0}.get(form, 4.0)
        extra = {"latency_ms": latency, "cosine": 0.98}
        if form in of:
            theirs = metrics[f"{of[form]}.threshold_accuracy"]
            extra["threshold_shift"] = abs(found["threshold_accuracy"] - theirs)
        metrics |= {f"{form}.{key}": value for key, value in (found | extra).items()}
        rows.append({"recognizer": form, **found, **extra})
    (folder / "metrics.json").write_text(json.dumps(metrics))
    write_thresholds(
        folder / "thresholds.json",
        [
            thresholds_of(
                {
                    key.partition(".")[2]: v
                    for key, v in metrics.items()
                    if key.startswith(f"{form}.")
                },
                recognizer=form,
                weights_sha256=weights.get(form, ""),
                backend="onnxruntime",
                dataset="faces",
                pairs_digest=pairs,
                calibration=calibrate(frame),
                flip=True,
            )
            for form, frame in zip(FORMS, frames, strict=True)
        ],
    )
    names = ("name", "kind", "source", "source_digest", "licence", "consent", "collected")
    card = dict.fromkeys(names, "") | {"name": "faces", "licence": "CC0"}
    facts: dict[str, Any] = {
        "pairs_digest": pairs,
        "scores_digest": file_digest(folder / SCORES),
        "weights": dict(weights),
        "rows": rows,
        "engines_not_run": {},
        "slices": [],
        "flip": True,
        "bootstrap": 100,
        **data_facts(training=card, verification=card),
    }
    (folder / FACTS).write_text(json.dumps(facts))
    return metrics
