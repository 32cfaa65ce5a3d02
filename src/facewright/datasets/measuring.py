"""What can be measured of a photo, once per image, over processes, straight from the shards."""

from collections.abc import Iterator
from pathlib import Path

import cv2
import pandas as pd

from facewright.datasets.form import read_bytes
from facewright.datasets.images import decode_rgb
from facewright.errors import DatasetError
from facewright.progress import progress
from facewright.workers import worker_pool

COLUMNS = ["decodable", "side", "aspect", "sharpness", "brightness"]
CHUNK = 64  # images per task
ALONE = 500  # images that one process measures before others have started

Measures = tuple[int, float, float, float, float]
Place = tuple[str, int, int]  # shard, offset, length

UNDECODABLE: Measures = (0, float("nan"), float("nan"), float("nan"), float("nan"))


def measure(data: bytes) -> Measures:
    """One image's measures, in the order of `COLUMNS`.

    decodable 1 or 0 (then the others are not a number); side: the shorter, pixels; aspect: longer
    ÷ shorter; sharpness: variance of the Laplacian (Pech-Pacheco et al., ICPR 2000); brightness:
    mean; both on grey, 0–255, at full size.
    """
    try:
        grey = cv2.cvtColor(decode_rgb(data), cv2.COLOR_RGB2GRAY)
    except DatasetError:
        return UNDECODABLE
    short, long = sorted(grey.shape)
    sharpness = float(cv2.meanStdDev(cv2.Laplacian(grey, cv2.CV_16S))[1][0, 0]) ** 2
    return 1, float(short), long / short, sharpness, float(cv2.mean(grey)[0])


def measure_images(data: Path, table: pd.DataFrame, *, label: str) -> pd.DataFrame:
    """Measure every row of `table` (shard relative to `data`, offset, length), in its order.

    Raises:
        DatasetError: a shard cannot be read.
        FacewrightError: a worker was killed, as for want of memory.
    """
    rows = list(zip(table["shard"], table["offset"], table["length"], strict=True))
    measured = progress(_measured(data, rows), total=len(rows), label=label)
    return pd.DataFrame(measured, columns=COLUMNS, index=table.index)


def _measured(data: Path, rows: list[Place]) -> Iterator[Measures]:
    if len(rows) <= ALONE:
        yield from _measure_chunk(data, rows)
        return
    chunks = [rows[i : i + CHUNK] for i in range(0, len(rows), CHUNK)]
    with worker_pool(f"measuring {data}", start=cv2.setNumThreads, arguments=(1,)) as pool:
        for part in pool.map(_measure_chunk, [data] * len(chunks), chunks):
            yield from part


def _measure_chunk(data: Path, rows: list[Place]) -> list[Measures]:
    # OpenCV would write a line or two of its own for every damaged image.
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        return [
            measure(read_bytes(data, shard=shard, offset=offset, length=length))
            for shard, offset, length in rows
        ]
    finally:
        cv2.utils.logging.setLogLevel(level)
