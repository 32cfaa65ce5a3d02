"""Decisions that no gate took, on evaluations of a few bytes, for the tests of what keeps them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from facewright.evaluation.record import FACTS, METRICS, SCORES
from facewright.files import file_digest
from facewright.models.recognizer import read_card
from facewright.registry.decision import Decision, Rule
from tests.unit.registry.recognizers import KINDS

NAMES = (*KINDS, "student-torch")
PASSED = (Rule("r", "outcome", "pass", ""),)


def evaluation_files(folder: Path, *, figures: str = "{}") -> list[Path]:
    """Write the files that a decision is on: the same ones each time but for `figures`."""
    folder.mkdir(parents=True, exist_ok=True)
    one = {"fold": 0, "label": 1, "a": "a", "b": "b", "similarity": 0.5, "status": "ok"}
    table = pd.DataFrame([{**one, "recognizer": name} for name in NAMES])
    table.to_parquet(folder / SCORES, index=False)
    (folder / METRICS).write_text(figures)
    (folder / FACTS).write_text("{}")
    return [folder / SCORES, folder / METRICS, folder / FACTS]


def decided(
    outcome: str,
    serve: str,
    champion: int | None,
    rules: tuple[Rule, ...] = PASSED,
    *,
    folders: Mapping[str, Path],
    files: list[Path],
    pairs: str = "a" * 64,
    **more: Any,
) -> Decision:
    """A decision on those recognizers and that evaluation."""
    values: dict[str, Any] = {"collected": {}, "policy": {}, **more}
    return Decision(
        outcome=outcome,
        serve=serve,
        champion=champion,
        pairs_digest=pairs,
        rules=rules,
        weights={
            name: read_card(folder).weights_sha256
            for name, folder in folders.items()
            if read_card(folder).format != "engine"
        },
        files={file.name: file_digest(file) for file in files},
        **values,
    )
