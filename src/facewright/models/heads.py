"""Margin heads: the classification losses that shape embeddings on a hypersphere.

All compare the angle θ between an embedding and a learned centre per identity: logits are
s·cos θ, and the margin makes the logit of the true identity smaller while training.
"""

import math

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from facewright.errors import TrainingError

HEADS = ("arcface", "cosface", "softmax")


def build_head(
    name: str,
    *,
    embedding_size: int,
    identities: int,
    scale: float,
    margin: float,
    label_smoothing: float,
) -> "Head":
    """A head of the given kind; `margin` is radians for arcface, cosine for cosface.

    Raises:
        TrainingError: no head has that name.
    """
    match name:
        case "arcface":
            kind: type[Head] = ArcFace
        case "cosface":
            kind = CosFace
        case "softmax":
            kind = Head
        case _:
            raise TrainingError(f"unknown head {name!r}: choose one of {', '.join(HEADS)}")
    return kind(embedding_size, identities, scale, margin, label_smoothing)


class Head(nn.Module):
    """Normalized softmax (NormFace, Wang et al., ACM MM 2017): s·cos θ, no margin."""

    def __init__(
        self,
        embedding_size: int,
        identities: int,
        scale: float,
        margin: float,
        label_smoothing: float,
    ):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(identities, embedding_size))
        nn.init.normal_(self.weight, std=0.01)
        self.scale = scale
        self.margin = margin
        self.label_smoothing = label_smoothing

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Mean loss of `embeddings (N, E)`, any norm, with `labels (N,) int64`.

        Computed in float32 (or float64) even under autocast: s·cos θ in bfloat16 would be off by
        up to 0.1.
        """
        loss: Tensor = F.cross_entropy(
            self.logits(embeddings, labels), labels, label_smoothing=self.label_smoothing
        )
        return loss

    def logits(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """`(N, identities)`: s·cos θ, and for each row's own identity the logit with margin."""
        with torch.autocast(embeddings.device.type, enabled=False):
            x = F.normalize(embeddings.to(self.weight.dtype))
            centres = F.normalize(self.weight)
            cosine = x @ centres.T
            column = labels.unsqueeze(1)
            target = self.penalize(cosine.gather(1, column).squeeze(1), x, centres[labels])
            return self.scale * cosine.scatter(1, column, target.unsqueeze(1))

    def penalize(self, cosine: Tensor, x: Tensor, centre: Tensor) -> Tensor:
        """The target's cosine `(N,)` with the margin; `x`, `centre` `(N, E)` are its unit vectors.

        This is the only place in which the heads differ.
        """
        return cosine


class CosFace(Head):
    """cos θ - m (Wang et al., CVPR 2018)."""

    def penalize(self, cosine: Tensor, x: Tensor, centre: Tensor) -> Tensor:
        return cosine - self.margin


class ArcFace(Head):
    """cos(θ + m) (Deng et al., CVPR 2019); past π - m, where that would rise again,
    cos θ - m·sin m, as in the authors' code.
    """

    def penalize(self, cosine: Tensor, x: Tensor, centre: Tensor) -> Tensor:
        # sin θ = √((1 - cos θ)(1 + cos θ)) loses half its digits at ±1 and has an infinite slope
        # there. Between unit vectors |x - c| = √(2 - 2·cos θ) and |x + c| = √(2 + 2·cos θ), and
        # norms of differences are exact at both ends, with slopes of at most 1.
        vector_norm = torch.linalg.vector_norm
        sine = vector_norm(x - centre, dim=1) * vector_norm(x + centre, dim=1) / 2
        shifted = cosine * math.cos(self.margin) - sine * math.sin(self.margin)
        beyond = cosine - self.margin * math.sin(self.margin)
        return torch.where(cosine > math.cos(math.pi - self.margin), shifted, beyond)
