"""The images, built once for all tests by `make images`, with a Docker daemon of its own.

`$FACEWRIGHT_DOCKER` names a folder in which the daemon's images stay from one time to the next.
"""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.containers.base import provide_base
from tests.containers.daemon import Docker, missing
from tests.containers.images import Images
from tests.containers.published import Published, let_containers_read, published
from tests.servers.conftest import stack
from tests.servers.stack import Stack

__all__ = ["stack"]  # a fixture


@pytest.fixture(scope="session")
def docker() -> Iterator[Docker]:
    if why := missing():
        pytest.skip(why)
    kept = os.environ.get("FACEWRIGHT_DOCKER")
    # A short path: a socket's address has at most 107 characters.
    daemon = Docker(Path(kept or tempfile.mkdtemp(prefix="facewright-docker-")))
    try:
        daemon.start()
        yield daemon
    finally:
        if kept:
            daemon.stop()
        else:
            daemon.remove()


@pytest.fixture(scope="session")
def images(docker: Docker) -> Images:
    made = Images(docker, stand_in=provide_base(docker))
    made.build()
    return made


@pytest.fixture(scope="session")
def cluster(
    project: Path,
    images: Images,
    stack: Stack,
    ledger_key: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Published]:
    """The project where a cluster would find it, and all that its runs need."""
    let_containers_read(ledger_key)
    folder = tmp_path_factory.mktemp("published")
    with published(project, images.docker, stack, folder) as served:
        yield served
