"""Podman on this machine, in one folder and in namespaces of its own.

It keeps images, containers and settings below its folder. Its network is loopback and nothing
else, so that no port of the machine is taken and nothing leads out; its mounts and processes are
gone when the one process ends that holds the namespaces. Root must start it.
"""

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.containers.daemon import Docker, client
from tests.servers.processes import Process

READY_SECONDS = 30.0
RUN_SECONDS = 300.0
PROGRAMS = {"podman": "podman", "catatonit": "catatonit", "ip": "iproute2", "unshare": "util-linux"}
# For machines without systemd, and within the limits that root may have here. Podman 4.3 takes a
# soft limit for the hard one, so both are the same.
SETTINGS = """\
[containers]
base_hosts_file = "{hosts}"
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
lock_type = "file"
"""


@dataclass
class Podman:
    """Images and containers of a folder, which are no other's.

    Args:
        names: what containers call their common address.
    """

    folder: Path
    names: Sequence[str]
    process: Process = field(init=False)

    def __post_init__(self) -> None:
        self.folder = self.folder.resolve()
        (self.folder / "tmp").mkdir(parents=True, exist_ok=True)
        self.process = Process("namespaces", self.folder)

    def start(self) -> None:
        """Make the namespaces.

        Raises:
            ServerError: they cannot be made here.
        """
        hosts = self.folder / "hosts"
        hosts.write_text("".join(f"127.0.0.1 {name}\n" for name in ("localhost", *self.names)))
        (self.folder / "containers.conf").write_text(SETTINGS.format(hosts=hosts))
        self.process.run_until_ready(
            lambda: [
                "unshare", "--net", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child",
                "sh", "-c", "ip link set lo up && exec catatonit -P",
            ],
            environment={}, cwd=lambda: self.folder, ready=self._ready,
            seconds=READY_SECONDS, stop=self.stop,
        )  # fmt: skip

    def stop(self) -> None:
        """End all that runs in it. (`unshare` waits for its child, deaf to kinder signals.)"""
        self.process.stop(signal.SIGKILL, all=True)

    def remove(self) -> None:
        """End all that runs in it, and remove all that it kept."""
        if self.process.pid is not None:
            self.run("pod", "rm", "--all", "--force", "--time=0", check=False)
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)
        # Podman leaves control groups behind; those that hold a process are another's.
        groups = Path("/sys/fs/cgroup")
        for group in (*groups.glob("libpod_parent"), *groups.glob("*/libpod_parent")):
            for each, _, _ in os.walk(group, topdown=False):
                with suppress(OSError):
                    Path(each).rmdir()

    def inside(
        self, *command: object, check: bool = True, timeout: float = RUN_SECONDS, given: str = ""
    ) -> "subprocess.CompletedProcess[str]":
        """A command of this machine, in the namespaces; `given` is its input.

        Raises:
            CalledProcessError: it failed; its output is a note.
        """
        done = subprocess.run(
            [*self._enter(), *map(str, command)], env=self._environment, input=given,
            capture_output=True, text=True, timeout=timeout, check=False,
        )  # fmt: skip
        if check and done.returncode:
            error = subprocess.CalledProcessError(done.returncode, done.args)
            error.add_note(done.stdout[-3000:] + done.stderr[-6000:])
            raise error
        return done

    def run(
        self, *arguments: object, check: bool = True, timeout: float = RUN_SECONDS, given: str = ""
    ) -> "subprocess.CompletedProcess[str]":
        """The `podman` command on this folder."""
        return self.inside(*self._podman(), *arguments, check=check, timeout=timeout, given=given)

    def load(self, docker: Docker, images: Sequence[str]) -> None:
        """Copy images of a Docker daemon, under their names."""
        saved = subprocess.Popen(
            [client(), "save", *images],
            env={**os.environ, **docker.environment}, stdout=subprocess.PIPE,
        )  # fmt: skip
        subprocess.run(
            [*self._enter(), *self._podman(), "load", "--quiet"], env=self._environment,
            stdin=saved.stdout, capture_output=True, check=True,
        )  # fmt: skip
        assert saved.wait() == 0

    def keep(self, secret: dict[str, Any]) -> None:
        """Have a Secret, in the form that `play kube` reads."""
        name = secret["metadata"]["name"]
        self.run("secret", "create", name, "-", given=json.dumps(secret["data"]))

    def play(self, documents: Sequence[dict[str, Any]]) -> None:
        """`podman play kube`, to the end of all init containers."""
        self.run("play", "kube", "-", given=yaml.safe_dump_all(documents))

    def container(self, workload: str) -> str:
        """The one container that `play` made of a workload, init containers aside."""
        mine = f"name=^{workload}(-pod.*)?-[a-z]+$"
        (found,) = self.run("ps", "--all", "--quiet", "--filter", mine).stdout.split()
        return found

    def _enter(self) -> list[str]:
        spaces = Path(f"/proc/{self.process.pid}/ns")
        return [
            "nsenter", f"--net={spaces / 'net'}", f"--mount={spaces / 'mnt'}",
            f"--pid={spaces / 'pid_for_children'}",
        ]  # fmt: skip

    def _podman(self) -> list[str]:
        places = {"root": "root", "runroot": "run", "tmpdir": "state"}
        return ["podman", *(f"--{key}={self.folder / name}" for key, name in places.items())]

    @property
    def _environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "CONTAINERS_CONF": str(self.folder / "containers.conf"),
            "TMPDIR": str(self.folder / "tmp"),
            "DISABLE_HC_SYSTEMD": "true",  # probes are run by the tests
        }

    def _ready(self) -> str | None:
        asked = self.inside("ip", "-o", "link", "show", "up", check=False, timeout=10.0)
        return None if asked.stdout.startswith("1: lo:") else "no network yet"


def missing() -> str | None:
    """Why Podman cannot be used here, in one line; None where it can."""
    if os.geteuid() != 0:
        return "needs root, for Podman"
    absent = [package for name, package in PROGRAMS.items() if shutil.which(name) is None]
    return f"needs Podman: apt-get install {' '.join(absent)}" if absent else None
