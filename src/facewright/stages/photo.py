"""One photo to its crop, in the worker processes of align."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from facewright.alignment import ARCFACE_TEMPLATE, crop_face, crop_quality
from facewright.datasets.form import read_bytes
from facewright.datasets.images import decode_rgb
from facewright.detection import Detector, choose_face, load_detector
from facewright.errors import DatasetError

SIZE = 112  # px, the input of every network here (ArcFace)
OUTSIDE = 0.25  # of a photo's side: stated landmarks farther out belong to another picture
# What a row says of its photo, and what its crop has anew.
PLACE = {"shard", "offset", "length", "sha256", "width", "height", "landmarks", "aligned"}
Row = dict[str, Any]


@dataclass(frozen=True)
class Face:
    """Where the face of a photo is, px; without box and score where its source states it."""

    landmarks: NDArray[np.floating[Any]]  # (5, 2)
    box: list[float] | None = None
    score: float | None = None
    aligned: bool = False  # the photo is the crop: it stays as it is


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
    there = read_bytes(data, shard=row["shard"], offset=row["offset"], length=row["length"])
    try:
        image = decode_rgb(there)
    except DatasetError as error:
        raise DatasetError(f"{row['dataset']}, {row['id']!r}: {error}") from error
    face = _find(image, row)
    if isinstance(face, str):
        return kept | nothing | {"status": "no_face", "reason": face}, None
    crop = image if face.aligned else crop_face(image, face.landmarks, size=SIZE)
    found = {
        "landmarks": np.ravel(face.landmarks).tolist(),
        "box": face.box,
        "score": face.score,
        "quality": crop_quality(crop, face.landmarks).total,
        "width": SIZE,
        "height": SIZE,
    }
    png = cv2.imencode(".png", crop[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 1])[1]
    return kept | found, png.tobytes()


def _find(image: NDArray[np.uint8], row: Row) -> Face | str:
    """The photo's face, or why there is none."""
    if _believe and row.get("aligned") is True and image.shape[:2] == (SIZE, SIZE):
        return Face(ARCFACE_TEMPLATE, aligned=True)
    if _believe and row.get("landmarks") is not None:
        points = np.array(row["landmarks"], np.float64).reshape(5, 2)
        side = np.array([image.shape[1], image.shape[0]])
        inside = (points >= -OUTSIDE * side) & (points <= (1 + OUTSIDE) * side)
        if not inside.all() or np.linalg.norm(points[1] - points[0]) < 1:
            return "the landmarks that its source states lie outside the photo or in one place"
        return Face(points)
    faces = _detector.detect(image)
    chosen = choose_face(faces, width=image.shape[1], height=image.shape[0])
    if chosen is None:
        return "no face was found"
    box, score = faces.boxes[chosen].tolist(), float(faces.scores[chosen])
    return Face(faces.landmarks[chosen], box=box, score=score)
