"""The guide shows manifests as they are rendered."""

import pytest

from tests.excerpts import excerpts, misfit
from tests.k8s.__main__ import main
from tests.k8s.rendering import FOLDER

SHOWN = excerpts(FOLDER / "README.md")


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The documents of prod that `python -m tests.k8s render` writes."""
    folder = tmp_path_factory.mktemp("rendered")
    assert main(["render", str(folder)]) == 0
    return (folder / "prod.yaml").read_text().split("---\n")


@pytest.mark.parametrize("excerpt", SHOWN, ids=["runtime", "closed"])
def test_manifests_are_shown_as_they_are_rendered(excerpt: str, printed: list[str]) -> None:
    wrong = [misfit(excerpt, document) for document in printed]
    assert wrong.count(None) == 1, max(filter(None, wrong), key=excerpt.index)
