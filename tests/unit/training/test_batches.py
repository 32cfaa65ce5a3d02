"""Which crops each step sees."""

import statistics
import threading
import time
from collections import Counter

import numpy as np
import numpy.typing as npt
import pytest
import torch

from facewright.errors import DatasetError, TrainingError
from facewright.training.batches import Plan, make_plan, read_ahead, seed_of, steps


def numbered(count: int) -> npt.NDArray[np.int64]:
    """Labels of crops of five people."""
    return np.arange(count) % 5


def numbered_people(people: int, photos: int) -> npt.NDArray[np.int64]:
    return np.arange(people).repeat(photos)


PLAN = Plan(numbered(103), batch_size=10, epochs=3, seed=7)


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
    plan = Plan(numbered(count), batch, 2, 1, processes=processes)
    for epoch in range(2):
        seen = Counter(
            int(index)
            for step in steps(plan)
            if step.epoch == epoch
            for rank in range(processes)
            for index in step.own(rank)
        )
        assert seen == Counter(range(count))


def test_steps_are_alike_in_size_and_never_above_the_batch() -> None:
    sizes = [len(step.crops) for step in steps(PLAN)]
    assert len(sizes) == PLAN.steps == 33
    assert max(sizes) <= 10
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("passes", [1, 3])
def test_processes_and_passes_split_the_very_batches_of_one_process(passes: int) -> None:
    shared = Plan(numbered(103), 10, 3, 7, passes=passes, processes=2)
    for one, step in zip(steps(PLAN), steps(shared), strict=True):
        assert np.array_equal(one.crops, step.crops)
        assert len(step.passes) == passes
        dealt = [step.crops[part] for each in step.passes for part in each.parts]
        assert np.array_equal(one.crops, np.concatenate(dealt))
        assert [each.sizes for each in step.passes] == [
            [part.stop - part.start for part in each.parts] for each in step.passes
        ]
        assert sorted([*step.own(0), *step.own(1)]) == sorted(one.crops)


@pytest.mark.parametrize("per_identity", [1, 2, 4])
def test_identities_come_equally_often_however_many_crops_they_have(per_identity: int) -> None:
    labels = np.repeat(np.arange(6), [1, 2, 3, 10, 20, 30])
    plan = Plan(labels, 8, 6, 1, crops_per_identity=per_identity)
    seen: Counter[int] = Counter()
    crops: Counter[int] = Counter()
    for step in steps(plan):
        assert len(step.crops) == 8
        groups = labels[step.crops].reshape(-1, per_identity)
        assert (groups == groups[:, :1]).all()
        seen.update(groups[:, 0].tolist())
        crops.update(step.crops.tolist())
        # No crop twice before each of that person was there once, within a turn.
        for turn in step.crops.reshape(-1, per_identity):
            assert len(set(turn)) == min(per_identity, (labels == labels[turn[0]]).sum())
    assert plan.steps == 6 * 9
    assert max(seen.values()) - min(seen.values()) <= plan.epochs
    assert set(crops) <= set(range(len(labels)))
    again = [step.crops.tolist() for step in steps(plan, start=20)]
    assert again == [step.crops.tolist() for step in steps(plan)][20:]


@pytest.mark.parametrize(("people", "places"), [(5, 3), (7, 4), (4, 4), (9, 2)])
def test_nobody_comes_twice_in_a_step(people: int, places: int) -> None:
    """Rounds of all people end in mid-step, with those whom the step has already behind."""
    plan = Plan(numbered_people(people, 20), 2 * places, 4, 3, crops_per_identity=2)
    seen: Counter[int] = Counter()
    for step in steps(plan):
        whom = plan.labels[step.crops][::2].tolist()
        seen.update(whom)
        assert len(set(whom)) == places
    assert max(seen.values()) - min(seen.values()) <= plan.epochs


def test_epochs_and_seeds_shuffle_anew() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        plan = Plan(numbered(103), 10, 3, seed)
        return [int(i) for step in steps(plan) if step.epoch == epoch for i in step.crops]

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
        assert np.array_equal(one.crops, other.crops)


def test_reading_ahead_keeps_the_order_and_the_labels() -> None:
    crops = Numbers(103)
    for step, images, waited in read_ahead(crops, PLAN, start=4, threads=3):
        assert torch.equal(images[:, 0, 0, 0].long(), torch.from_numpy(step.crops))
        assert waited >= 0
    assert step.number == 32
    assert threading.current_thread().name not in crops.threads
    assert len(crops.threads) == 3


def test_waiting_is_told_and_reading_ahead_saves_it() -> None:
    class Slow(Numbers):
        def batch(self, indices: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
            time.sleep(0.05)
            return super().batch(indices)

    told = [waited for _, _, waited in read_ahead(Slow(20), Plan(numbered(20), 5, 1, 0))]
    assert sum(told) >= 0.05
    waits = []
    for _, _, waited in read_ahead(Slow(40), Plan(numbered(40), 5, 1, 0)):
        waits.append(waited)
        time.sleep(0.1)  # the device is busy for longer than a read takes
    assert statistics.median(waits) < 0.05  # the first one waits; a busy machine delays some


def test_a_reading_error_reaches_the_trainer_and_no_thread_stays() -> None:
    class Broken(Numbers):
        def batch(self, indices: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
            raise DatasetError("shard 3 is gone")

    with pytest.raises(DatasetError, match="shard 3 is gone"):
        next(read_ahead(Broken(20), Plan(numbered(20), 5, 1, 0)))
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
        (Numbers(20, identities=2), 8, 3, r"hold 2 identities, fewer than .* processes \(3\)"),
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
        assert min(len(step.own(rank)) for step in steps(plan)) == 2


def test_fewer_crops_than_a_batch_are_one_step_and_said(capsys: pytest.CaptureFixture[str]) -> None:
    plan = make_plan(Numbers(20), batch_size=64, epochs=3, seed=0)
    assert plan.steps == 3
    assert "20 crops are fewer than batch_size 64" in capsys.readouterr().err


def test_seeds_differ_by_every_part() -> None:
    values = {seed_of(s, p, n) for s in (-1, 0, 1) for p in ("order", "changes") for n in range(9)}
    assert len(values) == 54
    assert all(0 <= value < 2**63 for value in values)


@pytest.mark.parametrize(
    ("crops", "settings", "message"),
    [
        (Numbers(20), {"batch_size": 9, "crops_per_identity": 2}, "no multiple"),
        (Numbers(40), {"batch_size": 24, "crops_per_identity": 4}, "needs 6 identities"),
        (Numbers(5), {"batch_size": 4, "crops_per_identity": 2}, "no identity has two crops"),
        (Numbers(20), {"batch_size": 8, "passes": 5}, "1 processes with 5 passes each: give 10"),
    ],
)
def test_steps_that_do_not_come_out_are_refused(
    crops: Numbers, settings: dict[str, int], message: str
) -> None:
    with pytest.raises(TrainingError, match=message):
        make_plan(crops, epochs=1, seed=0, **settings)


def test_one_crop_for_each_identity_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    make_plan(Numbers(5), batch_size=5, epochs=1, seed=0)
    assert "no identity has two crops" in capsys.readouterr().err
