"""GhostFaceNet V1 (Alansari et al., IEEE Access 2023): half of each map is made from the other.

GhostNet (Han et al., CVPR 2020) computes half of a map's channels with a dense convolution and
derives the rest with a cheap depthwise one. The authors of GhostFaceNet widen it 1.3 times, use
PReLU and end with MobileFaceNet's global depthwise convolution. The stem's stride is part of the
name that they give: 1 keeps 112×112 (V1-1.3-1), 2 halves it at a quarter of the cost (V1-1.3-2).

Two details are PyTorch's habits, not Keras's, in which theirs is written: strided convolutions are
padded alike on both sides, and the gate is ReLU6(x + 3) / 6, as in GhostNet.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from facewright.models.layers import initialize, layer

WIDTH = 1.3


class Row(NamedTuple):
    """A bottleneck, before widening."""

    size: int  # of the depthwise convolutions outside the ghost modules
    inside: int
    out: int
    squeezed: bool
    stride: int


ROWS = (
    Row(3, 16, 16, False, 1),
    Row(3, 48, 24, False, 2),
    Row(3, 72, 24, False, 1),
    Row(5, 72, 40, True, 2),
    Row(5, 120, 40, True, 1),
    Row(3, 240, 80, False, 2),
    Row(3, 200, 80, False, 1),
    Row(3, 184, 80, False, 1),
    Row(3, 184, 80, False, 1),
    Row(3, 480, 112, True, 1),
    Row(3, 672, 112, True, 1),
    Row(5, 672, 160, True, 2),
    Row(5, 960, 160, False, 1),
    Row(5, 960, 160, True, 1),
    Row(5, 960, 160, False, 1),
    Row(5, 512, 160, True, 1),
)


class GhostFaceNet(nn.Module):
    """`(N, 3, 112, 112)` → `(N, embedding_size)`; `stride` is the stem's, 1 or 2."""

    def __init__(self, stride: int, embedding_size: int, dropout: float):
        super().__init__()
        before = _widened(16)
        self.stem = layer(3, before, stride=stride)
        bottlenecks: list[nn.Module] = []
        for row in ROWS:
            bottlenecks.append(Bottleneck(before, row))
            before = _widened(row.out)
        self.bottlenecks = nn.Sequential(*bottlenecks)
        wide = _widened(512)
        self.widen = layer(before, wide, size=1)
        side = 7 if stride == 1 else 4
        self.pool = nn.Sequential(
            nn.Conv2d(wide, wide, side, groups=wide, bias=False), nn.BatchNorm2d(wide)
        )
        self.dropout = nn.Dropout(dropout)
        self.embedding = nn.Linear(wide, embedding_size, bias=False)
        self.normalize = nn.BatchNorm1d(embedding_size)
        initialize(self)

    def forward(self, images: Tensor) -> Tensor:
        features = self.pool(self.widen(self.bottlenecks(self.stem(images))))
        embeddings: Tensor = self.normalize(self.embedding(self.dropout(features.flatten(1))))
        return embeddings


class Bottleneck(nn.Module):
    """Ghost module, depthwise stride, gate, ghost module without activation, plus the shortcut."""

    def __init__(self, before: int, row: Row):
        super().__init__()
        inside, out = _widened(row.inside), _widened(row.out)
        self.body = nn.Sequential(Ghost(before, inside))
        if row.stride > 1:
            self.body.append(_depthwise(inside, row.size, row.stride))
        if row.squeezed:
            self.body.append(Gate(inside))
        self.body.append(Ghost(inside, out, linear=True))
        same = row.stride == 1 and before == out
        self.shortcut = (
            nn.Identity()
            if same
            else nn.Sequential(
                *_depthwise(before, row.size, row.stride), *layer(before, out, size=1, linear=True)
            )
        )

    def forward(self, features: Tensor) -> Tensor:
        out: Tensor = self.body(features) + self.shortcut(features)
        return out


class Ghost(nn.Module):
    """`width` channels: half by a pointwise convolution, half from those by a depthwise one."""

    def __init__(self, before: int, width: int, *, linear: bool = False):
        super().__init__()
        half = width // 2
        self.primary = layer(before, half, size=1, linear=linear)
        self.cheap = layer(half, half, groups=half, linear=linear)

    def forward(self, features: Tensor) -> Tensor:
        primary = self.primary(features)
        return torch.cat((primary, self.cheap(primary)), dim=1)


class Gate(nn.Module):
    """Squeeze and excitation (Hu et al., CVPR 2018): channels weighted by their means."""

    def __init__(self, width: int):
        super().__init__()
        inside = _rounded(width / 4)
        self.weigh = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(width, inside, 1),
            nn.PReLU(inside),
            nn.Conv2d(inside, width, 1),
            nn.Hardsigmoid(),
        )

    def forward(self, features: Tensor) -> Tensor:
        out: Tensor = features * self.weigh(features)
        return out


def _widened(channels: int) -> int:
    return _rounded(channels * WIDTH)


def _rounded(channels: float) -> int:
    """The nearest multiple of 4, but never a tenth less (MobileNet's rule)."""
    nearest = max(4, int(channels + 2) // 4 * 4)
    return nearest if nearest >= 0.9 * channels else nearest + 4


def _depthwise(width: int, size: int, stride: int) -> nn.Sequential:
    return layer(width, width, size=size, stride=stride, groups=width, linear=True)
