"""What MobileFaceNet and GhostFaceNet are made of."""

from torch import nn


def layer(
    before: int,
    width: int,
    *,
    size: int = 3,
    stride: int = 1,
    padding: int | None = None,
    groups: int = 1,
    linear: bool = False,
) -> nn.Sequential:
    """Convolution without bias, BatchNorm and, unless `linear`, PReLU; padded to keep the side."""
    made = nn.Sequential(
        nn.Conv2d(
            before,
            width,
            size,
            stride=stride,
            padding=size // 2 if padding is None else padding,
            groups=groups,
            bias=False,
        ),
        nn.BatchNorm2d(width),
    )
    if not linear:
        made.append(nn.PReLU(width))
    return made


def initialize(network: nn.Module) -> None:
    """Draw the weights of its convolutions anew, for ReLU's like (He et al., ICCV 2015).

    By inputs: PyTorch counts a depthwise convolution's outputs over all channels.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
