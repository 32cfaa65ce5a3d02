"""Real processes that work together, as `torchrun` would start them."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

ROOT = Path(__file__).parents[3]
PYTHONPATH = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": PYTHONPATH}


def command_of(work: Callable[..., None], *arguments: str) -> list[str]:
    """How a new Python calls `work`, a function of a module of the tests."""
    code = f"import sys; from {work.__module__} import {work.__name__} as work; work(*sys.argv[1:])"
    return [sys.executable, "-c", code, *arguments]


def run_together(
    work: Callable[..., None],
    *arguments: str,
    processes: int,
    groups: int,
    killed: int | None = None,
    timeout: float = 120,
) -> None:
    """`work(*arguments)` in so many new processes, which form `groups` groups one after another.

    All end well, but for the one that is `killed`.

    Starting Python with PyTorch takes seconds, so that one start should serve many tests.
    """
    with ExitStack() as ports:
        free = [ports.enter_context(socket.socket()) for _ in range(groups)]
        for port in free:
            port.bind(("127.0.0.1", 0))
        numbers = " ".join(str(port.getsockname()[1]) for port in free)
    environment = ENVIRONMENT | {"MASTER_ADDR": "127.0.0.1", "PORTS": numbers}
    started = [
        subprocess.Popen(
            command_of(work, *arguments),
            env=environment | {"WORKER": str(worker)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for worker in range(processes)
    ]
    try:
        for number, process in enumerate(started):
            _, errors = process.communicate(timeout=timeout)
            assert process.returncode == (-signal.SIGKILL if number == killed else 0), errors
    finally:
        for process in started:
            process.kill()
            process.wait()


def belongs(*, group: int, processes: int) -> bool:
    """In a worker: whether it is one of the `processes` of this group; then it has its place."""
    worker = int(os.environ["WORKER"])
    place = {"WORLD_SIZE": str(processes), "RANK": str(worker), "LOCAL_RANK": str(worker)}
    os.environ.update(place | {"MASTER_PORT": os.environ["PORTS"].split()[group]})
    return worker < processes
