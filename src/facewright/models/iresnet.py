"""IResNet, the residual network of ArcFace (Deng et al., CVPR 2019) as InsightFace publishes it.

Parameters have the names of `arcface_torch`, so that its state dicts load unchanged.
"""

from collections.abc import Sequence

from torch import Tensor, nn

BLOCKS = {
    "iresnet18": (2, 2, 2, 2),
    "iresnet34": (3, 4, 6, 3),
    "iresnet50": (3, 4, 14, 3),
    "iresnet100": (3, 13, 30, 3),
}


class IResNet(nn.Module):
    """Improved residual blocks (Duta et al., ICPR 2020): BatchNorm leads, PReLU, no last ReLU.

    `blocks` are the numbers of blocks at 56, 28, 14 and 7 pixels, as in `BLOCKS`.
    `(N, 3, 112, 112)` → `(N, embedding_size)`.
    """

    def __init__(self, blocks: Sequence[int], embedding_size: int, dropout: float):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.prelu = nn.PReLU(64)
        self.layer1 = _layer(64, 64, blocks[0])
        self.layer2 = _layer(64, 128, blocks[1])
        self.layer3 = _layer(128, 256, blocks[2])
        self.layer4 = _layer(256, 512, blocks[3])
        self.bn2 = nn.BatchNorm2d(512)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(512 * 7 * 7, embedding_size)
        self.features = nn.BatchNorm1d(embedding_size)
        # The loss normalizes embeddings; a gain per value would only compete with it.
        self.features.weight.requires_grad = False
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, 0, 0.1)

    def forward(self, images: Tensor) -> Tensor:
        features = self.prelu(self.bn1(self.conv1(images)))
        features = self.layer4(self.layer3(self.layer2(self.layer1(features))))
        flat = self.dropout(self.bn2(features)).flatten(1)
        embeddings: Tensor = self.features(self.fc(flat))
        return embeddings


class IBasicBlock(nn.Module):
    """BN, conv, BN, PReLU, conv (strided), BN, plus the shortcut."""

    def __init__(self, before: int, width: int, stride: int):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(before)
        self.conv1 = nn.Conv2d(before, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.prelu = nn.PReLU(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(width)
        self.downsample: nn.Module | None = None
        if stride != 1:
            self.downsample = nn.Sequential(
                nn.Conv2d(before, width, 1, stride=stride, bias=False), nn.BatchNorm2d(width)
            )

    def forward(self, features: Tensor) -> Tensor:
        out = self.prelu(self.bn2(self.conv1(self.bn1(features))))
        out = self.bn3(self.conv2(out))
        shortcut = features if self.downsample is None else self.downsample(features)
        total: Tensor = out + shortcut
        return total


def _layer(before: int, width: int, count: int) -> nn.Sequential:
    first = IBasicBlock(before, width, stride=2)
    return nn.Sequential(first, *(IBasicBlock(width, width, stride=1) for _ in range(count - 1)))
