"""The small residual network: quick to train and to run on a CPU, and easy to quantize.

Dense 3×3 convolutions only, because matrix units run them in bfloat16 and int8 at full rate where
depthwise ones starve. Every convolution is followed by its BatchNorm, which folds into it, and by
ReLU, which folds into the quantizer; a PReLU or a leading BatchNorm would stay in floating point.
"""

from collections.abc import Sequence

from torch import Tensor, nn


class ResNet(nn.Module):
    """A stem to 56×56, then basic blocks (He et al., CVPR 2016) at 28, 14 and 7 pixels.

    `widths` and `blocks` are the channels and the number of blocks at each of the three sizes.
    Blocks at 56×56 would take a third of the time. The last 7×7 map is narrowed to a quarter and
    flattened, not averaged: in an aligned crop a place has a meaning, and weights of its own.
    """

    def __init__(
        self, widths: Sequence[int], blocks: Sequence[int], embedding_size: int, dropout: float
    ):
        super().__init__()
        before = widths[0] // 2
        self.stem = nn.Sequential(*_convolution(3, before, stride=2), nn.ReLU())
        stages: list[nn.Module] = []
        for width, count in zip(widths, blocks, strict=True):
            for block in range(count):
                stages.append(Block(before, width, stride=2 if block == 0 else 1))
                before = width
        self.blocks = nn.Sequential(*stages)
        narrow = before // 4
        self.narrow = nn.Sequential(*_convolution(before, narrow, size=1))
        self.dropout = nn.Dropout(dropout)
        self.embedding = nn.Linear(narrow * 7 * 7, embedding_size, bias=False)
        self.normalize = nn.BatchNorm1d(embedding_size)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        features = self.narrow(self.blocks(self.stem(images)))
        embeddings: Tensor = self.normalize(self.embedding(self.dropout(features.flatten(1))))
        return embeddings


class Block(nn.Module):
    """Two 3×3 convolutions and a shortcut, which is a 1×1 convolution where the shape changes."""

    def __init__(self, before: int, width: int, stride: int):
        super().__init__()
        self.body = nn.Sequential(
            *_convolution(before, width, stride=stride), nn.ReLU(), *_convolution(width, width)
        )
        same = stride == 1 and before == width
        self.shortcut = (
            nn.Identity()
            if same
            else nn.Sequential(*_convolution(before, width, size=1, stride=stride))
        )
        self.activation = nn.ReLU()

    def forward(self, features: Tensor) -> Tensor:
        out: Tensor = self.activation(self.body(features) + self.shortcut(features))
        return out


def _convolution(
    before: int, width: int, *, size: int = 3, stride: int = 1
) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    convolution = nn.Conv2d(before, width, size, stride=stride, padding=size // 2, bias=False)
    return convolution, nn.BatchNorm2d(width)
