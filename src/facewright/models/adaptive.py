"""Classification heads whose margin depends on the crop, through its norm, or on the step."""

import math
from typing import Any

import torch
from torch import Tensor

from facewright.errors import TrainingError
from facewright.models.margins import Head
from facewright.models.sphere import (
    angle_between,
    cosine_between,
    falling_cosine,
    lengths,
    shifted_cosine,
)
from facewright.refusals import refuse_margins, refuse_norms

SPREAD = 1e-3  # added to a standard deviation that may be zero; the value of AdaFace's authors


class SphereFace(Head):
    """‖x‖·(λ·cos θ + ψ(θ)) / (1 + λ) for the true identity, ‖x‖·cos θ for all others (A-Softmax;
    Liu et al., CVPR 2017).

    ψ is cos(mθ), m a whole number of at least 1, made to fall all the way to θ = π. Since training
    does not start under it, λ goes from `lambda_base` down to `lambda_min` as in the authors'
    code: λ = base·(1 + gamma·n)^-power in the n-th training step, the first of which is 1. The
    steps that are over are counted in a buffer, `steps`, so that a checkpoint holds it.
    """

    steps: Tensor

    def __init__(
        self,
        *,
        margin: int,
        lambda_base: float,
        lambda_gamma: float,
        lambda_power: float,
        lambda_min: float,
        **shared: Any,
    ):
        super().__init__(**shared)
        self.margin = margin
        self.lambda_base = lambda_base
        self.lambda_gamma = lambda_gamma
        self.lambda_power = lambda_power
        self.lambda_min = lambda_min
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def observe(self, embeddings: Tensor) -> None:
        if self.training:
            self.steps += 1

    def radius(self, norms: Tensor) -> Tensor:
        return norms.unsqueeze(1)

    def penalize(self, x: Tensor, centre: Tensor, norms: Tensor) -> Tensor:
        # A tensor all the way: reading a number back would make a GPU wait in every step.
        step = self.steps.to(x.dtype) + 1
        decay = (1 + self.lambda_gamma * step) ** -self.lambda_power
        easing = (self.lambda_base * decay).clamp(min=self.lambda_min)
        psi = falling_cosine(self.margin * angle_between(x, centre))
        return (easing * cosine_between(x, centre) + psi) / (1 + easing)


class AdaFace(Head):
    """cos(θ - m·z) - (m + m·z), z from the norm of the embedding (Kim et al., CVPR 2022).

    z = h·(‖x‖ - mean) / (deviation + 0.001), cut to [-1, 1]: low norms (poor pictures) get
    ArcFace's margin, middling ones CosFace's, high ones a margin that presses on the hardest. The
    angle is cut to [0, π] as by the authors. No gradient goes through z. Norms are taken as they
    are, where the authors' code cuts them to [0.001, 100]: other networks have larger ones.

    Mean and deviation of the norms are running ones over the training steps before, with share
    `t_alpha` for the newest; the authors' take in the very batch that they judge, which passes of a
    step would have to know of each other. The first step has nothing to compare with and takes
    z = 0; then it counts in full, where the authors start from 20 and 100, because norms differ
    between networks. They are buffers, so that a checkpoint holds them.
    """

    steps: Tensor
    norm_mean: Tensor
    norm_deviation: Tensor

    def __init__(self, *, margin: float, h: float, t_alpha: float, **shared: Any):
        super().__init__(**shared)
        self.margin = margin
        self.h = h
        self.t_alpha = t_alpha
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.register_buffer("norm_mean", torch.zeros(()))
        self.register_buffer("norm_deviation", torch.full((), math.inf))  # z is 0 at first

    @torch.no_grad()
    def observe(self, embeddings: Tensor) -> None:
        if not self.training:
            return
        norms = lengths(self.exact(embeddings))
        mean = norms.mean()
        deviation = norms.std(correction=min(1, len(norms) - 1))  # zero, not NaN, for one crop
        for kept, new in ((self.norm_mean, mean), (self.norm_deviation, deviation)):
            kept.copy_(torch.where(self.steps == 0, new, kept + self.t_alpha * (new - kept)))
        self.steps += 1

    def penalize(self, x: Tensor, centre: Tensor, norms: Tensor) -> Tensor:
        with torch.no_grad():
            z = self.h * (norms - self.norm_mean) / (self.norm_deviation + SPREAD)
            z = z.clamp(-1, 1)
        angle = (angle_between(x, centre) - self.margin * z).clamp(0, math.pi)
        return torch.cos(angle) - (self.margin + self.margin * z)


class MagFace(Head):
    """cos(θ + m(a)), a = ‖x‖, and λ_g·g(a) beside the loss (Meng et al., CVPR 2021).

    a is cut to [`l_a`, `u_a`]; m grows linearly there from `l_m` to `u_m` radians, which pushes
    hard crops to short norms, and g(a) = 1/a + a/u_a² falls, which pulls all to long ones: the
    norm comes to say how good the picture is. Gradients go through a, but not where it is cut.
    Past θ = π - m the logit falls on as ArcFace's; the authors' code (`easy_margin`, on there)
    has no margin where cos θ ≤ 0.

    Raises:
        TrainingError: bounds that leave m no room, or let it fall.
    """

    def __init__(
        self,
        *,
        l_a: float,
        u_a: float,
        l_m: float,
        u_m: float,
        lambda_g: float,
        **shared: Any,
    ):
        if reason := refuse_norms(u_a, l_a):
            raise TrainingError(f"head magface: u_a is {u_a}: {reason}")
        if reason := refuse_margins(u_m, l_m):
            raise TrainingError(f"head magface: u_m is {u_m}: {reason}")
        super().__init__(**shared)
        self.l_a, self.u_a = l_a, u_a
        self.l_m, self.u_m = l_m, u_m
        self.lambda_g = lambda_g

    def penalize(self, x: Tensor, centre: Tensor, norms: Tensor) -> Tensor:
        share = (norms.clamp(self.l_a, self.u_a) - self.l_a) / (self.u_a - self.l_a)
        margin = self.l_m + (self.u_m - self.l_m) * share
        return shifted_cosine(angle_between(x, centre), margin)

    def regularizer(self, embeddings: Tensor) -> Tensor:
        with torch.autocast(embeddings.device.type, enabled=False):
            a = lengths(self.exact(embeddings)).clamp(self.l_a, self.u_a)
            return self.lambda_g * (1 / a + a / self.u_a**2).mean()
