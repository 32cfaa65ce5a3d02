"""What a network costs, counted without running it."""

from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from facewright.models import build_network


@dataclass(frozen=True)
class Cost:
    """Of a network for one crop of 112×112."""

    parameters: int  # trained or frozen, without the running statistics of BatchNorms
    multiply_adds: int  # of convolutions, linear layers and attention; the rest is left out


def network_cost(name: str, *, embedding_size: int) -> Cost:
    """Count on PyTorch's "meta" device: no weights are drawn, nothing is computed.

    What the field calls FLOPs of a face network are multiply-adds; PyTorch counts each as two.

    Raises:
        TrainingError: no network has that name.
    """
    with torch.device("meta"), torch.no_grad():
        network = build_network(name, embedding_size=embedding_size).eval()
        with FlopCounterMode(display=False) as counter:
            network(torch.empty(1, 3, 112, 112))
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return Cost(parameters=parameters, multiply_adds=counter.get_total_flops() // 2)
