"""One process or many: what `torchrun` says in the environment becomes a process group.

Nothing happens at import; the group lives as long as the `with` block.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import nn


@dataclass(frozen=True)
class Processes:
    """This process among those that train together, and the device it trains on."""

    rank: int
    count: int
    device: torch.device

    @property
    def main(self) -> bool:
        return self.rank == 0

    def wrap(self, module: nn.Module) -> nn.Module:
        """`module` with its gradients averaged over the processes.

        BatchNorm's running averages stay each process's own, and those of the first are saved:
        training never reads them, and sending them would cost a message per step.
        """
        if self.count == 1:
            return module
        return nn.parallel.DistributedDataParallel(module, forward_sync_buffers=False)

    def total(self, value: float) -> float:
        """The sum of each process's `value`; all must ask at the same moment."""
        if self.count == 1:
            return value
        box = torch.tensor(value, dtype=torch.float64, device=self.device)
        dist.all_reduce(box)
        return float(box)

    def same(self, value: Any) -> Any:
        """The first process's `value`, on all of them."""
        if self.count == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, device=self.device)
        return box[0]


@contextmanager
def process_group() -> Iterator[Processes]:
    """The processes that `torchrun` started (gloo on CPUs, nccl on GPUs), or just this one."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    device = torch.device("cpu")
    if torch.cuda.is_available():
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    if count == 1:
        yield Processes(0, 1, device)
        return
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Processes(dist.get_rank(), count, device)
    finally:
        dist.destroy_process_group()


def is_main_process() -> bool:
    """Whether this process is the one that writes; true without `torchrun`."""
    return int(os.environ.get("RANK", "0")) == 0
