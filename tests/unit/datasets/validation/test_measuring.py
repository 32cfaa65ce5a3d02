"""Measures: each by its definition, the same over processes, and none of what is no image."""

import io
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from facewright.datasets.perceptual import HASH_BYTES, image_hash
from facewright.datasets.validation import measuring
from facewright.datasets.validation.measuring import measure, measure_images
from tests.unit.datasets.validation.photos import flat, photo, scene


def test_measures_against_their_definitions() -> None:
    grey = np.random.default_rng(0).integers(0, 256, (30, 45), dtype=np.uint8)
    rgb = cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB)
    row = measure(cv2.imencode(".png", rgb)[1].tobytes())
    padded = np.pad(grey.astype(float), 1, mode="reflect")
    up, down, left, right = padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]
    laplacian = up + down + left + right - 4 * padded[1:-1, 1:-1]
    assert (row["decodable"], row["animated"], row["side"], row["aspect"]) == (1, 0, 30, 1.5)
    assert row["sharpness"] == pytest.approx(laplacian.var(), rel=1e-9)
    assert row["brightness"] == pytest.approx(grey.mean(), rel=1e-9)
    assert row["colour"] == 0
    assert row["hash"].tobytes() == image_hash(grey)


def test_colourfulness_is_hasler_and_suesstrunks() -> None:
    bgr = np.random.default_rng(1).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    blue, green, red = np.moveaxis(bgr.astype(float), 2, 0)
    one, two = red - green, (red + green) / 2 - blue
    expected = np.hypot(one.std(), two.std()) + 0.3 * np.hypot(one.mean(), two.mean())
    row = measure(cv2.imencode(".png", bgr)[1].tobytes())
    assert row["colour"] == pytest.approx(expected, rel=1e-9)


def test_colour_of_a_large_photo_is_that_of_the_small_one() -> None:
    small = cv2.imdecode(np.frombuffer(scene(3, side=512), np.uint8), cv2.IMREAD_COLOR)
    large = np.repeat(np.repeat(small, 3, axis=0), 3, axis=1)
    colours = [measure(cv2.imencode(".png", img)[1].tobytes())["colour"] for img in (small, large)]
    assert colours[0] == pytest.approx(colours[1], rel=1e-9)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_files_of_several_pictures_are_noticed(kind: str) -> None:
    frames = [Image.new("RGB", (40, 40), (value, 90, 10)) for value in (0, 90, 180)]
    for more, animated in (([], 0), (frames[1:], 1)):
        file = io.BytesIO()
        frames[0].save(file, kind, save_all=True, append_images=more)
        row = measure(file.getvalue())
        assert (row["decodable"], row["animated"]) == (1, animated)


def test_what_is_no_image_has_no_measures() -> None:
    row = measure(b"a text file")
    assert (row["decodable"], row["hashed"]) == (0, 0)
    assert all(np.isnan(row[name]) for name in ("side", "aspect", "sharpness", "colour"))


def test_over_processes_as_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [photo(k) for k in range(7)] + [b"no", b"", flat(9)]
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / "00000.tar").write_bytes(b"".join(files))
    lengths = np.array([len(data) for data in files])
    table = pd.DataFrame(
        {"shard": "shards/00000.tar", "offset": np.cumsum(lengths) - lengths, "length": lengths}
    )
    alone = measure_images(tmp_path, table, label="alone")
    monkeypatch.setattr(measuring, "ALONE", 0)
    monkeypatch.setattr(measuring, "CHUNK", 3)
    spread = measure_images(tmp_path, table, label="spread")
    pd.testing.assert_frame_equal(alone[0], spread[0])
    assert np.array_equal(alone[1], spread[1])
    assert alone[1].shape == (10, HASH_BYTES)
    assert alone[2].tolist() == spread[2].tolist() == [True] * 7 + [False] * 3
