"""Embedding networks, margin heads, and recognizers on disk.

A network knows nothing of its training: crops in, embeddings out. A head belongs to training
alone and is thrown away after it.
"""

from typing import TYPE_CHECKING

from facewright.errors import TrainingError

if TYPE_CHECKING:  # a recognizer's card can be read without loading PyTorch
    from torch import nn

NETWORKS = ("resnet_small", "resnet_tiny", "mobilefacenet", "iresnet18", "iresnet50")


def build_network(name: str, *, embedding_size: int, dropout: float = 0.0) -> "nn.Module":
    """An untrained network, `(N, 3, 112, 112) float32 in [-1, 1], RGB` → `(N, embedding_size)`.

    Embeddings are not normalized. Weights come from PyTorch's global generator: seed it first.

    Raises:
        TrainingError: no network has that name.
    """
    from facewright.models.iresnet import IResNet
    from facewright.models.mobilefacenet import MobileFaceNet
    from facewright.models.resnet import ResNet

    match name:
        case "resnet_small":
            return ResNet((64, 128, 256), (2, 2, 1), embedding_size, dropout)
        case "resnet_tiny":
            return ResNet((32, 64, 128), (1, 2, 1), embedding_size, dropout)
        case "mobilefacenet":
            return MobileFaceNet(embedding_size, dropout)
        case "iresnet18":
            return IResNet((2, 2, 2, 2), embedding_size, dropout)
        case "iresnet50":
            return IResNet((3, 4, 14, 3), embedding_size, dropout)
    raise TrainingError(f"unknown network {name!r}: choose one of {', '.join(NETWORKS)}")
