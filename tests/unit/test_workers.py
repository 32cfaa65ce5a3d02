import os
import signal
from pathlib import Path

import pytest

from facewright import workers
from facewright.errors import FacewrightError
from facewright.workers import usable_cores, worker_pool


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
        assert list(pool.map(square, range(20))) == [n * n for n in range(20)]
    assert 1 <= len(list(tmp_path.iterdir())) <= 2


def test_a_killed_worker_is_one_line() -> None:
    with (
        pytest.raises(FacewrightError, match=r"^align: a process was killed.*memory"),
        worker_pool("align", workers=2) as pool,
    ):
        list(pool.map(kill_myself, range(5)))


def test_workers_are_as_many_as_usable_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "usable_cores", lambda: 3)
    with worker_pool("count") as pool:
        assert pool._max_workers == 3
    monkeypatch.undo()
    if hasattr(os, "sched_getaffinity"):
        assert usable_cores() == len(os.sched_getaffinity(0)) <= (os.cpu_count() or 1)
