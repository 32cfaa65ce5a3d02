"""What detectors share: a second look, suppression of doubles, opening an ONNX file."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from facewright.detection.faces import Faces, Floats
from facewright.errors import DetectorError

GREY = 128  # nearly zero once normalized: the networks see less of an edge than with black
MARGIN = 0.5  # border of the second look, of the image's shorter side
FINER = 0.5  # smallest face of the second look over that of the first


class Detector(ABC):
    """Finds faces on one thread.

    All faces from `min_face` of the image's shorter side upwards are looked for. If there are
    none, a second look is for faces half as large, and puts a grey border around the image:
    networks know faces with some surroundings, and miss those that fill the frame or are cut off.
    A kind that finds these but places their landmarks badly says by `close` from which share of
    the shorter side on a face gets the second look too.
    """

    close: float = float("inf")

    def __init__(self, *, model: Path | None, min_face: float, threshold: float):
        self.model, self.min_face, self.threshold = model, min_face, threshold
        cv2.setNumThreads(1)

    def detect(self, image: NDArray[np.uint8]) -> Faces:
        """Find the faces in `image`, (H, W, 3) uint8 RGB."""
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            raise ValueError(f"an image is (H, W, 3) uint8, not {image.shape} {image.dtype}")
        side = min(image.shape[:2])
        faces = self.find(image, smallest=self.min_face * side)
        if (
            len(faces)
            and float((faces.boxes[:, 2:] - faces.boxes[:, :2]).max()) < self.close * side
        ):
            return faces
        border = max(round(MARGIN * side), 1)
        edges = (border, border)
        wide = np.pad(image, (edges, edges, (0, 0)), constant_values=GREY)
        again = self.find(wide, smallest=FINER * self.min_face * side)
        if len(again) == 0:
            return faces
        return Faces(
            boxes=again.boxes - border, landmarks=again.landmarks - border, scores=again.scores
        )

    @abstractmethod
    def find(self, image: NDArray[np.uint8], *, smallest: float) -> Faces:
        """One look at `image` for faces from `smallest` pixels upwards."""


def sort_faces(boxes: Floats, landmarks: Floats, scores: Floats) -> Faces:
    """`Faces` with the best score first."""
    order = np.argsort(-scores, kind="stable")
    return Faces(
        boxes=boxes[order].astype(np.float32),
        landmarks=landmarks[order].astype(np.float32),
        scores=scores[order].astype(np.float32),
    )


def open_network(path: Path | None, *, what: str) -> Any:
    """An `onnxruntime.InferenceSession` on one thread of the CPU.

    Raises:
        DetectorError: the file is missing or no ONNX network; `what` says what it should be.
    """
    import onnxruntime

    if path is None:
        raise DetectorError(f"{what}: it needs an ONNX file: give its path as model")
    if not path.is_file():
        raise DetectorError(f"{what}: {path} is missing: give the path of an ONNX file")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(
            str(path), sess_options=options, providers=["CPUExecutionProvider"]
        )
    # ONNX Runtime's exceptions have no base of their own.
    except Exception as error:
        raise DetectorError(
            f"{what}: {path} cannot be opened as an ONNX network: give another file"
        ) from error


def suppress(
    boxes: Floats, scores: Floats, *, overlap: float, smaller: bool = False
) -> NDArray[np.intp]:
    """Non-maximum suppression: indices of the boxes to keep, best score first.

    A box goes when it overlaps a better kept one by more than `overlap`: intersection over union,
    or over the smaller of the two areas with `smaller`. Only the best 1,000 boxes are looked at,
    which bounds time and memory on an image full of candidates.
    """
    order = np.argsort(-scores, kind="stable")[:1000]
    kept = boxes[order].astype(np.float64)
    low = np.maximum(kept[:, None, :2], kept[None, :, :2])
    high = np.minimum(kept[:, None, 2:], kept[None, :, 2:])
    shared = np.maximum(high - low, 0).prod(axis=2)
    area = np.maximum(kept[:, 2:] - kept[:, :2], 0).prod(axis=1)
    if smaller:
        against = np.minimum(area[:, None], area[None, :])
    else:
        against = area[:, None] + area[None, :] - shared
    # Written without a division: a box without area overlaps nothing.
    collides = shared > overlap * against
    alive = np.ones(len(order), bool)
    for index in range(len(order)):
        if alive[index]:
            alive[index + 1 :] &= ~collides[index, index + 1 :]
    return order[alive]
