"""Classification heads whose margin is the same for every crop, and the base of all of them.

All but softmax compare the angle θ between an embedding and a learned centre of each identity:
logits are s·cos θ, and the margin makes the logit of the true identity smaller while training.
"""

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from facewright.models.sphere import (
    angle_between,
    cosine_between,
    falling_cosine,
    lengths,
    shifted_cosine,
    unit,
)


class Head(nn.Module):
    """A learned row of `weight` for each sub-centre of each identity, and the loss over them.

    `weight` is `(identities · sub_centres, E)` float32, the rows of one identity next to each
    other; `sub_centres` is 1 but for `SubCentreArcFace`, and softmax has one column more.

    `forward` is a whole training step of one process that holds all identities. A classifier whose
    identities lie on several processes, that compares with a sample of them, or whose step has
    several passes, calls the parts itself, in this order:

    1. `logits(everything, labels, rows)` of a pass, gathered from all processes: `labels` count
       among the identities of `rows`, -1 where the crop's identity is not there;
    2. the cross-entropy over the logits of all processes, smoothed by `label_smoothing`;
    3. `regularizer(embeddings)`, added to the loss: a mean over crops, each of which belongs to
       one process;
    4. once, after the last pass, `observe(everything)`: the embeddings of the whole step, the same
       on each process, so that what a head counts stays the same on each.

    What `observe` keeps tells of the steps before, never of the one that is computed: it is the
    same in every pass of a step, however many there are.
    """

    def __init__(
        self,
        *,
        embedding_size: int,
        identities: int,
        label_smoothing: float,
        scale: float = 1.0,
        sub_centres: int = 1,
    ):
        super().__init__()
        self.label_smoothing = label_smoothing
        self.scale = scale
        self.sub_centres = sub_centres
        self._size = embedding_size
        self.weight = nn.Parameter(self.new_centres(identities))

    def new_centres(self, identities: int, generator: torch.Generator | None = None) -> Tensor:
        """Rows of `weight` for so many identities, as they are before training."""
        centres = torch.empty(identities * self.sub_centres, self._size)
        return centres.normal_(std=0.01, generator=generator)

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Mean loss of `embeddings (N, E)`, any norm, with `labels (N,) int64`, none of them -1.

        Computed in float32 (or float64) even under autocast: s·cos θ in bfloat16 would be off by
        up to 0.1.
        """
        loss = self.loss(embeddings, labels)
        self.observe(embeddings)
        return loss

    def loss(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """As `forward`, of a pass: nothing is counted."""
        logits = self.logits(embeddings, labels)
        loss = F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)
        return loss + self.regularizer(embeddings)

    def observe(self, embeddings: Tensor) -> None:
        """Count a training step that is over, whose whole batch was `embeddings (N, E)`.

        Nothing happens in evaluation mode, nor in heads that keep no count.
        """

    def regularizer(self, embeddings: Tensor) -> Tensor:
        """What the head adds to the cross-entropy, a mean over the crops; zero in most heads."""
        return torch.zeros((), device=embeddings.device)

    def logits(self, embeddings: Tensor, labels: Tensor, weight: Tensor | None = None) -> Tensor:
        """`(N, identities)`: s·cos θ, and for each row's own identity the logit with margin.

        `weight` holds the rows of some identities, at least one, in place of all; `labels (N,)
        int64` count among these. A label of -1 says that the identity is not there: that row has
        no margin.
        """
        with torch.autocast(embeddings.device.type, enabled=False):
            embeddings, weight = self.exact(embeddings), self.exact(weight)
            norms = lengths(embeddings)
            x, centres = unit(embeddings), unit(weight)
            radius = self.radius(norms)
            logits = (radius * x) @ centres.T

            own = labels.clamp(min=0)
            rows = self.sub_centres * own
            if self.sub_centres > 1:
                logits = logits.view(len(own), -1, self.sub_centres)
                crops = torch.arange(len(own), device=own.device)
                rows = rows + logits.detach()[crops, own].argmax(dim=1)
                logits = logits.max(dim=2).values
            centre = centres[rows]
            value = torch.where(
                labels >= 0, self.penalize(x, centre, norms), cosine_between(x, centre)
            )
            # In place, because logits of a million identities are the largest thing in memory.
            return logits.scatter_(1, own.unsqueeze(1), radius * value.unsqueeze(1))

    def radius(self, norms: Tensor) -> float | Tensor:
        """What cosines are multiplied by, one for all or `(N, 1)`; `norms (N,)` of embeddings."""
        return self.scale

    def penalize(self, x: Tensor, centre: Tensor, norms: Tensor) -> Tensor:
        """What stands in place of cos θ for the true identity, `(N,)`: without a margin, itself.

        `x` and `centre` `(N, E)` are the unit vectors of the crop and of its identity (the nearest
        of its sub-centres), `norms (N,)` the lengths of the embeddings.
        """
        return cosine_between(x, centre)

    def exact(self, tensor: Tensor | None) -> Tensor:
        """`tensor`, or `weight` in its place, in float32 or, where `weight` is that, float64."""
        tensor = self.weight if tensor is None else tensor
        return tensor.to(torch.promote_types(self.weight.dtype, torch.float32))


class Softmax(Head):
    """W·x + b, embeddings as they come, as a classifier of anything would have it.

    The bias is the last column of `weight`, `(identities, E + 1)`, so that it comes with the row
    of its identity wherever rows are sampled or spread over processes.
    """

    def __init__(self, *, embedding_size: int, identities: int, label_smoothing: float):
        super().__init__(
            embedding_size=embedding_size + 1,
            identities=identities,
            label_smoothing=label_smoothing,
        )

    def new_centres(self, identities: int, generator: torch.Generator | None = None) -> Tensor:
        centres = super().new_centres(identities, generator)
        centres[:, -1] = 0
        return centres

    def logits(self, embeddings: Tensor, labels: Tensor, weight: Tensor | None = None) -> Tensor:
        with torch.autocast(embeddings.device.type, enabled=False):
            rows = self.exact(weight)
            return F.linear(self.exact(embeddings), rows[:, :-1], rows[:, -1])


class NormFace(Head):
    """s·cos θ, no margin (Wang et al., ACM MM 2017)."""


class CosFace(Head):
    """cos θ - m (Wang et al., CVPR 2018)."""

    def __init__(self, *, margin: float, **shared: Any):
        super().__init__(**shared)
        self.margin = margin

    def penalize(self, x: Tensor, centre: Tensor, norms: Tensor) -> Tensor:
        return cosine_between(x, centre) - self.margin


class ArcFace(Head):
    """cos(θ + m) (Deng et al., CVPR 2019), m in radians; past π - m as in the authors' code."""

    def __init__(self, *, margin: float, **shared: Any):
        super().__init__(**shared)
        self.margin = margin

    def penalize(self, x: Tensor, centre: Tensor, norms: Tensor) -> Tensor:
        return shifted_cosine(angle_between(x, centre), self.margin)


class SubCentreArcFace(ArcFace):
    """ArcFace to the nearest of several sub-centres of each identity (Deng et al., ECCV 2020).

    Wrongly labelled crops gather at a sub-centre of their own in place of pulling at the one that
    matters; `training.label_noise` finds them afterwards.
    """


class Combined(Head):
    """cos(m1·θ + m2) - m3, the three margins of ArcFace's paper (Deng et al., CVPR 2019) at once.

    The paper leaves open what follows where m1·θ + m2 passes π: here it falls on smoothly, as
    SphereFace's ψ does. So (m, 0, 0) is SphereFace's margin, (1, 0, m) CosFace, and (1, m, 0)
    ArcFace as far as θ = π - m.
    """

    def __init__(self, *, m1: float, m2: float, m3: float, **shared: Any):
        super().__init__(**shared)
        self.m1, self.m2, self.m3 = m1, m2, m3

    def penalize(self, x: Tensor, centre: Tensor, norms: Tensor) -> Tensor:
        return falling_cosine(self.m1 * angle_between(x, centre) + self.m2) - self.m3
