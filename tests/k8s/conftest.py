"""Both overlays, rendered once."""

import pytest

from tests.k8s.rendering import Copy, Document, render


@pytest.fixture(scope="session")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    """k8s/ with secrets of its own and a site filled in."""
    return Copy.make(tmp_path_factory.mktemp("k8s") / "k8s")


@pytest.fixture(scope="session")
def rendered(copy: Copy) -> dict[str, list[Document]]:
    """The documents by overlay; not to be changed."""
    return {"dev": render(copy.dev), "prod": render(copy.prod)}


@pytest.fixture(params=["dev", "prod"])
def documents(
    request: pytest.FixtureRequest, rendered: dict[str, list[Document]]
) -> list[Document]:
    return rendered[request.param]


@pytest.fixture
def dev(rendered: dict[str, list[Document]]) -> list[Document]:
    return rendered["dev"]


@pytest.fixture
def prod(rendered: dict[str, list[Document]]) -> list[Document]:
    return rendered["prod"]
