"""Learning rate and optimizers."""

import math
from itertools import pairwise

import pytest
import torch
from torch import nn

from facewright.errors import TrainingError
from facewright.models import build_network
from facewright.training.schedule import build_optimizer, learning_rate_at, set_learning_rate

COSINE = {"name": "cosine"}


def test_rate_climbs_a_line_then_falls_half_a_cosine_to_zero() -> None:
    rates = [
        learning_rate_at(n, steps=100, peak=0.2, warmup=0.1, schedule=COSINE) for n in range(101)
    ]
    assert rates[:10] == pytest.approx([0.02 * (n + 1) for n in range(10)])
    assert rates[10] == pytest.approx(0.2)
    assert rates[55] == pytest.approx(0.1)
    assert rates[32] == pytest.approx(0.1 * (1 + math.cos(math.pi * 22 / 90)))
    assert rates[100] == pytest.approx(0.0)
    assert all(a > b for a, b in pairwise(rates[10:]))


@pytest.mark.parametrize("warmup", [0.0, 0.5, 0.99])
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_rate_is_positive_and_finite_in_the_shortest_trainings(steps: int, warmup: float) -> None:
    rates = [
        learning_rate_at(n, steps=steps, peak=0.1, warmup=warmup, schedule=COSINE)
        for n in range(steps)
    ]
    assert all(0 < rate <= 0.1 for rate in rates)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_only_weights_decay(name: str) -> None:
    network = build_network("mobilefacenet", embedding_size=8)
    optimizer = build_optimizer(
        network.parameters(), name=name, learning_rate=0.1, weight_decay=0.01
    )
    decayed, free = optimizer.param_groups
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.01, 0.0)
    kinds = {id(p): type(m) for m in network.modules() for p in m.parameters(recurse=False)}
    assert {kinds[id(p)] for p in decayed["params"]} == {nn.Conv2d, nn.Linear}
    assert {kinds[id(p)] for p in free["params"]} == {nn.BatchNorm2d, nn.BatchNorm1d, nn.PReLU}


def test_sgd_is_nesterovs_update() -> None:
    """On channels-last weights too, against the update written out (Sutskever et al., 2013)."""
    convolution = nn.Conv2d(3, 4, 3, bias=False).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = build_optimizer(
        convolution.parameters(), name="sgd", learning_rate=0.1, weight_decay=0.01
    )
    weight = convolution.weight.detach().clone().double()
    velocity = torch.zeros_like(weight)
    images = torch.randn(2, 3, 8, 8)
    for rate in (0.1, 0.05, 0.2):
        set_learning_rate(optimizer, rate)
        convolution(images).square().mean().backward()
        assert convolution.weight.grad is not None
        gradient = convolution.weight.grad.double() + 0.01 * weight
        velocity = 0.9 * velocity + gradient
        weight = weight - rate * (gradient + 0.9 * velocity)
        optimizer.step()
        optimizer.zero_grad()
        torch.testing.assert_close(convolution.weight.double(), weight, rtol=1e-5, atol=1e-6)


def test_an_unknown_optimizer_is_refused() -> None:
    with pytest.raises(TrainingError, match=r"unknown optimizer 'adam'.*sgd, adamw"):
        build_optimizer(
            nn.Linear(2, 2).parameters(), name="adam", learning_rate=0.1, weight_decay=0.0
        )


def test_the_polynomial_falls_as_its_power_says() -> None:
    schedule = {"name": "polynomial", "power": 2}
    rates = [
        learning_rate_at(n, steps=110, peak=0.2, warmup=10 / 110, schedule=schedule)
        for n in range(110)
    ]
    assert rates[9] == rates[10] == pytest.approx(0.2)
    assert rates[60] == pytest.approx(0.2 * 0.5**2)
    assert rates[109] == pytest.approx(0.2 * 0.01**2)


def test_steps_fall_at_their_shares_of_all_steps() -> None:
    schedule = {"name": "step", "at": [0.5, 0.75], "factor": 0.1}
    rates = [
        learning_rate_at(n, steps=100, peak=1.0, warmup=0.1, schedule=schedule) for n in range(100)
    ]
    assert rates[9:50] == [1.0] * 41
    assert rates[50:75] == pytest.approx([0.1] * 25)
    assert rates[75:] == pytest.approx([0.01] * 25)


def test_an_unknown_schedule_is_refused() -> None:
    with pytest.raises(TrainingError, match=r"unknown schedule 'linear'.*cosine"):
        learning_rate_at(5, steps=9, peak=1.0, warmup=0.0, schedule={"name": "linear"})
