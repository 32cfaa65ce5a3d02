"""Processes that share a long work over the cores of this machine."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Any, TypeVar

from facewright.errors import FacewrightError

T = TypeVar("T")
R = TypeVar("R")


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


def map_in_order(
    pool: ProcessPoolExecutor, function: Callable[[T], R], tasks: Iterable[T], *, ahead: int
) -> Iterator[R]:
    """`function` of each task, in order; unlike `pool.map` it takes tasks only as it gets on.

    So the memory holds `ahead` tasks and results, however many there are: a few per process.
    """
    waiting: deque[Future[R]] = deque()
    for task in tasks:
        waiting.append(pool.submit(function, task))
        if len(waiting) >= ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
