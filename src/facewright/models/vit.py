"""Vision transformers for faces, as InsightFace configures and publishes them.

The encoder is ViT's (Dosovitskiy et al., ICLR 2021) with LayerNorm first. What is InsightFace's
(`arcface_torch`, behind the WebFace42M results of An et al., CVPR 2022): patches of 9 pixels, 8
heads, ReLU6, no bias on queries, keys and values, and an embedding made from all tokens.
Parameters have its names. Its random masking of patches while training is left out.
"""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

SIZE = 112
PATCH = 9  # 12 × 12 patches cover 108 pixels: the last 4 rows and columns go unseen, as in theirs
TOKENS = (SIZE // PATCH) ** 2
HEADS = 8
EXPANSION = 4
DROP_PATH = 0.1  # share of crops that skip the last block, InsightFace's; earlier blocks less

# Width and number of blocks. ViT-B is as wide as S and twice as deep, not the 768 of ImageNet's.
SIZES = {"vit_t": (256, 12), "vit_s": (512, 12), "vit_b": (512, 24)}


class VisionTransformer(nn.Module):
    """`(N, 3, 112, 112)` → `(N, embedding_size)`.

    The embedding is a linear map of all tokens, not of their mean or of a class token: in an
    aligned crop a place has a meaning, and the map has weights for each. This is where half of
    the small ones' parameters lie. `dropout` acts on those tokens, and nowhere else.
    """

    def __init__(self, width: int, depth: int, embedding_size: int, dropout: float):
        super().__init__()
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, width, PATCH, stride=PATCH)})
        self.pos_embed = nn.Parameter(torch.empty(1, TOKENS, width))
        rates = [DROP_PATH * block / (depth - 1) for block in range(depth)]
        self.blocks = nn.Sequential(*(Block(width, rate) for rate in rates))
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)
        self.feature = nn.Sequential(
            nn.Linear(TOKENS * width, width, bias=False),
            nn.BatchNorm1d(width, eps=2e-5),
            nn.Linear(width, embedding_size, bias=False),
            nn.BatchNorm1d(embedding_size, eps=2e-5),
        )
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.patch_embed["proj"](images).flatten(2).transpose(1, 2) + self.pos_embed
        tokens = self.norm(self.blocks(tokens))
        embeddings: Tensor = self.feature(self.dropout(tokens.flatten(1)))
        return embeddings


class Block(nn.Module):
    """Attention between tokens, then two layers on each; both are added to their input."""

    def __init__(self, width: int, drop_path: float):
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn = Attention(width)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.ModuleDict(
            {
                "fc1": nn.Linear(width, EXPANSION * width),
                "fc2": nn.Linear(EXPANSION * width, width),
            }
        )
        self.drop_path = drop_path

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self._drop(self.attn(self.norm1(tokens)))
        inside = F.relu6(self.mlp["fc1"](self.norm2(tokens)))
        return tokens + self._drop(self.mlp["fc2"](inside))

    def _drop(self, change: Tensor) -> Tensor:
        """Stochastic depth (Huang et al., ECCV 2016): some crops of a batch go without."""
        if not self.training or self.drop_path == 0:
            return change
        stays = 1 - self.drop_path
        chosen = torch.rand(len(change), 1, 1, device=change.device) < stays
        return change * (chosen / stays).to(change.dtype)


class Attention(nn.Module):
    """Softmax attention of `HEADS` heads between the tokens `(N, T, width)` of a crop."""

    def __init__(self, width: int):
        super().__init__()
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        crops, count, width = tokens.shape
        split = self.qkv(tokens).reshape(crops, count, 3, HEADS, width // HEADS)
        query, key, value = split.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = F.scaled_dot_product_attention(query, key, value)
        out: Tensor = self.proj(mixed.transpose(1, 2).reshape(crops, count, width))
        return out
