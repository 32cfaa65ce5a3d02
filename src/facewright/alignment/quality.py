"""How good a crop is, by a formula that can be read."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

SHARP = 12.0  # mean absolute Laplacian, in grey levels, from which a crop counts as sharp
WIDE = 35.2  # eye distance on the ArcFace template, pixels: below it the crop was enlarged


@dataclass(frozen=True)
class Quality:
    """Parts of a crop's quality, higher is better; all in [0, 1] but the eye distance.

    sharpness     mean absolute Laplacian of the luma over 12 grey levels, at most 1
    exposure      4 m (1 - m) times the share of pixels that are neither below 8 nor above 247,
                  where m is the mean luma in [0, 1]
    eye_distance  in pixels of the photo
    frontalness   (1 - 2 |x - 0.5|) (1 - 2 |y - 0.5|), where x is the place of the nose between the
                  left and the right side of eyes and mouth, and y between eyes and mouth
    total         geometric mean of sharpness, exposure, frontalness and min(1, eye_distance / 35.2)

    A heuristic to sort and filter by; it says nothing about how well a recognizer will do.
    """

    sharpness: float
    exposure: float
    eye_distance: float
    frontalness: float
    total: float


def crop_quality(crop: NDArray[np.uint8], landmarks: ArrayLike) -> Quality:
    """Quality of `crop`, (S, S, 3) uint8 RGB, cut at `landmarks`, (5, 2) pixels of the photo.

    Sharpness and exposure look at the middle of the crop, a quarter of its side in from each edge:
    the face, not what is behind it.
    """
    points = np.asarray(landmarks, np.float64)
    if crop.ndim != 3 or crop.shape[2] != 3 or points.shape != (5, 2):
        raise ValueError(f"a crop {crop.shape} and landmarks {points.shape} do not fit")
    edge = crop.shape[0] // 4
    middle = np.ascontiguousarray(crop[edge : crop.shape[0] - edge, edge : crop.shape[1] - edge])
    luma = cv2.cvtColor(middle, cv2.COLOR_RGB2GRAY)
    detail = cv2.Laplacian(luma, cv2.CV_32F, borderType=cv2.BORDER_REPLICATE)
    sharpness = min(1.0, float(np.abs(detail).mean()) / SHARP)
    level = float(luma.mean()) / 255
    exposure = 4 * level * (1 - level) * float(((luma >= 8) & (luma <= 247)).mean())
    distance = float(np.linalg.norm(points[1] - points[0]))
    frontal = _frontalness(points)
    total = (sharpness * exposure * frontal * min(1.0, distance / WIDE)) ** 0.25
    return Quality(
        sharpness=sharpness,
        exposure=exposure,
        eye_distance=distance,
        frontalness=frontal,
        total=float(total),
    )


def _frontalness(points: NDArray[np.float64]) -> float:
    left_eye, right_eye, nose, left_mouth, right_mouth = points
    across = _share(nose, (left_eye + left_mouth) / 2, (right_eye + right_mouth) / 2)
    down = _share(nose, (left_eye + right_eye) / 2, (left_mouth + right_mouth) / 2)
    return max(0.0, 1 - 2 * abs(across - 0.5)) * max(0.0, 1 - 2 * abs(down - 0.5))


def _share(
    point: NDArray[np.float64], start: NDArray[np.float64], end: NDArray[np.float64]
) -> float:
    """Place of the point's projection between `start` (0) and `end` (1); 0 where they coincide."""
    way = end - start
    length = float(way @ way)
    return float((point - start) @ way) / length if length > 0 else 0.0
