"""MobileFaceNet (Chen et al., CCBR 2018, table 1): a million parameters, depthwise convolutions.

Cheap on phones; slower than the small dense network on a CPU with matrix units. InsightFace trains
a variant whose maps between the bottlenecks are twice as wide (`arcface_torch`: `mbf`, 0.45 G
multiply-adds); `models.insightface` renames the weights of either.
"""

from torch import Tensor, nn

from facewright.models.layers import initialize, layer

# Channels inside (the paper's t × channels before), channels c, repeats n, first stride s: the
# bottleneck rows of the paper's table.
BOTTLENECKS = (
    (128, 64, 5, 2),
    (256, 128, 1, 2),
    (256, 128, 6, 1),
    (512, 128, 1, 2),
    (256, 128, 2, 1),
)


class MobileFaceNet(nn.Module):
    """`(N, 3, 112, 112)` → `(N, embedding_size)`; the paper's embedding has 128 values.

    `scale` widens the maps, not the insides of the bottlenecks: 1 is the paper's network, 2
    InsightFace's. There the second convolution has two channels in each of its 64 groups.
    """

    def __init__(self, embedding_size: int, dropout: float, *, scale: int = 1):
        super().__init__()
        before = 64 * scale
        self.stem = nn.Sequential(layer(3, before, stride=2), layer(before, before, groups=64))
        bottlenecks: list[nn.Module] = []
        for inside, width, repeats, first in BOTTLENECKS:
            for repeat in range(repeats):
                stride = first if repeat == 0 else 1
                bottlenecks.append(Bottleneck(before, inside, width * scale, stride))
                before = width * scale
        self.bottlenecks = nn.Sequential(*bottlenecks)
        self.widen = layer(before, 512, size=1)
        # The paper's global depthwise convolution: each place of the 7×7 map has a weight.
        self.pool = layer(512, 512, size=7, padding=0, groups=512, linear=True)
        self.dropout = nn.Dropout(dropout)
        self.embedding = nn.Linear(512, embedding_size, bias=False)
        self.normalize = nn.BatchNorm1d(embedding_size)
        initialize(self)

    def forward(self, images: Tensor) -> Tensor:
        features = self.pool(self.widen(self.bottlenecks(self.stem(images))))
        embeddings: Tensor = self.normalize(self.embedding(self.dropout(features.flatten(1))))
        return embeddings


class Bottleneck(nn.Module):
    """Inverted residual of MobileNetV2: widen, depthwise, narrow without activation."""

    def __init__(self, before: int, inside: int, width: int, stride: int):
        super().__init__()
        self.body = nn.Sequential(
            layer(before, inside, size=1),
            layer(inside, inside, stride=stride, groups=inside),
            layer(inside, width, size=1, linear=True),
        )
        self.residual = stride == 1 and before == width

    def forward(self, features: Tensor) -> Tensor:
        out: Tensor = self.body(features)
        return features + out if self.residual else out
