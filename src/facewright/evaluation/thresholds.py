"""Thresholds as a file: the only place where one is kept, and what it may be relied on for.

`thresholds.json` holds, for each recognizer and backend, the threshold per FMR target with its
interval, the cohort that gave it, the date, and perhaps a calibration (see `calibration`). A
threshold belongs to one recognizer as it runs: another one's, or that of its INT8 copy, is wrong.
The file carries its own digest: one that was edited is refused. That guards against mistakes; who
wrote it, only a signature could say.
"""

import datetime
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from facewright.errors import EvaluationError
from facewright.evaluation.calibration import Calibration
from facewright.evaluation.limits import IMAGES, SUBJECTS
from facewright.evaluation.table import FNMR, is_number
from facewright.files import values_digest, write_json

FORMAT = 1
THRESHOLD = "threshold_at_fmr_"


@dataclass(frozen=True)
class Target:
    """The threshold of one FMR target: accept a pair where its similarity is at least that."""

    fmr: float  # at most this share of compared impostor pairs is accepted
    threshold: float
    low: float  # 95 % interval of the threshold
    high: float
    fnmr: float  # share of all genuine pairs that are then rejected, faces not found included


@dataclass(frozen=True)
class Cohort:
    """The pairs that gave the thresholds. Other faces may need others."""

    dataset: str
    pairs_digest: str
    impostors: int  # compared pairs
    subjects: str = IMAGES  # what was compared, images or templates: thresholds differ


@dataclass(frozen=True)
class Thresholds:
    """All thresholds of one recognizer."""

    recognizer: str
    weights_sha256: str
    backend: str  # what ran it, see `backend_of`
    date: str  # YYYY-MM-DD
    cohort: Cohort
    targets: tuple[Target, ...]
    calibration: Calibration | None = None
    flip: bool | None = None  # embeddings averaged with those of mirror images; None: not stated


def backend_of(form: str, *, runtime: str, engine: Mapping[str, Any]) -> str:
    """What runs a recognizer: `torch`, `onnxruntime`, `openvino`, `tensorrt-rtx sm86`, …

    Args:
        form, engine: `format` and `engine` of its card.
        runtime: what runs ONNX files here.
    """
    if form == "engine":
        return f"{engine['builder']} {engine['target']}"
    return runtime if form == "onnx" else form


def targets_of(metrics: Mapping[str, float]) -> tuple[Target, ...]:
    """The targets that the figures of `verification_metrics` hold, by falling FMR.

    Targets that the impostor pairs do not support have no figures, and so no threshold; nor has
    the bound, which is no target, nor have figures of a part of the pairs (`_without_overlap`).
    """
    names = [
        key.removeprefix(THRESHOLD)
        for key in metrics
        if key.startswith(THRESHOLD) and is_number(key.removeprefix(THRESHOLD))
    ]
    return tuple(
        Target(
            fmr=float(name),
            threshold=float(metrics[THRESHOLD + name]),
            low=float(metrics[f"{THRESHOLD}{name}_low"]),
            high=float(metrics[f"{THRESHOLD}{name}_high"]),
            fnmr=float(metrics[FNMR + name]),
        )
        for name in sorted(names, key=float, reverse=True)
    )


def thresholds_of(
    metrics: Mapping[str, float],
    *,
    recognizer: str,
    weights_sha256: str,
    backend: str,
    dataset: str,
    pairs_digest: str,
    subjects: str = IMAGES,
    calibration: Calibration | None = None,
    flip: bool | None = None,
) -> Thresholds:
    """The thresholds of one recognizer as found today, from its `verification_metrics`.

    Args:
        backend: see `backend_of`.
        dataset, pairs_digest, subjects: of the cohort.
        flip: whether embeddings were averaged with those of mirror images. Without, similarities
            are others, and so are thresholds.
    """
    return Thresholds(
        recognizer=recognizer,
        weights_sha256=weights_sha256,
        backend=backend,
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        cohort=Cohort(
            dataset,
            pairs_digest,
            int(metrics["impostor"] - metrics["failures_impostor"]),
            subjects,
        ),
        targets=targets_of(metrics),
        calibration=calibration,
        flip=flip,
    )


def write_thresholds(path: Path, recognizers: Sequence[Thresholds]) -> None:
    """Write `thresholds.json`; the same content gives the same bytes.

    Raises:
        EvaluationError: two are of one recognizer, a date is none, or a value is not finite or out
            of its range.
    """
    names = [one.recognizer for one in recognizers]
    if len(set(names)) < len(names):
        name = next(name for name in names if names.count(name) > 1)
        raise EvaluationError(f"two sets of thresholds for {name!r}: give one for each recognizer")
    for one in recognizers:
        _check(one, where=path)
    content = {"format": FORMAT, "recognizers": [asdict(one) for one in recognizers]}
    # As the reader will see it: tuples become lists.
    content = json.loads(json.dumps(content))
    write_json(path, content | {"digest": values_digest(content)})


def read_thresholds(path: Path) -> tuple[Thresholds, ...]:
    """What `write_thresholds` wrote.

    Raises:
        EvaluationError: the file is missing or holds something else, it was changed since it was
            written (its digest disagrees), or a value is out of its range.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        digest = content.pop("digest")
        if content["format"] != FORMAT:
            raise EvaluationError(
                f"{path} is of format {content['format']!r}, this program reads {FORMAT}: "
                "run evaluate again"
            )
        if digest != values_digest(content):
            raise EvaluationError(
                f"{path} was changed after it was written (its digest disagrees): run evaluate "
                "again, thresholds are not edited by hand"
            )
        found = tuple(_thresholds(values) for values in content["recognizers"])
        for one in found:
            _check(one, where=path)
    except FileNotFoundError as error:
        raise EvaluationError(f"{path} is missing: run evaluate first") from error
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise EvaluationError(f"{path} holds no thresholds: run evaluate again") from error
    return found


def thresholds_for(
    path: Path, recognizer: str, *, weights_sha256: str | None = None, subjects: str = IMAGES
) -> Thresholds:
    """The thresholds of one recognizer.

    Args:
        weights_sha256: if given, of the weights that are to be used with the thresholds.
        subjects: what is to be compared with them, `images` or `templates`.

    Raises:
        EvaluationError: `read_thresholds` refuses the file, the recognizer is not in it, or they
            were found with other weights or on other subjects.
    """
    found = {one.recognizer: one for one in read_thresholds(path)}
    if recognizer not in found:
        raise EvaluationError(
            f"{path} has no thresholds for {recognizer!r}; it has {', '.join(found) or 'none'}: "
            "run evaluate with that recognizer"
        )
    one = found[recognizer]
    if weights_sha256 not in (None, one.weights_sha256):
        raise EvaluationError(
            f"{path}: the thresholds of {recognizer!r} were found with weights "
            f"{one.weights_sha256[:12]}, not {weights_sha256[:12]}: run evaluate with these"
        )
    if subjects != one.cohort.subjects:
        raise EvaluationError(
            f"{path}: the thresholds of {recognizer!r} are of {one.cohort.subjects}, not of "
            f"{subjects}: run evaluate on pairs of {subjects}"
        )
    return one


def threshold_for(
    path: Path,
    recognizer: str,
    fmr: float,
    *,
    weights_sha256: str | None = None,
    subjects: str = IMAGES,
) -> float:
    """The threshold of `recognizer` for the FMR target `fmr`.

    Raises:
        EvaluationError: see `thresholds_for`; or there is no such target.
    """
    one = thresholds_for(path, recognizer, weights_sha256=weights_sha256, subjects=subjects)
    for target in one.targets:
        if math.isclose(target.fmr, fmr, rel_tol=1e-9):
            return target.threshold
    there = ", ".join(f"{target.fmr:g}" for target in one.targets) or "none"
    raise EvaluationError(
        f"{path} has no threshold of {recognizer!r} for FMR {fmr:g}; it has {there}: choose one, "
        f"or evaluate with more than {one.cohort.impostors} impostor pairs"
    )


def _thresholds(values: dict[str, Any]) -> Thresholds:
    calibration = values.pop("calibration")
    return Thresholds(
        cohort=Cohort(**values.pop("cohort")),
        targets=tuple(Target(**target) for target in values.pop("targets")),
        calibration=None if calibration is None else Calibration.of(calibration),
        **values,
    )


def _check(one: Thresholds, *, where: Path) -> None:
    try:
        datetime.date.fromisoformat(one.date)
    except (TypeError, ValueError) as error:
        raise EvaluationError(
            f"{where}: {one.date!r} of {one.recognizer!r} is no date: write it as 2026-01-31"
        ) from error
    if one.cohort.subjects not in SUBJECTS:
        raise EvaluationError(
            f"{where}: thresholds of {one.cohort.subjects!r}, which is none of "
            f"{', '.join(SUBJECTS)}: evaluate {one.recognizer!r} again"
        )
    for target in one.targets:
        finite = all(math.isfinite(value) for value in asdict(target).values())
        shares = 0 < target.fmr < 1 and 0 <= target.fnmr <= 1
        if not (finite and shares and target.low <= target.threshold <= target.high):
            raise EvaluationError(
                f"{where}: the threshold of {one.recognizer!r} for FMR {target.fmr:g} is "
                f"{target.threshold:g} in [{target.low:g}, {target.high:g}] with FNMR "
                f"{target.fnmr:g}: evaluate it again"
            )
