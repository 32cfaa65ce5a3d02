"""YuNet (Wu et al. 2023) through OpenCV's `FaceDetectorYN`."""

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from facewright.detection.faces import Faces, no_faces
from facewright.detection.search import Detector, open_network, sort_faces
from facewright.errors import DetectorError

SMALLEST = 32  # pixels to which the smallest face is shrunk before the network looks
OVERLAP = 0.3  # over which the worse of two faces goes, OpenCV's default


class YuNet(Detector):
    """See `Detector`. In a face that fills the frame, a border halves its landmarks' error."""

    close = 0.6

    def __init__(self, *, model: Path | None, min_face: float, threshold: float):
        super().__init__(model=model, min_face=min_face, threshold=threshold)
        network = open_network(self.model, what="detector yunet")
        names = {output.name for output in network.get_outputs()}
        wanted = {
            f"{kind}_{step}" for kind in ("cls", "obj", "bbox", "kps") for step in (8, 16, 32)
        }
        if not wanted <= names:
            raise DetectorError(
                f"detector yunet: {model} is no YuNet network (no output "
                f"{min(wanted - names)}): use OpenCV Zoo's face_detection_yunet, 2023 or later"
            )
        # OpenCV 5 warns at each opening that its new engine has one target only.
        logging = cv2.utils.logging
        level = logging.setLogLevel(logging.LOG_LEVEL_ERROR)
        try:
            self._network = cv2.FaceDetectorYN.create(
                str(model), "", (320, 320), score_threshold=threshold, nms_threshold=OVERLAP
            )
        finally:
            logging.setLogLevel(level)

    def find(self, image: NDArray[np.uint8], *, smallest: float) -> Faces:
        """One look at `image` for faces from `smallest` pixels upwards."""
        height, width = image.shape[:2]
        scale = min(1.0, SMALLEST / smallest)
        size = (max(round(width * scale), 1), max(round(height * scale), 1))
        pixels = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
        if size != (width, height):
            pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
        self._network.setInputSize(size)
        rows = self._network.detect(pixels)[1]
        if rows is None:
            return no_faces()
        # Edges to pixel centres, as in `Faces`; a box comes as corner and sides.
        back = np.array([width / size[0], height / size[1]], np.float32)
        low, sides = rows[:, :2] * back - 0.5, rows[:, 2:4] * back
        marks = rows[:, 4:14].reshape(-1, 5, 2) * back - 0.5
        return sort_faces(np.concatenate([low, low + sides], axis=1), marks, rows[:, 14])
