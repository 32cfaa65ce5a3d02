"""Processes that share a long work over the cores of this machine."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Any

from facewright.errors import FacewrightError


def usable_cores() -> int:
    """Cores that this process may run on, which in a container are fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def worker_pool(
    task: str,
    *,
    workers: int | None = None,
    start: Callable[..., object] | None = None,
    arguments: tuple[Any, ...] = (),
) -> Iterator[ProcessPoolExecutor]:
    """Processes for `task`, one per usable core unless `workers` says otherwise.

    Each calls `start(*arguments)` once. Whoever leaves early does not wait for what is queued.

    Raises:
        FacewrightError: a process was killed from outside.
    """
    # Spawned, not forked: a fork of a process that already runs threads can hang.
    pool = ProcessPoolExecutor(workers or usable_cores(), get_context("spawn"), start, arguments)
    try:
        yield pool
    except BrokenProcessPool as error:
        raise FacewrightError(
            f"{task}: a process was killed, most likely for want of memory: free some, or let "
            "fewer cores be used, and run it again"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)
