"""A recognizer on disk: weights and `recognizer.yaml`, the card that says how to feed them.

Whatever embeds faces loads such a folder, whether a PyTorch network, an ONNX file or an engine is
inside; the card is the same for all, so that a crop is prepared in one way everywhere.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

from facewright.errors import EngineError
from facewright.files import file_digest, write_yaml

CARD = "recognizer.yaml"
WEIGHTS = {"torch": "model.safetensors", "onnx": "model.onnx", "engine": "model.engine"}


@dataclass(frozen=True)
class RecognizerCard:
    """What a recognizer is and what it expects.

    A crop is `input_size` × `input_size` pixels in `colour` order; each value v in [0, 255] goes
    in as (v - mean) / scale. The output is an embedding of `embedding_size` float32 values, not
    normalized; similarity is the cosine between two of them.
    """

    name: str  # "teacher", "student", "student-int8", …
    format: str  # key of WEIGHTS
    network: str  # architecture, a name that `models.build_network` knows
    embedding_size: int
    precision: str  # "fp32", "fp16", "int8"
    weights_sha256: str
    data_digest: str  # of the crops it was trained (or calibrated) on
    code_digest: str  # of the rooms that made it
    input_size: int = 112
    colour: str = "RGB"
    mean: float = 127.5
    scale: float = 127.5
    engine: Mapping[str, Any] = field(default_factory=dict)  # fingerprint; empty but for engines


def write_card(folder: Path, **values: Any) -> RecognizerCard:
    """Write `recognizer.yaml` beside the weights, which must be there; returns the card.

    `values` are the card's fields but `weights_sha256`, which is computed here.
    """
    digest = file_digest(folder / WEIGHTS[values["format"]])
    card = RecognizerCard(weights_sha256=digest, **values)
    write_yaml(folder / CARD, asdict(card))
    return card


def derive_card(folder: Path, source: RecognizerCard, **changes: Any) -> RecognizerCard:
    """Write the card of what was made from `source`: the same but for `changes` and the weights."""
    values = asdict(source) | changes
    del values["weights_sha256"]
    return write_card(folder, **values)


def read_card(folder: Path) -> RecognizerCard:
    """Read and check the card of a recognizer folder.

    Raises:
        EngineError: the folder has no card, the card has missing or unknown keys, or the weights
            are not the ones that the card was written for.
    """
    path = folder / CARD
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
        unknown = set(values) - {f.name for f in fields(RecognizerCard)}
        if unknown:
            raise EngineError(f"{path}: unknown keys {sorted(unknown)}: written by another version")
        card = RecognizerCard(**values)
        weights = folder / WEIGHTS[card.format]
        if file_digest(weights) != card.weights_sha256:
            raise EngineError(f"{weights}: its digest is not the one in {CARD}: make it again")
    except FileNotFoundError as error:
        raise EngineError(
            f"{folder} is not a recognizer: {Path(error.filename).name} is missing"
        ) from error
    except (TypeError, KeyError, yaml.YAMLError) as error:
        raise EngineError(f"{path} is not a recognizer card: {error}") from error
    return card


def to_input(crops: npt.NDArray[np.uint8], card: RecognizerCard) -> npt.NDArray[np.float32]:
    """Crops `(N, H, W, 3) uint8 RGB` to what the network takes, `(N, 3, H, W) float32`."""
    channels = crops if card.colour == "RGB" else crops[..., ::-1]
    scaled = (channels.astype(np.float32) - np.float32(card.mean)) / np.float32(card.scale)
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))
