"""The images, built once for all tests by `make images`, with a Docker daemon of its own.

`$FACEWRIGHT_DOCKER` names a folder in which the daemon's images stay from one time to the next.
"""

import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.containers.base import pip_settings, provide_base
from tests.containers.daemon import BUILD_SECONDS, Docker, client, missing
from tests.servers.conftest import stack

__all__ = ["stack"]  # a fixture

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Images:
    """What `make images` made."""

    docker: Docker
    stand_in: bool  # whether their base is one
    seconds: float  # that the first build took

    def build(self, *, root: Path = ROOT) -> float:
        """`make images`, of a copy of the project if one is named; the seconds that it took."""
        begin = time.monotonic()
        with pip_settings() as settings:
            done = subprocess.run(
                [
                    "make", "images", f"DOCKER={client()}",
                    f"BUILD_ARGS=--network host --secret id=pip,src={settings}",
                    *(["TORCH_CPU="] if self.stand_in else []),
                ],
                cwd=root, env={**os.environ, **self.docker.environment},
                capture_output=True, text=True, timeout=BUILD_SECONDS, check=False,
            )  # fmt: skip
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
        return time.monotonic() - begin


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
    stand_in = provide_base(docker)
    built = Images(docker, stand_in, 0.0)
    return Images(docker, stand_in, built.build())
