"""The whole pipeline in its images, as a cluster runs it but for Kubernetes: data from a git server
and S3, MLflow on PostgreSQL and S3; the figures are those of `dvc repro`."""

import json
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.containers.daemon import Docker
from tests.containers.published import Published

pytestmark = pytest.mark.containers
TIMINGS = ("_ms", "seconds", "images_per_second", "data_wait")


def metrics(folder: Path) -> dict[str, float]:
    values = json.loads((folder / "metrics.json").read_text())
    return {key: value for key, value in values.items() if not key.endswith(TIMINGS)}


@contextmanager
def changed(cluster: Published, old: str, new: str) -> Iterator[None]:
    """With another `pipelines/cluster.yaml`."""
    file = cluster.project / "pipelines" / "cluster.yaml"
    before = file.read_text()
    assert old in before
    file.write_text(before.replace(old, new, 1))
    try:
        yield
    finally:
        file.write_text(before)


def containers_of(docker: Docker, component: str) -> list[str]:
    """The ids of those that run it now."""
    ids = docker.run("ps", "--quiet").stdout.split()
    # One may have ended meanwhile: the others are told all the same.
    found = json.loads(docker.run("inspect", *ids, check=False).stdout) if ids else []
    return [one["Id"] for one in found if component in one["Args"]]


def test_containers_give_the_metrics_of_dvc_whatever_fails_once(cluster: Published) -> None:
    """As when a store is away for a while and a pod is evicted: fetch and train are tried again."""
    artifacts = cluster.project / "artifacts"
    runs = artifacts / "kfp-local"
    shutil.rmtree(runs, ignore_errors=True)
    store = cluster.stack.store
    store.stop()
    with ThreadPoolExecutor() as pool:
        run = pool.submit(cluster.run)
        while not containers_of(cluster.docker, "fetch") and not run.done():
            time.sleep(0.2)
        while containers_of(cluster.docker, "fetch"):  # it fails
            time.sleep(0.5)
        store.start()
        while not (first := containers_of(cluster.docker, "train")) and not run.done():
            time.sleep(0.5)
        if first:
            time.sleep(10.0)  # it learns by now
            cluster.docker.run("kill", *first)
        done = run.result()
    assert first, "train was never seen to run"
    assert f"{store.endpoint}: the server does not answer" in done.stdout
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    for stage in ("validate", "align", "train", "distill", "quantize", "compile", "evaluate"):
        (written,) = runs.glob(f"*/{stage}/output/metrics.json")
        assert metrics(written.parent) == metrics(artifacts / stage), stage
        assert written.stat().st_uid == 10001
    (decision,) = runs.glob("*/gate/output/decision.json")
    assert json.loads(decision.read_text())["outcome"] == "promote"
    assert list(runs.glob("*/promote/output/promotion.json"))
    for shown in ("evaluate/report", "validate/data_docs", "gate/decision", "register/card"):
        (page,) = runs.glob(f"*/{shown}")
        assert page.stat().st_size > 100, shown


def test_an_image_that_is_missing_is_one_line(cluster: Published) -> None:
    with changed(cluster, "image: facewright:0.1.0", "image: facewright:9.9.9"):
        done = cluster.run()
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        "pipelines.local: image facewright:9.9.9 is not there: `make images`, or mend cluster.yaml"
    )


def test_without_a_server_of_mlflow_it_says_so(cluster: Published) -> None:
    done = cluster.run(MLFLOW_TRACKING_URI="sqlite:///mlflow.db")
    assert done.returncode == 2
    assert "containers need MLflow as a server" in done.stderr.splitlines()[-1]


def test_wrong_credentials_of_the_store_stop_at_fetch(cluster: Published) -> None:
    runs = cluster.project / "artifacts" / "kfp-local"
    before = set(runs.glob("*"))
    fetch = "fetch: {cpu: 1, memory: 2Gi, gpus: 0, retries: "
    with changed(cluster, f"{fetch}3", f"{fetch}0"):  # it would wait minutes between tries
        done = cluster.run(AWS_SECRET_ACCESS_KEY="wrong")
    assert done.returncode == 2
    assert "the server refuses these credentials" in done.stdout
    (new,) = set(runs.glob("*")) - before
    assert not list(new.glob("validate/output/metrics.json"))
