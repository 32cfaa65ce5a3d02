"""What a stage measured or decided, read back."""

import json
from pathlib import Path
from typing import Any

from facewright.errors import FacewrightError

START = "start.json"  # in train's output, where the training began from another recognizer


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


def began_from(train: Path) -> str:
    """What train says that it began from, as words for a sentence; empty for nothing."""
    if not (train / START).exists():
        return ""
    told = read_written(train / START, stage="train", keys=("start", "weights"))
    return f"{told['start']} (weights {told['weights'][:12]})"


def parity_rows(metrics: dict[str, float]) -> list[dict[str, Any]]:
    """The measures that `quantize` took, a row per ONNX recognizer."""
    rows: dict[str, dict[str, Any]] = {}
    for key, value in metrics.items():
        name, _, measure = key.partition(".")
        if measure:
            rows.setdefault(name, {"against PyTorch": name})[measure] = value
    return list(rows.values())
