"""What a detector finds, which of it is the subject, and the steps detectors share."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Faces:
    """The K faces of one image, best score first. Pixels; (0, 0) is the centre of the first pixel.

    boxes      (K, 4) float32: x1, y1, x2, y2; may reach over the image's border
    landmarks  (K, 5, 2) float32: left eye, right eye, nose, left and right mouth corner, left and
               right as seen in the image
    scores     (K,) float32 in [0, 1]; only comparable between faces of one detector
    """

    boxes: Floats
    landmarks: Floats
    scores: Floats

    def __post_init__(self) -> None:
        count = len(self.scores)
        shapes = (self.boxes.shape, self.landmarks.shape, self.scores.shape)
        if shapes != ((count, 4), (count, 5, 2), (count,)):
            raise ValueError(f"boxes, landmarks and scores do not belong together: {shapes}")

    def __len__(self) -> int:
        return len(self.scores)


def no_faces() -> Faces:
    """The answer for an image without a face."""
    return Faces(
        boxes=np.zeros((0, 4), np.float32),
        landmarks=np.zeros((0, 5, 2), np.float32),
        scores=np.zeros(0, np.float32),
    )


def choose_face(faces: Faces, *, width: int, height: int) -> int | None:
    """Index of the photo's subject, or None if there is no face.

    The face with the largest box area minus twice the squared distance, in pixels, of its box
    centre from the image centre: a large face wins, but one that stands in the middle beats a
    somewhat larger one at the edge. LFW centres its subject in every photo, and its users choose
    so (facenet's `align_dataset_mtcnn.py`). Ties go to the better score.
    """
    if len(faces) == 0:
        return None
    boxes = faces.boxes.astype(np.float64)
    sides = boxes[:, 2:] - boxes[:, :2]
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2 - (np.array([width, height]) - 1) / 2
    return int(np.argmax(sides.prod(axis=1) - 2 * (centres**2).sum(axis=1)))
