import os
import signal
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from facewright import workers
from facewright.errors import FacewrightError
from facewright.workers import map_in_order, usable_cores, worker_pool


def square(number: int) -> int:
    return number * number


def mark(folder: Path) -> None:
    (folder / str(os.getpid())).touch()


def kill_myself(number: int) -> int:
    if number == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def test_results_come_in_order_and_every_worker_starts_once(tmp_path: Path) -> None:
    with worker_pool("squares", workers=2, start=mark, arguments=(tmp_path,)) as pool:
        assert list(map_in_order(pool, square, range(20), ahead=3)) == [n * n for n in range(20)]
        assert list(map_in_order(pool, square, [], ahead=3)) == []
    assert 1 <= len(list(tmp_path.iterdir())) <= 2


def test_tasks_are_taken_as_results_are(tmp_path: Path) -> None:
    """An endless list of tasks gives its first results, and no more are taken than `ahead`."""
    taken = []

    def tasks() -> Iterator[int]:
        for number in count():
            taken.append(number)
            yield number

    with worker_pool("squares", workers=1) as pool:
        results = map_in_order(pool, square, tasks(), ahead=4)
        for number in range(10):
            assert next(results) == number * number
            assert len(taken) == number + 4


def test_a_killed_worker_is_one_line() -> None:
    with (
        pytest.raises(FacewrightError, match=r"^align: a process was killed.*memory"),
        worker_pool("align", workers=2) as pool,
    ):
        list(map_in_order(pool, kill_myself, range(5), ahead=4))


def test_workers_are_as_many_as_usable_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "usable_cores", lambda: 3)
    with worker_pool("count") as pool:
        assert pool._max_workers == 3
    monkeypatch.undo()
    if hasattr(os, "sched_getaffinity"):
        assert usable_cores() == len(os.sched_getaffinity(0)) <= (os.cpu_count() or 1)
