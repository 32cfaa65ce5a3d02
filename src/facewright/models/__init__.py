"""Embedding networks, margin heads, and recognizers on disk.

A network knows nothing of its training: crops in, embeddings out. A head belongs to training
alone and is thrown away after it.
"""

from typing import TYPE_CHECKING

from facewright.errors import TrainingError

if TYPE_CHECKING:  # a recognizer's card can be read without loading PyTorch
    from torch import nn

NETWORKS = (
    "resnet_small",
    "resnet_tiny",
    "mobilefacenet",
    "mobilefacenet_wide",
    "iresnet18",
    "iresnet34",
    "iresnet50",
    "iresnet100",
    "inception_resnet_v1",
    "vit_t",
    "vit_s",
    "vit_b",
    "ghostfacenet",
    "ghostfacenet_s2",
    "edgeface_xs",
    "edgeface_s",
)


def build_network(name: str, *, embedding_size: int, dropout: float = 0.0) -> "nn.Module":
    """An untrained network, `(N, 3, 112, 112) float32 in [-1, 1], RGB` → `(N, embedding_size)`.

    Embeddings are not normalized. `dropout` acts on the features from which the embedding is
    made, in all networks alike. Weights come from PyTorch's global generator: seed it first.
    `docs/guides/networks.md` compares the networks.

    Raises:
        TrainingError: no network has that name.
    """
    from facewright.models import edgeface, iresnet, vit
    from facewright.models.ghostfacenet import GhostFaceNet
    from facewright.models.inception_resnet import InceptionResNetV1
    from facewright.models.mobilefacenet import MobileFaceNet
    from facewright.models.resnet import ResNet

    match name:
        case "resnet_small":
            return ResNet((64, 128, 256), (2, 2, 1), embedding_size, dropout)
        case "resnet_tiny":
            return ResNet((32, 64, 128), (1, 2, 1), embedding_size, dropout)
        case "mobilefacenet":
            return MobileFaceNet(embedding_size, dropout)
        case "mobilefacenet_wide":
            return MobileFaceNet(embedding_size, dropout, scale=2)
        case "iresnet18" | "iresnet34" | "iresnet50" | "iresnet100":
            return iresnet.IResNet(iresnet.BLOCKS[name], embedding_size, dropout)
        case "inception_resnet_v1":
            return InceptionResNetV1(embedding_size, dropout)
        case "vit_t" | "vit_s" | "vit_b":
            return vit.VisionTransformer(*vit.SIZES[name], embedding_size, dropout)
        case "ghostfacenet":
            return GhostFaceNet(1, embedding_size, dropout)
        case "ghostfacenet_s2":
            return GhostFaceNet(2, embedding_size, dropout)
        case "edgeface_xs" | "edgeface_s":
            return edgeface.EdgeFace(edgeface.SIZES[name], embedding_size, dropout)
    raise TrainingError(f"unknown network {name!r}: choose one of {', '.join(NETWORKS)}")
