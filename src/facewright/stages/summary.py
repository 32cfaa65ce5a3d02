"""The last run on a terminal: the table, where to look further, and what was registered."""

import json
from pathlib import Path
from typing import Any

from facewright.errors import FacewrightError
from facewright.evaluation.table import table
from facewright.registry.tracking import tracking_uri


def summary(artifacts: Path) -> str:
    """What `make run` ends with.

    Raises:
        FacewrightError: the graph has not been run to its end.
    """
    facts = _read(artifacts / "evaluate" / "evaluation.json")
    decision = _read(artifacts / "gate" / "decision.json")
    promotion = _read(artifacts / "promote" / "promotion.json")
    alias = "champion" if promotion["promoted"] else "challenger"
    lines = [table(facts["rows"]), ""]
    if facts["notice"]:
        lines += [facts["notice"], ""]
    lines += [
        f"Registered  {promotion['model']} version {promotion['version']}, {alias}; "
        f"{decision['serve']} is served ({decision['outcome']})",
        f"Report      {artifacts / 'evaluate' / 'report.html'}",
        f"Data Docs   {artifacts / 'validate' / 'data_docs' / 'index.html'}",
        f"Runs        .venv/bin/mlflow ui --backend-store-uri {tracking_uri()}",
    ]
    return "\n".join(lines)


def _read(path: Path) -> dict[str, Any]:
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise FacewrightError(f"{path} is missing: run `dvc repro` first") from error
    return values
