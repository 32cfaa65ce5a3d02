"""Inception-ResNet v1 (Szegedy et al., AAAI 2017), which most call FaceNet.

The network of FaceNet's paper (Schroff et al., CVPR 2015) was an older Inception; this one is what
D. Sandberg's `facenet` trained and `facenet-pytorch` publishes. Parameters have the names of
`facenet-pytorch`, so that `models.insightface.from_facenet_pytorch` only drops its classifier.
"""

from collections import OrderedDict

import torch
from torch import Tensor, nn

EPSILON = 0.001  # of every BatchNorm, as TensorFlow has it


class InceptionResNetV1(nn.Module):
    """`(N, 3, 112, 112)` → `(N, embedding_size)`.

    All is as published for 160×160, strides and paddings too: weights mean the same, and only the
    maps are smaller. Stem 11×11 (17×17 for 160), then 5×5 (8×8), then 2×2 (3×3), whose mean is
    taken; so any size from 75 pixels up is possible. The embedding is not normalized here.
    """

    def __init__(self, embedding_size: int, dropout: float):
        super().__init__()
        self.conv2d_1a = _convolution(3, 32, 3, stride=2)
        self.conv2d_2a = _convolution(32, 32, 3)
        self.conv2d_2b = _convolution(32, 64, 3, padding=1)
        self.maxpool_3a = nn.MaxPool2d(3, stride=2)
        self.conv2d_3b = _convolution(64, 80, 1)
        self.conv2d_4a = _convolution(80, 192, 3)
        self.conv2d_4b = _convolution(192, 256, 3, stride=2)
        self.repeat_1 = nn.Sequential(*(_block35() for _ in range(5)))
        self.mixed_6a = _mixed_6a()
        self.repeat_2 = nn.Sequential(*(_block17() for _ in range(10)))
        self.mixed_7a = _mixed_7a()
        self.repeat_3 = nn.Sequential(*(_block8(scale=0.2) for _ in range(5)))
        # As published: the last block is neither damped nor rectified.
        self.block8 = _block8(scale=1.0, last=True)
        self.avgpool_1a = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(dropout)
        self.last_linear = nn.Linear(1792, embedding_size, bias=False)
        self.last_bn = nn.BatchNorm1d(embedding_size, eps=EPSILON)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, images: Tensor) -> Tensor:
        features = self.conv2d_2b(self.conv2d_2a(self.conv2d_1a(images)))
        features = self.conv2d_3b(self.maxpool_3a(features))
        features = self.repeat_1(self.conv2d_4b(self.conv2d_4a(features)))
        features = self.repeat_2(self.mixed_6a(features))
        features = self.block8(self.repeat_3(self.mixed_7a(features)))
        flat = self.dropout(self.avgpool_1a(features).flatten(1))
        embeddings: Tensor = self.last_bn(self.last_linear(flat))
        return embeddings


class Branches(nn.Module):
    """Several ways over the same map, side by side; their channels are joined."""

    def __init__(self, *branches: nn.Module):
        super().__init__()
        self.names = [f"branch{number}" for number in range(len(branches))]
        for name, branch in zip(self.names, branches, strict=True):
            self.add_module(name, branch)

    def forward(self, features: Tensor) -> Tensor:
        return torch.cat([self.get_submodule(name)(features) for name in self.names], dim=1)


class Residual(Branches):
    """Branches, narrowed back to `width` channels, damped by `scale` and added to the input.

    Without damping deep networks of this kind die early in training (section 3.3 of the paper).
    """

    def __init__(
        self, width: int, inside: int, *branches: nn.Module, scale: float, last: bool = False
    ):
        super().__init__(*branches)
        self.conv2d = nn.Conv2d(inside, width, 1)
        self.scale = scale
        self.activation = nn.Identity() if last else nn.ReLU()

    def forward(self, features: Tensor) -> Tensor:
        out = self.conv2d(super().forward(features))
        total: Tensor = self.activation(out * self.scale + features)
        return total


def _block35() -> Residual:
    return Residual(
        256,
        96,
        _convolution(256, 32, 1),
        nn.Sequential(_convolution(256, 32, 1), _convolution(32, 32, 3, padding=1)),
        nn.Sequential(
            _convolution(256, 32, 1),
            _convolution(32, 32, 3, padding=1),
            _convolution(32, 32, 3, padding=1),
        ),
        scale=0.17,
    )


def _block17() -> Residual:
    return Residual(896, 256, *_crossed(896, 128, 7), scale=0.1)


def _block8(*, scale: float, last: bool = False) -> Residual:
    return Residual(1792, 384, *_crossed(1792, 192, 3), scale=scale, last=last)


def _crossed(before: int, width: int, size: int) -> tuple[nn.Module, nn.Module]:
    """A pointwise branch, and one that sees a row and then a column of `size` places."""
    return (
        _convolution(before, width, 1),
        nn.Sequential(
            _convolution(before, width, 1),
            _convolution(width, width, (1, size), padding=(0, size // 2)),
            _convolution(width, width, (size, 1), padding=(size // 2, 0)),
        ),
    )


def _mixed_6a() -> Branches:
    return Branches(
        _convolution(256, 384, 3, stride=2),
        nn.Sequential(
            _convolution(256, 192, 1),
            _convolution(192, 192, 3, padding=1),
            _convolution(192, 256, 3, stride=2),
        ),
        nn.MaxPool2d(3, stride=2),
    )


def _mixed_7a() -> Branches:
    return Branches(
        nn.Sequential(_convolution(896, 256, 1), _convolution(256, 384, 3, stride=2)),
        nn.Sequential(_convolution(896, 256, 1), _convolution(256, 256, 3, stride=2)),
        nn.Sequential(
            _convolution(896, 256, 1),
            _convolution(256, 256, 3, padding=1),
            _convolution(256, 256, 3, stride=2),
        ),
        nn.MaxPool2d(3, stride=2),
    )


def _convolution(
    before: int,
    width: int,
    size: int | tuple[int, int],
    *,
    stride: int = 1,
    padding: int | tuple[int, int] = 0,
) -> nn.Sequential:
    convolution = nn.Conv2d(before, width, size, stride=stride, padding=padding, bias=False)
    norm = nn.BatchNorm2d(width, eps=EPSILON)
    return nn.Sequential(OrderedDict(conv=convolution, bn=norm, relu=nn.ReLU()))
