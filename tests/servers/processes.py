"""A server as a process of its own: it outlives who started it, and is stopped by its id."""

import json
import os
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

POLL_SECONDS = 0.2
LOG_END = 2000  # characters of a log that are told with an error
# What a server must not take from the environment of the person who starts it.
FOREIGN = ("AWS_", "MLFLOW_", "PG")


class ServerError(RuntimeError):
    """A server that is not installed, or does not start; one line."""


@dataclass
class Process:
    """A server in a session of its own; which one it is stands in `folder/NAME.pid`."""

    name: str
    folder: Path
    _child: "subprocess.Popen[bytes] | None" = field(default=None, init=False, repr=False)
    _known: dict[str, Any] | None = field(default=None, init=False, repr=False)

    @property
    def log(self) -> Path:
        return self.folder / f"{self.name}.log"

    @property
    def record(self) -> Path:
        return self.folder / f"{self.name}.pid"

    @property
    def pid(self) -> int | None:
        """Its id while it runs, whoever started it; else None."""
        try:
            known = json.loads(self.record.read_text())
        except (OSError, ValueError):
            known = self._known  # should somebody remove the folder, it can still be stopped
        if known is None:
            return None
        if self._child is not None:
            self._child.poll()  # a child that ended stays in the table until it is asked
        # An id is given again one day: with the moment of its start it belongs to one process.
        return int(known["pid"]) if _started(known["pid"]) == known["started"] else None

    def start(
        self,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        cwd: Path,
        user: str | None = None,
    ) -> None:
        """Start it, as another user if one is named; what it says is added to its log.

        Raises:
            ServerError: the program cannot be run.
        """
        kept = {key: value for key, value in os.environ.items() if not key.startswith(FOREIGN)}
        other: dict[str, Any] = {}
        if user is not None:
            other = {"user": user, "group": user, "extra_groups": []}
        with self.log.open("ab") as log:
            try:
                child: subprocess.Popen[bytes] = subprocess.Popen(
                    command, cwd=cwd, env={**kept, **environment}, start_new_session=True,
                    stdin=subprocess.DEVNULL, stdout=log, stderr=log, **other,
                )  # fmt: skip
            except OSError as error:
                raise ServerError(f"{self.name} cannot be started: {error}") from error
        self._child = child
        self._known = {"pid": child.pid, "started": _started(child.pid)}
        self.record.write_text(json.dumps(self._known))

    def run_until_ready(
        self,
        command: Callable[[], Sequence[str]],
        *,
        environment: Mapping[str, str],
        cwd: Callable[[], Path],
        ready: Callable[[], str | None],
        seconds: float,
        stop: Callable[[], None],
        user: str | None = None,
    ) -> None:
        """Start it unless it runs, and wait until it is ready; if it does not get so, stop it.

        Args:
            command, cwd: asked for only if it has to be started.
            ready, seconds: see `wait_until`.
            stop: how it is stopped.

        Raises:
            ServerError: it cannot be run, or does not get ready.
        """
        if self.pid is None:
            self.start(command(), environment=environment, cwd=cwd(), user=user)
        try:
            self.wait_until(ready, seconds=seconds)
        except BaseException:
            stop()
            raise

    def wait_until(self, ready: Callable[[], str | None], *, seconds: float) -> None:
        """Wait until `ready` gives None; before, it says in a few words what is missing.

        Raises:
            ServerError: the process ended, or the time is over.
        """
        deadline = time.monotonic() + seconds
        why: str | None = "never asked"
        while time.monotonic() < deadline and self.pid is not None:
            why = ready()
            if why is None:
                return
            time.sleep(POLL_SECONDS)
        ended = f"is not ready after {seconds:.0f} s ({why})" if self.pid else "ended at once"
        error = ServerError(f"{self.name} {ended}: see {self.log}")
        with suppress(OSError):
            error.add_note(self.log.read_text(errors="replace")[-LOG_END:])
        raise error

    def stop(self, number: int = signal.SIGTERM, *, seconds: float = 20.0, all: bool) -> None:
        """Send the signal to the process, or to `all` that it started; killed if it stays.

        Nothing happens if it does not run.
        """
        pid = self.pid
        if pid is not None:
            send = os.killpg if all else os.kill
            with suppress(ProcessLookupError):
                send(pid, number)
            deadline = time.monotonic() + seconds
            while self.pid is not None and time.monotonic() < deadline:
                time.sleep(0.05)
            if all or self.pid is not None:  # a child may have outlived the first of them
                with suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGKILL)
            while self.pid is not None:
                time.sleep(0.05)
        self.record.unlink(missing_ok=True)


def _started(pid: int) -> str | None:
    """When a living process started, in ticks since the machine did; None if it does not live."""
    try:
        # After the name, which may hold anything, in parentheses.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (OSError, ValueError):
        return None
    return None if fields[0] in "ZX" else fields[19]


def remembered(path: Path, *, ports: Sequence[str]) -> dict[str, Any]:
    """What a server keeps for life: a port for each name and a password; made at the first call.

    Only the user who made the file can read it.
    """
    if not path.exists():
        made = {
            "ports": dict(zip(ports, free_ports(len(ports)), strict=True)),
            "password": secrets.token_urlsafe(24),
        }
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump(made, file)
    return dict(json.loads(path.read_text()))


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody listens on, all different."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
