"""The servers, started once for all tests, and a project in front of them."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers.project import PATIENCE, Project, make_project
from tests.servers.stack import Stack, missing

ROOT = Path(__file__).parents[2]


def servers(command: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    done = subprocess.run(
        [sys.executable, "-m", "tests.servers", command, "--folder", str(folder)],
        cwd=ROOT, capture_output=True, text=True, timeout=900,
    )  # fmt: skip
    print(done.stderr)
    return done


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    if why := missing():
        pytest.skip(why)
    # Not in pytest's folders: after Ctrl-C it may remove them before this fixture ends.
    folder = Path(tempfile.mkdtemp(prefix="facewright-servers-"))
    try:
        started = servers("start", folder)
        assert started.returncode == 0, started.stderr
        running = Stack(folder)
        assert started.stdout == f"export MLFLOW_TRACKING_URI={running.tracking.uri}\n"
        processes = [process.pid for process in running.processes]
        assert None not in processes
        yield running
        assert servers("stop", folder).returncode == 0
        assert [process.pid for process in running.processes] == [None, None, None]
    finally:
        Stack(folder).remove()


@pytest.fixture
def online(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Stack:
    """All of them run, and are configured; nothing else of the environment is."""
    stack.start()
    monkeypatch.setattr("facewright.registry.server.PROBE_SECONDS", PATIENCE)
    for name in [*os.environ]:
        if name.startswith(("AWS_", "MLFLOW_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", stack.tracking.uri)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", str(PATIENCE))
    return stack


@pytest.fixture
def project(online: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """Its model is named after the test, its working directory is ours."""
    made = make_project(tmp_path / "project", tmp_path.name)
    monkeypatch.chdir(made.root)
    return made
