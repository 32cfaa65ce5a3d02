"""MLflow with the environment of its Deployment, its backup and restore, on real servers.

The programs are those that the CronJobs run; containers, volumes and a cluster are not there.
"""

import http.client
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.k8s.rendering import FOLDER, Copy, Document, RenderError, kubectl, render
from tests.servers.postgres import programs
from tests.servers.stack import BUCKET, Stack, missing
from tests.servers.tracking import Tracking

pytestmark = pytest.mark.servers
PROGRAMS = FOLDER / "base" / "mlflow"


@dataclass
class Deployed(Tracking):
    """An MLflow server with the environment that the cluster would give it."""

    documents: list[Document] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        maps = {each["metadata"]["name"]: each.get("data", {})
                for each in self.documents if each["kind"] == "ConfigMap"}  # fmt: skip
        (deployment,) = [each for each in self.documents if each["kind"] == "Deployment"]
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        found: dict[str, str] = {}
        for each in container["envFrom"]:
            found |= maps[each["configMapRef"]["name"]]
        secrets = {**self.postgres.environment, **self.store.environment}
        found |= {each["name"]: secrets[each["name"]] for each in container["env"]}
        # Addresses here are others.
        found |= {
            "PGHOST": "127.0.0.1", "PGPORT": str(self.postgres.port),
            "PGDATABASE": self.postgres.database, "MLFLOW_S3_ENDPOINT_URL": self.store.endpoint,
        }  # fmt: skip
        return found


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stack, Deployed]]:
    if why := missing():
        pytest.skip(why)
    try:
        kubectl()
    except RenderError as error:
        pytest.skip(str(error))
    copy = Copy.make(tmp_path_factory.mktemp("k8s") / "k8s")
    stack = Stack(Path(tempfile.mkdtemp(prefix="facewright-k8s-")))
    deployed = Deployed(
        stack.folder / "deployed", stack.postgres, stack.store, documents=render(copy.dev)
    )
    try:
        stack.postgres.start()
        stack.store.start()
        deployed.start()
        yield stack, deployed
    finally:
        deployed.stop()
        stack.remove()


def run(
    *command: str, environment: dict[str, str], backup: Path
) -> "subprocess.CompletedProcess[str]":
    path = os.pathsep.join([str(programs()), os.environ["PATH"]])
    return subprocess.run(
        list(command), capture_output=True, text=True, timeout=300,
        env={"PATH": path, "HOME": "/nowhere", "BACKUP": str(backup), **environment},
    )  # fmt: skip


def objects(stack: Stack, bucket: str) -> dict[str, bytes]:
    client = stack.store.client()
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
    keys = [each["Key"] for page in pages for each in page.get("Contents", [])]
    return {key: client.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys}


def test_what_was_backed_up_is_there_again(servers: tuple[Stack, Deployed], tmp_path: Path) -> None:
    from mlflow import MlflowClient

    stack, deployed = servers
    for host, status in (("mlflow.facewright:5000", 200), ("elsewhere.example.org", 403)):
        connection = http.client.HTTPConnection("127.0.0.1", deployed.port, timeout=60)
        query = "/api/2.0/mlflow/experiments/get?experiment_id=0"
        connection.request("GET", query, headers={"Host": host})
        assert connection.getresponse().status == status
        connection.close()

    client = MlflowClient(deployed.uri)
    made = client.create_run("0")
    client.log_metric(made.info.run_id, "tar", 0.875)
    for number in range(3):
        text = "weights" * 1000 * number
        client.log_text(made.info.run_id, text, f"model/part-{number}.txt")

    environment = deployed.environment
    backup = tmp_path / "backup"
    done = run("sh", str(PROGRAMS / "dump.sh"), environment=environment, backup=backup)
    assert done.returncode != 0  # a volume that is not there
    backup.mkdir()
    done = run("sh", str(PROGRAMS / "dump.sh"), environment=environment, backup=backup)
    assert done.returncode == 0, done.stderr
    (dump,) = (backup / "databases").iterdir()
    copy = (sys.executable, str(PROGRAMS / "files.py"))
    done = run(*copy, "backup", str(backup), environment=environment, backup=backup)
    assert (done.returncode, done.stdout) == (0, "backup: 3 files\n"), done.stderr
    done = run(*copy, "backup", str(backup), environment=environment, backup=backup)
    assert done.stdout == "backup: 0 files\n"
    client.log_text(made.info.run_id, "late", "late.txt")  # after the dump's time: not in its rows
    before = {key: value for key, value in objects(stack, BUCKET).items() if "late" not in key}

    # Another database, and another bucket, which is not there yet, as after a loss.
    with stack.postgres.connect("postgres").cursor() as cursor:
        cursor.execute('CREATE DATABASE "again"')
    bucket = {"MLFLOW_ARTIFACTS_DESTINATION": "s3://again/artifacts"}
    again = environment | bucket | {"PGDATABASE": "again"}
    restore = ("sh", str(PROGRAMS / "restore.sh"))
    wrong = run(*restore, environment=again | {"RESTORE_FROM": "x.dump"}, backup=backup)
    assert wrong.returncode != 0
    assert f"no dump 'x.dump' in databases/: there are {dump.name}" in wrong.stderr
    done = run(*copy, "restore", str(backup), environment=again, backup=backup)
    assert (done.returncode, done.stdout) == (0, "restore: 3 files\n"), done.stderr
    done = run(*restore, environment=again, backup=backup)
    assert (done.returncode, done.stdout) == (0, f"restore: {dump.name}\n"), done.stderr

    assert objects(stack, "again") == before
    found = []
    for database in (stack.postgres.database, "again"):
        with stack.postgres.connect(database).cursor() as cursor:
            cursor.execute("SELECT run_uuid, key, value FROM metrics")
            found.append(cursor.fetchall())
    assert found[0] == found[1] == [(made.info.run_id, "tar", 0.875)]
    second = run(*restore, environment=again, backup=backup)
    assert second.returncode != 0
    assert "restore into an empty one" in second.stderr


def test_old_dumps_go_and_half_ones_too(servers: tuple[Stack, Deployed], tmp_path: Path) -> None:
    _, deployed = servers
    folder = tmp_path / "databases"
    folder.mkdir()
    names = [f"2020-01-{day:02}T000000Z.dump" for day in range(1, 21)]
    for name in (*names, ".partial-2020-02-01T000000Z.dump"):
        (folder / name).write_text(name)
    done = run("sh", str(PROGRAMS / "dump.sh"), environment=deployed.environment, backup=tmp_path)
    assert done.returncode == 0, done.stderr
    left = sorted(each.name for each in folder.iterdir())
    assert left[:13] == names[-13:]
    assert len(left) == 14
    wrong = deployed.environment | {"PGPASSWORD": "wrong"}
    gone = run("sh", str(PROGRAMS / "dump.sh"), environment=wrong, backup=tmp_path)
    assert gone.returncode != 0
    assert sorted(each.name for each in folder.iterdir()) == left
