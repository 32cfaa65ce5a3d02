"""The heads by name: the losses that shape embeddings while training.

`margins` and `adaptive` hold those that classify, `triplet` the one that compares.
"""

from collections.abc import Callable
from typing import Any

from torch import nn

from facewright.errors import TrainingError
from facewright.models.adaptive import AdaFace, MagFace, SphereFace
from facewright.models.margins import (
    ArcFace,
    Combined,
    CosFace,
    Head,
    NormFace,
    Softmax,
    SubCentreArcFace,
)
from facewright.models.triplet import TripletHead
from facewright.refusals import refuse_smoothing

__all__ = ["HEADS", "Head", "TripletHead", "build_head"]

_KINDS: dict[str, tuple[Callable[..., nn.Module], tuple[str, ...]]] = {
    "softmax": (Softmax, ()),
    "normface": (NormFace, ("scale",)),
    "sphereface": (
        SphereFace,
        ("margin", "lambda_base", "lambda_gamma", "lambda_power", "lambda_min"),
    ),
    "cosface": (CosFace, ("scale", "margin")),
    "arcface": (ArcFace, ("scale", "margin")),
    "combined": (Combined, ("scale", "m1", "m2", "m3")),
    "adaface": (AdaFace, ("scale", "margin", "h", "t_alpha")),
    "magface": (MagFace, ("scale", "l_a", "u_a", "l_m", "u_m", "lambda_g")),
    "subcentre": (SubCentreArcFace, ("scale", "margin", "sub_centres")),
    "triplet": (TripletHead, ("margin",)),
}
HEADS = {name: options for name, (_, options) in _KINDS.items()}  # the options that each needs


def build_head(
    name: str, *, embedding_size: int, identities: int, label_smoothing: float, **options: Any
) -> nn.Module:
    """A head of the given kind: a `Head`, or the `TripletHead`, which has no parameters.

    `options` are exactly those that `HEADS` lists for it. Weights come from PyTorch's global
    generator: seed it first.

    Raises:
        TrainingError: no head has that name; an option is missing or not one of its own; the
            triplet loss, which has no classes to smooth over, with a `label_smoothing`.
    """
    if name not in HEADS:
        raise TrainingError(f"unknown head {name!r}: choose one of {', '.join(HEADS)}")
    kind, wanted = _KINDS[name]
    wrong = [f"{key} is missing" for key in wanted if key not in options]
    wrong += [f"{key} is none of them" for key in options if key not in wanted]
    if wrong:
        raise TrainingError(
            f"head {name} takes {', '.join(wanted) or 'no options'}: {', '.join(wrong)}"
        )
    if reason := refuse_smoothing(label_smoothing, name):
        raise TrainingError(f"label_smoothing is {label_smoothing}: {reason}")
    if name == "triplet":
        return kind(**options)
    return kind(
        embedding_size=embedding_size,
        identities=identities,
        label_smoothing=label_smoothing,
        **options,
    )
