"""The MLflow server: its address, a client of it, runs as its API wants them, errors in one line.

The server is `$MLFLOW_TRACKING_URI`, else `sqlite:///mlflow.db` in the working directory. Nothing
here runs or imports mlflow before the first call.
"""

import os
import socket
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from facewright.errors import FacewrightError, RegistryError
from facewright.files import storage_errors

EXPERIMENT = "facewright"
PROBE_SECONDS = 4.0  # to find out whether a server is there
AGAIN = " and run this again"  # the end of the advice where nothing else was saved
# Where a version's files lie in its run: all that MLflow loads; of that its evaluation, its
# recognizers. Here, so that a training that fetches one does not hang on the gate's code.
MODEL, EVALUATION, RECOGNIZERS = "model", "model/evaluation", "model/recognizers"
# Limits of MLflow's REST API for one call and one value.
METRICS_PER_CALL = 1000
PARAMS_PER_CALL = 100
PARAM_LENGTH = 6000
TAG_LENGTH = 5000
# Libraries whose exceptions, under our calls, mean that the server or its store said no.
FOREIGN = {
    "mlflow",
    "sqlalchemy",
    "requests",
    "urllib3",
    "botocore",
    "boto3",
    "psycopg",
    "psycopg2",
    "shutil",  # a store that is a folder is copied with it
}


def tracking_uri() -> str:
    """`$MLFLOW_TRACKING_URI`, or the SQLite file `mlflow.db` in the working directory."""
    # Absolute, because mlflow keeps one open database per address for the life of a process.
    here = Path("mlflow.db").absolute()
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{here}"


def shown_uri() -> str:
    """The same, as it may be printed: without a password."""
    return _without_password(tracking_uri())


def place() -> str:
    """The store by one name, however its address is written: its file, or scheme, host and path."""
    uri = tracking_uri()
    if path := _sqlite_file(uri):
        return str(path.resolve())
    parts = urlsplit(uri)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}".rstrip("/")


def open_client() -> Any:
    """An `MlflowClient` of the configured server, which was found to answer.

    mlflow reads its settings from the environment when it is imported, so they are set here:
    chatter off, and requests that give up after seconds rather than minutes.

    Raises:
        RegistryError: nothing answers at the address, or it is no MLflow server or database.
    """
    for key, value in (
        ("MLFLOW_LOGGING_LEVEL", "WARNING"),
        ("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false"),
        ("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true"),
        ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2"),
        ("MLFLOW_HTTP_REQUEST_TIMEOUT", "30"),
    ):
        os.environ.setdefault(key, value)
    uri = tracking_uri()
    with registry_errors(f"MLflow at {_without_password(uri)} cannot be used"):
        from mlflow import MlflowClient

        _probe(uri)
        client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        client.get_experiment_by_name(EXPERIMENT)  # makes or checks the tables; fails on non-MLflow
        return client


def experiment(client: Any) -> str:
    """The id of the experiment `facewright`, which is made if it is not there."""
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(EXPERIMENT)
    if found is None:
        try:
            return str(client.create_experiment(EXPERIMENT, _artifacts(client.tracking_uri)))
        except MlflowException:  # another process was first
            found = client.get_experiment_by_name(EXPERIMENT)
            if found is None:
                raise
    if found.lifecycle_stage != "active":
        raise RegistryError(
            f"MLflow experiment {EXPERIMENT!r} was deleted: restore it with "
            f"`mlflow experiments restore --experiment-id {found.experiment_id}`"
        )
    return str(found.experiment_id)


@dataclass(frozen=True)
class Point:
    """One value of one curve."""

    key: str
    value: float
    time: int  # milliseconds since 1970
    step: int


def points(metrics: Mapping[str, float], step: int) -> list[Point]:
    """Metrics of a step as points, at the present time."""
    now = milliseconds()
    return [Point(key, float(value), now, step) for key, value in metrics.items()]


def milliseconds() -> int:
    """The present time as MLflow counts it, since 1970."""
    return int(time.time() * 1000)


def open_run(
    client: Any,
    name: str,
    *,
    params: Mapping[str, str],
    tags: Mapping[str, str],
    start: int | None = None,
) -> str:
    """A new run with its parameters; returns its id. `start` is in milliseconds, else now."""
    short = {key: value[:TAG_LENGTH] for key, value in tags.items()}
    made = client.create_run(experiment(client), start_time=start, run_name=name, tags=short)
    send_params(client, made.info.run_id, params)
    return str(made.info.run_id)


def send_params(client: Any, run_id: str, params: Mapping[str, str]) -> None:
    """Give a run its parameters; those that it has already may be among them."""
    from mlflow.entities import Param

    values = [Param(key, value[:PARAM_LENGTH]) for key, value in params.items()]
    for start in range(0, len(values), PARAMS_PER_CALL):
        client.log_batch(run_id, params=values[start : start + PARAMS_PER_CALL])


def send_points(client: Any, run_id: str, values: Sequence[Point]) -> None:
    """Give a run points of its curves, in as few calls as the API allows."""
    from mlflow.entities import Metric

    for start in range(0, len(values), METRICS_PER_CALL):
        part = values[start : start + METRICS_PER_CALL]
        metrics = [Metric(point.key, point.value, point.time, point.step) for point in part]
        client.log_batch(run_id, metrics=metrics)


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """`{"a": {"b": 1}}` to `{"a.b": "1"}`."""
    flat: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = str(value)
    return flat


def pages(search: Callable[[str | None], Any]) -> list[Any]:
    """What a search of MLflow finds on all its pages; it is called with the token of each."""
    found: list[Any] = []
    token = None
    while True:
        page = search(token)
        found += page
        token = page.token
        if not token:
            return found


@contextmanager
def registry_errors(what: str) -> Iterator[None]:
    """Turn what mlflow and the libraries below it raise into one line that starts with `what`."""
    try:
        yield
    except FacewrightError:
        raise
    except Exception as error:
        library = type(error).__module__.split(".")[0]
        if isinstance(error, ModuleNotFoundError):
            message = f"{error}: install the driver of that database"
        elif isinstance(error, (ConnectionError, TimeoutError, socket.gaierror, sqlite3.Error)):
            message = str(error)
        elif _no_answer(error):
            message = (
                f"MLflow at {_without_password(tracking_uri())} does not answer any more: "
                f"start the server{AGAIN}"
            )
        elif library in FOREIGN:
            # SQLAlchemy adds the statement and a link on further lines; requests is just long.
            first = (str(error).strip().splitlines() or [type(error).__name__])[0]
            message = _hidden_password(first)[:300]  # mlflow names the whole address at times
        else:
            raise
        raise RegistryError(f"{what}: {message}") from error


def _probe(uri: str) -> None:
    """Raise soon where mlflow itself would retry for minutes."""
    parts = urlsplit(uri)
    scheme = parts.scheme.split("+")[0]
    hint = "start the server or set MLFLOW_TRACKING_URI"
    if scheme in ("http", "https"):
        from mlflow.utils.credentials import get_default_host_creds
        from mlflow.utils.rest_utils import http_request

        try:
            answer = http_request(
                get_default_host_creds(uri.rstrip("/")),
                "/health",
                "GET",
                max_retries=0,
                timeout=PROBE_SECONDS,
                raise_on_status=False,
            )
        except Exception as error:
            raise RegistryError(
                f"no MLflow server answers at {_without_password(uri)}: {hint}"
            ) from error
        if answer.status_code >= 500:
            raise RegistryError(
                f"{_without_password(uri)} answers with status {answer.status_code}: {hint}"
            )
    elif path := _sqlite_file(uri):
        if path.exists():
            with closing(sqlite3.connect(path)) as database:
                database.execute("PRAGMA schema_version").fetchone()
        else:
            with storage_errors(path):
                path.parent.mkdir(parents=True, exist_ok=True)
    elif parts.hostname:
        ports = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}
        if port := parts.port or ports.get(scheme):
            try:
                socket.create_connection((parts.hostname, port), PROBE_SECONDS).close()
            except OSError as error:
                raise RegistryError(
                    f"no database answers at {_without_password(uri)}: {hint}"
                ) from error


def _no_answer(error: BaseException | None) -> bool:
    """Whether a connection that failed, timed out or broke in mid-answer is behind an error."""
    while error is not None:
        kind = type(error)
        if kind.__module__ == "requests.exceptions" and any(
            word in kind.__name__ for word in ("Connection", "Timeout", "Retry", "Chunked")
        ):
            return True
        error = error.__cause__ or error.__context__
    return False


def _sqlite_file(uri: str) -> Path | None:
    """The database file of an SQLite address."""
    if not uri.startswith("sqlite:///"):
        return None
    return Path(uri.removeprefix("sqlite:///").split("?")[0])


def _artifacts(uri: str) -> str | None:
    """Where files go: beside an SQLite file, whatever the working directory; a server decides."""
    path = _sqlite_file(uri)
    return (path.resolve().parent / "mlartifacts").as_uri() if path else None


def _without_password(uri: str) -> str:
    """The address as it may stand in a message."""
    parts = urlsplit(uri)
    if parts.password is None:
        return uri
    return parts._replace(netloc=f"{parts.username}@{parts.netloc.rpartition('@')[2]}").geturl()


def _hidden_password(message: str) -> str:
    """A message of another library without the password of the configured address."""
    user, _, rest = urlsplit(tracking_uri()).netloc.rpartition("@")[0].partition(":")
    return message.replace(f"{user}:{rest}@", f"{user}@") if rest else message
