"""The registry on real servers: MLflow on PostgreSQL and S3, killed and started again.

The servers are started as a person starts them, by `python -m tests.servers start`, and what they
hold is read past MLflow: rows by SQL, files from the bucket.
"""

import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from facewright.files import directory_digest
from facewright.models.recognizer import WEIGHTS
from facewright.registry.fetching import fetch_recognizer
from facewright.registry.spool import waiting
from facewright.registry.tracking import track
from tests.servers.inside import aliases, objects, rows, stored, versions
from tests.servers.postgres import USER, programs
from tests.servers.project import PATIENCE, RECOGNIZERS, Capture, Project, refused, run
from tests.servers.seaweedfs import SeaweedFS
from tests.servers.stack import BUCKET, Stack

pytestmark = pytest.mark.servers
NOBODY = "http://127.0.0.1:9"  # the discard port: nobody listens
# As on the command line, but as patient as the tests.
REGISTER = (
    sys.executable, "-c",
    "import sys; from facewright import cli; from facewright.registry import server\n"
    f"server.PROBE_SECONDS = {PATIENCE}\n"
    "sys.exit(cli.main(['run', 'register']))\n",
)  # fmt: skip


def assert_whole(stack: Stack, project: Project) -> str:
    """There is one version, of one finished run, with every byte; returns the run's id."""
    ((number, run_id, status),) = versions(stack, project.model)
    assert (number, status) == (1, "FINISHED")
    assert aliases(stack, project.model)["challenger"] == 1
    for name, (_, kind) in RECOGNIZERS.items():
        for file in (WEIGHTS[kind], "recognizer.yaml"):
            there = stored(stack.store, run_id, f"model/recognizers/{name}/{file}")
            assert there == (project.artifact(name) / file).read_bytes()
    assert stored(stack.store, run_id, "model/evaluation/report.html") == b"<html></html>"
    about = json.loads(stored(stack.store, run_id, "model/version.json"))
    digests = rows(
        stack, "SELECT run_uuid FROM tags WHERE key = %s AND value = %s",
        "facewright.digest", about["facewright.digest"],
    )  # fmt: skip
    assert digests == [(run_id,)]  # no other run was begun for it
    return str(run_id)


def test_a_version_lies_in_the_database_and_in_the_bucket(
    stack: Stack, project: Project, tmp_path: Path
) -> None:
    run("run", "register")
    run_id = assert_whole(stack, project)
    assert json.loads(Path("artifacts/register/version.json").read_text()) == {
        "model": project.model,
        "version": 1,
    }
    run("promote", "--model", project.model)
    assert aliases(stack, project.model) == {"challenger": 1, "champion": 1}
    fetched = fetch_recognizer(f"models:/{project.model}@champion", tmp_path, name="teacher")
    assert directory_digest(fetched) == directory_digest(project.artifact("teacher"))
    ((where,),) = rows(stack, "SELECT artifact_uri FROM runs WHERE run_uuid = %s", run_id)
    assert where.startswith("mlflow-artifacts:/")  # clients need no key of the store
    before = objects(stack.store)
    run("run", "register")
    assert_whole(stack, project)
    assert objects(stack.store) == before


def begun_files(stack: Stack, before: dict[str, int], model: str) -> bool:
    return len(objects(stack.store).keys() - before.keys()) > 0


def begun_version(stack: Stack, before: dict[str, int], model: str) -> bool:
    return bool(versions(stack, model))


@pytest.mark.parametrize("begun", [begun_files, begun_version])
def test_a_server_that_is_killed_in_mid_registration(
    stack: Stack,
    project: Project,
    begun: Callable[[Stack, dict[str, int], str], bool],
    capsys: Capture,
) -> None:
    before = objects(stack.store)
    client = subprocess.Popen(REGISTER, stderr=subprocess.PIPE, text=True)
    while not begun(stack, before, project.model):
        assert client.poll() is None, "the registration was over before the kill"
        time.sleep(0.002)
    client.send_signal(signal.SIGSTOP)  # so that it is not over before the server is gone
    stack.tracking.process.stop(signal.SIGKILL, all=True)
    client.send_signal(signal.SIGCONT)
    said = client.communicate(timeout=600)[1]
    assert client.returncode == 2, said
    assert said.count("\n") == 1
    assert said.startswith(f"facewright: {project.model} cannot be registered: MLflow at ")
    assert "does not answer any more: start the server and run this again" in said
    assert not Path("artifacts/register").exists()
    assert "challenger" not in aliases(stack, project.model)
    if begun is begun_files:
        assert versions(stack, project.model) == []
        assert len(objects(stack.store).keys() - before.keys()) < 2 * len(RECOGNIZERS)
    else:
        assert len(versions(stack, project.model)) == 1

    # While it is away every command says so in a line.
    for words in (
        ("run", "register"),
        ("promote", "--model", project.model),
        ("rollback", "--model", project.model),
    ):
        assert f"no MLflow server answers at {stack.tracking.uri}" in refused(capsys, *words)

    stack.tracking.start()
    run("run", "register")
    assert_whole(stack, project)


def test_a_store_that_is_away_is_one_line_and_a_rerun_completes(
    stack: Stack, project: Project, capsys: Capture
) -> None:
    stack.store.stop()
    assert "cannot be registered" in refused(capsys, "run", "register")
    assert versions(stack, project.model) == []
    stack.store.start()
    run("run", "register")
    assert_whole(stack, project)


def test_a_database_that_is_away_is_one_line_and_a_rerun_completes(
    stack: Stack, project: Project, capsys: Capture
) -> None:
    stack.postgres.stop()
    said = refused(capsys, "run", "register")
    assert stack.tracking.uri in said
    assert stack.postgres.password not in said
    stack.postgres.start()  # MLflow goes on without a restart
    run("run", "register")
    assert_whole(stack, project)


def test_a_run_kept_on_disk_is_sent_once(
    online: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.chdir(tmp_path)
    name = tmp_path.name
    (tmp_path / "sheet.png").write_bytes(b"picture")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", NOBODY)
    with track(name, params={"seed": 1}, tags={"k": "v"}, spool=True) as run_kept:
        for step in range(1200):
            run_kept.report({"loss": 1.0 / (step + 1)}, step)
        run_kept.file(tmp_path / "sheet.png")
    assert f"no MLflow server answers at {NOBODY}" in refused(capsys, "sync")

    # The database takes the curve, the store is away: it stays, and the rest follows.
    monkeypatch.setenv("MLFLOW_TRACKING_URI", online.tracking.uri)
    online.store.stop()
    refused(capsys, "sync")
    assert len(waiting()) == 1
    online.store.start()
    run("sync")
    assert waiting() == []
    ((run_id, status),) = rows(online, "SELECT run_uuid, status FROM runs WHERE name = %s", name)
    assert status == "FINISHED"
    points = rows(
        online, "SELECT step, value FROM metrics WHERE run_uuid = %s ORDER BY step", run_id
    )
    assert points == [(step, 1.0 / (step + 1)) for step in range(1200)]
    assert stored(online.store, run_id, "sheet.png") == b"picture"
    assert rows(online, "SELECT value FROM params WHERE run_uuid = %s", run_id) == [("1",)]


def test_a_backup_holds_what_serves(stack: Stack, project: Project, tmp_path: Path) -> None:
    """As mlflow/README.md says: the database's dump first, then the store's folder."""
    run("run", "register")
    run("promote", "--model", project.model)
    postgres, dump = stack.postgres, tmp_path / "mlflow.dump"
    to = ["-h", "127.0.0.1", "-p", str(postgres.port), "-U", USER]
    environment = os.environ | postgres.environment

    def pg(program: str, *words: str) -> None:
        command = [str(programs() / program), *to, *words]
        subprocess.run(command, env=environment, check=True, capture_output=True)

    pg("pg_dump", "--format=custom", f"--file={dump}", postgres.database)
    stack.store.stop()
    shutil.copytree(stack.store.folder, tmp_path / "copy")
    # A new machine: an empty database, the dump, the copy of the store.
    pg("createdb", "restored")
    pg("pg_restore", "--exit-on-error", "--no-owner", "--dbname=restored", str(dump))
    from mlflow import MlflowClient

    copy = SeaweedFS(tmp_path / "copy", BUCKET)
    copy.start()
    uri = postgres.uri.removesuffix(postgres.database) + "restored"
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PGPASSWORD", postgres.password)
            client = MlflowClient(tracking_uri=uri, registry_uri=uri)
            version = client.get_model_version_by_alias(project.model, "champion")
        for name, (_, kind) in RECOGNIZERS.items():
            there = stored(copy, version.run_id, f"model/recognizers/{name}/{WEIGHTS[kind]}")
            assert there == (project.artifact(name) / WEIGHTS[kind]).read_bytes()
    finally:
        copy.stop()


def test_nobody_gets_in_without_the_passwords(stack: Stack, online: Stack) -> None:
    import psycopg2
    from botocore.exceptions import ClientError

    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        psycopg2.connect(
            host="127.0.0.1", port=stack.postgres.port, user=USER, password="mlflow",
            dbname=stack.postgres.database,
        )  # fmt: skip
    stranger = SeaweedFS(stack.store.folder, BUCKET)
    stranger.secret_key = "only-on-loopback"
    with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
        stranger.client().list_buckets()
    connection = http.client.HTTPConnection("127.0.0.1", stack.tracking.port, timeout=PATIENCE)
    ask = "/api/2.0/mlflow/experiments/get?experiment_id=0"
    for host, status in ((f"localhost:{stack.tracking.port}", 200), ("example.org", 403)):
        connection.request("GET", ask, headers={"Host": host})
        answer = connection.getresponse()
        answer.read()
        assert answer.status == status
    connection.close()
    for secret in (stack.postgres.password, stack.store.secret_key):
        for process in stack.processes:
            assert secret not in process.log.read_text(errors="replace")
            command = Path(f"/proc/{process.pid}/cmdline").read_text()
            assert secret not in command
