"""What a stage measured, read back."""

import json
from pathlib import Path
from typing import Any


def read_metrics(folder: Path) -> dict[str, float]:
    """The flat `metrics.json` of a stage's output; values that are null are left out."""
    values = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    return {name: value for name, value in values.items() if value is not None}


def parity_rows(metrics: dict[str, float]) -> list[dict[str, Any]]:
    """The measures that `quantize` took, a row per ONNX recognizer."""
    rows: dict[str, dict[str, Any]] = {}
    for key, value in metrics.items():
        name, _, measure = key.partition(".")
        if measure:
            rows.setdefault(name, {"against PyTorch": name})[measure] = value
    return list(rows.values())
