"""Fixtures that every layer of the tests shares."""

import os
import shutil
from pathlib import Path

import pytest

from tests.shell import ROOT, copy_project, shell


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with real faces; a checkout without it skips the tests that need it."""
    folder = Path(os.environ.get("FACEWRIGHT_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "lfw").is_dir():
        pytest.skip(f"no real faces in {folder}: set FACEWRIGHT_DATA to run this test")
    return folder


@pytest.fixture(scope="session", autouse=True)
def ledger_key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key that signs what tests promote, in place of the one of whoever runs them."""
    file = tmp_path_factory.mktemp("ledger") / "ledger.key"
    os.environ["FACEWRIGHT_LEDGER_KEY"] = str(file)
    return file


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the working tree, without outputs, in which `make run` has run once."""
    if not (ROOT / "data" / "verify").is_dir():
        pytest.skip("no sample set in data/: run `make data` first")
    folder = tmp_path_factory.mktemp("project") / "facewright"
    copy_project(folder)
    shutil.copytree(ROOT / "data", folder / "data")
    done = shell(folder, "make", "-o", ".venv/run", "run")  # with the packages that are there
    assert done.returncode == 0, done.stderr[-2000:]
    assert "version 1, champion" in done.stdout
    return folder
