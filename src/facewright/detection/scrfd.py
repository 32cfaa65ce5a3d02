"""SCRFD (Guo et al. 2022) on ONNX Runtime: networks exported with landmarks (`…_kps`)."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from facewright.detection.faces import Faces, Floats, no_faces
from facewright.detection.search import GREY, Detector, open_network, sort_faces, suppress
from facewright.errors import DetectorError

SMALLEST = 48  # pixels to which the smallest face is shrunk before the network looks
COARSEST = 32  # the network's largest stride: sides of its input are multiples of it
OVERLAP = 0.4  # over which the worse of two faces goes, as in InsightFace


class Scrfd(Detector):
    """See `Detector`."""

    def __init__(self, *, model: Path | None, min_face: float, threshold: float):
        super().__init__(model=model, min_face=min_face, threshold=threshold)
        self._network = open_network(self.model, what="detector scrfd")
        self._outputs = _outputs(self._network, model)
        height, width = self._network.get_inputs()[0].shape[2:]
        # A network that was exported for one size only gets that size, padded.
        self._fixed = (width, height) if isinstance(width, int) else None

    def find(self, image: NDArray[np.uint8], *, smallest: float) -> Faces:
        """One look at `image` for faces from `smallest` pixels upwards."""
        height, width = image.shape[:2]
        scale = min(1.0, SMALLEST / smallest)
        if self._fixed:
            scale = min(scale, self._fixed[0] / width, self._fixed[1] / height)
        size = (max(round(width * scale), 1), max(round(height * scale), 1))
        canvas_size = self._fixed or tuple(-(-side // COARSEST) * COARSEST for side in size)
        canvas = np.full((canvas_size[1], canvas_size[0], 3), GREY, np.uint8)
        canvas[: size[1], : size[0]] = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        batch = (canvas.transpose(2, 0, 1)[None].astype(np.float32) - 127.5) / 128
        names = [name for stride in self._outputs.values() for name in stride]
        values = self._network.run(names, {self._network.get_inputs()[0].name: batch})
        boxes, marks, scores = [], [], []
        for index, stride in enumerate(self._outputs):
            odds, sides, points = (
                v.reshape(-1, v.shape[-1]) for v in values[3 * index : 3 * index + 3]
            )
            found = np.flatnonzero(odds[:, 0] > self.threshold)
            # Several anchors sit at each cell; they differ in what they learned, not in place.
            columns, rows = (side // stride for side in canvas_size)
            row, column = np.divmod(found // (len(odds) // (columns * rows)), columns)
            centre = np.stack([column, row], axis=1).astype(np.float32) * stride
            sides = sides[found] * stride
            boxes.append(np.concatenate([centre - sides[:, :2], centre + sides[:, 2:]], axis=1))
            marks.append(centre[:, None] + points[found].reshape(-1, 5, 2) * stride)
            scores.append(odds[found, 0])
        box: Floats = np.concatenate(boxes)
        mark: Floats = np.concatenate(marks)
        score: Floats = np.concatenate(scores)
        kept = suppress(box, score, overlap=OVERLAP)
        if len(kept) == 0:
            return no_faces()
        # Edges to pixel centres, as in `Faces`.
        back = np.array([width / size[0], height / size[1]], np.float32)
        return sort_faces(box[kept] * np.tile(back, 2) - 0.5, mark[kept] * back - 0.5, score[kept])


def _outputs(network: Any, model: Path | None) -> dict[int, list[str]]:
    """Names of the scores, boxes and landmarks of each stride, told apart by their last sides."""
    by_size: dict[Any, list[str]] = {1: [], 4: [], 10: []}
    for output in network.get_outputs():
        by_size.setdefault(output.shape[-1] if output.shape else None, []).append(output.name)
    scores, boxes, marks = by_size.pop(1), by_size.pop(4), by_size.pop(10)
    if len(scores) == len(boxes) == 3 and not marks and not by_size:
        raise DetectorError(
            f"detector scrfd: {model} gives boxes without landmarks: use a network whose name "
            "ends in kps"
        )
    if not len(scores) == len(boxes) == len(marks) == 3 or by_size:
        raise DetectorError(
            f"detector scrfd: {model} is no SCRFD network (nine outputs, of 1, 4 and 10 values "
            "for each of three strides): give another file"
        )
    return dict(zip((8, 16, 32), map(list, zip(scores, boxes, marks, strict=True)), strict=True))
