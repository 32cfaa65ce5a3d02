"""How fast the weights move: the learning rate of each step, and the optimizer."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from facewright.errors import TrainingError

OPTIMIZERS = ("sgd", "adamw")
SCHEDULES = ("cosine", "polynomial", "step")


def learning_rate_at(
    step: int, *, steps: int, peak: float, warmup: float, schedule: Mapping[str, Any]
) -> float:
    """The rate of `step` (from 0) of `steps`: up a line to `peak`, then down as `schedule` says.

    `warmup` is the share of the steps on the line (Goyal et al., 2017). `schedule` is one of

    - `{"name": "cosine"}`: half a cosine to 0 (Loshchilov and Hutter, ICLR 2017, no restarts);
    - `{"name": "polynomial", "power": p}`: (1 - progress)^p, as `arcface_torch` with p = 2;
    - `{"name": "step", "at": [shares of all steps], "factor": f}`: times f at each of them.

    Raises:
        TrainingError: no schedule has that name.
    """
    rising = round(warmup * steps)
    if step < rising:
        return peak * (step + 1) / rising
    done = (step - rising) / (steps - rising)
    match schedule["name"]:
        case "cosine":
            return peak * 0.5 * (1 + math.cos(math.pi * done))
        case "polynomial":
            return float(peak * (1 - done) ** schedule["power"])
        case "step":
            passed = sum(step >= round(share * steps) for share in schedule["at"])
            return float(peak * schedule["factor"] ** passed)
    raise TrainingError(
        f"unknown schedule {schedule['name']!r}: choose one of {', '.join(SCHEDULES)}"
    )


def build_optimizer(
    parameters: Iterable[nn.Parameter], *, name: str, learning_rate: float, weight_decay: float
) -> torch.optim.Optimizer:
    """SGD with Nesterov momentum 0.9, or AdamW, over those of `parameters` that are trained.

    Weights with two dimensions or more decay; biases, BatchNorm and PReLU do not, since pulling
    them to zero regularizes nothing (He et al., "Bag of Tricks", CVPR 2019). The biases of head
    `softmax` are a column of its weights, and decay with them.

    Raises:
        TrainingError: no optimizer has that name.
    """
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    match name:
        case "sgd":
            return torch.optim.SGD(
                groups, lr=learning_rate, momentum=0.9, nesterov=True, fused=True
            )
        case "adamw":
            return torch.optim.AdamW(groups, lr=learning_rate, fused=True)
    raise TrainingError(f"unknown optimizer {name!r}: choose one of {', '.join(OPTIMIZERS)}")


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """The rate of every parameter from now on."""
    for group in optimizer.param_groups:
        group["lr"] = rate
