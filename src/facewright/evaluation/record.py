"""What an evaluation leaves in files, with digests by which an edited one is known.

scores.parquet       a row per pair and recognizer: fold, label, a, b (digests of photos),
                     similarity, status, recognizer, and person_a, person_b (numbers)
roc.csv slices.csv identification.csv cmc.csv reliability.csv
                     tables of `evaluation`, with a column `recognizer`
metrics.json         all figures, `RECOGNIZER.FIGURE`
thresholds.json      see `thresholds`
evaluation.json      the set, the digests of pairs, scores and weights, all figures, and what was
                     not measured

The record goes to the registry, and names nobody: ids of images often hold names of people.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from facewright.errors import EvaluationError
from facewright.evaluation.assess import Answers
from facewright.evaluation.curves import roc
from facewright.evaluation.limits import notice_of
from facewright.evaluation.pairs import image_codes, with_categories
from facewright.files import file_digest, write_json

SCORES = "scores.parquet"
FACTS = "evaluation.json"
METRICS = "metrics.json"  # the figures, flat, as other stages write theirs
THRESHOLDS = "thresholds.json"
NEEDED = (  # what others read of the facts
    *("pairs_digest", "scores_digest", "weights", "rows", "flip", "notice", "bootstrap"),
    *("training_set", "verification_set", "licences", "collected", "engines_not_run", "slices"),
)


def write_record(
    folder: Path,
    answers: Mapping[str, Answers],
    *,
    identities: Mapping[str, str],
    facts: Mapping[str, Any],
) -> None:
    """Write tables and figures, and `facts` with the digest of the scores.

    Args:
        answers: by name of the recognizer.
        identities: identity of every image in the pairs.

    Raises:
        EvaluationError: the digest of the photo of an image is not known.
    """
    scores = [
        _unnamed(answer, identities).assign(recognizer=name) for name, answer in answers.items()
    ]
    pd.concat(scores, ignore_index=True).to_parquet(folder / SCORES, index=False)
    for file, frames in {
        "roc": {name: roc(answer.scores) for name, answer in answers.items()},
        "slices": {name: answer.slices for name, answer in answers.items()},
        "identification": {name: answer.sizes for name, answer in answers.items()},
        "cmc": {name: answer.cmc for name, answer in answers.items()},
        "reliability": {name: answer.reliability for name, answer in answers.items()},
    }.items():
        full = [frame.assign(recognizer=name) for name, frame in frames.items() if len(frame)]
        if full:
            pd.concat(full).to_csv(folder / f"{file}.csv", index=False)
    more = {
        "scores_digest": file_digest(folder / SCORES),
        "rows": [{"recognizer": name, **answer.metrics} for name, answer in answers.items()],
        "not_measured": {name: dict(answer.not_measured) for name, answer in answers.items()},
    }
    write_json(folder / FACTS, {**facts, **more})
    flat = {f"{name}.{k}": v for name, a in answers.items() for k, v in a.metrics.items()}
    write_json(folder / METRICS, flat)


def _unnamed(answer: Answers, identities: Mapping[str, str]) -> pd.DataFrame:
    """The scores with digests for ids, and numbers for people, in the order of the digests."""
    scores = with_categories(answer.scores)
    codes, ids = image_codes(scores)
    lacking = [name for name in ids if name not in answer.photos]
    if lacking:
        raise EvaluationError(
            f"the digest of the photo of {lacking[0]!r} is not known ({len(lacking)} such images): "
            "run align again"
        )
    digests = np.array([answer.photos[name] for name in ids], dtype=object)
    order = np.argsort(digests)
    person = np.empty(len(ids), np.int64)
    person[order], _ = pd.factorize(np.array([identities[ids[k]] for k in order], dtype=object))
    named = pd.CategoricalDtype(pd.Index(digests, dtype=object))
    told: dict[str, Any] = {}
    for side, code in zip(("a", "b"), codes, strict=True):
        told[side] = pd.Categorical.from_codes(code, dtype=named)
        told[f"person_{side}"] = person[code]
    return scores.assign(**told)


def read_slices(path: Path) -> pd.DataFrame:
    """What `slices.csv` holds. Values are text as it was written: `NA` may be a group of people."""
    text = ["column", "value", "recognizer"]
    columns = pd.read_csv(path, nrows=0).columns
    return pd.read_csv(
        path,
        dtype=dict.fromkeys(text, str),
        keep_default_na=False,
        na_values={str(name): [""] for name in columns if name not in text},
    )


def data_facts(*, training: Mapping[str, Any], verification: Mapping[str, Any]) -> dict[str, Any]:
    """What `facts` say of the data: both cards, and by dataset its licence and its day.

    Args:
        training, verification: the fields of the datasets' cards.
    """
    # Both may have one name, as the sample set's halves do.
    cards = {f"train/{training['name']}": training, f"verify/{verification['name']}": verification}
    return {
        "training_set": dict(training),
        "verification_set": dict(verification),
        "licences": {name: card["licence"] for name, card in cards.items()},
        "collected": {name: card["collected"] for name, card in cards.items()},
        "notice": notice_of(verification["source"]),
    }


def read_facts(folder: Path) -> dict[str, Any]:
    """What `evaluation.json` holds.

    Raises:
        EvaluationError: it is missing or holds no facts.
    """
    path = folder / FACTS
    try:
        facts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        lacking = [key for key in NEEDED if key not in facts]
    except FileNotFoundError as error:
        raise EvaluationError(f"{path} is missing: run evaluate first") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EvaluationError(f"{path} holds no evaluation: run evaluate again") from error
    if lacking:
        raise EvaluationError(f"{path} lacks {', '.join(lacking)}: run evaluate again")
    return facts


def read_scores(path: Path, *, digest: str) -> dict[str, pd.DataFrame]:
    """The scores of each recognizer, and with them who is in each pair.

    Args:
        digest: sha256 that the file had when it was written.

    Raises:
        EvaluationError: the file is missing, was changed since, or holds no scores.
    """
    try:
        found = file_digest(path)
        if found != digest:
            raise EvaluationError(
                f"{path} was changed after it was written (its digest is {found[:12]}, not "
                f"{digest[:12]}): run evaluate again"
            )
        scores = with_categories(pd.read_parquet(path))
        return {
            str(name): part.drop(columns="recognizer").reset_index(drop=True)
            for name, part in scores.groupby("recognizer", sort=False)
        }
    except FileNotFoundError as error:
        raise EvaluationError(f"{path} is missing: run evaluate first") from error
    except (OSError, ValueError, KeyError) as error:
        raise EvaluationError(f"{path} holds no scores: run evaluate again") from error


def people_of(scores: pd.DataFrame) -> dict[str, str]:
    """Who is in each image, as the numbers that `write_record` gave."""
    codes, ids = image_codes(scores)
    person = np.full(len(ids), -1, np.int64)
    for side, code in zip(("a", "b"), codes, strict=True):
        person[code] = scores[f"person_{side}"]
    return {str(ids[k]): str(person[k]) for k in np.flatnonzero(person >= 0)}
