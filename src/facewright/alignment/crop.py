"""Cut a face out of a photo, upright and at the recognizer's size."""

import math

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from facewright.alignment.similarity import ARCFACE_TEMPLATE, similarity_transform

MOST_SAMPLES = 32  # per side of a crop's pixel, when shrinking


def crop_face(image: NDArray[np.uint8], landmarks: ArrayLike, size: int = 112) -> NDArray[np.uint8]:
    """The face with its landmarks brought onto the ArcFace template: (size, size, 3) uint8 RGB.

    Bilinear; a face that shrinks to less than half is sampled several times per pixel and
    averaged, so that fine detail does not turn into false patterns. What lies outside the image is
    black, as in the crops that published recognizers were trained on.

    Args:
        image: (H, W, 3) uint8 RGB.
        landmarks: (5, 2), pixels from the centre of the first pixel, in the order of `Faces`.
        size: side of the crop in pixels; the template is scaled to it.

    Raises:
        ValueError: the landmarks determine no transform.
    """
    # The template scales about the image's corner, which is half a pixel before the first centre.
    template = (ARCFACE_TEMPLATE + 0.5) * (size / 112) - 0.5
    matrix = similarity_transform(landmarks, template)[0]
    if not np.isfinite(matrix).all():
        raise ValueError("five landmarks that coincide or are not finite determine no crop")
    scale = math.hypot(matrix[0, 0], matrix[1, 0])
    samples = min(math.ceil(1 / scale), MOST_SAMPLES) if scale < 0.5 else 1
    fine = matrix * samples
    fine[:, 2] += (samples - 1) / 2
    crop = cv2.warpAffine(
        image,
        fine,
        (size * samples, size * samples),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=(0, 0, 0),
    )
    if samples > 1:
        crop = cv2.resize(crop, (size, size), interpolation=cv2.INTER_AREA)
    return np.asarray(crop, np.uint8)
