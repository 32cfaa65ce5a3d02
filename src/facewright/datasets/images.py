"""From an image file's bytes to pixels: the only decoder, so that every stage sees the same face."""

import io
from pathlib import PurePosixPath
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from facewright.errors import DatasetError

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})
# Named, so that nothing else is tried: some of Pillow's formats start other programs.
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")


def is_image_name(name: str) -> bool:
    """Whether a file's name ends like an image's, and is not hidden (`._photo.jpg` of a Mac)."""
    path = PurePosixPath(name)
    hidden = path.name.startswith(".") or "__MACOSX" in path.parts
    return path.suffix.lower() in SUFFIXES and not hidden


def image_size(data: bytes) -> tuple[int, int]:
    """(width, height) in pixels as the header says, before EXIF orientation; (0, 0) for no image.

    The pixels are not read: a file that is cut short still has its size.
    """
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            return image.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return 0, 0


def decode_rgb(data: bytes) -> npt.NDArray[np.uint8]:
    """Decode an image file, turned upright by its EXIF orientation.

    Returns (H, W, 3) uint8 RGB; grey, CMYK, 16-bit and transparent images are converted.

    Raises:
        DatasetError: it is no image, is cut short, or is too large to be a photo.
    """
    image: Any = None
    # The header first: a file of some kilobytes may claim billions of pixels.
    if image_size(data) != (0, 0):
        try:
            image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
        except cv2.error:
            image = None
    if image is None:
        raise DatasetError("the image cannot be decoded: it is damaged, cut short, or no image")
    decoded: npt.NDArray[np.uint8] = image
    return decoded
