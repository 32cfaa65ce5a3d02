"""Small photos, and a `data/` folder of them, for the tests of validation."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd

from facewright.datasets.importing import import_dataset
from facewright.datasets.validation.rules import Limits
from facewright.datasets.validation.validate import validate_datasets

LIMITS: dict[str, Any] = {
    "min_side": 40,
    "max_aspect": 2.0,
    "min_sharpness": 5.0,
    "min_brightness": 16.0,
    "max_brightness": 240.0,
    "min_colour": None,
    "min_images_per_identity": 2,
    "max_images_per_identity": None,
    "max_source_share": None,
    "max_overlap": 1.0,
    "max_drift": 0.25,
}


def photo(seed: int, *, height: int = 60, width: int = 50, low: int = 60, high: int = 200) -> bytes:
    """A PNG of noise: sharp, coloured, and like no other."""
    pixels = np.random.default_rng(seed).integers(low, high, (height, width, 3), dtype=np.uint8)
    return cv2.imencode(".png", pixels)[1].tobytes()


def flat(grey: int) -> bytes:
    """A PNG of one grey."""
    return cv2.imencode(".png", np.full((60, 50, 3), grey, np.uint8))[1].tobytes()


def scene(seed: int, *, side: int = 64, quality: int = 95) -> bytes:
    """A JPEG with structure: the same seed at another side or quality is a near copy."""
    coarse = np.random.default_rng(seed).integers(40, 216, (9, 9, 3), dtype=np.uint8)
    large = cv2.resize(coarse, (256, 256), interpolation=cv2.INTER_CUBIC)
    pixels = cv2.resize(large, (side, side), interpolation=cv2.INTER_AREA)
    return cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def scenes(who: str, *seeds: int, **how: int) -> dict[str, bytes]:
    """Such scenes as the photos of one person, by seed."""
    return {f"{who}/{seed}.jpg": scene(seed, **how) for seed in seeds}


GOOD = {
    f"{who}/{k}.png": photo(10 * i + k)
    for i, who in enumerate(("Ann", "Bea", "Cyd"))
    for k in range(3)
}
VERIFY = {
    f"{who}/{k}.png": photo(500 + 10 * i + k)
    for i, who in enumerate(("Xia", "Yva"))
    for k in range(2)
}
PAIRS = (
    "0\t1\tXia/0.png\tXia/1.png",
    "0\t0\tXia/0.png\tYva/0.png",
    "1\t1\tYva/0.png\tYva/1.png",
)

Build = Callable[..., Path]


def builder(folder: Path) -> Build:
    """A function that imports training photos (one mapping per dataset) and verification photos."""

    def make(
        *train: dict[str, bytes],
        verify: dict[str, bytes] = VERIFY,
        pairs: tuple[str, ...] = PAIRS,
        **card: str,
    ) -> Path:
        data = folder / "data"
        (folder / "pairs.tsv").write_text("\n".join(pairs))
        for number, photos in enumerate(train):
            source = write_photos(folder / f"train{number}", photos)
            import_dataset(source, data / "train" / f"set{number}", **card)
        source = write_photos(folder / "verify", verify)
        import_dataset(source, data / "verify" / "test", pairs=folder / "pairs.tsv", **card)
        return data

    return make


def write_photos(folder: Path, photos: dict[str, bytes]) -> Path:
    """Write name → bytes below `folder`."""
    for name, content in photos.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def validate(
    data: Path, *, near_distance: int | None = None, thumbnails: int = 0, **limits: Any
) -> tuple[dict[str, float], pd.DataFrame, pd.DataFrame]:
    """Metrics and both tables; the output stands in `validate/` beside `data`."""
    output = data.parent / "validate"
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir()
    metrics = validate_datasets(
        data,
        output,
        limits=Limits(**LIMITS | limits),
        near_distance=near_distance,
        thumbnails=thumbnails,
    )
    train, verify = (pd.read_parquet(output / f"{half}.parquet") for half in ("train", "verify"))
    return metrics, train, verify


def reasons(table: pd.DataFrame) -> dict[str, str]:
    """Id → reason of the rejected rows."""
    return {row["id"]: row["reason"] for row in table[table["status"] != "ok"].to_dict("records")}
