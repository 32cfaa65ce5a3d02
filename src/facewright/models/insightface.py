"""Weights that others publish, renamed for our networks.

`arcface_torch` of InsightFace writes a state dict of the backbone alone, `facenet-pytorch` one with
its classifier. Load such a file with `torch.load(path, weights_only=True)`, which runs no code:

    state = from_insightface("iresnet50", torch.load(path, weights_only=True))
    network = build_network("iresnet50", embedding_size=512)
    network.load_state_dict(state)

InsightFace's networks want what ours want: RGB, (v - 127.5) / 127.5, and its five-point alignment.
Its weights are for non-commercial research only.
"""

from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor

from facewright.errors import TrainingError
from facewright.models import build_network

# The last BatchNorm of each network, in our names: as long as the embedding.
LAST = {
    "iresnet18": "features.weight",
    "iresnet34": "features.weight",
    "iresnet50": "features.weight",
    "iresnet100": "features.weight",
    "mobilefacenet": "normalize.weight",  # `get_mbf(scale=1)`
    "mobilefacenet_wide": "normalize.weight",  # `mbf`, the one that is published
    "vit_t": "feature.3.weight",
    "vit_s": "feature.3.weight",
    "vit_b": "feature.3.weight",
}
# Where arcface_torch puts the fifteen bottlenecks of a MobileFaceNet.
BOTTLENECKS = (
    *("layers.2", *(f"layers.3.layers.{n}" for n in range(4))),
    *("layers.4", *(f"layers.5.layers.{n}" for n in range(6))),
    *("layers.6", *(f"layers.7.layers.{n}" for n in range(2))),
)


def from_insightface(name: str, state: Mapping[str, Any]) -> dict[str, Tensor]:
    """The state dict of our network `name` out of one that `arcface_torch` wrote.

    The embedding is as long as theirs (512 in all that are published).

    Raises:
        TrainingError: InsightFace has no network of that name, or the keys or shapes are not
            that network's.
    """
    if name not in LAST:
        raise TrainingError(
            f"no weights of InsightFace fit network {name!r}: choose one of {', '.join(LAST)}"
        )
    # ViTs learn a stand-in for masked patches, which only their training uses.
    return _renamed(name, state, last=LAST[name], unused={"mask_token"} & {*state})


def from_facenet_pytorch(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """The state dict of our `inception_resnet_v1` out of one of `facenet-pytorch`.

    Its networks were trained on (v - 127.5) / 128 and on wider crops of 160×160.

    Raises:
        TrainingError: the keys or shapes are not that network's.
    """
    classifier = {"logits.weight", "logits.bias"} & {*state}
    return _renamed("inception_resnet_v1", state, last="last_bn.weight", unused=classifier)


def _renamed(
    name: str, state: Mapping[str, Any], *, last: str, unused: Collection[str]
) -> dict[str, Tensor]:
    length = state.get(_their_name(name, last))
    embedding_size = len(length) if isinstance(length, Tensor) and length.ndim == 1 else 512
    with torch.device("meta"):
        ours = build_network(name, embedding_size=embedding_size).state_dict()
    theirs = {key: _their_name(name, key) for key in ours}
    missing = [key for key in theirs.values() if key not in state]
    unexpected = [key for key in state if key not in {*theirs.values(), *unused}]
    if missing or unexpected:
        raise TrainingError(
            f"these weights are not of {name}: {_few('missing', missing)},"
            f" {_few('unexpected', unexpected)}: name the network that wrote them"
        )
    found = {}
    for key, like in ours.items():
        value = state[theirs[key]]
        if not isinstance(value, Tensor):
            raise TrainingError(f"these weights are not of {name}: {theirs[key]} is no tensor")
        if value.shape != like.shape:
            raise TrainingError(
                f"these weights are not of {name}: {theirs[key]} has shape {tuple(value.shape)}"
                f" instead of {tuple(like.shape)}"
            )
        found[key] = value.to(like.dtype)
    return found


def _their_name(name: str, key: str) -> str:
    if not name.startswith("mobilefacenet"):
        return key  # our networks took over the names
    part, _, rest = key.partition(".")
    match part:
        case "stem":
            layer, _, rest = rest.partition(".")
            return f"layers.{layer}.layers.{rest}"
        case "bottlenecks":
            number, _, layer, rest = rest.split(".", 3)  # NUMBER.body.LAYER.…
            return f"{BOTTLENECKS[int(number)]}.layers.{layer}.layers.{rest}"
        case "widen":
            return f"conv_sep.layers.{rest}"
        case "pool":
            return f"features.layers.0.layers.{rest}"
        case "embedding":
            return f"features.layers.2.{rest}"
    return f"features.layers.3.{rest}"


def _few(what: str, keys: list[str]) -> str:
    """`2 missing (a, b)`: the first three by name."""
    if not keys:
        return f"0 {what}"
    return f"{len(keys)} {what} ({', '.join(keys[:3])}{', …' if len(keys) > 3 else ''})"
