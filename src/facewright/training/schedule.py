"""How fast the weights move: the learning rate of each step, and the optimizer."""

import math

import torch
from torch import nn

from facewright.errors import TrainingError

OPTIMIZERS = ("sgd", "adamw")


def learning_rate_at(step: int, *, steps: int, peak: float, warmup: float) -> float:
    """The rate of `step` (from 0) of `steps`: up a line to `peak`, then down half a cosine to 0.

    `warmup` is the share of the steps on the line (Goyal et al., 2017); the cosine is Loshchilov
    and Hutter's (ICLR 2017), without restarts.
    """
    rising = round(warmup * steps)
    if step < rising:
        return peak * (step + 1) / rising
    return peak * 0.5 * (1 + math.cos(math.pi * (step - rising) / (steps - rising)))


def build_optimizer(
    module: nn.Module, *, name: str, learning_rate: float, weight_decay: float
) -> torch.optim.Optimizer:
    """SGD with Nesterov momentum 0.9, or AdamW, over the parameters that `module` trains.

    Weights with two dimensions or more decay; biases, BatchNorm and PReLU do not, since pulling
    them to zero regularizes nothing (He et al., "Bag of Tricks", CVPR 2019).

    Raises:
        TrainingError: no optimizer has that name.
    """
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
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
