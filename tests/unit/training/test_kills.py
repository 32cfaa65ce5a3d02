"""A training process that is killed again and again ends where one that was left alone does."""

import contextlib
import importlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from facewright.training import fit
from facewright.training.checkpoint import last_checkpoint

from .faces import SETTINGS, ToyCrops
from .processes import ENVIRONMENT, command_of

KILLS = 10
RATION = 4  # steps: more than ten times this is left at the last kill
EPOCHS, STEPS_PER_EPOCH = 11, 4
SLOW_DISK = 0.01  # seconds that each file takes to reach it
SETTINGS_HERE: dict[str, Any] = {
    "epochs": EPOCHS,
    "batch_size": 4,
    "average": 0.9,
    "head": {"name": "adaface", "scale": 16.0, "margin": 0.2, "h": 0.333, "t_alpha": 0.1},
    "checkpoint_every": 2,
    "readers": 1,
}


class RationedCrops(ToyCrops):
    """After so many batches no more come: a training of these cannot end before it is killed."""

    def __init__(self, batches: int):
        super().__init__(people=4, photos=4)
        self.left = batches

    def batch(self, indices: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        self.left -= 1
        if self.left < 0:
            time.sleep(600)
        return super().batch(indices)


def serve() -> None:
    """A new process for each line `BATCHES FOLDER RESULT`, which trains; its number, then its end.

    They are forked from one that has PyTorch loaded but has done nothing with it.
    """
    importlib.import_module("torch._dynamo")  # the first optimizer would load it, for a second
    for line in sys.stdin:
        batches, folder, result = line.split()
        process = os.fork()
        if process == 0:
            torch.set_num_threads(1)
            _train(int(batches), Path(folder), Path(result))
            os._exit(0)
        print(process, flush=True)
        _, status = os.waitpid(process, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _train(batches: int, folder: Path, result: Path) -> None:
    sync = os.fsync

    def slow(handle: int) -> None:
        sync(handle)
        time.sleep(SLOW_DISK)

    os.fsync = slow
    settings = SETTINGS | SETTINGS_HERE | {"checkpoint_dir": folder}
    trained = fit(RationedCrops(batches), **settings)
    torch.save(dict(trained.network.state_dict()), result)


class Trainings:
    """Starts trainings and hears how they end."""

    def __init__(self, server: subprocess.Popen[str]):
        assert server.stdin is not None
        assert server.stdout is not None
        self.input, self.output = server.stdin, server.stdout

    def start(self, batches: int, folder: Path, result: Path) -> int:
        print(batches, folder, result, file=self.input, flush=True)
        return int(self.output.readline())

    def end(self) -> int:
        return int(self.output.readline())


@pytest.fixture
def trainings() -> Iterator[Trainings]:
    with subprocess.Popen(
        command_of(serve),
        env=ENVIRONMENT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as server:
        yield Trainings(server)
        os.killpg(server.pid, signal.SIGKILL)  # it, and a training that a failed test left


def half_written(folder: Path) -> set[tuple[Path, int]]:
    """Checkpoints that are not whole, and when their last file was begun."""
    found = set()
    for path in folder.glob(".*.partial"):
        with contextlib.suppress(FileNotFoundError):
            found.add((path, path.stat().st_mtime_ns))
    return found


def last_step(folder: Path) -> int:
    """Of the last checkpoint, by its name."""
    return max((int(path.name.split("-")[1]) for path in folder.glob("step-*")), default=0)


def test_ten_kills_at_random_moments_change_nothing(tmp_path: Path, trainings: Trainings) -> None:
    steps = EPOCHS * STEPS_PER_EPOCH
    begin = time.monotonic()
    trainings.start(steps, tmp_path / "whole", tmp_path / "whole.pt")
    assert trainings.end() == 0
    step = (time.monotonic() - begin) / steps

    draw = random.Random(4)
    folder, result = tmp_path / "killed", tmp_path / "killed.pt"
    done, halves = 0, 0
    for kill in range(KILLS):
        before = half_written(folder)
        process = trainings.start(RATION, folder, result)
        if kill % 2:  # while a checkpoint is being written
            goal, patience = done + draw.choice((0, 2)), time.monotonic() + 60
            while last_step(folder) < goal or not half_written(folder) - before:
                assert time.monotonic() < patience
                time.sleep(0.001)
            time.sleep(draw.uniform(0, 3 * SLOW_DISK))
        else:
            time.sleep(draw.uniform(0, 2 * RATION * step))
        os.kill(process, signal.SIGKILL)
        assert trainings.end() == -signal.SIGKILL
        halves += bool(half_written(folder))
        found = last_checkpoint(folder, key="key")
        assert (0 if found is None else found.step) >= done, "a checkpoint was lost"
        done = 0 if found is None else found.step
    assert halves, "no kill struck a checkpoint"
    assert 0 < done < steps

    trainings.start(steps, folder, result)
    assert trainings.end() == 0
    one, other = torch.load(tmp_path / "whole.pt"), torch.load(result)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    left = sorted(path.name for path in folder.iterdir())
    assert left == [f"step-{number:08d}-key.checkpoint" for number in (steps - 2, steps)]
