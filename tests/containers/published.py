"""A project where a cluster finds it: in a git server, its data in a bucket; and its runs."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.containers.daemon import Docker
from tests.servers.stack import Stack
from tests.shell import GIT, shell

BUCKET = "datasets"
# As the images' own user, who has nothing in common with whoever starts this but root's group.
RUN = (
    "import os, sys\n"
    "from pipelines import local\n"
    "os.umask(0o002)\n"
    "local.USER = '10001:0'\n"
    "sys.exit(local.main(sys.argv[1:]))\n"
)


@dataclass(frozen=True)
class Published:
    """A project in a git server, its data in a bucket."""

    project: Path
    docker: Docker
    stack: Stack
    url: str
    revision: str

    def run(self, **more: str) -> "subprocess.CompletedProcess[str]":
        """`pipelines.local --docker` in the project, of the revision that is served, with more in
        its environment. Containers run as the images' own user, not as the caller (see `RUN`)."""
        environment = {
            **self.docker.environment,
            **self.stack.store.environment,
            "MLFLOW_TRACKING_URI": self.stack.tracking.uri,
            "LOGNAME": "pipeline",
            "PYTHONPATH": str(self.project),
            **more,
        }
        command = (sys.executable, "-c", RUN, "--docker", "--repository", self.url)
        return shell(self.project, *command, "--revision", self.revision, environment=environment)


@contextmanager
def published(project: Path, docker: Docker, stack: Stack, folder: Path) -> Iterator[Published]:
    """Push the data of a project, and serve a clone of it in `folder` while this lasts."""
    root = folder / "facewright"
    stack.store.client().create_bucket(Bucket=BUCKET)
    assert shell(folder, "git", "clone", "-q", project, root).returncode == 0
    shutil.copy(project / "data.dvc", root)
    for command in (
        ("dvc", "cache", "dir", "--local", str(project / ".dvc" / "cache")),
        ("dvc", "remote", "add", "-d", "store", f"s3://{BUCKET}/facewright"),
        ("dvc", "remote", "modify", "store", "endpointurl", stack.store.endpoint),
        (*GIT, "commit", "-qam", "a remote"),
    ):
        assert shell(root, *command).returncode == 0
    pushed = shell(root, "dvc", "push", "data.dvc", environment=stack.store.environment)
    assert pushed.returncode == 0
    revision = shell(root, "git", "rev-parse", "HEAD").stdout.strip()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    trusted = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "safe.directory"}
    daemon = subprocess.Popen(
        [
            "git", "daemon", "--export-all", "--listen=127.0.0.1", f"--port={port}",
            "--reuseaddr", f"--base-path={folder}", str(root),
        ],
        env={**os.environ, **trusted, "GIT_CONFIG_VALUE_0": "*"},
    )  # fmt: skip
    try:
        url = f"git://127.0.0.1:{port}/facewright"
        deadline = time.monotonic() + 30
        asked = ["git", "ls-remote", url]
        while subprocess.run(asked, capture_output=True, check=False).returncode:
            assert time.monotonic() < deadline, "git daemon does not answer"
            time.sleep(0.2)
        yield Published(project, docker, stack, url, revision)
    finally:
        daemon.terminate()
        daemon.wait()


def let_containers_read(key: Path) -> None:
    """Make the ledger's key if it is not there, readable by the group that containers run in, and
    open the way to it from the folder of temporary files, in which it lies."""
    from facewright.registry.ledger_keys import signer

    signer()
    key.chmod(0o640)
    for folder in key.parents[: len(key.relative_to(tempfile.gettempdir()).parts) - 1]:
        folder.chmod(folder.stat().st_mode | 0o055)
