"""What changes from step to step of a training: network, classifier, optimizer, sums so far."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from facewright.errors import TrainingError
from facewright.models import build_network
from facewright.refusals import refuse_frozen
from facewright.training.batches import seed_of
from facewright.training.checkpoint import Checkpoint, checkpoint_digest
from facewright.training.classifier import Classifier
from facewright.training.distributed import Processes

FIRST_LOSS_SCALE = 2.0**16  # for fp16, as PyTorch's GradScaler starts, doubles and halves
DOUBLE_AFTER = 2000  # steps


@dataclass
class Tally:
    """Sums since the last report, and since the start; part of a checkpoint."""

    loss: float = 0.0  # the mean loss of each step, summed
    steps: int = 0
    crops: int = 0
    seconds: float = 0.0
    waited: float = 0.0  # seconds
    all_crops: int = 0
    all_seconds: float = 0.0
    all_waited: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)
    resumed: list[int] = field(default_factory=list)  # steps after which it went on …
    checkpoints: list[str] = field(default_factory=list)  # … and the digests of what from

    def close(self, rate: float, norm: float) -> dict[str, float]:
        """The metrics since the last report; starts anew."""
        metrics = {
            "train_loss": self.loss / self.steps,
            "learning_rate": rate,
            "images_per_second": self.crops / self.seconds,
            "data_wait": self.waited / self.seconds,
            "gradient_norm": norm,  # of the last step, before clipping
        }
        self.all_crops += self.crops
        self.all_seconds += self.seconds
        self.all_waited += self.waited
        self.loss, self.steps, self.crops, self.seconds, self.waited = 0.0, 0, 0, 0.0, 0.0
        return metrics


@dataclass
class Learner:
    """Everything that changes from step to step, and so all that a checkpoint holds."""

    network: nn.Module
    classifier: Classifier
    optimizer: torch.optim.Optimizer
    average: AveragedModel | None
    precision: str
    loss_scale: float
    tally: Tally = field(default_factory=Tally)
    since_halved: int = 0  # steps with this loss scale
    best: dict[str, Any] = field(default_factory=dict)  # of the epoch that is best so far

    def result(self) -> nn.Module:
        """The network as it would be used now."""
        return self.network if self.average is None else self.average.module

    def state(self) -> dict[str, Any]:
        named = dict(self.network.named_parameters())
        return {
            "network": self.network.state_dict(),
            "optimizer": {
                name: dict(self.optimizer.state[p])
                for name, p in named.items()
                if p in self.optimizer.state
            },
            "average": None if self.average is None else self.average.state_dict(),
            "precision": self.precision,
            "loss_scale": self.loss_scale,
            "since_halved": self.since_halved,
            "best": self.best,
            "tally": asdict(self.tally),
        }

    def restore(self, checkpoint: Checkpoint) -> str:
        """Put everything back in place; returns the precision of the training so far."""
        state = checkpoint.state()
        self.network.load_state_dict(state["network"])
        named = dict(self.network.named_parameters())
        for name, values in state["optimizer"].items():
            place = named[name]
            self.optimizer.state[place] = {
                key: torch.empty_like(place).copy_(value)
                if value.shape == place.shape
                else value.to(place.device, copy=True)  # not a part of the file
                for key, value in values.items()
            }
        # What was frozen so far has no momentum, and SGD wants all of them or none.
        if state["optimizer"] and isinstance(self.optimizer, torch.optim.SGD):
            for place in named.values():
                if place.requires_grad:
                    self.optimizer.state[place].setdefault(
                        "momentum_buffer", torch.zeros_like(place)
                    )
        if self.average is not None and state["average"] is not None:
            self.average.load_state_dict(state["average"])
        elif self.average is not None:  # not averaged so far: these weights count as the first
            self.average.module.load_state_dict(state["network"])
            self.average.n_averaged.fill_(1)
        self.classifier.restore(checkpoint.head(self.classifier.rows), self.optimizer)
        if state["precision"] == self.precision:  # else this one's scale is another
            self.loss_scale, self.since_halved = state["loss_scale"], state["since_halved"]
        self.best = copy.deepcopy(state["best"])
        self.tally = Tally(**state["tally"])
        self.tally.resumed.append(checkpoint.step)
        self.tally.checkpoints.append(checkpoint_digest(checkpoint.path))
        return str(state["precision"])

    def training_mode(self, *, frozen: bool) -> None:
        """Dropout and batch statistics on; of what is frozen dropout alone, which acts on the
        features that embeddings are made of (stochastic depth, inside the features, does not)."""
        self.classifier.train()
        self.network.train(not frozen)
        if frozen:
            for layer in embedding_layers(self.network):
                layer.train()
            for module in self.network.modules():
                if isinstance(module, nn.Dropout):
                    module.train()

    def clip(self, clip_norm: float, group: Processes) -> torch.Tensor:
        """Bring the gradient to length `clip_norm` if it is longer; returns the length it had.

        The network's gradients are the same on all processes; of the centres each has a part.
        """
        weights = [p for p in self.network.parameters() if p.requires_grad]
        centres = self.classifier.trained
        norm = nn.utils.get_total_norm([p.grad for p in weights if p.grad is not None])
        part = nn.utils.get_total_norm([p.grad for p in centres if p.grad is not None])
        total = (norm**2 + group.reduce(part.to(norm.device) ** 2)).sqrt()
        if self.loss_scale != 1:
            gradients = [p.grad for p in (*weights, *centres) if p.grad is not None]
            torch._foreach_mul_(gradients, 1 / self.loss_scale)
            total = total / self.loss_scale
        nn.utils.clip_grads_with_norm_([*weights, *centres], clip_norm, total)
        return total

    def adapt_loss_scale(self, *, finite: bool) -> None:
        """Halve it when gradients overflowed (that step was left out), double it when long none
        did.

        PyTorch's GradScaler decides by one process's gradients; here all processes decide alike,
        since the norm is that of all.
        """
        self.since_halved += 1
        if not finite:
            self.loss_scale, self.since_halved = self.loss_scale / 2, 0
        elif self.since_halved >= DOUBLE_AFTER:
            self.loss_scale, self.since_halved = self.loss_scale * 2, 0


def build_learner(
    group: Processes,
    *,
    network: str,
    embedding_size: int,
    dropout: float,
    start: Mapping[str, torch.Tensor] | None,
    frozen: bool,
    head: Callable[..., nn.Module],
    identities: int,
    sampled: float,
    optimizer: Callable[..., torch.optim.Optimizer],
    average: float,
    precision: str,
    seed: int,
) -> Learner:
    """Network, classifier and optimizer before the first step, on the device that trains."""
    torch.manual_seed(seed_of(seed, "weights", 0))
    module = build_network(network, embedding_size=embedding_size, dropout=dropout)
    if start is not None:
        try:
            module.load_state_dict(start)
        except RuntimeError as error:  # its message names every weight
            raise TrainingError(
                f"the recognizer to start from is no {network} with embeddings of "
                f"{embedding_size} values: set network and embedding_size to what its card says"
            ) from error
    if reason := refuse_frozen(frozen, start):
        raise TrainingError(f"frozen is {frozen}: {reason}")
    if frozen:
        freeze(module)
    module.to(device=group.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    classifier = Classifier(
        lambda count: head(identities=count),
        identities=identities,
        sampled=sampled,
        seed=seed,
        group=group,
    ).to(group.device)
    moved = [*module.parameters(), *classifier.trained]
    averaged = moving_average(module, decay=average) if average else None
    loss_scale = FIRST_LOSS_SCALE if precision == "fp16" else 1.0
    return Learner(module, classifier, optimizer(moved), averaged, precision, loss_scale)


def moving_average(network: nn.Module, *, decay: float) -> AveragedModel:
    """The first weights it is told of, then share·old + (1 - share)·new.

    After n others the share is min(decay, (1 + n) / (10 + n)), as in TensorFlow's
    ExponentialMovingAverage with `num_updates`: a short training does not end in its first weights.
    """

    def follow(old: Sequence[torch.Tensor], new: Sequence[torch.Tensor], count: object) -> None:
        seen = int(average.n_averaged)  # on the CPU, where `count` is on the device and has to come
        share = min(decay, (1 + seen) / (10 + seen))
        get_ema_multi_avg_fn(share)(old, new, count)  # type: ignore[no-untyped-call]

    average = AveragedModel(network, multi_avg_fn=follow, use_buffers=True)
    return average


def freeze(network: nn.Module) -> None:
    """Leave only the embedding layers to train, and of these what is trained without it too."""
    layers = embedding_layers(network)
    learns = {parameter for layer in layers for parameter in layer.parameters()}
    for parameter in network.parameters():
        parameter.requires_grad &= parameter in learns


def embedding_layers(network: nn.Module) -> list[nn.Module]:
    """The children of `network` that make an embedding of features: from the last that is linear,
    or holds such a layer, on."""
    children = list(network.children())
    linear = [
        place
        for place, child in enumerate(children)
        if any(isinstance(module, nn.Linear) for module in child.modules())
    ]
    return children[linear[-1] :]
