"""Directions and angles that stay exact at the ends of the cosine's range, and their gradients.

θ from the cosine loses half its digits at ±1, where its slope is infinite besides. Between unit
vectors |x - c| = 2·sin(θ/2) and |x + c| = 2·cos(θ/2): norms of differences are exact at both ends
and have slopes of at most one, so every angle here is made from them.
"""

import math

import torch
from torch import Tensor

SHORTEST = 1e-12  # a vector no longer than this has no direction that could be trusted


def lengths(vectors: Tensor) -> Tensor:
    """The Euclidean norm of each row of `(N, E)`: `(N,)`."""
    norms: Tensor = torch.linalg.vector_norm(vectors, dim=1)
    return norms


def unit(vectors: Tensor) -> Tensor:
    """Rows `(N, E)` at length one; a row of zeros stays zero and gets no gradient.

    Dividing such a row by a tiny number would give it a gradient of 10¹² instead, which leaves
    nothing of a whole batch once gradients are clipped.
    """
    norms = lengths(vectors).unsqueeze(1)
    return vectors / torch.where(norms > SHORTEST, norms, math.inf)


def cosine_between(x: Tensor, y: Tensor) -> Tensor:
    """cos θ of each row of `x` with the same row of `y`, unit vectors `(N, E)`: `(N,)`."""
    return (x * y).sum(dim=1)


def angle_between(x: Tensor, y: Tensor) -> Tensor:
    """θ in [0, π] between rows of unit vectors `x` and `y`, both `(N, E)`: `(N,)` radians.

    A row of zeros stands at a right angle to everything. The gradient is zero at θ = 0 and π,
    where no direction leads away more than another.
    """
    return 2 * torch.atan2(lengths(x - y), lengths(x + y))


def falling_cosine(angle: Tensor) -> Tensor:
    """cos on [0, π], and mirrored and shifted beyond so that it falls on: (-1)ᵏ·cos t - 2k.

    k counts the whole π in `angle`, which is at least zero. It is ψ of SphereFace (Liu et al.,
    CVPR 2017) at t = mθ; smooth at each kπ.
    """
    k = torch.floor(angle.detach() / math.pi)
    return (1 - 2 * (k % 2)) * torch.cos(angle) - 2 * k


def shifted_cosine(angle: Tensor, margin: float | Tensor) -> Tensor:
    """cos(θ + m), and past θ = π - m, where that would rise again, cos θ - m·sin m.

    The second part is that of ArcFace's authors, a step down; `margin` in [0, 2] radians, one for
    all or `(N,)`.
    """
    sine = torch.sin(margin) if isinstance(margin, Tensor) else math.sin(margin)
    beyond = torch.cos(angle) - margin * sine
    return torch.where(angle < math.pi - margin, torch.cos(angle + margin), beyond)
