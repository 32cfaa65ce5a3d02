"""Find faces and five landmarks in a photo: MTCNN, YuNet or SCRFD, and the choice of a subject."""

from facewright.detection.faces import Faces, choose_face
from facewright.detection.load import DETECTORS, load_detector
from facewright.detection.search import Detector

__all__ = ["DETECTORS", "Detector", "Faces", "choose_face", "load_detector"]
