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
