"""What a stage measured or decided, read back."""

import json
from pathlib import Path
from typing import Any

import pandas as pd

from facewright.errors import FacewrightError


def read_written(path: Path, *, stage: str, keys: tuple[str, ...] = ()) -> dict[str, Any]:
    """The values of a JSON file that a stage wrote.

    Args:
        stage: which one, for the error.
        keys: that must be among them.

    Raises:
        FacewrightError: the file is missing or holds other things.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise FacewrightError(f"{path} is missing: run {stage} first") from error
    except (OSError, ValueError) as error:
        raise FacewrightError(f"{path} holds no JSON: run {stage} again") from error
    if not isinstance(values, dict) or not set(keys) <= set(values):
        raise FacewrightError(f"{path} lacks {', '.join(keys) or 'values'}: run {stage} again")
    return values


def read_metrics(folder: Path, *, stage: str | None = None) -> dict[str, float]:
    """The flat `metrics.json` of a stage's output; values that are null are left out.

    Args:
        stage: which one, for the error; by default its folder is named after it.

    Raises:
        FacewrightError: the file is missing or holds other things.
    """
    values = read_written(folder / "metrics.json", stage=stage or folder.name)
    return {name: value for name, value in values.items() if value is not None}


def read_roc(folder: Path, recognizer: str) -> dict[str, list[float]]:
    """`evaluate`'s curve of a recognizer as Kubeflow draws it: fpr, tpr and threshold.

    Raises:
        FacewrightError: the file is missing, or lacks the recognizer.
    """
    try:
        table = pd.read_csv(folder / "roc.csv", dtype={"recognizer": str})
    except FileNotFoundError as error:
        raise FacewrightError(f"{folder / 'roc.csv'} is missing: run evaluate first") from error
    rows = table[table["recognizer"] == recognizer]
    if rows.empty:
        raise FacewrightError(f"{folder / 'roc.csv'} has no {recognizer}: run evaluate again")
    return {
        "fpr": rows["fmr"].tolist(),
        "tpr": (1 - rows["fnmr"]).tolist(),
        "threshold": rows["threshold"].tolist(),
    }


def parity_rows(metrics: dict[str, float]) -> list[dict[str, Any]]:
    """The measures that `quantize` took, a row per ONNX recognizer."""
    rows: dict[str, dict[str, Any]] = {}
    for key, value in metrics.items():
        name, _, measure = key.partition(".")
        if measure:
            rows.setdefault(name, {"against PyTorch": name})[measure] = value
    return list(rows.values())
