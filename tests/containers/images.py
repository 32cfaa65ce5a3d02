"""Building the images, by `make images`."""

import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from tests.containers.base import pip_settings
from tests.containers.daemon import BUILD_SECONDS, Docker, client
from tests.shell import ROOT


@dataclass(frozen=True)
class Images:
    """What `make images` made."""

    docker: Docker
    stand_in: bool  # whether their base is one

    def build(self, *more: str, root: Path = ROOT) -> float:
        """`make images`, with more arguments of `docker build`, of a copy of the project if one is
        named; the seconds that it took."""
        begin = time.monotonic()
        with pip_settings() as settings:
            done = subprocess.run(
                [
                    "make", "images", f"DOCKER={client()}",
                    f"BUILD_ARGS=--network host --secret id=pip,src={settings} {' '.join(more)}",
                    *(["TORCH_CPU="] if self.stand_in else []),
                ],
                cwd=root, env={**os.environ, **self.docker.environment},
                capture_output=True, text=True, timeout=BUILD_SECONDS, check=False,
            )  # fmt: skip
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
        return time.monotonic() - begin
