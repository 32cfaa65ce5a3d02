"""Runs arrive whole in a real store, cheaply, and a server that is away is one line."""

import http.server
import math
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from facewright.errors import RegistryError
from facewright.registry import server
from facewright.registry.server import flatten, registry_errors, shown_uri, tracking_uri
from facewright.registry.tracking import connect, track


class Quiet(http.server.BaseHTTPRequestHandler):
    def log_message(self, *arguments: Any) -> None:
        pass


@contextmanager
def served(handler: type[Quiet]) -> Iterator[int]:
    """The port of a web server on loopback."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as web:
        thread = threading.Thread(target=web.serve_forever)
        thread.start()
        yield web.server_port
        web.shutdown()
        thread.join()


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A server that takes connections and never answers."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield int(server.getsockname()[1])


@pytest.fixture
def other_port() -> Iterator[int]:
    """A web server that is not MLflow."""

    class Page(Quiet):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>hello</html>")

    with served(Page) as port:
        yield port


@pytest.fixture
def half_port() -> Iterator[int]:
    """Of a server that goes in the middle of each answer."""

    class Half(Quiet):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "100")
            self.end_headers()
            self.wfile.write(b"{")

    with served(Half) as port:
        yield port


def test_a_run_holds_what_was_reported(store: Path) -> None:
    params = {"seed": 1, "augmentation": {"flip": 0.5}, "long": "x" * 9000}
    many = {f"p{i}": i for i in range(150)}  # more than one call may carry
    with track("train", params=params | many, tags={"k": "v"}) as run:
        for step in range(1500):
            run.report({"loss": 1.0 / (step + 1), "rate": 0.1}, step)
        run.tag("late", "1")

    client = connect()
    found = client.get_run(run.run_id)
    assert found.info.status == "FINISHED"
    assert found.info.run_name == "train"
    assert client.get_experiment(found.info.experiment_id).name == "facewright"
    assert found.data.params["augmentation.flip"] == "0.5"
    assert found.data.params["p149"] == "149"
    assert len(found.data.params) == 153
    assert (found.data.tags["k"], found.data.tags["late"]) == ("v", "1")
    history = client.get_metric_history(run.run_id, "loss")
    assert [point.step for point in history] == list(range(1500))
    assert history[3].value == 0.25


def test_artifacts_lie_beside_the_database_from_any_folder(
    store: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    with track("train", params={}, tags={}) as run:
        pass
    connect().log_text(run.run_id, "a", "a.txt")
    assert list((store / "mlartifacts").rglob("a.txt"))  # where git ignores it
    assert not list(Path.cwd().iterdir())


def test_reports_are_sent_in_batches(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import mlflow

    calls = []
    real = mlflow.MlflowClient.log_batch

    def counted(self: Any, *arguments: Any, **named: Any) -> Any:
        calls.append(len(named.get("metrics", ())))
        return real(self, *arguments, **named)

    with track("train", params={}, tags={}) as run:
        monkeypatch.setattr(mlflow.MlflowClient, "log_batch", counted)
        for step in range(2500):
            run.report({"loss": 0.5}, step)
    assert calls == [1, 1000, 1000, 499]  # the first at once, the rest at the end


def test_an_outage_in_mid_run_loses_nothing(
    store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import mlflow

    real = mlflow.MlflowClient.log_batch

    def down(*arguments: Any, **named: Any) -> None:
        raise mlflow.MlflowException("connection refused\nmore\nlines")

    with track("train", params={}, tags={}) as run:
        monkeypatch.setattr(mlflow.MlflowClient, "log_batch", down)
        run.report({"loss": 2.0}, 0)
        monkeypatch.setattr(mlflow.MlflowClient, "log_batch", real)
        run.report({"loss": 1.0}, 1)
    history = connect().get_metric_history(run.run_id, "loss")
    assert [point.value for point in history] == [2.0, 1.0]
    assert "connection refused; the run goes on" in capsys.readouterr().err

    monkeypatch.setattr(mlflow.MlflowClient, "log_batch", down)
    with (  # but the end must be written
        pytest.raises(RegistryError, match=r"cannot be ended: connection refused$"),
        track("train", params={}, tags={}) as run,
    ):
        run.report({"loss": 2.0}, 0)


@pytest.mark.parametrize(
    ("error", "status"), [(ValueError, "FAILED"), (KeyboardInterrupt, "KILLED")]
)
def test_a_run_that_raised_says_so(store: Path, error: type[BaseException], status: str) -> None:
    def fail() -> None:
        run.report({"loss": math.nan}, 0)
        run.report({"loss": 1.0}, 1)
        raise error

    with pytest.raises(error), track("train", params={}, tags={}) as run:
        fail()
    assert connect().get_run(run.run_id).info.status == status
    assert len(connect().get_metric_history(run.run_id, "loss")) == 2


def test_unreachable_servers_are_one_line(
    closed_port: int, silent_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "PROBE_SECONDS", 0.5)
    addresses = {
        f"http://127.0.0.1:{closed_port}": "no MLflow server answers",
        f"http://127.0.0.1:{silent_port}": "no MLflow server answers",
        f"postgresql://me:secret@127.0.0.1:{closed_port}/mlflow": "no database answers",
    }
    for address, line in addresses.items():
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        start = time.monotonic()
        with pytest.raises(RegistryError, match=line) as caught, track("t", params={}, tags={}):
            pytest.fail("the run must not begin")
        assert time.monotonic() - start < 5
        assert "MLFLOW_TRACKING_URI" in str(caught.value)
        assert "secret" not in str(caught.value)


@pytest.mark.parametrize("port", ["closed_port", "half_port"])
def test_a_server_that_went_away_is_one_line(
    port: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    address = f"http://127.0.0.1:{request.getfixturevalue(port)}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(RegistryError) as caught, registry_errors("it cannot be done"):
        MlflowClient(address).get_run("1")
    assert str(caught.value) == (
        f"it cannot be done: MLflow at {address} does not answer any more: "
        "start the server and run this again"
    )


def test_no_password_from_another_librarys_message(monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow import MlflowException

    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:s%40cret@mlflow:5000/path")
    with pytest.raises(RegistryError) as caught, registry_errors("it cannot be done"):
        raise MlflowException("API request to https://me:s%40cret@mlflow:5000/path/api failed")
    assert str(caught.value) == (
        "it cannot be done: API request to https://me@mlflow:5000/path/api failed"
    )


def test_what_is_no_mlflow_is_one_line(
    other_port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("this is not a database" * 100)
    addresses = [
        f"http://127.0.0.1:{other_port}",
        f"sqlite:///{text}",
        f"sqlite:///{tmp_path}",
        "bogus://somewhere",
    ]
    for address in addresses:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        with pytest.raises(RegistryError, match="cannot be used"):
            connect()
    assert text.read_text().startswith("this is not a database")


def test_deleted_experiment_is_told(store: Path) -> None:
    with track("train", params={}, tags={}):
        pass
    client = connect()
    client.delete_experiment(client.get_experiment_by_name("facewright").experiment_id)
    with (
        pytest.raises(RegistryError, match="mlflow experiments restore"),
        track("train", params={}, tags={}),
    ):
        pytest.fail("the run must not begin")


def test_default_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert tracking_uri() == shown_uri() == f"sqlite:///{Path().absolute() / 'mlflow.db'}"


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("http://mlflow:5000", "http://mlflow:5000"),
        ("https://me:secret@mlflow:5000/path", "https://me@mlflow:5000/path"),
        ("postgresql+psycopg://me:s%40cr@t@db/mlflow", "postgresql+psycopg://me@db/mlflow"),
        ("sqlite:////tmp/mlflow.db", "sqlite:////tmp/mlflow.db"),
    ],
)
def test_an_address_is_shown_without_its_password(
    monkeypatch: pytest.MonkeyPatch, address: str, shown: str
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    assert tracking_uri() == address
    assert shown_uri() == shown


def test_flatten() -> None:
    assert flatten({"a": {"b": 1, "c": {"d": [1, 2]}}, "e": None}) == {
        "a.b": "1",
        "a.c.d": "[1, 2]",
        "e": "None",
    }


def test_first_use_is_silent_and_import_is_cheap(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from facewright.registry import fetching, gate, lineage, promotion, tracking\n"
        "assert 'mlflow' not in sys.modules\n"
        "with tracking.track('t', params={'a': 1}, tags={}) as run:\n"
        "    run.report({'loss': 1.0}, 0)\n"
        "from mlflow.telemetry.client import get_telemetry_client\n"
        "assert get_telemetry_client() is None\n"
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW", "DO_NOT"))}
    environment |= {"MLFLOW_TRACKING_URI": "sqlite:///deep/er/mlflow.db"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (tmp_path / "deep" / "er" / "mlflow.db").exists()
