"""A checkout with its remote, and a Kubeflow server beside it."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from facewright import params
from pipelines import server, watch
from tests.unit.pipelines.kubeflow import Kubeflow, serving

ROOT = Path(__file__).parents[3]
REMOTE = "https://git.example.org/team/facewright"


def git(folder: Path, *words: str) -> str:
    """Run git there; returns what it prints."""
    identity = [
        "-c",
        "user.name=t",
        "-c",
        "user.email=t@example.org",
        "-c",
        "init.defaultBranch=main",
    ]
    done = subprocess.run(
        ["git", *identity, *words], cwd=folder, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory: the parameters, the policy and data.dvc of this project."""
    (tmp_path / "mlflow").mkdir()
    for name in (params.PARAMS, params.POLICY, Path("data.dvc")):
        shutil.copy(ROOT / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    for name in ("MLFLOW_TRACKING_URI", "KF_PIPELINES_ENDPOINT", "KF_PIPELINES_UI_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv(server.TOKEN_FILE, raising=False)
    return tmp_path


@pytest.fixture
def checkout(folder: Path) -> Path:
    """The same, committed on `main`, which its remote has."""
    git(folder, "init")
    git(folder, "add", ".")
    git(folder, "commit", "-m", "one")
    git(folder, "remote", "add", "origin", REMOTE)
    pushed(folder)
    return folder


def pushed(folder: Path) -> None:
    """Let git take HEAD for what `main` of the remote is."""
    git(folder, "update-ref", "refs/remotes/origin/main", "HEAD")


@pytest.fixture
def kubeflow(monkeypatch: pytest.MonkeyPatch) -> Iterator[Kubeflow]:
    """A server that is asked without pauses."""
    monkeypatch.setattr(watch, "POLL_SECONDS", 0.0)
    monkeypatch.setattr(server, "PAUSE_SECONDS", 0.01)
    with serving(Kubeflow()) as one:
        yield one
