"""The manifests of k8s/overlays/dev, run by `podman play kube`: MLflow, PostgreSQL, SeaweedFS, and
the pods of the Jobs that back up, restore and upgrade."""

import copy
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from base64 import b64decode
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.containers.images import Images
from tests.containers.podman import Podman, missing
from tests.containers.stores import provide_store
from tests.k8s.rendering import NAMESPACE, Copy, Document, render

pytestmark = pytest.mark.containers
SERVERS = {"postgres": "StatefulSet", "seaweedfs": "StatefulSet", "mlflow": "Deployment"}
JOBS = ("mlflow-backup", "mlflow-restore", "mlflow-upgrade")
LOG = (
    "from mlflow import MlflowClient\n"
    "client = MlflowClient()\n"
    "run = client.create_run('0').info.run_id\n"
    "client.log_metric(run, 'tar', 0.875)\n"
    "client.log_text(run, 'weights', 'model/part.txt')\n"
    "print(run)\n"
)
READ = (
    "import sys\n"
    "from mlflow import MlflowClient, artifacts\n"
    "print(MlflowClient().get_run(sys.argv[1]).data.metrics)\n"
    "print(artifacts.load_text(f'runs:/{sys.argv[1]}/model/part.txt'))\n"
)
LIST = (
    "import boto3, os\n"
    "store = boto3.client('s3', endpoint_url=os.environ['MLFLOW_S3_ENDPOINT_URL'])\n"
    "print(*[each['Key'] for each in store.list_objects_v2(Bucket='mlflow')['Contents']])\n"
)
# As kubelet asks: by the pod's address, which is no name that MLflow is told to expect.
ASK = (
    "import sys, urllib.request as u\n"
    "asked = u.Request(sys.argv[1], headers={'Host': '10.0.0.7'})\n"
    "assert u.urlopen(asked, timeout=float(sys.argv[2])).status == 200\n"
)
STATUS = "cat /proc/1/status; touch /written 2>&1 || true; touch /tmp/written; id"


def on_one_machine(document: Document, folder: Path) -> Document:
    """A workload as `play kube` takes it, changed only in what one machine forces.

    Args:
        folder: where volumes are folders.
    """
    made = copy.deepcopy(document)
    spec, name = made["spec"], made["metadata"]["name"]
    pod = spec.get("jobTemplate", made)["spec"]["template"]["spec"]
    if made["kind"] != "Deployment":  # of all that makes pods, Podman knows only this
        made = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": pod}
    for claim in spec.get("volumeClaimTemplates", []):
        volume = claim["metadata"]["name"]
        source = {"claimName": f"{volume}-{name}-0"}
        pod["volumes"].append({"name": volume, "persistentVolumeClaim": source})
    # Podman knows no fsGroup, and gives one volume to all who call theirs by the same name: they
    # are folders with the rights that kubelet gives.
    for volume in pod["volumes"]:
        if "emptyDir" in volume:
            path, mode = folder / name / volume["name"], 0o2777
            shutil.rmtree(path, ignore_errors=True)
            del volume["emptyDir"]
        elif "persistentVolumeClaim" in volume:
            path = folder / volume.pop("persistentVolumeClaim")["claimName"]
            mode = 0o2775
        else:
            continue
        path.mkdir(parents=True, exist_ok=True)
        os.chown(path, 0, pod["securityContext"]["fsGroup"])
        path.chmod(mode)
        volume["hostPath"] = {"path": str(path), "type": "Directory"}
    # All pods are in one network, where the names of Services are those of loopback.
    pod["hostNetwork"] = True
    for container in pod["containers"]:
        container.pop("ports", None)  # else Podman wants to forward them
    return made


@dataclass
class Cluster:
    """One machine, on which the manifests run."""

    podman: Podman
    documents: list[Document]

    @property
    def volumes(self) -> Path:
        return self.podman.folder / "volumes"

    def find(self, kind: str, name: str) -> Document:
        """The document of that name, which may have kustomize's hash behind it."""
        (found,) = [
            each
            for each in self.documents
            if each["kind"] == kind
            and re.fullmatch(rf"{name}(-[a-z0-9]{{10}})?", each["metadata"]["name"])
        ]
        return found

    def play(self, kind: str, name: str) -> None:
        maps = [each for each in self.documents if each["kind"] == "ConfigMap"]
        self.podman.play([*maps, on_one_machine(self.find(kind, name), self.volumes)])

    def serve(self, name: str) -> None:
        """Start a server, and wait as long as its startup probe does."""
        self.play(SERVERS[name], name)
        probe = self.spec(name)["startupProbe"]
        deadline = time.monotonic() + probe["periodSeconds"] * probe["failureThreshold"]
        while not self.probe(name, "startupProbe"):
            if time.monotonic() > deadline:
                pytest.fail(f"{name} does not start: {self.logs(name)}")
            time.sleep(0.5)

    def take_away(self, name: str) -> None:
        """Remove a server's pod, or that of a job."""
        container = self.podman.container(name)
        pod = self.podman.run("inspect", "--format={{.Pod}}", container).stdout.strip()
        self.podman.run("pod", "rm", "--force", "--time=3", pod)

    def job(self, name: str) -> str:
        """Run a Job's pod to its end; returns what its container said."""
        self.play("CronJob", name)
        made = self.podman.container(name)
        code = self.podman.run("wait", made).stdout.strip()
        said = self.podman.run("logs", made)
        assert code == "0", said.stdout + said.stderr
        self.take_away(name)
        return said.stdout

    def spec(self, name: str) -> dict[str, Any]:
        """Of a server's only container, in the manifest."""
        (container,) = self.find(SERVERS[name], name)["spec"]["template"]["spec"]["containers"]
        return container

    def exec(self, name: str, *command: str, check: bool = True) -> str:
        """A command in a server's container, as its user; its output, or "" if it failed."""
        done = self.podman.run("exec", self.podman.container(name), *command, check=check)
        return "" if done.returncode else done.stdout

    def probe(self, name: str, kind: str) -> bool:
        """Whether a server's probe succeeds, as the manifest has it."""
        probe = self.spec(name)[kind]
        if "exec" in probe:
            return self.exec(name, *probe["exec"]["command"], check=False) != ""
        ports = {each["name"]: each["containerPort"] for each in self.spec(name)["ports"]}
        url = f"http://127.0.0.1:{ports[probe['httpGet']['port']]}{probe['httpGet']['path']}"
        asked = (sys.executable, "-c", ASK, url, probe["timeoutSeconds"])
        return self.podman.inside(*asked, check=False).returncode == 0

    def client(self, script: str, *arguments: str) -> str:
        """A program in a container beside them, which knows MLflow as the pipeline's steps do."""
        uri = self.find("ConfigMap", "facewright-pipeline")["data"]["MLFLOW_TRACKING_URI"]
        return self.podman.run(
            "run", "--rm", "--network=host", f"--env=MLFLOW_TRACKING_URI={uri}",
            self.spec("mlflow")["image"], "python", "-c", script, *arguments,
        ).stdout.strip()  # fmt: skip

    def logs(self, name: str) -> str:
        said = self.podman.run("logs", "--tail=50", self.podman.container(name))
        return said.stdout + said.stderr


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    if why := missing():
        pytest.skip(why)
    documents = render(Copy.make(tmp_path_factory.mktemp("k8s") / "k8s").dev)
    services = [each["metadata"]["name"] for each in documents if each["kind"] == "Service"]
    names = [*services, *(f"{each}.{NAMESPACE}" for each in services)]
    podman = Podman(Path(tempfile.mkdtemp(prefix="facewright-podman-")), names)
    try:
        podman.start()
        yield Cluster(podman, documents)
    finally:
        podman.remove()


@pytest.fixture(scope="module")
def cluster(machine: Cluster, images: Images) -> Cluster:
    """PostgreSQL, SeaweedFS and MLflow, as the overlay says."""
    stores = [machine.spec(name)["image"] for name in ("postgres", "seaweedfs")]
    for image in stores:
        provide_store(images.docker, image)
    machine.podman.load(images.docker, [machine.spec("mlflow")["image"], *stores])
    for each in machine.documents:
        if each["kind"] == "Secret":
            machine.podman.keep(each)
    for name in SERVERS:
        machine.serve(name)
    return machine


@pytest.fixture(scope="module")
def run(cluster: Cluster) -> str:
    """A run that was logged through MLflow."""
    return cluster.client(LOG).splitlines()[-1]


def is_there(cluster: Cluster, run: str) -> bool:
    return cluster.client(READ, run).splitlines()[-2:] == ["{'tar': 0.875}", "weights"]


@pytest.mark.parametrize("name", SERVERS)
def test_probes_succeed(cluster: Cluster, name: str) -> None:
    for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert cluster.probe(name, kind), kind


@pytest.mark.parametrize("name", SERVERS)
def test_they_may_do_as_little_as_the_manifest_says(cluster: Cluster, name: str) -> None:
    pod = cluster.find(SERVERS[name], name)["spec"]["template"]["spec"]["securityContext"]
    container = cluster.spec(name)
    said = cluster.exec(name, "sh", "-c", STATUS)
    status = dict(re.findall(r"^(\w+):\s+(.*)$", said, re.M))
    assert status["Uid"].split() == [str(pod["runAsUser"])] * 4
    assert status["Gid"].split() == [str(pod["runAsGroup"])] * 4
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert {int(status[key], 16) for key in ("CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"  # a filter
    assert re.search("/written'?: Read-only file system", said)
    assert "/tmp/written" not in said
    (made,) = json.loads(cluster.podman.run("inspect", cluster.podman.container(name)).stdout)
    units = {"Gi": 2**30, "Mi": 2**20}
    number, unit = re.fullmatch(r"(\d+)(\w+)", container["resources"]["limits"]["memory"]).groups()  # type: ignore[union-attr]
    assert made["HostConfig"]["Memory"] == int(number) * units[unit]


def test_a_run_lands_in_postgresql_and_in_s3(cluster: Cluster, run: str) -> None:
    sql = ("psql", "--username=mlflow", "--dbname=mlflow", "--no-align", "--tuples-only")
    rows = cluster.exec("postgres", *sql, "--command=select run_uuid, key, value from metrics")
    assert rows.split() == [f"{run}|tar|0.875"]
    assert f"artifacts/0/{run}/artifacts/model/part.txt" in cluster.exec(
        "mlflow", "python", "-c", LIST
    )


def test_nobody_comes_in_over_the_network_without_the_password(cluster: Cluster) -> None:
    def select(*given: str) -> "subprocess.CompletedProcess[str]":
        return cluster.podman.run(
            "exec", *given, cluster.podman.container("postgres"), "psql", "--username=mlflow",
            "--dbname=mlflow", "--no-align", "--tuples-only", "--host=127.0.0.1", "--no-password",
            "--command=select 1", check=False,
        )  # fmt: skip

    none, wrong = select(), select("--env=PGPASSWORD=another")
    assert none.returncode != 0
    assert "no password supplied" in none.stderr  # which the server had asked for
    assert wrong.returncode != 0
    assert 'password authentication failed for user "mlflow"' in wrong.stderr
    secret = cluster.find("Secret", "mlflow-database")["data"]["password"]
    right = select(f"--env=PGPASSWORD={b64decode(secret).decode()}")
    assert (right.returncode, right.stdout) == (0, "1\n"), right.stderr


def test_mlflow_finds_the_run_when_it_starts_anew(cluster: Cluster, run: str) -> None:
    cluster.take_away("mlflow")
    assert not cluster.probe("mlflow", "livenessProbe")
    cluster.serve("mlflow")
    assert is_there(cluster, run)


def test_backup_and_restore_bring_a_lost_run_back(cluster: Cluster, run: str) -> None:
    """Both stores lose their volumes; MLflow comes back to what the Jobs' pods put there."""
    assert cluster.job("mlflow-backup") == "backup: 1 files\n"
    for name in SERVERS:
        cluster.take_away(name)
    for name in ("postgres", "seaweedfs"):
        shutil.rmtree(cluster.volumes / f"data-{name}-0")
        cluster.serve(name)
    assert re.fullmatch(r"restore: \S+\.dump\n", cluster.job("mlflow-restore"))
    cluster.job("mlflow-upgrade")  # of tables that are as new as the program
    cluster.serve("mlflow")
    assert is_there(cluster, run)
