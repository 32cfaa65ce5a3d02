"""The pipeline on this machine: what is refused before anything starts. Runs: tests/pipeline,
tests/containers."""

import subprocess
import sys
from pathlib import Path

import pytest

from pipelines import local

ROOT = Path(__file__).parents[3]
PUBLISHED = ("--docker", "--repository", "git://example.org/x", "--revision", "main")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what the pipeline's arguments are read from, and no Docker."""
    for name in ("params.yaml", "mlflow/promotion.yaml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text((ROOT / name).read_text())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path / 'nobody.sock'}")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    return tmp_path


@pytest.mark.parametrize("module", ["local", "compile", "submit"])
def test_each_command_is_one(module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", f"pipelines.{module}", "--help"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"usage: pipelines.{module}")


@pytest.mark.parametrize("options", [PUBLISHED[:1], PUBLISHED[:3], PUBLISHED[1:], PUBLISHED[3:]])
def test_containers_need_a_repository_and_nothing_else_has_one(
    here: Path, options: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        local.main(options)
    assert ended.value.code == 2
    assert capsys.readouterr().err.endswith("--docker, --repository and --revision go together\n")
    assert not (here / "artifacts").exists()


@pytest.mark.parametrize(
    ("tracking", "told"),
    [
        ("sqlite:///mlflow.db", "containers need MLflow as a server: start one with"),
        ("http://127.0.0.1:9", "Docker does not answer: start it, or set DOCKER_HOST"),
    ],
)
def test_what_containers_need_is_told_in_one_line(
    here: Path,
    tracking: str,
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking)
    assert local.main(PUBLISHED) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"pipelines.local: {told}")
