from pathlib import Path

import pytest

from tests.unit.datasets.validation.photos import Build, builder


@pytest.fixture
def build(tmp_path: Path) -> Build:
    """Imports training photos (one mapping per dataset) and verification photos into `data/`."""
    return builder(tmp_path)
