"""Thumbnails of the pairs that a recognizer judges worst, for a page that may show faces."""

import base64
from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd

from facewright.evaluation.pairs import OK

MOST_PAIRS = 12  # of each kind
SIDE = 112  # px, the longest of a thumbnail
QUALITY = 80  # of its JPEG

# The crop of an image by its id: (S, S, 3) uint8, RGB.
Faces = Callable[[str], npt.NDArray[np.uint8]]


def worst_pairs(scores: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The least alike genuine pairs and the most alike impostor pairs, the worst first.

    Pairs in which a face was not found have no crop to show, and are left out.

    Args:
        scores: from `score_pairs`.
    """
    found = scores[scores["status"] == OK]
    genuine, impostor = found[found["label"] == 1], found[found["label"] == 0]
    return {
        "genuine": genuine.nsmallest(MOST_PAIRS, "similarity"),
        "impostor": impostor.nlargest(MOST_PAIRS, "similarity"),
    }


def gallery(pairs: pd.DataFrame, faces: Faces, *, threshold: float) -> str:
    """The pairs as HTML: two thumbnails each, and their similarity; no id and no name."""
    figures = []
    for _, pair in pairs.iterrows():
        images = "".join(
            f'<img alt="" width="84" height="84" src="{thumbnail(faces(pair[side]))}">'
            for side in ("a", "b")
        )
        told = "accepted" if pair["similarity"] >= threshold else "rejected"
        figures.append(
            f"<figure>{images}<figcaption>{pair['similarity']:.3f} {told}</figcaption></figure>"
        )
    return f'<div class="faces">{"".join(figures)}</div>'


def thumbnail(crop: npt.NDArray[np.uint8]) -> str:
    """A crop `(H, W, 3) uint8 RGB` as the address of a JPEG that the page carries in itself."""
    height, width = crop.shape[:2]
    scale = SIDE / max(height, width)
    small = np.ascontiguousarray(crop[..., ::-1])
    if scale < 1:
        size = max(1, round(width * scale)), max(1, round(height * scale))
        small = np.asarray(cv2.resize(small, size, interpolation=cv2.INTER_AREA), np.uint8)
    encoded = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1]
    return "data:image/jpeg;base64," + base64.b64encode(np.asarray(encoded).tobytes()).decode()
