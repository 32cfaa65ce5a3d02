"""A Docker daemon on this machine, of its own: it shares nothing with one that runs already.

It listens on a socket in its folder, keeps everything below it, changes no firewall and has no
network but the machine's own: containers run with `--network host`. Root must start it.
"""

import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.servers.processes import Process, ServerError

READY_SECONDS = 60.0
BUILD_SECONDS = 1800.0


@dataclass
class Docker:
    """A daemon that can be stopped and started again on the images it had."""

    folder: Path
    process: Process = field(init=False)

    def __post_init__(self) -> None:
        self.folder = self.folder.resolve()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.process = Process("dockerd", self.folder)

    @property
    def host(self) -> str:
        """The value of `DOCKER_HOST` by which clients find it."""
        return f"unix://{self.folder / 'docker.sock'}"

    @property
    def environment(self) -> dict[str, str]:
        return {"DOCKER_HOST": self.host, "DOCKER_BUILDKIT": "1"}

    def start(self) -> None:
        """Start it, and wait until it answers; nothing is started twice.

        Raises:
            ServerError: it is not installed, or does not start.
        """
        self.process.run_until_ready(
            self._command,
            environment={},
            cwd=lambda: self.folder,
            ready=self._ready,
            seconds=READY_SECONDS,
            stop=self.stop,
        )

    def stop(self) -> None:
        """Stop it, with all that runs in it."""
        self.process.stop(seconds=60.0, all=False)

    def remove(self) -> None:
        """Stop it and remove all that it kept."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def run(
        self, *arguments: object, check: bool = True, timeout: float = BUILD_SECONDS
    ) -> "subprocess.CompletedProcess[str]":
        """The `docker` command against this daemon.

        Raises:
            CalledProcessError: it failed; its output is a note.
        """
        done = subprocess.run(
            [client(), *map(str, arguments)],
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if check and done.returncode:
            error = subprocess.CalledProcessError(done.returncode, done.args)
            error.add_note(done.stdout[-3000:] + done.stderr[-6000:])
            raise error
        return done

    def has(self, image: str) -> bool:
        return self.run("image", "inspect", image, check=False).returncode == 0

    def _command(self) -> Sequence[str]:
        return [
            _program("dockerd"),
            f"--host={self.host}",
            f"--data-root={self.folder / 'data'}",
            f"--exec-root={self.folder / 'exec'}",
            f"--pidfile={self.folder / 'docker.pid'}",
            "--bridge=none",
            "--iptables=false",
            "--ip6tables=false",
        ]

    def _ready(self) -> str | None:
        asked = self.run("version", check=False, timeout=10.0)
        return None if asked.returncode == 0 else "it does not answer"


def missing() -> str | None:
    """Why no daemon can be started here, in one line; None where one can."""
    if os.geteuid() != 0:
        return "needs root, to start a Docker daemon"
    absent = [name for name in ("dockerd", "docker") if shutil.which(name, path=_path()) is None]
    if absent:
        return f"needs {' and '.join(absent)}: apt-get install docker.io"
    return None


def client() -> str:
    """The `docker` that came with the daemon: another that stands first on the path may lack the
    part that builds images."""
    daemon = Path(_program("dockerd"))
    folders = [daemon.parent, daemon.parents[1] / "bin"]
    own = [folder / "docker" for folder in folders if (folder / "docker").is_file()]
    return str(own[0]) if own else _program("docker")


def _program(name: str) -> str:
    found = shutil.which(name, path=_path())
    if found is None:
        raise ServerError(f"{name} is not installed: apt-get install docker.io")
    return found


def _path() -> str:
    return os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))
