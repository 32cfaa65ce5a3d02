"""Parameters and multiply-adds, against sums by hand and what was published."""

import pytest

from facewright.models.cost import network_cost


def test_iresnet18_by_hand() -> None:
    """Each convolution: places of its output × weights. BatchNorm, PReLU and sums are left out."""
    multiply_adds = 112 * 112 * 64 * 3 * 9
    parameters = 64 * 3 * 9 + 64 * 2 + 64
    before, side = 64, 112
    for width in (64, 128, 256, 512):
        half = side // 2
        # The first block's first convolution still sees the larger map.
        multiply_adds += side * side * width * before * 9
        multiply_adds += half * half * width * (width * 9 + before)  # second, and shortcut
        multiply_adds += 2 * half * half * width * width * 9  # the second block
        parameters += width * (before * 9 + width * 9 + before) + 2 * width * width * 9
        parameters += 2 * before + 3 * 2 * width + 3 * 2 * width  # BatchNorms: 1 + 3, then 3
        parameters += 2 * width  # PReLUs
        before, side = width, half
    multiply_adds += 512 * 7 * 7 * 512
    parameters += 2 * 512 + 512 * 7 * 7 * 512 + 512 + 2 * 512
    cost = network_cost("iresnet18", embedding_size=512)
    assert (cost.parameters, cost.multiply_adds) == (parameters, multiply_adds)


@pytest.mark.parametrize(("name", "width", "depth"), [("vit_t", 256, 12), ("vit_b", 512, 24)])
def test_transformers_by_hand(name: str, width: int, depth: int) -> None:
    """144 tokens; attention multiplies each with each twice."""
    patches = 144 * width * 3 * 81
    block = 144 * 12 * width * width + 2 * 144 * 144 * width
    head = 144 * width * width + width * 512
    cost = network_cost(name, embedding_size=512)
    assert cost.multiply_adds == patches + depth * block + head
    weights = 12 * width * width + width + 4 * width + width + 4 * width  # biases, two norms
    others = 3 * 81 * width + width + 144 * width + 2 * width + 2 * width + 2 * 512
    assert cost.parameters == depth * weights + others + head


@pytest.mark.parametrize(
    ("name", "billions", "within"),
    [
        # README of arcface_torch; "0.45G" counts BatchNorm and PReLU too
        ("iresnet18", 2.6, 0.05),
        ("iresnet50", 6.3, 0.05),
        ("iresnet100", 12.1, 0.05),
        ("vit_t", 1.5, 0.05),
        ("vit_s", 5.7, 0.05),
        ("vit_b", 11.4, 0.05),
        ("mobilefacenet_wide", 0.45, 0.02),
        ("mobilefacenet", 0.221, 0.0005),  # as Zhang counts it (SeesawFaceNets, 2019)
        # Alansari et al., 2023, who count BatchNorm and PReLU too: 216 and 60 million
        ("ghostfacenet", 0.216, 0.006),
        ("ghostfacenet_s2", 0.060, 0.002),
        # George et al., 2024, give 154.00 and 306.12 million, each multiply-add taken for two
        ("edgeface_xs", 0.15400 / 2, 0.0005),
        ("edgeface_s", 0.30612 / 2, 0.0005),
    ],
)
def test_multiply_adds_are_as_published(name: str, billions: float, within: float) -> None:
    cost = network_cost(name, embedding_size=512)
    assert cost.multiply_adds / 1e9 == pytest.approx(billions, abs=within)
