"""Tracked runs: parameters, curves, tags and files of one stage, in MLflow.

A training that asks for it is kept on disk too while it runs (see `spool`): a server that is away
at its start, in its middle or at its end stops nothing, and is told of the run later.
"""

import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facewright.errors import FacewrightError, RegistryError, StorageError
from facewright.files import storage_errors
from facewright.progress import say
from facewright.registry.sending import send_record, send_waiting
from facewright.registry.server import (
    AGAIN,
    METRICS_PER_CALL,
    TAG_LENGTH,
    Point,
    flatten,
    open_client,
    open_run,
    points,
    registry_errors,
    send_points,
    shown_uri,
    tracking_uri,
)
from facewright.registry.spool import SPOOL, Record, begin, waiting

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = [
    "PRECISION_TAG",
    "RECOGNIZER_TAG",
    "RESUMED_TAG",
    "START_TAG",
    "Tracked",
    "connect",
    "shown_uri",
    "sync",
    "track",
    "tracking_uri",
]

PRECISION_TAG = "facewright.precision"  # on a training run: what it was computed in
RECOGNIZER_TAG = "facewright.recognizer_digest"  # on a training run: weights_sha256 of its result
START_TAG = "facewright.start_digest"  # weights_sha256 of the recognizer that it started from
RESUMED_TAG = "facewright.resumed_after"  # steps after which it went on, and digests of what from
FLUSH_SECONDS = 10.0  # between writes of metrics: one takes 5–60 ms, below 1 % of training
OUTAGE_SECONDS = 60.0  # until a server that failed is tried again in mid-run; twice as long …
LONGEST_OUTAGE_SECONDS = 600.0  # … each time, up to this: a trial may last some seconds


def connect() -> Any:
    """An `MlflowClient` of the configured server, after the runs that wait on disk were sent.

    Runs that cannot be sent stay where they are, aloud, and are no error here.

    Raises:
        RegistryError: nothing answers at the address, or it is no MLflow server or database.
    """
    client = open_client()
    try:
        problems = send_waiting(client).problems
    except (RegistryError, StorageError) as error:
        problems = [error]
    for problem in problems:
        say(f"mlflow: {problem}; it stays in {SPOOL}")
    return client


def sync() -> str:
    """Send the runs that wait on disk; returns what was done, in a line.

    Raises:
        RegistryError: the server cannot be reached, or refuses a run (the others are sent).
        StorageError: the spool cannot be read or written.
    """
    if not waiting():
        return f"no run waits in {SPOOL}"
    outcome = send_waiting(open_client())
    if outcome.problems:
        stay = len(outcome.problems)
        raise RegistryError(f"{outcome.sent} runs were sent, {stay} not: {outcome.problems[0]}")
    alive = f"; under way, and left until they end: {outcome.alive}" if outcome.alive else ""
    return f"runs sent to {shown_uri()}: {outcome.sent}{alive}"


@dataclass
class Tracked:
    """An open run. `report` fits training's callback: it is cheap enough to call at every step.

    With a `record` a server that is away is no error of any method: what it misses is kept, and
    sent when it is back, or after the run.
    """

    name: str
    run_id: str = ""  # empty while no server has been reached
    client: Any = None
    record: Record | None = None  # the copy on disk
    away: bool = False  # the server has not all that was kept
    waiting: list[Point] = field(default_factory=list)
    due: float = 0.0  # monotonic time of the next write
    pause: float = OUTAGE_SECONDS

    def report(self, metrics: Mapping[str, float], step: int) -> None:
        """Note metrics of a step; they reach the server every few seconds, all by the end.

        A server that is away in mid-run stops no training: what it missed is sent later, and only
        if the end of the run cannot be written, nor was kept on disk, is there an error.
        """
        new = points(metrics, step)
        if self.record:
            self.record.metrics(new)
        self.waiting += new
        if time.monotonic() >= self.due:
            try:
                with registry_errors("metrics cannot be logged"):
                    self.flush()
            except (RegistryError, StorageError) as error:
                self._missed(error)

    def flush(self) -> None:
        """Send what waits."""
        if self.record and (self.away or not self.run_id):
            self.client = open_client()
            self.run_id = send_record(self.client, self.record)
            self.waiting.clear()
            self.away, self.pause = False, OUTAGE_SECONDS
        while self.waiting:
            send_points(self.client, self.run_id, self.waiting[:METRICS_PER_CALL])
            del self.waiting[:METRICS_PER_CALL]
        self.due = time.monotonic() + FLUSH_SECONDS

    def tag(self, key: str, value: str) -> None:
        """Set a tag of the run."""
        if self.record:
            self.record.tag(key, value)
        if not self.away:
            with self._noticing(f"tag {key} cannot be set"):
                self.client.set_tag(self.run_id, key, value[:TAG_LENGTH])

    def trained(self, weights_sha256: str, precision: str) -> None:
        """Tag the run with what came of a training: a recognizer's digest, and its precision."""
        self.tag(RECOGNIZER_TAG, weights_sha256)
        self.tag(PRECISION_TAG, precision)

    def picture(self, pixels: "npt.NDArray[np.uint8]", name: str) -> None:
        """Keep `(H, W, 3) uint8, RGB` as the PNG file `name`."""
        from PIL import Image

        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / name
            with storage_errors(path):
                Image.fromarray(pixels).save(path)
            self.file(path)

    def file(self, path: Path, folder: str = "") -> None:
        """Keep a file, such as a picture, in `folder` of the run; a later one of that name wins."""
        if self.record:
            self.record.file(path, folder)
        if not self.away:
            with self._noticing(f"{path} cannot be logged"), storage_errors(path):
                self.client.log_artifact(self.run_id, str(path), folder or None)

    def end(self, status: str) -> None:
        """Send the rest, and how the run ended: `FINISHED`, `FAILED` or `KILLED`."""
        if self.record:
            self.record.end(status)
        try:
            with registry_errors(f"run {self.name!r} cannot be ended"):
                if status == "FINISHED" or self.record:
                    self.flush()
                self.client.set_terminated(self.run_id, status)
                self.flush()
            if self.record:
                self.record.remove()
        except (RegistryError, StorageError) as error:
            if self.record is None:
                raise
            self.record.close()
            say(
                f"mlflow: {_cause(error)}; run {self.name!r} waits in {SPOOL}: the next command "
                "that reaches a server sends it, or `facewright sync`"
            )

    @contextmanager
    def _noticing(self, what: str) -> Iterator[None]:
        """Where the run is kept on disk, a server that is away is noticed; else it is an error."""
        try:
            with registry_errors(what):
                yield
        except (RegistryError, StorageError) as error:
            if self.record is None:
                raise
            self._missed(error)

    def _missed(self, error: FacewrightError) -> None:
        """The server is away: say so, once where nothing can be lost, and try again later."""
        if self.record is None:
            say(f"{error}; the run goes on and its metrics are kept")
        elif not self.away:
            say(f"mlflow: {_cause(error)}; the run goes on and is kept in {SPOOL}")
        self.due = time.monotonic() + self.pause
        if self.record:
            self.away, self.pause = True, min(2 * self.pause, LONGEST_OUTAGE_SECONDS)


@contextmanager
def track(
    name: str, *, params: Mapping[str, Any], tags: Mapping[str, str], spool: bool = False
) -> Iterator[Tracked]:
    """A run `name` in the experiment `facewright`; nested parameters become `a.b`.

    The run ends FINISHED, FAILED after an exception, or KILLED after an interrupt. With `spool` it
    is also kept in `.mlflow-spool/` of the working directory until a server has all of it, and a
    server that cannot be reached is told aloud and is no error. A process that is killed leaves it
    there; whoever connects next sends it, as KILLED.

    Raises:
        RegistryError: the server cannot be reached, at the start or at the end; with `spool` only
            if the working directory cannot be written either.
        StorageError: the disk filled up while the run was kept.
    """
    tracked = _open(name, params=flatten(params), tags=tags, spool=spool)
    try:
        yield tracked
        tracked.end("FINISHED")
    except BaseException as error:
        try:
            tracked.end("FAILED" if isinstance(error, Exception) else "KILLED")
        except (RegistryError, StorageError) as second:
            if not isinstance(error, (RegistryError, StorageError)):
                say(str(second))
        raise  # what ended the run is the error to tell


def _open(name: str, *, params: Mapping[str, str], tags: Mapping[str, str], spool: bool) -> Tracked:
    """The run on the server, or the copy of one that no server knows yet."""
    client: Any = None
    problem: RegistryError | None = None
    try:
        client = connect()
    except RegistryError as error:
        if not spool:
            raise
        problem = error
    if spool:
        try:
            tracked = Tracked(name, record=begin(name, params=params, tags=tags))
        except StorageError as error:
            if problem is not None:
                raise problem from error
            say(f"mlflow: {error}; {name} goes on, but needs the server up to its end")
        else:
            with tracked._noticing(f"run {name!r} cannot be logged"):
                if problem is not None:
                    raise problem
                tracked.flush()
            return tracked
    with registry_errors(f"run {name!r} cannot be logged"):
        return Tracked(name, open_run(client, name, params=params, tags=tags), client)


def _cause(error: FacewrightError) -> str:
    """The message without the advice to run something again, since nothing need be."""
    return str(error).removesuffix(AGAIN)
