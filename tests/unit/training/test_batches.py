"""Which crops each step sees."""

import threading
import time
from collections import Counter

import numpy as np
import numpy.typing as npt
import pytest
import torch

from facewright.errors import DatasetError, TrainingError
from facewright.training.batches import Plan, make_plan, read_ahead, seed_of, steps

PLAN = Plan(count=103, batch_size=10, epochs=3, seed=7)


class Numbers:
    """Crops whose pixels are their own index."""

    def __init__(self, count: int, identities: int = 5):
        self.labels = np.arange(count) % identities
        self.identities = [str(n) for n in range(identities)]
        self.ids = [f"id-{n}" for n in range(count)]
        self.threads: set[str] = set()

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, indices: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        self.threads.add(threading.current_thread().name)
        time.sleep(0.001 * (indices[0] % 3))  # so that reads do not end in their order
        return np.tile(indices.astype(np.uint8)[:, None, None, None], (1, 2, 2, 3))


@pytest.mark.parametrize(("count", "batch"), [(103, 10), (100, 10), (65, 64), (7, 64), (11, 2)])
@pytest.mark.parametrize("processes", [1, 2, 3])
def test_each_crop_once_per_epoch_whatever_the_processes(
    count: int, batch: int, processes: int
) -> None:
    plans = [Plan(count, batch, 2, 1, rank, processes) for rank in range(processes)]
    for epoch in range(2):
        seen = Counter(
            int(index)
            for plan in plans
            for step in steps(plan)
            if step.epoch == epoch
            for index in step.indices
        )
        assert seen == Counter(range(count))


def test_steps_are_alike_in_size_and_never_above_the_batch() -> None:
    sizes = [len(step.indices) for step in steps(PLAN)]
    assert len(sizes) == PLAN.steps == 33
    assert max(sizes) <= 10
    assert max(sizes) - min(sizes) <= 1


def test_processes_split_the_very_batches_of_one_process() -> None:
    whole = list(steps(PLAN))
    parts = [list(steps(Plan(103, 10, 3, 7, rank, 2))) for rank in range(2)]
    for one, left, right in zip(whole, *parts, strict=True):
        assert np.array_equal(one.indices, np.concatenate([left.indices, right.indices]))
        assert one.total == left.total == right.total == len(one.indices)
        assert np.array_equal(one.indices[right.part], right.indices)


def test_epochs_and_seeds_shuffle_anew() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        plan = Plan(103, 10, 3, seed)
        return [int(i) for step in steps(plan) if step.epoch == epoch for i in step.indices]

    assert order(7, 0) == order(7, 0)
    assert order(7, 0) != order(7, 1)
    assert order(7, 0) != order(8, 0)
    assert order(7, 0) != sorted(order(7, 0))


@pytest.mark.parametrize("start", [0, 1, 10, 11, 12, 32, 33])
def test_any_position_can_be_taken_up_again(start: int) -> None:
    whole = list(steps(PLAN))[start:]
    resumed = list(steps(PLAN, start=start))
    assert [step.number for step in resumed] == [step.number for step in whole]
    for one, other in zip(whole, resumed, strict=True):
        assert np.array_equal(one.indices, other.indices)


def test_reading_ahead_keeps_the_order_and_the_labels() -> None:
    crops = Numbers(103)
    for step, images, labels in read_ahead(crops, PLAN, start=4):
        assert torch.equal(images[:, 0, 0, 0].long(), torch.from_numpy(step.indices))
        assert torch.equal(labels, torch.from_numpy(step.indices) % 5)
    assert step.number == 32
    assert threading.current_thread().name not in crops.threads


def test_a_reading_error_reaches_the_trainer_and_no_thread_stays() -> None:
    class Broken(Numbers):
        def batch(self, indices: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
            raise DatasetError("shard 3 is gone")

    with pytest.raises(DatasetError, match="shard 3 is gone"):
        next(read_ahead(Broken(20), Plan(20, 5, 1, 0)))
    started = read_ahead(Numbers(103), PLAN)
    next(started)
    started.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("crops")]


@pytest.mark.parametrize(
    ("crops", "batch", "processes", "message"),
    [
        (Numbers(20, identities=1), 8, 1, "hold 1 identity"),
        (Numbers(0, identities=0), 8, 1, "hold 0 identity"),
        (Numbers(1, identities=2), 8, 1, "there are 1 training crops"),
        (Numbers(20), 3, 2, "batch_size is 3, too small for 2 processes: give 4"),
        # An odd crop left over would be a step, or a process's part of one, of its own.
        (Numbers(5), 2, 1, "5 crops in steps of at most 2 leave steps of 1"),
        (Numbers(5), 4, 2, "leave steps of 2, too few for 2 processes: change batch_size"),
    ],
)
def test_crops_that_cannot_be_trained_on_are_refused(
    crops: Numbers, batch: int, processes: int, message: str
) -> None:
    with pytest.raises(TrainingError, match=message):
        make_plan(crops, batch_size=batch, epochs=1, seed=0, processes=processes)


@pytest.mark.parametrize(("count", "batch", "processes"), [(5, 3, 1), (6, 2, 1), (8, 4, 2)])
def test_an_accepted_plan_gives_every_process_two_crops_or_more(
    count: int, batch: int, processes: int
) -> None:
    for rank in range(processes):
        plan = make_plan(
            Numbers(count), batch_size=batch, epochs=1, seed=0, rank=rank, processes=processes
        )
        assert min(len(step.indices) for step in steps(plan)) == 2


def test_fewer_crops_than_a_batch_are_one_step_and_said(capsys: pytest.CaptureFixture[str]) -> None:
    plan = make_plan(Numbers(20), batch_size=64, epochs=3, seed=0)
    assert plan.steps == 3
    assert "20 crops are fewer than batch_size 64" in capsys.readouterr().err


def test_seeds_differ_by_every_part() -> None:
    values = {seed_of(s, p, n) for s in (-1, 0, 1) for p in ("order", "changes") for n in range(9)}
    assert len(values) == 54
    assert all(0 <= value < 2**63 for value in values)
