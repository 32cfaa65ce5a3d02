"""One photo to its crop, in the worker processes of align."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from facewright.alignment import ARCFACE_TEMPLATE, crop_face, crop_quality
from facewright.datasets.form import read_bytes
from facewright.datasets.images import decode_rgb
from facewright.detection import Detector, choose_face, load_detector

SIZE = 112  # px, the input of every network here (ArcFace)
OUTSIDE = 0.25  # of a photo's side: stated landmarks farther out belong to another picture
# What a row says of its photo, and what its crop has anew.
PLACE = {"shard", "offset", "length", "sha256", "width", "height", "landmarks", "aligned"}
Row = dict[str, Any]

_detector: Detector  # one per worker process
_believe: bool


def start_worker(options: Mapping[str, Any], believe: bool) -> None:
    """Prepare a worker; `believe`: landmarks that a source states replace detection."""
    global _detector, _believe
    cv2.setNumThreads(1)
    _detector, _believe = load_detector(**options), believe


def align_photos(task: tuple[Path, list[Row]]) -> list[tuple[Row, bytes | None]]:
    """Photos to their manifest rows and PNG bytes (none without a face)."""
    data, rows = task
    return [_align_photo(data, row) for row in rows]


def _align_photo(data: Path, row: Row) -> tuple[Row, bytes | None]:
    kept = {name: value for name, value in row.items() if name not in PLACE}
    kept["photo_sha256"] = row["sha256"]
    nothing = {"score": None, "quality": None, "box": None, "landmarks": None}
    if row["status"] != "ok":
        return kept | nothing, None
    image = decode_rgb(
        read_bytes(data, shard=row["shard"], offset=row["offset"], length=row["length"])
    )
    found, why = _find(image, row)
    if found is None:
        return kept | nothing | {"status": "no_face", "reason": why}, None
    landmarks = found["landmarks"]
    crop = image if landmarks is ARCFACE_TEMPLATE else crop_face(image, landmarks, size=SIZE)
    found |= {
        "quality": crop_quality(crop, landmarks).total,
        "landmarks": np.ravel(landmarks).tolist(),
        "width": SIZE,
        "height": SIZE,
    }
    png = cv2.imencode(".png", crop[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 1])[1]
    return kept | found, png.tobytes()


def _find(image: NDArray[np.uint8], row: Row) -> tuple[Row | None, str]:
    """Landmarks, box and score of the photo's face, or none and why.

    A crop that its source has aligned stays as it is: its landmarks are the template's.
    """
    if _believe and row.get("aligned") is True and image.shape[:2] == (SIZE, SIZE):
        return {"landmarks": ARCFACE_TEMPLATE, "box": None, "score": None}, ""
    if _believe and row.get("landmarks") is not None:
        points = np.array(row["landmarks"], np.float64).reshape(5, 2)
        side = np.array([image.shape[1], image.shape[0]])
        inside = (points >= -OUTSIDE * side) & (points <= (1 + OUTSIDE) * side)
        if not inside.all() or np.linalg.norm(points[1] - points[0]) < 1:
            return (
                None,
                "the landmarks that its source states lie outside the photo or in one place",
            )
        return {"landmarks": points, "box": None, "score": None}, ""
    faces = _detector.detect(image)
    chosen = choose_face(faces, width=image.shape[1], height=image.shape[0])
    if chosen is None:
        return None, "no face was found"
    return {
        "landmarks": faces.landmarks[chosen],
        "box": faces.boxes[chosen].tolist(),
        "score": float(faces.scores[chosen]),
    }, ""
