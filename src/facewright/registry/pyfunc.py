"""How MLflow loads a registered version: crops in, embeddings of what is served out.

    model = mlflow.pyfunc.load_model("models:/facewright@champion")
    embeddings = model.predict(crops)

MLflow imports this module by its name, which stands in the version's `MLmodel` (see `packaging`).
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from facewright.engines import load_recognizer
from facewright.engines.recognizer import Recognizer
from facewright.errors import EngineError, RegistryError
from facewright.registry.versions import SERVE


class Embedder:
    """The recognizer that a version serves."""

    def __init__(self, recognizer: Recognizer):
        self.recognizer = recognizer

    def predict(
        self, images: Any, params: Mapping[str, Any] | None = None
    ) -> npt.NDArray[np.float32]:
        """Embeddings of aligned crops.

        Args:
            images: `(N, 112, 112, 3) uint8 RGB`, or a list of N such crops. Nested lists of whole
                numbers in [0, 255], as a scoring server gets them, are taken too.
            params: `flip`: average each embedding with that of the mirror image; MLflow fills in
                what the version was evaluated with, for which its thresholds hold.

        Returns:
            `(N, E) float32` of Euclidean length 1.

        Raises:
            EngineError: `images` are something else.
        """
        flip = bool((params or {}).get("flip", False))
        return self.recognizer.embed(_crops(images, self.recognizer.card.input_size), flip=flip)


def _load_pyfunc(path: str, model_config: Mapping[str, Any] | None = None) -> Embedder:
    """Called by MLflow with the folder of a version.

    Args:
        model_config: `runtime`: what runs an ONNX recognizer; the one that the version was
            evaluated in, as its `MLmodel` says. Versions that were made before it said so have
            none: ONNX Runtime.

    Raises:
        RegistryError: it is no version's folder.
        EngineError: the recognizer is damaged, or this machine cannot run it.
    """
    folder = Path(path)
    try:
        name = json.loads((folder / "version.json").read_text(encoding="utf-8"))[SERVE]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RegistryError(f"{folder} is no registered version: version.json is wrong") from error
    runtime = str((model_config or {}).get("runtime", "onnxruntime"))
    return Embedder(load_recognizer(folder / "recognizers" / name, runtime=runtime))


def _crops(images: Any, side: int) -> npt.NDArray[np.uint8]:
    try:
        crops = np.asarray(images)
    except ValueError as error:  # crops of several sizes
        raise EngineError(f"the images differ in shape: each is ({side}, {side}, 3)") from error
    if crops.ndim and len(crops) == 0:
        return np.zeros((0, side, side, 3), np.uint8)
    if crops.ndim != 4 or crops.shape[1:] != (side, side, 3):
        raise EngineError(
            f"images have the shape {crops.shape}: give aligned crops (N, {side}, {side}, 3)"
        )
    if crops.dtype == np.uint8:
        return crops
    if not np.issubdtype(crops.dtype, np.integer) or crops.min() < 0 or crops.max() > 255:
        raise EngineError(f"images are {crops.dtype}: give uint8 in [0, 255], RGB, not scaled")
    return crops.astype(np.uint8)
