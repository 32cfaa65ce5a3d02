"""Runs that wait on disk for an MLflow server, and how they get there.

    .mlflow-spool/ID/run.json       name, parameters, tags and start of a run
    .mlflow-spool/ID/events.jsonl   a line per report, tag, file and end, in their order
    .mlflow-spool/ID/files/N/NAME   copies of its files
    .mlflow-spool/lock              held by the one process that sends

A run's folder is there, whole, from its start, and holds all of it, so that it can be sent to
whatever server is configured later. A process killed in the middle loses at most the line that it
was writing. While the process lives it holds a lock on `events.jsonl`: without that a run was cut
off. No address and no password is ever written here.
"""

import errno
import fcntl
import io
import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from facewright.errors import RegistryError, StorageError
from facewright.files import storage_errors, sync_to_disk
from facewright.registry.server import PARAM_LENGTH, TAG_LENGTH, Point, milliseconds

SPOOL = Path(".mlflow-spool")
RUN, EVENTS, LOCK = "run.json", "events.jsonl", "lock"
DAMAGED = ".damaged"  # end of the name of what was set aside
SYNC_SECONDS = 5.0  # what a power cut may cost; a killed process loses less
LOCK_SECONDS = 60.0  # to wait for another process that sends
LEFT_SECONDS = 3600.0  # after which a folder that never got its name is nobody's


class Record:
    """The copy of a run under way. Every call returns when the system has the bytes."""

    def __init__(self, folder: Path, events: io.FileIO):
        self.folder = folder
        self._events = events
        self._size = 0  # of the whole lines
        self._synced = time.monotonic()
        self._files = 0

    def metrics(self, points: Sequence[Point]) -> None:
        """Keep points of curves."""
        self._write({"points": [[p.key, p.value, p.time, p.step] for p in points]})
        if time.monotonic() - self._synced >= SYNC_SECONDS:
            self.sync()

    def tag(self, key: str, value: str) -> None:
        """Keep a tag."""
        self._write({"tag": [key, value[:TAG_LENGTH]]})
        self.sync()

    def file(self, path: Path, folder: str) -> None:
        """Keep a copy of a file, to lie in `folder` of the run."""
        self._files += 1
        copy = self.folder / "files" / str(self._files) / path.name
        with storage_errors(copy):
            copy.parent.mkdir(parents=True)
            shutil.copyfile(path, copy)
            sync_to_disk(copy)
        kept = copy.relative_to(self.folder).as_posix()
        self._write({"file": [kept, folder, copy.stat().st_size]})
        self.sync()

    def end(self, status: str) -> None:
        """Keep how the run ended (`FINISHED`, `FAILED`, `KILLED`), and when."""
        self._write({"end": [status, milliseconds()]})
        self.sync()

    def sync(self) -> None:
        """Make all of it survive a power cut."""
        with storage_errors(self.folder):
            os.fsync(self._events.fileno())
        self._synced = time.monotonic()

    def close(self) -> None:
        """Leave the run to whoever sends next."""
        self._events.close()

    def remove(self) -> None:
        """The run is on a server, whole: forget the copy."""
        remove(self.folder)
        self._events.close()

    def _write(self, event: Mapping[str, Any]) -> None:
        line = json.dumps(event, separators=(",", ":")).encode() + b"\n"
        with storage_errors(self.folder):
            try:
                if self._events.write(line) != len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            except OSError:
                os.ftruncate(self._events.fileno(), self._size)  # no half line before the next
                raise
        self._size += len(line)


@dataclass
class Kept:
    """What the folder of a run says."""

    spool_id: str
    name: str
    params: dict[str, str]
    tags: dict[str, str]
    start: int  # milliseconds since 1970, as all times here
    last: int  # time of the last thing known of it
    status: str = ""  # how it ended; empty where it did not say
    points: list[Point] = field(default_factory=list)
    files: list[tuple[Path, str]] = field(default_factory=list)  # and their folder in the run


class DamagedError(Exception):
    """A folder in the spool from which no run can be read; no user's error, never told as such."""


def begin(name: str, *, params: Mapping[str, str], tags: Mapping[str, str]) -> Record:
    """Start the copy of a run: the folder appears under its name when it is whole.

    Raises:
        StorageError: the working directory cannot be written, or its disk knows no locks.
    """
    spool_id = f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{secrets.token_hex(4)}"
    folder = SPOOL.absolute() / spool_id
    partial = folder.with_name(f".{spool_id}.partial")
    about = {
        "id": spool_id,
        "name": name,
        "params": {key: value[:PARAM_LENGTH] for key, value in params.items()},
        "tags": {key: value[:TAG_LENGTH] for key, value in tags.items()},
        "start": milliseconds(),
    }
    with storage_errors(folder):
        partial.mkdir(parents=True)
        (partial / RUN).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
        sync_to_disk(partial / RUN)
        events = io.FileIO(partial / EVENTS, "a")
        try:
            fcntl.flock(events, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            events.close()
            raise StorageError(f"{folder} cannot be locked ({error.strerror})") from error
        partial.rename(folder)
        sync_to_disk(folder.parent)
    return Record(folder, events)


def waiting() -> list[Path]:
    """The folders of the runs in the working directory's spool, the oldest first."""
    if not SPOOL.is_dir():
        return []
    with storage_errors(SPOOL):
        found = [path for path in SPOOL.iterdir() if path.is_dir() and path.suffix != DAMAGED]
    return sorted(path for path in found if not path.name.startswith("."))


def read(folder: Path) -> Kept:
    """What a folder says; a last line without its end was cut off by a kill and does not count.

    Raises:
        DamagedError: a part is missing, or is not as it was written.
    """
    try:
        with storage_errors(folder):
            about = json.loads((folder / RUN).read_text(encoding="utf-8"))
            *lines, _ = (folder / EVENTS).read_bytes().split(b"\n")
        kept = Kept(
            spool_id=about["id"],
            name=str(about["name"]),
            params={str(key): str(value) for key, value in about["params"].items()},
            tags={str(key): str(value) for key, value in about["tags"].items()},
            start=int(about["start"]),
            last=int(about["start"]),
        )
        if not re.fullmatch(r"\w+-\w+", kept.spool_id):
            raise ValueError(f"{RUN} has no valid id")
        for number, line in enumerate(lines, 1):
            try:
                _add(kept, folder, json.loads(line))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise ValueError(f"{EVENTS} line {number}: {error}") from error
    except OSError as error:
        raise DamagedError(f"{Path(error.filename).name}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedError(f"{type(error).__name__}: {error}") from error
    return kept


def _add(kept: Kept, folder: Path, event: Mapping[str, Any]) -> None:
    """Add a line's event to what is known of a run."""
    ((kind, value),) = event.items()
    if kind == "points":
        new = [Point(str(key), float(v), int(when), int(step)) for key, v, when, step in value]
        kept.points += new
        kept.last = max([kept.last, *(point.time for point in new)])
    elif kind == "tag":
        key, text = value
        kept.tags[str(key)] = str(text)
    elif kind == "file":
        name, place, size = value
        path = folder / name
        if not path.is_file() or path.stat().st_size != size:
            raise ValueError(f"{name} is missing or cut off")
        kept.files.append((path, str(place)))
    elif kind == "end":
        status, when = value
        kept.status, kept.last = str(status), int(when)
    else:
        raise ValueError(f"unknown event {kind!r}")


@contextmanager
def only_sender() -> Iterator[None]:
    """Hold the spool's lock, after waiting for another process that has it.

    Raises:
        RegistryError: it has had it for a long time.
    """
    with storage_errors(SPOOL / LOCK):
        SPOOL.mkdir(exist_ok=True)
        lock = (SPOOL / LOCK).open("a")
    with lock:
        until = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() >= until:
                    raise RegistryError(
                        f"another process has been sending {SPOOL} for {LOCK_SECONDS:.0f} s: "
                        "wait for its end and run `facewright sync`"
                    ) from error
                time.sleep(0.1)
        yield


@contextmanager
def claimed(folder: Path) -> Iterator[bool]:
    """Whether the run waits and its process is gone; while this lasts nobody else sends it.

    Raises:
        DamagedError: the folder has no lines to hold.
    """
    events = folder / EVENTS
    try:
        with storage_errors(events):
            held = events.open("r+b")
    except OSError as error:
        if folder.exists():
            raise DamagedError(f"{EVENTS}: {error.strerror}") from error
        yield False  # its process has just sent it itself
        return
    with held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            free = events.exists()
        except BlockingIOError:
            free = False
        yield free


def remove(folder: Path) -> None:
    """Remove a folder, so that a kill leaves nothing that looks like a run that waits."""
    sent = folder.with_name(f".{folder.name}.sent")
    with storage_errors(folder):
        if folder.exists():
            folder.rename(sent)
        shutil.rmtree(sent, ignore_errors=True)
        with suppress(OSError):  # the spool itself, if that was all
            folder.parent.rmdir()


def set_aside(folder: Path) -> Path:
    """Rename a folder that cannot be read, so that it is not tried again; returns where it is."""
    aside = folder.with_name(f"{folder.name}{DAMAGED}")
    if aside.exists():
        aside = folder.with_name(f"{folder.name}-{secrets.token_hex(2)}{DAMAGED}")
    with storage_errors(aside):
        folder.rename(aside)
    return aside


def tidy() -> None:
    """Remove what kills left: folders that were sent, and those that never got their name."""
    for path in SPOOL.glob(".*.sent"):
        shutil.rmtree(path, ignore_errors=True)
    for path in SPOOL.glob(".*.partial"):
        if time.time() - path.stat().st_mtime > LEFT_SECONDS:
            shutil.rmtree(path, ignore_errors=True)
