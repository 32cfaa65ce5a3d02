"""Fixtures that every layer of the tests shares."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


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
