"""The parts that only the transformers and the hybrid have, against their formulas."""

import math

import pytest
import torch
from torch import Tensor, nn

from facewright.models import build_network
from facewright.models.edgeface import AttentionBlock, ChannelAttention, ConvBlock, Positions
from facewright.models.ghostfacenet import Ghost
from facewright.models.vit import Block


def test_stochastic_depth_keeps_the_mean_and_drops_whole_crops() -> None:
    torch.manual_seed(0)
    block = Block(64, drop_path=0.25).train()
    changed = block._drop(torch.ones(4000, 3, 5))
    assert torch.equal(changed, changed[:, :1, :1].expand_as(changed))
    values, counts = changed[:, 0, 0].unique(return_counts=True)
    assert values.tolist() == pytest.approx([0, 1 / 0.75])
    assert counts[0].item() / 4000 == pytest.approx(0.25, abs=0.03)
    assert torch.equal(block.eval()._drop(changed), changed)


def test_transformers_know_where_a_patch_was() -> None:
    torch.manual_seed(0)
    network = build_network("vit_t", embedding_size=16).eval()
    images = torch.rand(1, 3, 112, 112) * 2 - 1
    moved, unseen = images.clone(), images.clone()
    moved[..., :9, :9], moved[..., 9:18, :9] = images[..., 9:18, :9], images[..., :9, :9]
    unseen[..., 108:, :], unseen[..., 108:] = 0, 0
    with torch.no_grad():
        here = network(images)
        assert not torch.allclose(network(moved), here, atol=1e-4)
        assert torch.equal(network(unseen), here)  # patches cover 108 pixels


def weight(thin: nn.Module) -> tuple[Tensor, Tensor]:
    """Of a product of two linear layers, the one matrix and the bias."""
    first, second = thin.children()
    return second.weight @ first.weight, second.bias


def test_attention_between_channels_is_xcits_formula() -> None:
    torch.manual_seed(0)
    attention = ChannelAttention(12, heads=3, rank=0.5).double()
    attention.temperature.data = torch.tensor([0.5, 1.0, 4.0], dtype=torch.float64)
    tokens = torch.randn(2, 7, 12, dtype=torch.float64)
    matrix, bias = weight(attention.qkv)
    expected = torch.zeros(2, 7, 12, dtype=torch.float64)
    for crop in range(2):
        qkv = tokens[crop] @ matrix.T + bias  # (places, 3 × channels)
        for head in range(3):
            query, key, value = (
                qkv[:, part * 12 + head * 4 : part * 12 + head * 4 + 4] for part in range(3)
            )
            query, key = query / query.norm(dim=0), key / key.norm(dim=0)
            weights = (attention.temperature[head] * query.T @ key).softmax(dim=1)  # (4, 4)
            expected[crop, :, head * 4 : head * 4 + 4] = value @ weights.T
    matrix, bias = weight(attention.out)
    found = attention(tokens)
    torch.testing.assert_close(found, expected @ matrix.T + bias)


def test_positions_are_waves_of_row_and_column() -> None:
    waves = Positions(8).waves[0]
    assert waves.shape == (64, 14, 14)
    for row, column in ((0, 0), (3, 11), (13, 13)):
        for channel in (0, 1, 6, 31):
            rate = 10_000 ** (channel // 2 * 2 / 32)
            wave = math.cos if channel % 2 else math.sin
            at = waves[channel, row, column].item()
            assert at == pytest.approx(wave((row + 1) / 14 * 2 * math.pi / rate), abs=1e-5)
            at = waves[32 + channel, row, column].item()
            assert at == pytest.approx(wave((column + 1) / 14 * 2 * math.pi / rate), abs=1e-5)


def test_later_groups_of_channels_see_the_earlier_ones() -> None:
    """Of three groups the second's convolution sees the first two, and none sees the last."""
    torch.manual_seed(0)
    block = AttentionBlock(100, splits=3, heads=4, rank=0.5, positioned=False)
    assert [c.weight.shape[0] for c in block.chain] == [34, 34]
    block.attention_scale.data.zero_()
    block.mix, block.scale = nn.Identity(), nn.Parameter(torch.ones(100))
    features = torch.randn(1, 100, 7, 7, requires_grad=True)
    with torch.no_grad():
        alone = block.chain[0](features[:, :34])
        both = block.chain[1](features[:, 34:68] + alone)
        expected = features + torch.cat((alone, both, features[:, 68:]), 1)
    torch.testing.assert_close(block(features), expected)


@pytest.mark.parametrize(
    "block",
    [
        ConvBlock(24, 5, 0.5),
        AttentionBlock(24, splits=2, heads=4, rank=0.5, positioned=True),
    ],
    ids=["convolution", "attention"],
)
def test_a_fresh_block_changes_almost_nothing(block: nn.Module) -> None:
    features = torch.randn(2, 24, 14, 14)
    with torch.no_grad():
        change = block(features) - features
    assert 0 < change.abs().max() < 1e-4


def test_half_of_a_ghost_modules_channels_come_from_the_other_half() -> None:
    """Each cheap channel has a 3×3 filter on its own twin: nothing else reaches it."""
    torch.manual_seed(0)
    ghost = Ghost(10, 8).eval()
    assert sum(p.numel() for p in ghost.primary[0].parameters()) == 10 * 4
    assert sum(p.numel() for p in ghost.cheap[0].parameters()) == 4 * 9
    features = torch.randn(1, 10, 6, 6)
    with torch.no_grad():
        before = ghost(features)
        ghost.primary[0].weight[2] += 1
        after = ghost(features)
    changed = [c for c in range(8) if not torch.equal(before[0, c], after[0, c])]
    assert changed == [2, 6]


def test_inception_keeps_maps_of_11_5_and_2_pixels() -> None:
    """And of 17, 8 and 3 from crops of 160, for which its weights are published."""
    with torch.device("meta"):
        network = build_network("inception_resnet_v1", embedding_size=8).eval()
        for side, expected in ((112, [11, 5, 2]), (160, [17, 8, 3])):
            sides: list[int] = []
            hooks = [
                getattr(network, name).register_forward_hook(
                    lambda module, inputs, output, sides=sides: sides.append(output.shape[-1])
                )
                for name in ("repeat_1", "repeat_2", "block8")
            ]
            network(torch.empty(1, 3, side, side))
            assert sides == expected
            for hook in hooks:
                hook.remove()
