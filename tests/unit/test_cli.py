import shutil
from pathlib import Path

import pytest

from facewright import cli

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copy(ROOT / "params.yaml", tmp_path)
    (tmp_path / "mlflow").mkdir()
    shutil.copy(ROOT / "mlflow" / "promotion.yaml", tmp_path / "mlflow")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run a command that must fail as a user's error does; returns its line."""
    assert cli.main(arguments) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[-1].startswith("facewright: ")
    assert sum(line.startswith("facewright: ") for line in lines) == 1
    return lines[-1]


def test_a_stage_without_its_input_names_it(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "data is missing" in refused(capsys, "run", "validate")
    (folder / "data").mkdir()
    line = refused(capsys, "run", "align")
    assert "artifacts/validate is missing: run `dvc repro align`" in line
    assert not (folder / "artifacts").exists()


def test_a_misspelt_parameter_stops_a_stage_before_it_starts(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = folder / "params.yaml"
    file.write_text(file.read_text().replace("min_side", "min_sied"))
    (folder / "data").mkdir()
    assert "min_sied: unknown key: did you mean 'min_side'?" in refused(capsys, "run", "validate")
    assert not (folder / "artifacts").exists()


def test_data_without_datasets_says_how_to_import(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "data" / "train").mkdir(parents=True)
    assert "facewright dataset import" in refused(capsys, "run", "validate")
    assert not (folder / "artifacts" / "validate").exists()


def test_an_empty_source_writes_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "photos").mkdir()
    refused(capsys, "dataset", "import", "photos", "data/train/mine")
    assert not (folder / "data" / "train" / "mine").exists()


def test_promote_and_rollback_say_that_nothing_is_registered(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "no registered model 'facewright'" in refused(capsys, "promote")
    assert "no registered model 'other'" in refused(capsys, "rollback", "--model", "other")


def test_a_promotion_past_the_policy_of_today_says_so(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def said(*more: str) -> str:
        assert cli.main(["promote", *more]) == 2  # nothing is registered
        return capsys.readouterr().err

    judged = "so other is promoted by the policy that the gate judged it by"
    assert f"mlflow/promotion.yaml is on facewright, {judged}" in said("--model", "other")
    for same in (said(), said("--model", "facewright")):
        assert "the gate judged it by" not in same
    (folder / "mlflow" / "promotion.yaml").unlink()
    assert f"there is no mlflow/promotion.yaml here, {judged}" in said("--model", "other")


@pytest.mark.parametrize("command", ["promote", "rollback", "history", "ledger verify"])
def test_a_name_that_is_no_models_is_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    for name in ("it's", "a/b", ""):
        line = refused(capsys, *command.split(), "--model", name)
        assert f"--model {name!r} is no model's name: use up to 100 letters, digits" in line
    assert not list(folder.glob("mlflow.db*"))


def test_an_unreachable_server_is_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    assert "http://127.0.0.1:9" in refused(capsys, "promote")


def test_the_report_needs_a_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "run `dvc repro` first" in refused(capsys, "report")
