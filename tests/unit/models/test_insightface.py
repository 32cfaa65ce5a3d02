"""Published weights: other people's networks, written out by their names, against ours.

Each reference below draws a weight whenever it meets a name, and computes with plain functions:
what it has drawn in the end is a state dict of the published names and shapes.
"""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from facewright.errors import TrainingError
from facewright.models import build_network
from facewright.models.insightface import from_facenet_pytorch, from_insightface

EMBEDDING = 24


class Published:
    """Layers that take their weights from `state`, and fill it first."""

    def __init__(self) -> None:
        self.state: dict[str, Tensor] = {}
        self.generator = torch.Generator().manual_seed(7)

    def draw(self, key: str, *shape: int, scale: float = 1.0, centre: float = 0.0) -> Tensor:
        assert key not in self.state
        value = torch.randn(shape, generator=self.generator) * scale + centre
        self.state[key] = value
        return value

    def conv(
        self,
        x: Tensor,
        name: str,
        width: int,
        size: int | tuple[int, int],
        *,
        stride: int = 1,
        padding: int | tuple[int, int] = 0,
        groups: int = 1,
        bias: bool = False,
    ) -> Tensor:
        height, breadth = (size, size) if isinstance(size, int) else size
        before = x.shape[1] // groups
        scale = (2 / (before * height * breadth)) ** 0.5
        weight = self.draw(f"{name}.weight", width, before, height, breadth, scale=scale)
        offset = self.draw(f"{name}.bias", width, scale=0.1) if bias else None
        return F.conv2d(x, weight, offset, stride=stride, padding=padding, groups=groups)

    def norm(self, x: Tensor, name: str, eps: float = 1e-5) -> Tensor:
        width = x.shape[1]
        weight = self.draw(f"{name}.weight", width, scale=0.1, centre=1.0)
        bias = self.draw(f"{name}.bias", width, scale=0.1)
        mean = self.draw(f"{name}.running_mean", width, scale=0.1)
        variance = self.draw(f"{name}.running_var", width, scale=0.1, centre=1.0).clamp_(0.5)
        self.state[f"{name}.num_batches_tracked"] = torch.tensor(3)
        return F.batch_norm(x, mean, variance, weight, bias, eps=eps)

    def layer_norm(self, x: Tensor, name: str) -> Tensor:
        weight = self.draw(f"{name}.weight", x.shape[-1], scale=0.1, centre=1.0)
        return F.layer_norm(x, x.shape[-1:], weight, self.draw(f"{name}.bias", x.shape[-1]))

    def prelu(self, x: Tensor, name: str) -> Tensor:
        return F.prelu(x, self.draw(f"{name}.weight", x.shape[1], scale=0.1, centre=0.25))

    def linear(self, x: Tensor, name: str, width: int, *, bias: bool = True) -> Tensor:
        before = x.shape[-1]
        weight = self.draw(f"{name}.weight", width, before, scale=before**-0.5)
        return F.linear(x, weight, self.draw(f"{name}.bias", width, scale=0.1) if bias else None)


def arcface_iresnet(p: Published, x: Tensor, blocks: tuple[int, ...]) -> Tensor:
    x = p.prelu(p.norm(p.conv(x, "conv1", 64, 3, padding=1), "bn1"), "prelu")
    for layer, count in enumerate(blocks):
        width = 64 << layer
        for block in range(count):
            name, stride = f"layer{layer + 1}.{block}", 2 if block == 0 else 1
            shortcut = x
            if block == 0:
                shortcut = p.conv(x, f"{name}.downsample.0", width, 1, stride=2)
                shortcut = p.norm(shortcut, f"{name}.downsample.1")
            y = p.conv(p.norm(x, f"{name}.bn1"), f"{name}.conv1", width, 3, padding=1)
            y = p.prelu(p.norm(y, f"{name}.bn2"), f"{name}.prelu")
            y = p.conv(y, f"{name}.conv2", width, 3, stride=stride, padding=1)
            x = p.norm(y, f"{name}.bn3") + shortcut
    x = p.norm(x, "bn2").flatten(1)
    return p.norm(p.linear(x, "fc", EMBEDDING), "features")


def arcface_mobilefacenet(p: Published, x: Tensor, scale: int) -> Tensor:
    def block(x: Tensor, name: str, width: int, size: int, *, linear: bool = False, **how: int):
        x = p.conv(x, f"{name}.layers.0", width, size, **how)
        x = p.norm(x, f"{name}.layers.1")
        return x if linear else p.prelu(x, f"{name}.layers.2")

    def depthwise(x: Tensor, name: str, width: int, inside: int, stride: int) -> Tensor:
        x = block(x, f"{name}.layers.0", inside, 1)
        x = block(x, f"{name}.layers.1", inside, 3, stride=stride, padding=1, groups=inside)
        return block(x, f"{name}.layers.2", width, 1, linear=True)

    narrow, wide = 64 * scale, 128 * scale
    x = block(x, "layers.0", narrow, 3, stride=2, padding=1)
    x = block(x, "layers.1", narrow, 3, padding=1, groups=64)
    rows = ((narrow, 128, 128, 4), (wide, 256, 256, 6), (wide, 512, 256, 2))
    for row, (width, first, inside, repeats) in enumerate(rows):
        x = depthwise(x, f"layers.{2 + 2 * row}", width, first, 2)
        for repeat in range(repeats):
            x = x + depthwise(x, f"layers.{3 + 2 * row}.layers.{repeat}", width, inside, 1)
    x = block(x, "conv_sep", 512, 1)
    x = block(x, "features.layers.0", 512, 7, groups=512, linear=True).flatten(1)
    return p.norm(p.linear(x, "features.layers.2", EMBEDDING, bias=False), "features.layers.3")


def arcface_vit(p: Published, x: Tensor, width: int, depth: int) -> Tensor:
    p.draw("mask_token", 1, 1, width)  # published, used by their training only
    x = p.conv(x, "patch_embed.proj", width, 9, stride=9, bias=True)
    x = x.flatten(2).transpose(1, 2) + p.draw("pos_embed", 1, 144, width)
    for number in range(depth):
        name = f"blocks.{number}"
        qkv = p.linear(p.layer_norm(x, f"{name}.norm1"), f"{name}.attn.qkv", 3 * width, bias=False)
        heads = []
        for head in range(8):
            lines = slice(head * width // 8, (head + 1) * width // 8)
            query, key, value = (part[..., lines] for part in qkv.chunk(3, dim=-1))
            weights = (query @ key.transpose(1, 2) / (width / 8) ** 0.5).softmax(-1)
            heads.append(weights @ value)
        x = x + p.linear(torch.cat(heads, -1), f"{name}.attn.proj", width)
        y = p.linear(p.layer_norm(x, f"{name}.norm2"), f"{name}.mlp.fc1", 4 * width)
        x = x + p.linear(y.clamp(0, 6), f"{name}.mlp.fc2", width)
    x = p.linear(p.layer_norm(x, "norm").flatten(1), "feature.0", width, bias=False)
    x = p.linear(p.norm(x, "feature.1", 2e-5), "feature.2", EMBEDDING, bias=False)
    return p.norm(x, "feature.3", 2e-5)


def facenet_pytorch(p: Published, x: Tensor) -> Tensor:
    def conv(x: Tensor, name: str, width: int, size: int | tuple[int, int], **how) -> Tensor:
        return p.norm(p.conv(x, f"{name}.conv", width, size, **how), f"{name}.bn", 0.001).relu()

    def crossed(x: Tensor, name: str, width: int, size: int, scale: float) -> Tensor:
        one = conv(x, f"{name}.branch0", width, 1)
        two = conv(x, f"{name}.branch1.0", width, 1)
        two = conv(two, f"{name}.branch1.1", width, (1, size), padding=(0, size // 2))
        two = conv(two, f"{name}.branch1.2", width, (size, 1), padding=(size // 2, 0))
        joined = torch.cat((one, two), 1)
        return p.conv(joined, f"{name}.conv2d", x.shape[1], 1, bias=True) * scale + x

    x = conv(conv(x, "conv2d_1a", 32, 3, stride=2), "conv2d_2a", 32, 3)
    x = F.max_pool2d(conv(x, "conv2d_2b", 64, 3, padding=1), 3, 2)
    x = conv(conv(x, "conv2d_3b", 80, 1), "conv2d_4a", 192, 3)
    x = conv(x, "conv2d_4b", 256, 3, stride=2)
    for n in range(5):
        name = f"repeat_1.{n}"
        two = conv(x, f"{name}.branch1.0", 32, 1)
        three = conv(x, f"{name}.branch2.0", 32, 1)
        branches = (
            conv(x, f"{name}.branch0", 32, 1),
            conv(two, f"{name}.branch1.1", 32, 3, padding=1),
            conv(
                conv(three, f"{name}.branch2.1", 32, 3, padding=1),
                f"{name}.branch2.2",
                32,
                3,
                padding=1,
            ),
        )
        change = p.conv(torch.cat(branches, 1), f"{name}.conv2d", 256, 1, bias=True)
        x = (change * 0.17 + x).relu()
    one = conv(x, "mixed_6a.branch0", 384, 3, stride=2)
    two = conv(conv(x, "mixed_6a.branch1.0", 192, 1), "mixed_6a.branch1.1", 192, 3, padding=1)
    two = conv(two, "mixed_6a.branch1.2", 256, 3, stride=2)
    x = torch.cat((one, two, F.max_pool2d(x, 3, 2)), 1)
    for n in range(10):
        x = crossed(x, f"repeat_2.{n}", 128, 7, 0.1).relu()
    parts = [conv(x, f"mixed_7a.branch{n}.0", 256, 1) for n in range(3)]
    parts[2] = conv(parts[2], "mixed_7a.branch2.1", 256, 3, padding=1)
    one = conv(parts[0], "mixed_7a.branch0.1", 384, 3, stride=2)
    two = conv(parts[1], "mixed_7a.branch1.1", 256, 3, stride=2)
    three = conv(parts[2], "mixed_7a.branch2.2", 256, 3, stride=2)
    x = torch.cat((one, two, three, F.max_pool2d(x, 3, 2)), 1)
    for n in range(5):
        x = crossed(x, f"repeat_3.{n}", 192, 3, 0.2).relu()
    x = crossed(x, "block8", 192, 3, 1.0).mean((2, 3))
    x = p.norm(p.linear(x, "last_linear", EMBEDDING, bias=False), "last_bn", 0.001)
    p.linear(x, "logits", 10)  # published with the classifier of its identities
    return x


Reference = Callable[[Published, Tensor], Tensor]
REFERENCES: dict[str, Reference] = {
    "iresnet18": lambda p, x: arcface_iresnet(p, x, (2, 2, 2, 2)),
    "iresnet50": lambda p, x: arcface_iresnet(p, x, (3, 4, 14, 3)),
    "mobilefacenet": lambda p, x: arcface_mobilefacenet(p, x, 1),
    "mobilefacenet_wide": lambda p, x: arcface_mobilefacenet(p, x, 2),
    "vit_t": lambda p, x: arcface_vit(p, x, 256, 12),
}


def draw(reference: Reference, side: int = 112) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """A state dict, two images, and what the published network makes of them."""
    published = Published()
    images = torch.rand(2, 3, side, side, generator=published.generator) * 2 - 1
    with torch.no_grad():
        embeddings = reference(published, images)
    return published.state, images, embeddings


def run(name: str, state: dict[str, Tensor], images: Tensor) -> Tensor:
    network = build_network(name, embedding_size=EMBEDDING, dropout=0.5).eval()
    network.load_state_dict(state)
    with torch.no_grad():
        embeddings: Tensor = network(images)
    return embeddings


@pytest.mark.parametrize("name", REFERENCES)
def test_insightface_weights_give_insightface_embeddings(name: str) -> None:
    state, images, expected = draw(REFERENCES[name])
    ours = run(name, from_insightface(name, state), images)
    size = float(expected.abs().max())
    torch.testing.assert_close(ours / size, expected / size, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(expected[0] / size, expected[1] / size, atol=1e-2)


@pytest.mark.parametrize("side", [112, 160])
def test_facenet_weights_give_facenet_embeddings(side: int) -> None:
    """At the size of our crops and at the one that they were trained with."""
    state, images, expected = draw(facenet_pytorch, side)
    ours = run("inception_resnet_v1", from_facenet_pytorch(state), images)
    size = float(expected.abs().max())
    torch.testing.assert_close(ours / size, expected / size, rtol=1e-4, atol=1e-4)
    without = {key: value for key, value in state.items() if not key.startswith("logits.")}
    assert from_facenet_pytorch(without).keys() == without.keys()


@pytest.fixture(scope="module")
def mobile() -> dict[str, Tensor]:
    return draw(REFERENCES["mobilefacenet_wide"])[0]


def test_half_precision_weights_become_float32(mobile: dict[str, Tensor]) -> None:
    half = {
        key: value.half() if value.is_floating_point() else value for key, value in mobile.items()
    }
    state = from_insightface("mobilefacenet_wide", half)
    assert {value.dtype for value in state.values()} == {torch.float32, torch.int64}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("conv_sep.layers.0.weight"), r"1 missing \(conv_sep.layers.0.weight\)"),
        (lambda s: s.pop("features.layers.3.weight"), r"1 missing \(features.layers.3.weight\)"),
        (lambda s: s.update({"fc.weight": torch.zeros(1)}), r"1 unexpected \(fc.weight\)"),
        (lambda s: s.update({"logits.weight": torch.zeros(1)}), r"unexpected \(logits.weight\)"),
        (lambda s: s.update({"mask_token": "yes", "layers.9": 1}), r"unexpected \(layers.9\)"),
        (
            lambda s: s.update({"layers.1.layers.0.weight": torch.zeros(128, 1, 3, 3)}),
            r"layers.1.layers.0.weight has shape \(128, 1, 3, 3\) instead of \(128, 2, 3, 3\)",
        ),
        (
            lambda s: s.update({"features.layers.2.weight": torch.zeros(EMBEDDING + 1, 512)}),
            r"features.layers.2.weight has shape \(25, 512\) instead of \(24, 512\)",
        ),
        (
            lambda s: s.update({"conv_sep.layers.1.bias": [0.0] * 512}),
            "conv_sep.layers.1.bias is no tensor",
        ),
        (
            lambda s: s.update({f"module.{k}": s.pop(k) for k in list(s)}),
            r"missing \(layers.0.layers.0.weight, .*, …\), \d+ unexpected \(module.layers.0",
        ),
    ],
)
def test_weights_that_do_not_fit_are_refused_in_one_line(
    mobile: dict[str, Tensor], change: Callable[[dict], object], message: str
) -> None:
    state = dict(mobile)
    change(state)
    with pytest.raises(TrainingError, match=f"not of mobilefacenet_wide: .*{message}") as caught:
        from_insightface("mobilefacenet_wide", state)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["mobilefacenet", "iresnet18", "vit_t"])
def test_weights_of_another_network_are_refused(mobile: dict[str, Tensor], name: str) -> None:
    with pytest.raises(TrainingError, match=f"not of {name}"):
        from_insightface(name, mobile)
    with pytest.raises(TrainingError, match="not of inception_resnet_v1"):
        from_facenet_pytorch(mobile)


def test_a_network_that_insightface_has_not_is_refused(mobile: dict[str, Tensor]) -> None:
    with pytest.raises(TrainingError, match=r"network 'resnet_small': choose one of iresnet18"):
        from_insightface("resnet_small", mobile)
