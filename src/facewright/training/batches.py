"""Which crops each step sees, on which process, and their reading ahead of time.

Everything is a function of the seed and the step, so that a training that was cut off goes on
as if nothing had happened, on as many processes as there happen to be then.
"""

import hashlib
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from facewright.errors import TrainingError
from facewright.progress import say

AHEAD = 4  # batches read before they are needed: 10 MB, enough to ride out a slow read


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
    """How the crops are dealt out to steps and processes.

    Each epoch is one shuffle cut into the fewest steps of at most `batch_size` crops, all of the
    same size give or take one: each crop is seen exactly once per epoch, and no step is a
    leftover of two or three crops, with which BatchNorm could not work.
    """

    count: int  # crops
    batch_size: int  # most crops per step, over all processes
    epochs: int
    seed: int
    rank: int = 0
    processes: int = 1

    @property
    def steps_per_epoch(self) -> int:
        return -(-self.count // self.batch_size)

    @property
    def steps(self) -> int:
        return self.steps_per_epoch * self.epochs


@dataclass(frozen=True)
class Step:
    """One process's part of one step."""

    number: int  # from 0, over all epochs
    epoch: int  # from 0
    total: int  # crops in this step over all processes
    part: slice  # the place of this process's crops among them
    indices: npt.NDArray[np.int64]  # this process's crops


def make_plan(
    crops: CropSource,
    *,
    batch_size: int,
    epochs: int,
    seed: int,
    rank: int = 0,
    processes: int = 1,
) -> Plan:
    """The plan for these crops, after checking that they can be trained on.

    Raises:
        TrainingError: fewer than two identities, or than two crops per process and step.
    """
    if len(crops.identities) < 2:
        raise TrainingError(
            f"the training crops hold {len(crops.identities)} identity: a classifier needs two or "
            "more; import a dataset with more people, or see validate's reasons for rejecting them"
        )
    least = 2 * processes  # BatchNorm cannot train on a single crop
    if batch_size < least:
        raise TrainingError(
            f"batch_size is {batch_size}, too small for {processes} processes: give {least} or more"
        )
    if len(crops) < least:
        raise TrainingError(
            f"there are {len(crops)} training crops: {processes} processes need {least} or more"
        )
    if len(crops) < batch_size and rank == 0:
        say(f"train: {len(crops)} crops are fewer than batch_size {batch_size}: one step an epoch")
    plan = Plan(len(crops), batch_size, epochs, seed, rank, processes)
    if (smallest := len(crops) // plan.steps_per_epoch) < least:
        raise TrainingError(
            f"{len(crops)} crops in steps of at most {batch_size} leave steps of {smallest}, too "
            f"few for {processes} processes: change batch_size"
        )
    return plan


def steps(plan: Plan, *, start: int = 0) -> Iterator[Step]:
    """The steps from number `start` on, to the end of the last epoch."""
    for epoch in range(start // plan.steps_per_epoch, plan.epochs):
        order = np.random.default_rng(seed_of(plan.seed, "order", epoch)).permutation(plan.count)
        first = epoch * plan.steps_per_epoch
        for number, batch in enumerate(np.array_split(order, plan.steps_per_epoch), start=first):
            if number < start:
                continue
            edges = np.linspace(0, len(batch), plan.processes + 1).round().astype(int)
            part = slice(int(edges[plan.rank]), int(edges[plan.rank + 1]))
            yield Step(number, epoch, len(batch), part, batch[part].astype(np.int64))


def read_ahead(
    crops: CropSource, plan: Plan, *, start: int = 0
) -> Iterator[tuple[Step, torch.Tensor, torch.Tensor]]:
    """Steps with their crops `(B, 112, 112, 3) uint8, RGB` and labels `(B,) int64`.

    Two threads read; only reading and decoding happens there, because tensor operations in a
    second thread would start a second set of OpenMP threads that fights with the first.
    """
    upcoming = steps(plan, start=start)
    labels = torch.from_numpy(np.asarray(crops.labels, dtype=np.int64))
    waiting: deque[tuple[Step, Future[npt.NDArray[np.uint8]]]] = deque()
    with ThreadPoolExecutor(max_workers=2, thread_name_prefix="crops") as pool:
        try:
            while True:
                while len(waiting) < AHEAD and (step := next(upcoming, None)) is not None:
                    waiting.append((step, pool.submit(crops.batch, step.indices)))
                if not waiting:
                    return
                step, images = waiting.popleft()
                yield step, torch.from_numpy(images.result()), labels[step.indices]
        finally:
            pool.shutdown(cancel_futures=True)


def seed_of(seed: int, purpose: str, number: int) -> int:
    """A seed of 63 bits, unrelated to that of any other seed, purpose or number."""
    digest = hashlib.blake2b(f"{seed}/{purpose}/{number}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) >> 1
