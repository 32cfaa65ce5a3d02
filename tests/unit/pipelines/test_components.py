"""What components do beside calling their stage."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from components.register import register
from facewright import params
from facewright.registry.lineage import COMMIT_VARIABLE, collect
from facewright.stages import register as stage

ROOT = Path(__file__).parents[3]
POLICY = params.load_policy(ROOT / params.POLICY)


@pytest.mark.parametrize("built_of", [None, "c0ffee-dirty", "unknown"])
def test_a_version_names_the_commit_of_the_code_that_ran(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, built_of: str | None
) -> None:
    """The image's; the submitter's checkout, which may be another, only where there is none.

    And the same digest of the parameters as `facewright run` records.
    """
    given: dict[str, Any] = {}

    def run(**inputs: Any) -> None:
        given.update(inputs)
        inputs["output"].mkdir()
        (inputs["output"] / "model-card.md").touch()

    monkeypatch.setattr(stage, "run", run)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")  # which the component sets
    if built_of is None:
        monkeypatch.delenv(COMMIT_VARIABLE, raising=False)
    else:
        monkeypatch.setenv(COMMIT_VARIABLE, built_of)
    monkeypatch.chdir(ROOT)
    sections = params.as_json()
    stages = ("train", "distill", "quantize", "compile", "evaluate", "gate", "output", "card")
    register.python_func(
        tracking_uri="http://mlflow.example.org",
        data_md5="d",
        git_commit="submitted",
        policy=sections.pop("gate"),
        **{f"{name}_params": section for name, section in sections.items()},
        **{name: SimpleNamespace(path=str(tmp_path / name)) for name in stages},
    )
    assert given["lineage"].git_commit == (built_of or "submitted")
    assert given["lineage"].data_md5 == "d"
    assert given["lineage"].params_digest == collect(ROOT).params_digest
    assert given["policy"] == POLICY
