"""The whole pipeline in its images, as a cluster runs it but for Kubernetes: data from a git server
and S3, MLflow on PostgreSQL and S3; the figures are those of `dvc repro`."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.containers.conftest import Images
from tests.servers.stack import Stack
from tests.shell import shell

pytestmark = pytest.mark.containers
TIMINGS = ("_ms", "seconds", "images_per_second", "data_wait")
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

    url: str
    revision: str
    environment: dict[str, str]


def metrics(folder: Path) -> dict[str, float]:
    values = json.loads((folder / "metrics.json").read_text())
    return {key: value for key, value in values.items() if not key.endswith(TIMINGS)}


@pytest.fixture(scope="session")
def published(
    project: Path, stack: Stack, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Published]:
    root = tmp_path_factory.mktemp("published") / "facewright"
    environment = stack.store.environment
    stack.store.client().create_bucket(Bucket=BUCKET)
    git = ("git", "-c", "user.name=t", "-c", "user.email=t@example.org")
    assert shell(root.parent, "git", "clone", "-q", project, root).returncode == 0
    shutil.copy(project / "data.dvc", root)
    for command in (
        ("dvc", "cache", "dir", "--local", str(project / ".dvc" / "cache")),
        ("dvc", "remote", "add", "-d", "store", f"s3://{BUCKET}/facewright"),
        ("dvc", "remote", "modify", "store", "endpointurl", stack.store.endpoint),
        (*git, "commit", "-qam", "a remote"),
    ):
        assert shell(root, *command).returncode == 0
    assert shell(root, "dvc", "push", "data.dvc", environment=environment).returncode == 0
    revision = shell(root, "git", "rev-parse", "HEAD").stdout.strip()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    daemon = subprocess.Popen(
        ["git", "daemon", "--export-all", "--listen=127.0.0.1", f"--port={port}",
         f"--base-path={root.parent}", "--reuseaddr", str(root)],
        env={**os.environ, "GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "safe.directory",
             "GIT_CONFIG_VALUE_0": "*"},
    )  # fmt: skip
    try:
        url = f"git://127.0.0.1:{port}/facewright"
        deadline = time.monotonic() + 30
        while subprocess.run(
            ["git", "ls-remote", url], capture_output=True, check=False
        ).returncode:
            assert time.monotonic() < deadline
            time.sleep(0.2)
        yield Published(url, revision, environment)
    finally:
        daemon.terminate()
        daemon.wait()


def run(
    project: Path, images: Images, stack: Stack, published: Published, **more: str
) -> "subprocess.CompletedProcess[str]":
    """`python -m pipelines.local --docker` in the project."""
    environment = {
        **images.docker.environment,
        **published.environment,
        "MLFLOW_TRACKING_URI": stack.tracking.uri,
        "LOGNAME": "pipeline",
        "PYTHONPATH": str(project),
        **more,
    }
    arguments = ("--docker", "--repository", published.url, "--revision", published.revision)
    return shell(project, sys.executable, "-c", RUN, *arguments, environment=environment)


@pytest.fixture(scope="session")
def key_for_containers(ledger_key: Path) -> None:
    """The ledger's key, readable by the group as whose member the containers run."""
    from facewright.registry.ledger_keys import signer

    signer()
    ledger_key.chmod(0o640)
    for folder in ledger_key.parents[:3]:
        folder.chmod(0o755)


@pytest.mark.usefixtures("key_for_containers")
def test_containers_give_the_metrics_of_dvc_and_promote(
    project: Path, images: Images, stack: Stack, published: Published
) -> None:
    runs = project / "artifacts" / "kfp-local"
    shutil.rmtree(runs, ignore_errors=True)
    done = run(project, images, stack, published)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    for stage in ("validate", "align", "train", "distill", "quantize", "compile", "evaluate"):
        (written,) = runs.glob(f"*/{stage}/output/metrics.json")
        assert metrics(written.parent) == metrics(project / "artifacts" / stage), stage
        assert written.stat().st_uid == 10001
    (decision,) = runs.glob("*/gate/output/decision.json")
    assert json.loads(decision.read_text())["outcome"] == "promote"
    assert list(runs.glob("*/promote/output/promotion.json"))
    for shown in ("evaluate/report", "validate/data_docs", "gate/decision", "register/card"):
        (page,) = runs.glob(f"*/{shown}")
        assert page.stat().st_size > 100, shown


def test_an_image_that_is_missing_is_one_line(
    project: Path, images: Images, stack: Stack, published: Published
) -> None:
    file = project / "pipelines" / "cluster.yaml"
    before = file.read_text()
    file.write_text(before.replace("image: facewright:0.1.0", "image: facewright:9.9.9", 1))
    try:
        done = run(project, images, stack, published)
    finally:
        file.write_text(before)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line == (
        "pipelines.local: image facewright:9.9.9 is not there: `make images`, or mend cluster.yaml"
    )


def test_without_a_server_of_mlflow_it_says_so(
    project: Path, images: Images, stack: Stack, published: Published
) -> None:
    done = run(project, images, stack, published, MLFLOW_TRACKING_URI="sqlite:///mlflow.db")
    assert done.returncode == 2
    assert "containers need MLflow as a server" in done.stderr.splitlines()[-1]


@pytest.mark.usefixtures("key_for_containers")
def test_wrong_credentials_of_the_store_stop_at_fetch(
    project: Path, images: Images, stack: Stack, published: Published
) -> None:
    done = run(project, images, stack, published, AWS_SECRET_ACCESS_KEY="wrong")
    assert done.returncode == 2
    assert "facewright.errors.DatasetError" in done.stdout
    assert not list((project / "artifacts" / "kfp-local").glob("*/validate/output/metrics.json"))
