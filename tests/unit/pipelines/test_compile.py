from pathlib import Path

import pytest
import yaml

from facewright import params
from pipelines import compile as pipeline_compile


def test_the_yaml_carries_this_checkouts_parameters(folder: Path) -> None:
    assert pipeline_compile.main(["out/pipeline.yaml"]) == 0
    spec = next(yaml.safe_load_all((folder / "out" / "pipeline.yaml").read_text()))
    given = spec["root"]["inputDefinitions"]["parameters"]
    for stage in (*params.SECTIONS, "gate"):
        section = params.load(stage)
        assert params.from_json(type(section), given[f"{stage}_params"]["defaultValue"]) == section
    pinned = yaml.safe_load((folder / "data.dvc").read_text())["outs"][0]["md5"]
    assert given["data_md5"]["defaultValue"] == pinned
    # Addresses that the cluster can reach are for the user to say.
    assert "defaultValue" not in given["repository"]
    assert "defaultValue" not in given["tracking_uri"]


def test_an_address_for_pods_becomes_the_default_and_another_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow.example.org:5000")
    assert pipeline_compile.main(["pipeline.yaml"]) == 0
    spec = next(yaml.safe_load_all((folder / "pipeline.yaml").read_text()))
    given = spec["root"]["inputDefinitions"]["parameters"]["tracking_uri"]
    assert given["defaultValue"] == "http://mlflow.example.org:5000"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:s3cr3t@mlflow.example.org")
    assert pipeline_compile.main(["other.yaml"]) == 2
    told = capsys.readouterr().err
    assert "MLflow's address holds a password" in told
    assert "s3cr3t" not in told
    assert not (folder / "other.yaml").exists()


def test_promotion_waits_for_the_gate(folder: Path) -> None:
    assert pipeline_compile.main(["pipeline.yaml"]) == 0
    spec = next(yaml.safe_load_all((folder / "pipeline.yaml").read_text()))
    tasks = spec["components"]["comp-exit-handler-1"]["dag"]["tasks"]
    (condition,) = (task for name, task in tasks.items() if name.startswith("condition"))
    assert "gate-Output'] == 'promote'" in condition["triggerPolicy"]["condition"]
    inside = spec["components"][condition["componentRef"]["name"]]["dag"]["tasks"]
    assert set(inside) == {"promote"}
    assert "promote" not in tasks


def test_whatever_happens_the_outcome_is_told(folder: Path) -> None:
    assert pipeline_compile.main(["pipeline.yaml"]) == 0
    spec = next(yaml.safe_load_all((folder / "pipeline.yaml").read_text()))
    tasks = spec["root"]["dag"]["tasks"]
    assert set(tasks) == {"exit-handler-1", "tell"}
    assert tasks["tell"]["triggerPolicy"]["strategy"] == "ALL_UPSTREAM_TASKS_COMPLETED"
    assert tasks["tell"]["dependentTasks"] == ["exit-handler-1"]


def test_a_misspelt_key_is_refused_before_anything_is_written(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = folder / "params.yaml"
    file.write_text(file.read_text().replace("warmup:", "warmpu:", 1))
    assert pipeline_compile.main(["pipeline.yaml"]) == 2
    assert "train.warmpu: unknown key" in capsys.readouterr().err
    assert not (folder / "pipeline.yaml").exists()
