"""One process or many: what `torchrun` says in the environment becomes a process group.

Nothing happens at import; the group lives as long as the `with` block.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from facewright.errors import TrainingError

# gloo's words for a process that is lost, or silent for half an hour
GONE = (
    "Connection closed by peer",
    "Connection reset by peer",
    "Broken pipe",
    "Timed out waiting",
    "Application timeout",
)


@dataclass(frozen=True)
class Processes:
    """This process among those that train together, and the device it trains on."""

    rank: int
    count: int
    device: torch.device
    wrapped: list[nn.Module] = field(default_factory=list, compare=False)  # by `wrap`

    @property
    def main(self) -> bool:
        return self.rank == 0

    @property
    def gpus(self) -> list[int]:
        """The GPU that this process trains on, where it does."""
        return [self.device.index] if self.device.type == "cuda" else []

    def wrap(self, module: nn.Module) -> nn.Module:
        """`module` with its gradients averaged over the processes.

        BatchNorm's running averages stay each process's own, and those of the first are saved:
        training never reads them, and sending them would cost a message per step.
        """
        if self.count == 1 or not any(p.requires_grad for p in module.parameters()):
            return module
        wrapped = nn.parallel.DistributedDataParallel(module, forward_sync_buffers=False)
        self.wrapped.append(wrapped)
        return wrapped

    def alone(self, module: nn.Module, when: bool) -> AbstractContextManager[Any]:
        """While `when`, gradients of a wrapped module pile up without being averaged."""
        if when and isinstance(module, nn.parallel.DistributedDataParallel):
            return module.no_sync()
        return nullcontext()

    def gather(self, rows: Tensor, sizes: Sequence[int]) -> Tensor:
        """The rows of all processes, which have `sizes` each; gradients flow back to their owners.

        A process's gradient is the sum of what all processes ask for, times their number, since
        `wrap` averages over processes what is to be a sum.
        """
        if self.count == 1:
            return rows
        gathered: Tensor = _Gather.apply(rows, sizes, self)  # type: ignore[no-untyped-call]
        return gathered

    def reduce(self, values: Tensor, how: str = "sum") -> Tensor:
        """`values` summed (or the largest of each, `max`) over the processes, in place."""
        if self.count > 1:
            operation = dist.ReduceOp.SUM if how == "sum" else dist.ReduceOp.MAX
            dist.all_reduce(values, operation)
        return values

    def largest(self, value: float) -> float:
        """The largest `value` of all processes."""
        return float(self.reduce(torch.tensor(value, device=self.device), "max"))

    def from_first(self, value: Any) -> Any:
        """The first process's `value`, on all of them."""
        if self.count == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, device=self.device)
        return box[0]

    def gather_objects(self, value: Any) -> list[Any]:
        """Each process's `value`, in their order, on all of them."""
        if self.count == 1:
            return [value]
        values: list[Any] = [None] * self.count
        dist.all_gather_object(values, value)
        return values


class _Gather(torch.autograd.Function):
    """See `Processes.gather`. Collectives want parts of one length, so short ones are padded."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, sizes: Sequence[int], group: Processes) -> Tensor:
        ctx.group, ctx.first, ctx.size = group, sum(sizes[: group.rank]), len(rows)
        padded = rows.new_zeros((max(sizes), *rows.shape[1:]))
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(parts, padded)
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        summed = ctx.group.reduce(gradients[0].clone())
        return summed.narrow(0, ctx.first, ctx.size) * ctx.group.count, None, None


def must_agree(digest: str, group: Processes) -> None:
    """Refuse processes with other crops or settings: gradients are averaged and weights are not,
    so that those of unlike processes would drift apart.

    Raises:
        TrainingError: `digest` is not the same on all of them.
    """
    digests = group.gather_objects(digest)
    unlike = [str(rank) for rank, one in enumerate(digests) if one != digests[0]]
    if unlike:
        raise TrainingError(
            f"processes {', '.join(unlike)} of {group.count} have other crops or parameters than "
            "the first: give all of them the same params.yaml and the same artifacts/align"
        )


@contextmanager
def process_group() -> Iterator[Processes]:
    """The processes that `torchrun` started (gloo on CPUs, nccl on GPUs), or just this one.

    Raises:
        TrainingError: there are more of them on this machine than GPUs; one was lost.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    device = torch.device("cpu")
    if torch.cuda.is_available():
        place, there = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
        if place >= there:
            raise TrainingError(
                f"process {place} of this machine has no GPU of its own, there are {there}: start "
                f"as many processes as GPUs, --nproc-per-node={there}"
            )
        device = torch.device("cuda", place)
        torch.cuda.set_device(device)
    search = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True  # crops have one size: the search pays off
    try:
        if count == 1:
            yield Processes(0, 1, device)
        else:
            with _joined(count, device) as group:
                yield group
    finally:
        torch.backends.cudnn.benchmark = search


@contextmanager
def _joined(count: int, device: torch.device) -> Iterator[Processes]:
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    group = Processes(dist.get_rank(), count, device)
    try:
        yield group
    except (RuntimeError, dist.DistError) as error:
        if isinstance(error, dist.DistError) or any(word in str(error) for word in GONE):
            raise TrainingError(
                f"process {group.rank} of {count} lost another one, whose own message says why: "
                "start all of them again"
            ) from error
        raise
    finally:
        # Whoever lets go of the group last waits for gloo's threads, and these may be waiting for
        # the GIL: a wrapped module's reducer, which does not let go of that, must not be the last.
        for module in group.wrapped:
            del module.reducer, module.logger
        dist.destroy_process_group()


def is_main_process() -> bool:
    """Whether this process is the one that writes; true without `torchrun`."""
    alone = int(os.environ.get("WORLD_SIZE", "1")) == 1
    return alone or int(os.environ.get("RANK", "0")) == 0
