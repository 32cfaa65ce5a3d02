"""A real MLflow store per test: one SQLite file is migrated once and copied."""

import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from facewright.models.recognizer import WEIGHTS, write_card
from facewright.registry.tracking import connect


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


class Folders:
    """Recognizer folders with a few bytes for weights."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def __call__(self, seed: str, *, engine: bytes | None = None) -> dict[str, Path]:
        folders = {}
        kinds = {"teacher": "torch", "student": "onnx", "student-int8": "onnx"}
        if engine is not None:
            kinds["student-sm86"] = "engine"
        for name, kind in kinds.items():
            folder = self.root / seed / name
            folder.mkdir(parents=True, exist_ok=True)
            content = f"{seed} {name}".encode() if kind != "engine" else engine
            (folder / WEIGHTS[kind]).write_bytes(content or b"")
            write_card(
                folder,
                name=name,
                format=kind,
                network="resnet_tiny",
                embedding_size=8,
                precision="int8" if "int8" in name else "fp32",
                data_digest="d" * 64,
                code_digest="c" * 64,
                engine={"target": "sm86"} if kind == "engine" else {},
            )
            folders[name] = folder
        return folders


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    return Folders(tmp_path / "recognizers")
