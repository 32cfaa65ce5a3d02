"""The triplet loss, which learns from distances within a batch and needs no classifier."""

import math

import torch
from torch import Tensor, nn

from facewright.models.sphere import unit


class TripletHead(nn.Module):
    """[d(a, p) - d(a, n) + margin]₊ over semi-hard triplets (FaceNet: Schroff et al., CVPR 2015).

    d is the squared Euclidean distance of unit vectors, in [0, 4]. Every ordered pair (a, p) of
    crops of one identity in the batch takes part with one negative: the nearest crop n of another
    identity that is farther than p, but by less than the margin. Pairs without such a crop have
    no triplet. Whoever spreads a batch over processes brings it together again before this.
    """

    def __init__(self, *, margin: float):
        super().__init__()
        self.margin = margin

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Mean over the triplets of `embeddings (N, E)`, any norm, with `labels (N,) int64`.

        A batch without triplets has loss zero and zero gradients, not none, so that processes
        that average gradients do not wait for this one. Computed in float32 (or float64) even
        under autocast.
        """
        with torch.autocast(embeddings.device.type, enabled=False):
            x = unit(embeddings.to(torch.promote_types(embeddings.dtype, torch.float32)))
            distance = 2 - 2 * x @ x.T
            same = labels.unsqueeze(1) == labels
            # Sorted by distance, the first negative beyond d(a, p) is found by bisection: memory
            # grows with N², not N³. Each row ends with an infinity, since a is no negative of a.
            negatives = distance.masked_fill(same, math.inf).sort(dim=1).values
            first = torch.searchsorted(negatives.detach(), distance.detach(), right=True)
            first = first.clamp(max=len(x) - 1)  # behind all of them lies what is no number
            excess = distance - negatives.gather(1, first) + self.margin
            pairs = same & ~torch.eye(len(x), dtype=torch.bool, device=x.device)
            mined = pairs & ~(excess <= 0)  # with those that are no numbers: the loss tells of them
            return torch.where(mined, excess, 0).sum() / mined.sum().clamp(min=1)
