"""Detectors by name."""

from pathlib import Path

from facewright.detection.mtcnn import Mtcnn
from facewright.detection.scrfd import Scrfd
from facewright.detection.search import Detector
from facewright.detection.yunet import YuNet
from facewright.errors import DetectorError

DETECTORS: dict[str, type[Detector]] = {"mtcnn": Mtcnn, "yunet": YuNet, "scrfd": Scrfd}


def load_detector(
    name: str, *, model: Path | None = None, min_face: float, threshold: float
) -> Detector:
    """Open the detector `name`.

    Args:
        name: `mtcnn`, `yunet` or `scrfd`.
        model: ONNX file of a YuNet or SCRFD network; None for `mtcnn`, which brings its own.
        min_face: smallest face looked for, as a fraction of the image's shorter side, in (0, 1].
            All faces from there on are found; if there are none, one more look goes to half of it.
        threshold: score in (0, 1) from which a candidate counts as a face.

    Detectors work on one thread: go over processes for speed. Opening one keeps OpenCV to one
    thread in this process.

    Raises:
        DetectorError: an unknown name, a value out of range, or a file that is missing or wrong.
    """
    if name not in DETECTORS:
        raise DetectorError(f"detector {name}: unknown: use one of {', '.join(DETECTORS)}")
    if not (0 < min_face <= 1 and 0 < threshold < 1):
        raise DetectorError(
            f"detector {name}: min_face {min_face} and threshold {threshold} must lie between "
            "0 and 1"
        )
    return DETECTORS[name](model=model, min_face=min_face, threshold=threshold)
