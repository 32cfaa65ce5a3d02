"""From an image file's bytes to pixels: one decoder, so that every stage sees the same face."""

import io
import posixpath
import threading
import warnings
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from facewright.errors import DatasetError

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})
MAX_PIXELS = 100_000_000  # the largest cameras; more is an attack on the memory
# Named, so that nothing else is tried: some of Pillow's formats start other programs.
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")
_MAGIC = (
    (b"\xff\xd8", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
)
_SYSTEM = frozenset({"__MACOSX", "@eaDir"})  # folders of macOS's archives and of Synology's servers
_QUIET = threading.Lock()  # Python's filters of warnings are all threads'


def is_image_name(name: str) -> bool:
    """Whether a path ends like an image's, and neither it nor a folder above it is hidden."""
    return posixpath.splitext(name)[1].lower() in SUFFIXES and not is_hidden(name)


def is_hidden(name: str) -> bool:
    """Whether a part of a path is what systems put beside photos: `.thumbnails`, `._photo.jpg`."""
    return any(part.startswith(".") or part in _SYSTEM for part in name.split("/"))


def image_format(start: bytes) -> str | None:
    """JPEG, PNG, WEBP, BMP or TIFF, as the first 12 bytes of a file say; None for anything else."""
    if start[:4] == b"RIFF":
        return "WEBP" if start[8:12] == b"WEBP" else None
    return next((name for magic, name in _MAGIC if start.startswith(magic)), None)


def image_size(data: bytes) -> tuple[int, int]:
    """(width, height) in pixels as the header says, before EXIF orientation; (0, 0) for no image.

    The pixels are not read: a file that is cut short still has its size.
    """
    if data.startswith(b"\xff\xd8"):
        return _jpeg_size(data)
    try:
        with _QUIET, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a damaged TIFF has many
            with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
                return image.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return 0, 0


def _jpeg_size(data: bytes) -> tuple[int, int]:
    """Walk the segments to the frame header (ISO/IEC 10918-1, B.2.2); ten times Pillow's speed."""
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # fill bytes may stand before a marker
            at += 1
            continue
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = (
                int.from_bytes(data[at + 5 : at + 7]),
                int.from_bytes(data[at + 7 : at + 9]),
            )
            return (width, height) if width and height else (0, 0)
        if marker in (0xD9, 0xDA):  # the image begins or ends, and has no size
            break
        at += (
            2
            if marker == 0x01 or 0xD0 <= marker <= 0xD7
            else 2 + int.from_bytes(data[at + 2 : at + 4])
        )
    return 0, 0


def decode_rgb(data: bytes) -> npt.NDArray[np.uint8]:
    """Decode an image file, turned upright by its EXIF orientation.

    Returns (H, W, 3) uint8 RGB; grey, CMYK, 16-bit and transparent images are converted.

    Raises:
        DatasetError: it is no image, is cut short, or is too large to be a photo.
    """
    image: Any = None
    # The header first: a file of some kilobytes may claim billions of pixels.
    width, height = image_size(data)
    if 0 < width * height <= MAX_PIXELS:
        try:
            image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
        except cv2.error:
            image = None
    if image is None:
        raise DatasetError("the image cannot be decoded: it is damaged, cut short, or no image")
    decoded: npt.NDArray[np.uint8] = image
    return decoded
