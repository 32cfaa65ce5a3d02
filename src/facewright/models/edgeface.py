"""EdgeFace (George et al., IEEE T-BIOM 2024): convolutions, and attention between channels.

The trunk is EdgeNeXt (Maaz et al., CADL workshop at ECCV 2022): ConvNeXt blocks (Liu et al., CVPR
2022), and at the end of three of its four stages a block whose attention is between channels over
all places (XCiT, El-Nouby et al., NeurIPS 2021), so that its cost grows with the number of places,
not with its square. EdgeFace writes every linear layer, the last one too, as a product of two
thin ones.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

EXPANSION = 4
LAYER_SCALE = 1e-6  # ConvNeXt's: every block starts as almost nothing beside its shortcut
DEPTHS = (3, 3, 9, 3)
KERNELS = (3, 5, 7, 9)
SPLITS = (0, 2, 3, 4)  # groups of channels in a stage's last block; 0: no attention there
POSITIONED = 1  # the stage whose attention is told the places
SIDE = 14  # of that stage's maps, for crops of 112


@dataclass(frozen=True)
class Size:
    """A member of the family: widths of the four stages, heads, and rank ÷ full rank."""

    widths: tuple[int, int, int, int]
    heads: int
    rank: float


SIZES = {
    "edgeface_xs": Size((32, 64, 100, 192), heads=4, rank=0.6),
    "edgeface_s": Size((48, 96, 160, 304), heads=8, rank=0.5),
}


class EdgeFace(nn.Module):
    """`(N, 3, 112, 112)` → `(N, embedding_size)`, through maps of 28, 14, 7 and 3 pixels."""

    def __init__(self, size: Size, embedding_size: int, dropout: float):
        super().__init__()
        stages: list[nn.Module] = []
        before = 3
        for stage, width in enumerate(size.widths):
            if stage == 0:
                stages += [nn.Conv2d(before, width, 4, stride=4), Norm(width)]
            else:
                stages += [Norm(before), nn.Conv2d(before, width, 2, stride=2)]
            attention = SPLITS[stage] > 0
            for _ in range(DEPTHS[stage] - attention):
                stages.append(ConvBlock(width, KERNELS[stage], size.rank))
            if attention:
                stages.append(
                    AttentionBlock(
                        width,
                        splits=SPLITS[stage],
                        heads=size.heads,
                        rank=size.rank,
                        positioned=stage == POSITIONED,
                    )
                )
            before = width
        self.stages = nn.Sequential(*stages)
        self.norm = nn.LayerNorm(before, eps=1e-6)
        self.dropout = nn.Dropout(dropout)
        self.embedding = _thin(before, embedding_size, size.rank)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.trunc_normal_(module.weight, std=0.02)
                assert module.bias is not None
                nn.init.zeros_(module.bias)

    def forward(self, images: Tensor) -> Tensor:
        features = self.norm(self.stages(images).mean((2, 3)))
        embeddings: Tensor = self.embedding(self.dropout(features))
        return embeddings


class Norm(nn.LayerNorm):
    """LayerNorm over the channels of a map `(N, C, H, W)`."""

    def __init__(self, width: int):
        super().__init__(width, eps=1e-6)

    def forward(self, features: Tensor) -> Tensor:
        places: Tensor = super().forward(features.permute(0, 2, 3, 1))
        return places.permute(0, 3, 1, 2)


class ConvBlock(nn.Module):
    """ConvNeXt's: depthwise, then two layers on each place."""

    def __init__(self, width: int, kernel: int, rank: float):
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, kernel, padding=kernel // 2, groups=width)
        self.mix = _mix(width, rank)
        self.scale = nn.Parameter(torch.full((width,), LAYER_SCALE))

    def forward(self, features: Tensor) -> Tensor:
        places = self.depthwise(features).permute(0, 2, 3, 1)
        change: Tensor = self.mix(places) * self.scale
        return features + change.permute(0, 3, 1, 2)


class AttentionBlock(nn.Module):
    """EdgeNeXt's "split depth-wise transpose attention".

    Groups of channels go through depthwise convolutions in a chain, each group together with what
    the one before it became, so that later groups see farther; the last group is left as it is.
    Then attention between channels, and two layers on each place.
    """

    def __init__(self, width: int, *, splits: int, heads: int, rank: float, positioned: bool):
        super().__init__()
        self.group = math.ceil(width / splits)
        self.chain = nn.ModuleList(
            nn.Conv2d(self.group, self.group, 3, padding=1, groups=self.group)
            for _ in range(splits - 1)
        )
        self.positions = Positions(width) if positioned else None
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.attention = ChannelAttention(width, heads, rank)
        self.attention_scale = nn.Parameter(torch.full((width,), LAYER_SCALE))
        self.mix = _mix(width, rank)
        self.scale = nn.Parameter(torch.full((width,), LAYER_SCALE))

    def forward(self, features: Tensor) -> Tensor:
        *groups, rest = torch.split(features, self.group, dim=1)
        seen: list[Tensor] = []
        for convolution, group in zip(self.chain, groups, strict=True):
            seen.append(convolution(group + seen[-1] if seen else group))
        joined = torch.cat((*seen, rest), dim=1)
        if self.positions is not None:
            joined = joined + self.positions()
        places = joined.permute(0, 2, 3, 1)
        tokens = places.flatten(1, 2)
        tokens = tokens + self.attention(self.norm(tokens)) * self.attention_scale
        change: Tensor = self.mix(tokens.view(places.shape)) * self.scale
        return features + change.permute(0, 3, 1, 2)


class ChannelAttention(nn.Module):
    """Attention between the channels of a head (cross-covariance), on tokens `(N, T, width)`."""

    def __init__(self, width: int, heads: int, rank: float):
        super().__init__()
        self.qkv = _thin(width, 3 * width, rank)
        self.temperature = nn.Parameter(torch.ones(heads))
        self.out = _thin(width, width, rank)

    def forward(self, tokens: Tensor) -> Tensor:
        crops, count, width = tokens.shape
        heads = len(self.temperature)
        split = self.qkv(tokens).reshape(crops, count, 3, heads, width // heads)
        # A channel's values over all places are its vector: (N, heads, channels, T).
        query, key, value = split.permute(2, 0, 3, 4, 1).unbind(0)
        # Unit vectors, hence no 1/√T; their lengths are not left to bfloat16.
        wide = torch.promote_types(value.dtype, torch.float32)
        query = F.normalize(query.to(wide), dim=-1) * self.temperature.view(heads, 1, 1)
        key = F.normalize(key.to(wide), dim=-1)
        mixed = F.scaled_dot_product_attention(
            query.to(value.dtype), key.to(value.dtype), value, scale=1.0
        )
        out: Tensor = self.out(mixed.permute(0, 3, 1, 2).reshape(crops, count, width))
        return out


class Positions(nn.Module):
    """Sines and cosines of row and column (Vaswani et al., NeurIPS 2017), mapped to `width`."""

    waves: Tensor

    def __init__(self, width: int, channels: int = 32):
        super().__init__()
        self.project = nn.Conv2d(2 * channels, width, 1)
        place = torch.arange(1, SIDE + 1) / SIDE * (2 * math.pi)
        rates = 10_000 ** (torch.arange(0, channels, 2) / channels)
        angles = place[:, None] / rates
        line = torch.stack((angles.sin(), angles.cos()), dim=2).flatten(1).T  # (channels, SIDE)
        rows = line[:, :, None].expand(-1, SIDE, SIDE)
        columns = line[:, None, :].expand(-1, SIDE, SIDE)
        # Not a weight: it is the same in every network, and stays out of the file.
        self.register_buffer("waves", torch.cat((rows, columns))[None], persistent=False)

    def forward(self) -> Tensor:
        """`(1, width, SIDE, SIDE)`."""
        out: Tensor = self.project(self.waves)
        return out


def _mix(width: int, rank: float) -> nn.Sequential:
    """LayerNorm and two layers with GELU on the last axis."""
    return nn.Sequential(
        nn.LayerNorm(width, eps=1e-6),
        _thin(width, EXPANSION * width, rank),
        nn.GELU(),
        _thin(EXPANSION * width, width, rank),
    )


def _thin(before: int, width: int, rank: float) -> nn.Sequential:
    """A linear layer as the product of two whose rank is that share of the full one."""
    between = max(2, int(min(before, width) * rank))
    return nn.Sequential(nn.Linear(before, between, bias=False), nn.Linear(between, width))
