"""The last run on a terminal: the table, where to look further, and what was registered."""

import json
from pathlib import Path
from typing import Any

from facewright.errors import FacewrightError
from facewright.evaluation.table import table
from facewright.registry.promotion import champion
from facewright.registry.tracking import shown_uri


def summary(artifacts: Path) -> str:
    """What `make run` ends with; which version is champion is asked of MLflow, not remembered.

    Raises:
        FacewrightError: the graph has not been run to its end, or MLflow cannot be reached.
    """
    facts = _read(artifacts / "evaluate" / "evaluation.json")
    decision = _read(artifacts / "gate" / "decision.json")
    promotion = _read(artifacts / "promote" / "promotion.json")
    model, version = promotion["model"], promotion["version"]
    serving = champion(model)
    lines = [table(facts["rows"]), ""]
    if facts["notice"]:
        lines += [facts["notice"], ""]
    if serving is not None and serving.version == version:
        lines.append(f"Registered  {model} version {version}, champion; {serving.serve} is served")
    else:
        lines.append(f"Registered  {model} version {version}, not champion: {promotion['reason']}")
        lines.append(f"Champion    version {serving.version}" if serving else "Champion    none")
    uri = shown_uri()
    server = uri if "http" in uri else f".venv/bin/mlflow ui --backend-store-uri {uri}"
    lines += [
        f"Decision    {decision['outcome']}, see {artifacts / 'gate' / 'decision.json'}",
        f"Report      {artifacts / 'evaluate' / 'report.html'}",
        f"Data Docs   {artifacts / 'validate' / 'data_docs' / 'index.html'}",
        f"Runs        {server}",
    ]
    return "\n".join(lines)


def _read(path: Path) -> dict[str, Any]:
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise FacewrightError(f"{path} is missing: run `dvc repro` first") from error
    return values
