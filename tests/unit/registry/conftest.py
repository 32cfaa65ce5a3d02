"""A real MLflow store per test: one SQLite file is migrated once and copied."""

import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from facewright.registry.decision import Rule
from facewright.registry.lineage import Lineage
from facewright.registry.promotion import register
from facewright.registry.tracking import connect
from tests.unit.registry.decisions import decided, evaluation_files
from tests.unit.registry.recognizers import Folders


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("migrated")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
        connect()
    return folder / "mlflow.db"


@pytest.fixture
def store(migrated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty store is configured; the value is its folder, which is the working directory."""
    shutil.copy(migrated, tmp_path / "mlflow.db")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    return tmp_path


@pytest.fixture
def online(store: Path) -> str:
    """The address of an empty store."""
    return f"sqlite:///{store}/mlflow.db"


@pytest.fixture
def offline(online: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of a server that is away; configured, with a password."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://me:s3cr3t@127.0.0.1:{port}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    return address


@pytest.fixture
def switch(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Configure another address."""
    return lambda address: monkeypatch.setenv("MLFLOW_TRACKING_URI", address)


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    return Folders(tmp_path / "recognizers")


@pytest.fixture
def add(store: Path, folders: Folders) -> Callable[..., int]:
    """Register a version that differs by `seed`; returns its number.

    With `scores` there is an evaluation, whose file of scores holds them.
    """

    def run(
        seed: str,
        *,
        outcome: str = "promote",
        against: int | None = None,
        model: str = "facewright",
        scores: bytes | None = None,
    ) -> int:
        passed = outcome == "promote"
        rule = Rule(
            "min_accuracy", "outcome", "pass" if passed else "fail", f"{seed} 0.9, at least 0.85"
        )
        figures = '{"student.accuracy": 0.9, "student.eer": null}' if scores is not None else "{}"
        files = evaluation_files(store / "evaluation", figures=figures)
        if scores is not None:
            files[0].write_bytes(scores)
        made = folders(seed)
        return register(
            model=model,
            folders=made,
            metrics={"student.accuracy": 0.9} if scores is not None else {},
            evaluation_files=files,
            decision=decided(outcome, "student", against, (rule,), folders=made, files=files),
            lineage=Lineage("m5.dir", "c0ffee", "p" * 64),
            actor="the graph",
        ).version

    return run
