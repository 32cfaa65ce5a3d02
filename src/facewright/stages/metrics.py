"""What a stage measured, read back."""

import json
from pathlib import Path


def read_metrics(folder: Path) -> dict[str, float]:
    """The flat `metrics.json` of a stage's output; values that are null are left out."""
    values = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    return {name: value for name, value in values.items() if value is not None}
