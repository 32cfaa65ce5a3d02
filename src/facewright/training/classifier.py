"""The classifier of a training, spread over its processes: each has the centres of some people.

For millions of identities the centres, and the logits of every crop with every centre, are what
fills the memory; here both shrink with the number of processes, and with the share of identities
that a step compares with (PartialFC: An et al., CVPR 2022).
"""

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from facewright.models.heads import Head
from facewright.training.batches import Pass, seed_of
from facewright.training.distributed import Processes

BLOCK = 4096  # centres drawn from one seed, so that each process draws just its own


class Classifier(nn.Module):
    """A head over all processes; with one process and no sampling it is the head alone.

    A step is `sample`, `forward` for each of its passes, the optimizer's step, `observe` and
    `keep`, on every process. `forward` gives the loss of a whole pass on every process, and
    gradients that `Processes.wrap` and `Processes.gather` together make those of one process.
    """

    def __init__(
        self,
        build: Callable[[int], nn.Module],
        *,
        identities: int,
        sampled: float,
        seed: int,
        group: Processes,
    ):
        """`build` makes the head of so many identities; `sampled` is the share of these that a
        step compares with, those of its own crops always among them."""
        super().__init__()
        self._momenta: dict[str, Tensor] = {}
        self._seen: list[Tensor] = []  # embeddings of a step's passes, of all processes
        self._chosen = torch.empty(0, dtype=torch.int64)
        self._group, self._seed = group, seed
        edges = [round(identities * rank / group.count) for rank in range(group.count + 1)]
        self.first, self.last = edges[group.rank], edges[group.rank + 1]
        self._edges = torch.tensor(edges)
        self.head = build(self.last - self.first)
        self.active: nn.Parameter | None = None
        self._columns = identities  # over all processes
        if not isinstance(self.head, Head):
            return
        self._draw_centres()
        if sampled < 1:
            self._wanted = (sampled * self._edges.diff()).round().long().clamp(min=1)
            self.head.weight.requires_grad = False
            self.active = nn.Parameter(
                self.head.weight[: int(self._wanted[group.rank]) * self.head.sub_centres]
            )

    @torch.no_grad()
    def _draw_centres(self) -> None:
        """The same numbers for an identity wherever it lies."""
        head = self._classes
        each = head.sub_centres
        for block in range(self.first // BLOCK, -(-self.last // BLOCK)):
            draw = torch.Generator().manual_seed(seed_of(self._seed, "centres", block))
            rows = head.new_centres(BLOCK, generator=draw)
            begin = block * BLOCK
            low, high = max(self.first, begin), min(self.last, begin + BLOCK)
            here = slice((low - self.first) * each, (high - self.first) * each)
            head.weight[here] = rows[(low - begin) * each : (high - begin) * each]

    @property
    def _classes(self) -> Head:
        """The head, where it has centres."""
        return cast(Head, self.head)

    @property
    def rows(self) -> slice:
        """Which of all processes' rows of centres are here."""
        each = self.head.sub_centres if isinstance(self.head, Head) else 0
        return slice(self.first * each, self.last * each)

    @property
    def trained(self) -> list[nn.Parameter]:
        """The centres that the optimizer moves: one tensor, or none."""
        if self.active is not None:
            return [self.active]
        return [self.head.weight] if isinstance(self.head, Head) else []

    def forward(self, embeddings: Tensor, labels: Tensor, one: Pass) -> Tensor:
        """Mean loss over a pass; `observe` ends a step of one or several.

        Args:
            embeddings: `(n, E)`, this process's.
            labels: `(N,)` int64, of all processes' crops, in their order.
        """
        head, group = self.head, self._group
        everything = group.gather(embeddings.float(), one.sizes)
        if not isinstance(head, Head):  # triplets: whole on every process
            return self._shared(head(everything, labels))
        if self.training:
            self._seen.append(everything.detach())
        if group.count == 1 and self.active is None:
            return head.loss(everything, labels)
        logits = head.logits(everything, self._local(labels), self.active)
        with torch.autocast(logits.device.type, enabled=False):
            entropy: Tensor = _CrossEntropy.apply(  # type: ignore[no-untyped-call]
                logits, self._local(labels), head.label_smoothing, self._columns, group
            )
            return entropy + self._shared(head.regularizer(everything))

    def observe(self) -> None:
        """Let the head count a step, once for all of its passes."""
        if self._seen:
            self._classes.observe(torch.cat(self._seen))
            self._seen.clear()

    def _shared(self, loss: Tensor) -> Tensor:
        """A loss that every process computes whole: each gives its share of the gradient."""
        share = loss / self._group.count
        return share + (loss - share).detach()

    def _local(self, labels: Tensor) -> Tensor:
        """Labels among the identities that this process compares with; -1 where there is none."""
        mine = (labels >= self.first) & (labels < self.last)
        local = torch.where(mine, labels - self.first, -1)
        if self.active is None:
            return local
        place = torch.searchsorted(self._chosen, local).clamp(max=len(self._chosen) - 1)
        return torch.where(mine, place, -1)

    @torch.no_grad()
    def sample(self, labels: Tensor, step: int, optimizer: torch.optim.Optimizer) -> None:
        """Choose the identities of a step: those of its `labels` (of all processes, on the CPU),
        and others."""
        if self.active is None:
            return
        # All processes know all labels, and so how many columns each of them has.
        present = torch.unique(labels)
        owner = torch.searchsorted(self._edges[1:], present, right=True)
        wanted = self._wanted.maximum(torch.bincount(owner, minlength=len(self._wanted)))
        self._columns = int(wanted.sum())

        rank = self._group.rank
        chosen = draw_with(
            (present[owner == rank] - self.first).numpy(),
            among=self.last - self.first,
            count=int(wanted[rank]),
            seed=seed_of(self._seed, f"identities {rank}", step),
        )
        self._chosen = torch.from_numpy(chosen).to(self._classes.weight.device)
        rows = self._chosen_rows()
        # A parameter of its own for each step, since the number of rows is not always the same.
        before, self.active = self.active, nn.Parameter(self._classes.weight[rows])
        for group in optimizer.param_groups:
            group["params"] = [self.active if p is before else p for p in group["params"]]
        state = optimizer.state.pop(before, {})
        optimizer.state[self.active] = state | {
            name: values[rows] for name, values in self._momenta.items()
        }

    @torch.no_grad()
    def keep(self, optimizer: torch.optim.Optimizer) -> None:
        """Put what a step changed back among all centres."""
        if self.active is None:
            return
        rows = self._chosen_rows()
        self._classes.weight[rows] = self.active
        for name, values in optimizer.state[self.active].items():
            # What has the centres' shape belongs to each of them; the rest counts steps.
            if torch.is_tensor(values) and values.shape == self.active.shape:
                if name not in self._momenta:
                    self._momenta[name] = torch.zeros_like(self._classes.weight)
                self._momenta[name][rows] = values

    def _chosen_rows(self) -> Tensor:
        each = self._classes.sub_centres
        within = torch.arange(each, device=self._chosen.device)
        return (self._chosen[:, None] * each + within).flatten()

    def state(self, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
        """What a checkpoint holds: `rows.…` is of the identities here, the rest of all."""
        if not self.trained:
            return {}
        moved = {"rows.weight": self._classes.weight.detach()}
        moved |= {f"all.{name}": value for name, value in self._classes.named_buffers()}
        known = self._momenta if self.active is not None else {}
        for name, value in {**optimizer.state[self.trained[0]], **known}.items():
            if value.shape == self._classes.weight.shape:
                moved[f"rows.optimizer.{name}"] = value
            elif value.ndim == 0:
                moved[f"all.optimizer.{name}"] = value
        return moved

    @torch.no_grad()
    def restore(self, state: dict[str, Tensor], optimizer: torch.optim.Optimizer) -> None:
        """Put `state` back, whatever number of processes wrote it."""
        if not self.trained:
            return
        buffers = dict(self._classes.named_buffers())
        for name, value in state.items():
            kind, _, rest = name.partition(".")
            value = value.to(self._classes.weight.device)
            if rest == "weight":
                self._classes.weight.copy_(value)
            elif not rest.startswith("optimizer."):
                buffers[rest].copy_(value)
            elif self.active is not None and kind == "rows":
                self._momenta[rest.removeprefix("optimizer.")] = value
            else:
                optimizer.state[self.trained[0]][rest.removeprefix("optimizer.")] = value

    def own_centres(self) -> Tensor:
        """`(identities here, sub_centres, E)`, of a head that has centres."""
        weight = self._classes.weight.detach()
        return weight.view(-1, self._classes.sub_centres, weight.shape[1])


def draw_with(
    own: npt.NDArray[np.int64], *, among: int, count: int, seed: int
) -> npt.NDArray[np.int64]:
    """`count` different numbers below `among`, ascending: `own` (ascending) and others at random.

    Every choice of the others is as likely as any other. 100,000 of a million take 10 ms; sorting a
    million random numbers took 45. On the CPU, so that a step draws the same wherever it trains.
    """
    random = np.random.default_rng(seed)
    others = random.choice(among - len(own), count - len(own), replace=False, shuffle=False)
    # They count those that are not in `own`, of which `own[i] - i` lie before own[i].
    others += np.searchsorted(own - np.arange(len(own)), others, side="right")
    chosen = np.zeros(among, dtype=bool)
    chosen[own] = chosen[others] = True
    return np.flatnonzero(chosen)


class _CrossEntropy(torch.autograd.Function):
    """Mean cross-entropy with smoothed labels over logits whose columns lie on all processes."""

    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        labels: Tensor,
        smoothing: float,
        columns: int,
        group: Processes,
    ) -> Tensor:
        here = labels >= 0
        column = labels.clamp(min=0).unsqueeze(1)
        top = group.reduce(logits.max(dim=1).values, "max").unsqueeze(1)
        own = torch.where(here, logits.gather(1, column).squeeze(1), 0)
        sums = torch.stack((own, logits.sum(dim=1)))
        share = logits.sub(top).exp_()
        own, every, total = group.reduce(torch.cat((sums, share.sum(dim=1, keepdim=True).T)))
        share.div_(total.unsqueeze(1))
        ctx.save_for_backward(share, column, here)
        ctx.smoothing, ctx.columns = smoothing, columns
        log_sum = total.log() + top.squeeze(1)
        losses: Tensor = log_sum - (1 - smoothing) * own - smoothing / columns * every
        return losses.mean()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None, None]:
        share, column, here = ctx.saved_tensors
        slope = share - ctx.smoothing / ctx.columns
        wanted = (1 - ctx.smoothing) * here.to(slope.dtype).unsqueeze(1)
        slope.scatter_add_(1, column, -wanted)
        return slope * (gradients[0] / len(share)), None, None, None, None
