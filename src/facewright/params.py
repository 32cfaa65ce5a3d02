"""One strict model per section of params.yaml: unknown keys and bad values are refused by name."""

import difflib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

import yaml
from pydantic import AfterValidator, BaseModel, Field, ValidationError

from facewright.errors import ParamsError
from facewright.params_heads import Count, Head, Positive, Section, Share, beside
from facewright.refusals import refuse_frozen, refuse_smoothing, refuse_split, refuse_triplets

Range = Annotated[list[float], Field(min_length=2, max_length=2)]


def _within(least: float, most: float) -> AfterValidator:
    """A range is two numbers of these bounds, the smaller one first."""

    def check(values: list[float]) -> list[float]:
        low, high = values
        if not least <= low <= high <= most:
            raise ValueError(f"give two numbers from {least} to {most}, the smaller one first")
        return values

    return AfterValidator(check)


MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")  # it goes into filters and other names


def model_name(name: str) -> str:
    """The name of a registered model, if it is one.

    Raises:
        ValueError: it is not.
    """
    if not MODEL_NAME.fullmatch(name):
        raise ValueError("use up to 100 letters, digits, '.', '_' and '-', a letter or digit first")
    return name


# Written out: importing them would make every stage depend on the networks.
Network = Literal[
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
]


class Validate(Section):
    min_side: Count
    max_aspect: Annotated[float, Field(ge=1)]
    min_sharpness: Annotated[float, Field(ge=0)]
    min_brightness: Annotated[float, Field(ge=0, le=255)]
    max_brightness: Annotated[float, Field(ge=0, le=255)]
    min_colour: Annotated[float, Field(ge=0)] | None
    min_images_per_identity: Count
    max_images_per_identity: Count | None
    max_source_share: Share | None
    near_distance: Annotated[int, Field(ge=0, le=64)] | None
    max_overlap: Share
    max_drift: Positive
    thumbnails: Annotated[int, Field(ge=0)]


class Align(Section):
    detector: Literal["mtcnn", "yunet", "scrfd"]
    model: str | None
    min_face: Annotated[float, Field(gt=0, le=1)]
    landmarks: Literal["source", "detect"]
    threshold: Share


class Augmentation(Section):
    flip: Share
    rotation: Annotated[float, Field(ge=0, le=180)]
    zoom: Annotated[float, Field(ge=0, lt=1)]
    shift: Annotated[float, Field(ge=0, lt=1)]
    brightness: Annotated[float, Field(ge=0, lt=1)]
    contrast: Annotated[float, Field(ge=0, lt=1)]
    saturation: Annotated[float, Field(ge=0, lt=1)]
    erase: Share
    erase_area: Annotated[Range, _within(0, 0.5)]
    grey: Share
    lowres: Share
    lowres_size: Annotated[Range, _within(0.01, 1)]
    lowres_blur: Annotated[Range, _within(0, 20)]
    noise: Share
    noise_sigma: Annotated[Range, _within(0, 1)]
    salt: Share
    salt_share: Annotated[Range, _within(0, 1)]
    jpeg: Share
    jpeg_quality: Annotated[list[int], Field(min_length=2, max_length=2), _within(1, 100)]


class Cosine(Section):
    name: Literal["cosine"]


class Polynomial(Section):
    name: Literal["polynomial"]
    power: Positive


class Stepwise(Section):
    name: Literal["step"]
    at: Annotated[list[Annotated[float, Field(gt=0, lt=1)]], Field(min_length=1)]
    factor: Annotated[float, Field(gt=0, lt=1)]


Schedule = Annotated[Cosine | Polynomial | Stepwise, Field(discriminator="name")]


class Train(Section):
    seed: int
    network: Network
    embedding_size: Count
    dropout: Annotated[float, Field(ge=0, lt=1)]
    start: str | None
    frozen: Annotated[bool, beside(refuse_frozen, "start")]
    head: Head
    sampled_identities: Annotated[float, Field(gt=0, le=1)]
    label_smoothing: Annotated[
        float,
        Field(ge=0, lt=1),
        beside(lambda value, head: refuse_smoothing(value, head.name), "head"),
    ]
    epochs: Count
    batch_size: Annotated[int, Field(ge=2)]
    passes: Count
    crops_per_identity: Annotated[
        Count | None,
        beside(
            lambda value, batch, passes, head: refuse_triplets(value, batch, passes, head.name),
            "batch_size",
            "passes",
            "head",
        ),
        beside(refuse_split, "batch_size"),
    ]
    optimizer: Literal["sgd", "adamw"]
    learning_rate: Positive
    weight_decay: Annotated[float, Field(ge=0)]
    warmup: Annotated[float, Field(ge=0, lt=1)]
    schedule: Schedule
    clip_norm: Positive
    average: Annotated[float, Field(ge=0, lt=1)]
    precision: Literal["auto", "bf16", "fp16", "fp32"]
    compiled: bool
    augmentation: Augmentation
    validation_identities: Annotated[int, Field(ge=0)]
    readers: Count
    resume: str | None
    checkpoint_every: Count
    checkpoints: Count
    log_samples: bool


class Distill(Section):
    seed: int
    network: Network
    epochs: Count
    batch_size: Annotated[int, Field(ge=2)]
    learning_rate: Positive
    weight_decay: Annotated[float, Field(ge=0)]
    warmup: Annotated[float, Field(ge=0, lt=1)]
    clip_norm: Positive
    precision: Literal["auto", "bf16", "fp32"]
    relation_weight: Annotated[float, Field(ge=0)]
    augmentation: Augmentation


class Quantize(Section):
    calibration_crops: Count
    method: Literal["minmax", "percentile", "entropy"]
    parity_crops: Count


class Compile(Section):
    builder: Literal["auto", "tensorrt", "tensorrt-rtx", "off"]
    targets: Annotated[list[Annotated[str, Field(pattern=r"^sm\d+$")]], Field(min_length=1)]
    max_batch: Count


class Evaluate(Section):
    runtime: Literal["onnxruntime", "openvino"]
    flip: bool
    fmr_targets: Annotated[list[Annotated[float, Field(gt=0, lt=1)]], Field(min_length=1)]
    bootstrap: Annotated[int, Field(ge=100)]
    calibration: Literal["logistic", "isotonic"]
    slices: list[str]
    slice_bins: Annotated[int, Field(ge=2)]
    unenrolled_share: Annotated[float, Field(ge=0, lt=1)]
    gallery_sizes: list[Count]
    fpir_targets: list[Annotated[float, Field(gt=0, lt=1)]]
    latency_calls: Annotated[int, Field(ge=10)]
    show_faces: bool


class Parity(Section):
    min_cosine: Annotated[float, Field(ge=-1, le=1)] | None
    max_threshold_shift: Share | None
    max_accuracy_drop: Share | None
    max_fnmr_rise: Share | None
    min_speedup: Positive | None


class AgainstChampion(Section):
    figure: Literal["accuracy", "fnmr"]
    fmr: Annotated[float, Field(gt=0, lt=1)]
    margin: Annotated[float, Field(ge=0, lt=1)]
    level: Annotated[float, Field(gt=0, lt=0.5)]
    bootstrap: Annotated[int, Field(ge=100)]


class SliceLimits(Section):
    max_fnmr_ratio: Annotated[float, Field(ge=1)] | None
    max_fmr_ratio: Annotated[float, Field(ge=1)] | None


class DataLimits(Section):
    max_age_days: Annotated[int, Field(ge=0)] | None
    licences: list[str] | None


class Gate(Section):
    """The promotion policy, `mlflow/promotion.yaml`."""

    model: Annotated[str, AfterValidator(model_name)]
    parity: Parity
    distilled: Parity
    engines_must_run: bool
    at_least: dict[str, float]
    at_most: dict[str, float]
    champion: AgainstChampion
    slices: SliceLimits
    data: DataLimits


SECTIONS: Mapping[str, type[Section]] = {
    "validate": Validate,
    "align": Align,
    "train": Train,
    "distill": Distill,
    "quantize": Quantize,
    "compile": Compile,
    "evaluate": Evaluate,
}
PARAMS = Path("params.yaml")
POLICY = Path("mlflow/promotion.yaml")  # the gate's section has a file, and an owner, of its own

S = TypeVar("S", bound=Section)


def load(stage: str, file: Path = PARAMS) -> Section:
    """The section of `stage` from params.yaml (the gate's from the policy), in this folder.

    Everything is checked, whatever is asked for: a misspelt key of the last stage must not be found
    after hours of training.

    Raises:
        ParamsError: a file is missing or no YAML; a section is unknown or missing, or has an
            unknown key or a bad value.
    """
    values = _read(file)
    unknown = sorted(str(name) for name in values if name not in SECTIONS)
    if unknown:
        raise ParamsError(f"{file}: unknown section {unknown[0]!r}{_hint(unknown[0], SECTIONS)}")
    sections: dict[str, Section] = {"gate": load_policy(POLICY)}
    for name, section in SECTIONS.items():
        if name not in values:
            raise ParamsError(f"{file}: section {name!r} is missing: add it")
        sections[name] = check(section, values[name], where=f"{file}: {name}")
    return sections[stage]


def as_json(file: Path = PARAMS) -> dict[str, str]:
    """Every section (the gate's too) as a JSON string, as it stands in the files, after checking.

    Raises:
        ParamsError: as `load`.
    """
    load("gate", file)
    values = _read(file) | {"gate": _read(POLICY)}
    return {stage: json.dumps(section) for stage, section in values.items()}


def load_policy(path: Path) -> Gate:
    """The promotion policy, a file of its own so that it can have an owner of its own."""
    return load_section(Gate, path)


def load_section(section: type[S], path: Path) -> S:
    """A file that holds one section and nothing else."""
    return check(section, _read(path), where=str(path))


def from_json(section: type[S], text: str) -> S:
    """A section from a JSON string, the form in which Kubeflow passes it."""
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise ParamsError(f"{section.__name__.lower()} parameters are not JSON: {error}") from error
    return check(section, values, where=f"{section.__name__.lower()} parameters")


def check(section: type[S], values: Any, *, where: str) -> S:
    """Validate `values` against `section`; the first thing wrong becomes one line."""
    try:
        return section.model_validate(values)
    except ValidationError as error:
        # An unknown key explains a missing one, so it is told first.
        first = min(error.errors(), key=lambda one: one["type"] != "extra_forbidden")
        key = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            known = _keys(section, first["loc"][:-1])
            message = f"unknown key{_hint(str(first['loc'][-1]), known)}"
        elif first["type"] == "missing":
            message = "missing: add it"
        else:
            message = f"{first['msg'][:1].lower()}{first['msg'][1:]}, got {first['input']!r}"
        raise ParamsError(f"{where}{'.' if key else ''}{key}: {message}") from error


def _read(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ParamsError(f"{path} is missing: run in the project's folder") from error
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise ParamsError(f"{path} cannot be read as YAML: {error}") from error
    if not isinstance(values, dict):
        raise ParamsError(f"{path}: must hold keys with values")
    return values


def _keys(section: type[BaseModel], loc: tuple[int | str, ...]) -> list[str]:
    """The keys that are known at `loc`; members of a union are told apart by their `name`."""
    place: Any = section
    for part in loc:
        if get_origin(place) is list:
            (place,) = get_args(place)
        elif members := get_args(place):
            place = next(one for one in members if part in get_args(_field(one, "name")))
        else:
            place = _field(place, str(part))
    return list(place.model_fields)


def _field(section: type[BaseModel], name: str) -> Any:
    return section.model_fields[name].annotation


def _hint(key: str, known: Mapping[str, Any] | list[str]) -> str:
    close = difflib.get_close_matches(key, list(known), n=1)
    return f": did you mean {close[0]!r}?" if close else f": known are {', '.join(known)}"
