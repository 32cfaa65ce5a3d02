"""What can be measured of a photo, once per image, over processes, straight from the shards."""

import io
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image

from facewright.datasets.form import read_bytes
from facewright.datasets.images import decode_rgb
from facewright.datasets.perceptual import HASH_BYTES, image_hash
from facewright.errors import DatasetError
from facewright.progress import progress
from facewright.workers import map_in_order, usable_cores, worker_pool

MEASURES = np.dtype(
    [
        ("decodable", np.int8),
        ("animated", np.int8),
        ("side", np.float32),
        ("aspect", np.float64),
        ("sharpness", np.float64),
        ("brightness", np.float64),
        ("colour", np.float64),
        ("hashed", np.int8),
        ("hash", np.uint8, (HASH_BYTES,)),
    ]
)
"""One image's measures. The hash is no column of a table: see `measure_images`."""

CHUNK = 64  # images per task
ALONE = 500  # images that one process measures before others have started
COLOUR_SIDE = 512  # px: of larger photos colour is measured on every n-th pixel

Measures = npt.NDArray[np.void]  # of dtype MEASURES
Chunk = tuple[list[str], list[int], list[int]]  # shards, offsets, lengths


def measure(data: bytes) -> Measures:
    """One image's measures: an array of shape () and dtype `MEASURES`.

    decodable: 1 or 0 (then the others are not a number); animated: 1 where the file has more
    pictures than the first, which alone is used; side: the shorter, pixels; aspect: longer ÷
    shorter; sharpness: variance of the Laplacian (Pech-Pacheco et al., ICPR 2000); brightness:
    mean; both on grey, 0–255, at full size; colour: colourfulness (Hasler and Süsstrunk, SPIE
    2003), 0 for grey, some 30 to 60 for most photos; hash: see `perceptual.image_hash`.
    """
    row = np.zeros((), MEASURES)
    try:
        rgb = decode_rgb(data)
    except DatasetError:
        for name in ("side", "aspect", "sharpness", "brightness", "colour"):
            row[name] = np.nan
        return row
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    short, long = sorted(grey.shape)
    row["decodable"], row["animated"] = 1, _animated(data)
    row["side"], row["aspect"] = short, long / short
    row["sharpness"] = float(cv2.meanStdDev(cv2.Laplacian(grey, cv2.CV_16S))[1][0, 0]) ** 2
    row["brightness"] = cv2.mean(grey)[0]
    row["colour"] = _colourfulness(rgb)
    if (hashed := image_hash(grey)) is not None:
        row["hashed"], row["hash"] = 1, np.frombuffer(hashed, np.uint8)
    return row


def _animated(data: bytes) -> bool:
    if data.startswith(b"\xff\xd8"):  # JPEG, by far the most
        return False
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "WEBP", "TIFF")) as image:
            return bool(getattr(image, "is_animated", False))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return False


def _colourfulness(rgb: npt.NDArray[np.uint8]) -> float:
    step = max(1, min(rgb.shape[:2]) // COLOUR_SIDE)
    red, green, blue = np.moveaxis(rgb[::step, ::step].astype(np.int16), 2, 0)
    means, deviations = cv2.meanStdDev(np.stack([2 * (red - green), red + green - 2 * blue], 2))
    # Both opponent axes stand at twice their size, to stay whole numbers.
    return float(np.hypot(*deviations[:, 0]) + 0.3 * np.hypot(*means[:, 0])) / 2


def measure_images(
    data: Path, table: pd.DataFrame, *, label: str
) -> tuple[pd.DataFrame, npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
    """Measure every row of `table` (shard relative to `data`, offset, length), in its order.

    Returns a table of the measures with the index of `table`, the hashes (N, HASH_BYTES) uint8,
    and (N,) bool: which images have a hash.

    Raises:
        DatasetError: a shard cannot be read.
        FacewrightError: a worker was killed, as for want of memory.
    """
    measured = np.empty(len(table), MEASURES)
    end = 0
    rows = progress(_measured(data, table), total=len(table), label=label)
    for end, row in enumerate(rows, 1):
        measured[end - 1] = row
    assert end == len(table)
    names = [name for name in MEASURES.names or () if name not in ("hash", "hashed")]
    columns = pd.DataFrame({name: measured[name].copy() for name in names}, index=table.index)
    return columns, measured["hash"].copy(), measured["hashed"] == 1


def _measured(data: Path, table: pd.DataFrame) -> Iterator[Measures]:
    if len(table) <= ALONE:
        for chunk in _chunks(table):
            yield from _measure_chunk(data, chunk)
        return
    measure_chunk = partial(_measure_chunk, data)
    with worker_pool(f"measuring {data}", start=cv2.setNumThreads, arguments=(1,)) as pool:
        for part in map_in_order(pool, measure_chunk, _chunks(table), ahead=4 * usable_cores()):
            yield from part


def _chunks(table: pd.DataFrame) -> Iterable[Chunk]:
    for start in range(0, len(table), CHUNK):
        part = table.iloc[start : start + CHUNK]
        yield part["shard"].tolist(), part["offset"].tolist(), part["length"].tolist()


def _measure_chunk(data: Path, chunk: Chunk) -> Measures:
    measured = np.empty(len(chunk[0]), MEASURES)
    with quiet_opencv():
        for k, (shard, offset, length) in enumerate(zip(*chunk, strict=True)):
            # A row may have no bytes: a crop of a photo in which no face was found.
            there = read_bytes(data, shard=shard, offset=offset, length=length) if length else b""
            measured[k] = measure(there)
    return measured


@contextmanager
def quiet_opencv() -> Iterator[None]:
    """Keep OpenCV from writing a line or two of its own for every damaged image."""
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(level)
