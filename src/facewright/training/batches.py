"""Which crops each step sees, on which process, and their reading ahead of time.

Everything is a function of the seed and the step, so that a training that was cut off goes on
as if nothing had happened, on as many processes as there happen to be then.
"""

import hashlib
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from facewright.errors import TrainingError
from facewright.progress import say
from facewright.refusals import refuse_split

T = TypeVar("T")

AHEAD = 2  # batches per thread that are read before they are needed: rides out a slow read


class CropSource(Protocol):
    """Training crops, as `datasets.crops.Crops` gives them."""

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """`(N,)`, the identity of each crop as an index into `identities`."""

    @property
    def identities(self) -> Sequence[str]: ...

    @property
    def ids(self) -> Sequence[str]:
        """One name per crop, for messages."""

    def __len__(self) -> int: ...

    def batch(self, indices: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        """`(B, 112, 112, 3) uint8, RGB`; called from other threads."""


@dataclass(frozen=True)
class Plan:
    """How the crops are dealt out to steps, passes and processes.

    An epoch is one shuffle cut into the fewest steps of at most `batch_size` crops, all of the same
    size give or take one: each crop is seen exactly once, and no step is a leftover of two or three
    crops, with which BatchNorm could not work. With `crops_per_identity` it has as many steps, each
    of `batch_size` crops: so many of each identity, identities taking turns.

    A step is done in `passes`, whose gradients add up, each split over the processes.
    """

    labels: npt.NDArray[np.int64]  # (N,), the identity of each crop
    batch_size: int  # most crops per step, over all processes
    epochs: int
    seed: int
    passes: int = 1
    crops_per_identity: int | None = None
    rank: int = 0
    processes: int = 1

    @property
    def count(self) -> int:
        return len(self.labels)

    @property
    def steps_per_epoch(self) -> int:
        return -(-self.count // self.batch_size)

    @property
    def steps(self) -> int:
        return self.steps_per_epoch * self.epochs


@dataclass(frozen=True)
class Pass:
    """A pass of a step: the places of its crops among the step's."""

    whole: slice  # of all processes
    parts: tuple[slice, ...]  # of each process

    @property
    def sizes(self) -> list[int]:
        return [part.stop - part.start for part in self.parts]


@dataclass(frozen=True)
class Step:
    """The crops of one step, and how its passes split them over the processes."""

    number: int  # from 0, over all epochs
    epoch: int  # from 0
    crops: npt.NDArray[np.int64]
    passes: tuple[Pass, ...]

    def own(self, rank: int) -> npt.NDArray[np.int64]:
        """The crops of one process, pass after pass."""
        return np.concatenate([self.crops[one.parts[rank]] for one in self.passes])


def make_plan(
    crops: CropSource,
    *,
    batch_size: int,
    epochs: int,
    seed: int,
    passes: int = 1,
    crops_per_identity: int | None = None,
    rank: int = 0,
    processes: int = 1,
) -> Plan:
    """The plan for these crops, after checking that they can be trained on.

    Raises:
        TrainingError: fewer identities than two, or than processes; fewer than two crops per
            process and pass; steps of `crops_per_identity` that do not come out even, or that no
            identity could fill.
    """
    if len(crops.identities) < 2:
        raise TrainingError(
            f"the training crops hold {len(crops.identities)} identity: a classifier needs two or "
            "more; import a dataset with more people, or see validate's reasons for rejecting them"
        )
    if len(crops.identities) < processes:
        raise TrainingError(
            f"the training crops hold {len(crops.identities)} identities, fewer than there are "
            f"processes ({processes}), each of which keeps the centres of some: start fewer"
        )
    least = 2 * processes * passes  # BatchNorm cannot train on a single crop
    among = f"{processes} processes" + (f" with {passes} passes each" if passes > 1 else "")
    if batch_size < least:
        raise TrainingError(
            f"batch_size is {batch_size}, too small for {among}: give {least} or more"
        )
    if len(crops) < least:
        raise TrainingError(f"there are {len(crops)} training crops: {among} need {least} or more")
    labels = np.asarray(crops.labels, dtype=np.int64)
    if rank == 0:
        _say_what_is_odd(labels, batch_size)
    plan = Plan(labels, batch_size, epochs, seed, passes, crops_per_identity, rank, processes)
    if crops_per_identity is None:
        if (smallest := len(crops) // plan.steps_per_epoch) < least:
            raise TrainingError(
                f"{len(crops)} crops in steps of at most {batch_size} leave steps of {smallest}, "
                f"too few for {among}: change batch_size"
            )
        return plan
    if reason := refuse_split(crops_per_identity, batch_size):
        raise TrainingError(f"crops_per_identity is {crops_per_identity}: {reason}")
    if len(crops.identities) < batch_size // crops_per_identity:
        raise TrainingError(
            f"a step of {batch_size} crops, {crops_per_identity} of each identity, needs "
            f"{batch_size // crops_per_identity} identities and there are "
            f"{len(crops.identities)}: lower batch_size"
        )
    if crops_per_identity > 1 and np.bincount(labels).max() < 2:
        raise TrainingError(
            f"crops_per_identity is {crops_per_identity} and no identity has two crops: import "
            "more photos of each person, or set it to null"
        )
    return plan


def _say_what_is_odd(labels: npt.NDArray[np.int64], batch_size: int) -> None:
    if len(labels) < batch_size:
        say(f"train: {len(labels)} crops are fewer than batch_size {batch_size}: one step an epoch")
    if np.bincount(labels).max() < 2:
        say(
            "train: no identity has two crops: nothing is learnt of what changes from one photo "
            "of a person to the next but through augmentation"
        )


def steps(plan: Plan, *, start: int = 0) -> Iterator[Step]:
    """The steps from number `start` on, to the end of the last epoch."""
    for epoch in range(start // plan.steps_per_epoch, plan.epochs):
        random = np.random.default_rng(seed_of(plan.seed, "order", epoch))
        if plan.crops_per_identity is None:
            batches = np.array_split(random.permutation(plan.count), plan.steps_per_epoch)
        else:
            batches = _balanced(plan, plan.crops_per_identity, random)
        first = epoch * plan.steps_per_epoch
        for number, batch in enumerate(batches, start=first):
            if number >= start:
                passes = (
                    Pass(whole, _cut(whole, plan.processes))
                    for whole in _cut(slice(0, len(batch)), plan.passes)
                )
                yield Step(number, epoch, batch.astype(np.int64), tuple(passes))


def _cut(whole: slice, count: int) -> tuple[slice, ...]:
    """`count` slices of the same length, give or take one."""
    edges = np.linspace(whole.start, whole.stop, count + 1).round().astype(int).tolist()
    return tuple(slice(*edge) for edge in pairwise(edges))


def _balanced(
    plan: Plan, per_identity: int, random: np.random.Generator
) -> list[npt.NDArray[np.int64]]:
    """An epoch's steps in which every identity comes as often as any other, give or take once.

    Each takes its crops in an order of its own, and starts over when they are used up. No identity
    comes twice in a step; `make_plan` has seen that there are enough.
    """
    order = random.permutation(plan.count)
    order = order[np.argsort(plan.labels[order], kind="stable")]  # by identity, shuffled inside
    sizes = np.bincount(plan.labels)
    firsts = np.cumsum(sizes) - sizes
    present = np.flatnonzero(sizes)
    turns = plan.steps_per_epoch * plan.batch_size // per_identity
    rounds = -(-turns // len(present))
    identity = np.empty(0, dtype=np.int64)
    for _ in range(rounds):
        # Where one round ends in mid-step, whom that step has already come last in the next.
        begun = identity[len(identity) - len(identity) % (plan.batch_size // per_identity) :]
        order_of_round = random.permutation(present)
        again = np.isin(order_of_round, begun)
        identity = np.concatenate((identity, order_of_round[~again], order_of_round[again]))
    identity = identity[:turns]
    # (turns, per_identity): the place of each crop among those of its identity
    place = np.arange(turns)[:, None] // len(present) * per_identity + np.arange(per_identity)
    chosen = order[firsts[identity][:, None] + place % sizes[identity][:, None]]
    return np.split(chosen.reshape(-1), plan.steps_per_epoch)


def crops_digest(crops: CropSource) -> str:
    """sha256 of the crops' names and labels, in order: what a plan's numbers stand for."""
    digest = hashlib.sha256(np.asarray(crops.labels, dtype="<i8").tobytes())
    for one in crops.ids:
        digest.update(f"{one}\n".encode())
    return digest.hexdigest()


def read_ahead(
    crops: CropSource, plan: Plan, *, start: int = 0, threads: int = 2, pinned: bool = False
) -> Iterator[tuple[Step, torch.Tensor, float]]:
    """Steps with this process's crops `(B, 112, 112, 3) uint8, RGB`, and the seconds waited.

    `pinned` puts the crops where a GPU copies them from without making anyone wait.
    """

    def read(step: Step) -> torch.Tensor:
        images = torch.from_numpy(crops.batch(step.own(plan.rank)))
        return images.pin_memory() if pinned else images

    return ahead(read, steps(plan, start=start), threads=threads)


def ahead(
    read: Callable[[T], torch.Tensor], upcoming: Iterator[T], *, threads: int
) -> Iterator[tuple[T, torch.Tensor, float]]:
    """Each of `upcoming` with what `read` makes of it, in order, and the seconds waited for that.

    `threads` read, some way ahead. Only reading and decoding belongs there: tensor operations in a
    second thread would start a second set of OpenMP threads that fights with the first.
    """
    waiting: deque[tuple[T, Future[torch.Tensor]]] = deque()
    with ThreadPoolExecutor(max_workers=threads, thread_name_prefix="crops") as pool:
        try:
            while True:
                while len(waiting) < AHEAD * threads and (one := next(upcoming, None)) is not None:
                    waiting.append((one, pool.submit(read, one)))
                if not waiting:
                    return
                first, images = waiting.popleft()
                begin = time.monotonic()
                yield first, images.result(), time.monotonic() - begin
        finally:
            pool.shutdown(cancel_futures=True)


def seed_of(seed: int, purpose: str, number: int) -> int:
    """A seed of 63 bits, unrelated to that of any other seed, purpose or number."""
    digest = hashlib.blake2b(f"{seed}/{purpose}/{number}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) >> 1
