"""The heads of params.yaml's `train` section, and what all sections are made of."""

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo

from facewright.refusals import refuse_margins, refuse_norms

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Margin = Annotated[float, Field(ge=0, lt=1.6)]  # a cosine, or radians


def beside(refuse: Callable[..., str | None], *others: str) -> AfterValidator:
    """Refuse a value for the reason that it does not fit beside those of `others`, keys before."""

    def check(value: Any, info: ValidationInfo) -> Any:
        # One of them that is itself wrong is missing here, and is told of.
        if all(other in info.data for other in others):
            reason = refuse(value, *(info.data[other] for other in others))
            if reason:
                raise ValueError(reason)
        return value

    return AfterValidator(check)


class Section(BaseModel):
    """Base of the sections: frozen, strict, nothing unknown."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Softmax(Section):
    name: Literal["softmax"]


class NormFace(Section):
    name: Literal["normface"]
    scale: Positive


class SphereFace(Section):
    name: Literal["sphereface"]
    margin: Annotated[int, Field(ge=1)]
    lambda_base: Annotated[float, Field(ge=0)]
    lambda_gamma: Annotated[float, Field(ge=0)]
    lambda_power: Annotated[float, Field(ge=0)]
    lambda_min: Annotated[float, Field(ge=0)]


class CosFace(Section):
    name: Literal["cosface"]
    scale: Positive
    margin: Margin


class ArcFace(Section):
    name: Literal["arcface"]
    scale: Positive
    margin: Margin


class Combined(Section):
    name: Literal["combined"]
    scale: Positive
    m1: Positive
    m2: Margin
    m3: Margin


class AdaFace(Section):
    name: Literal["adaface"]
    scale: Positive
    margin: Margin
    h: Positive
    t_alpha: Annotated[float, Field(gt=0, le=1)]


class MagFace(Section):
    name: Literal["magface"]
    scale: Positive
    l_a: Positive
    u_a: Annotated[Positive, beside(refuse_norms, "l_a")]
    l_m: Margin
    u_m: Annotated[Margin, beside(refuse_margins, "l_m")]
    lambda_g: Annotated[float, Field(ge=0)]


class SubCentre(Section):
    name: Literal["subcentre"]
    scale: Positive
    margin: Margin
    sub_centres: Annotated[int, Field(ge=2)]


class Triplet(Section):
    name: Literal["triplet"]
    margin: Margin


Head = Annotated[
    Softmax
    | NormFace
    | SphereFace
    | CosFace
    | ArcFace
    | Combined
    | AdaFace
    | MagFace
    | SubCentre
    | Triplet,
    Field(discriminator="name"),
]
