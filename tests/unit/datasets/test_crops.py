"""Crops by index: the right pixels, dense labels, the same from any thread, kept or not."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest

from facewright.datasets.crops import Crops
from facewright.datasets.form import DatasetWriter
from facewright.errors import DatasetError

IDENTITIES = ["zoe", "ann", "bo", "zoe", "ann", "gone", "zoe", "bo"]
STATUS = ["ok", "ok", "no_face", "ok", "ok", "rejected", "ok", "ok"]
PIXELS = np.random.default_rng(0).integers(0, 256, (8, 112, 112, 3), dtype=np.uint8)


def write(root: Path, *, side: int = 112, status: list[str] = STATUS) -> Path:
    root.mkdir()
    card = dict.fromkeys(("name", "kind", "source", "source_digest", "licence", "consent"), "x")
    with DatasetWriter(root, shard_bytes=100_000) as writer:
        for k, (identity, state) in enumerate(zip(IDENTITIES, status, strict=True)):
            png = cv2.imencode(".png", PIXELS[k, :side, :side, ::-1])[1].tobytes()
            writer.add(
                id=f"{identity}/{k}",
                identity=identity,
                data=png if state == "ok" else None,
                suffix=".png",
                columns={"status": state},
            )
        writer.finish(card)
    return root


@pytest.mark.parametrize("memory", [0, 2**31])
def test_batches_hold_the_pixels_of_the_rows_that_are_ok(tmp_path: Path, memory: int) -> None:
    crops = Crops(write(tmp_path / "a"), memory=memory)
    kept = [k for k, state in enumerate(STATUS) if state == "ok"]
    assert len(crops) == len(kept)
    assert crops.ids == [f"{IDENTITIES[k]}/{k}" for k in kept]
    assert crops.identities == ["ann", "bo", "zoe"]
    assert [crops.identities[label] for label in crops.labels] == [IDENTITIES[k] for k in kept]
    assert crops.labels.dtype == np.int64
    for _ in range(2):  # the second time from memory
        batch = crops.batch([5, 0, 0, 2])
        assert batch.dtype == np.uint8
        assert np.array_equal(batch, PIXELS[[kept[i] for i in (5, 0, 0, 2)]])
        batch[:] = 0  # a copy: what the caller does to it stays with the caller
    assert crops.batch([]).shape == (0, 112, 112, 3)
    assert crops.batch(np.arange(2)).shape == (2, 112, 112, 3)


@pytest.mark.parametrize("memory", [0, 2**31])
def test_threads_read_the_same(tmp_path: Path, memory: int) -> None:
    crops = Crops(write(tmp_path / "a"), memory=memory)
    expected = Crops(tmp_path / "a").batch(range(len(crops)))
    draws = [np.random.default_rng(k).integers(0, len(crops), 20) for k in range(40)]
    with ThreadPoolExecutor(8) as pool:
        for draw, batch in zip(draws, pool.map(crops.batch, draws), strict=True):
            assert np.array_equal(batch, expected[draw])


def test_the_digest_follows_the_content(tmp_path: Path) -> None:
    same = Crops(write(tmp_path / "a")).digest == Crops(write(tmp_path / "b")).digest
    assert same
    other = [*STATUS[:-1], "no_face"]
    assert Crops(write(tmp_path / "c", status=other)).digest != Crops(tmp_path / "a").digest


def test_what_is_no_crop_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no usable crop"):
        Crops(write(tmp_path / "none", status=["no_face"] * 8))
    with pytest.raises(DatasetError, match="is no 112 × 112 crop: run align again"):
        Crops(write(tmp_path / "small", side=100)).batch([0])
    crops = Crops(write(tmp_path / "cut"))
    shard = tmp_path / "cut" / "shards" / "00000.tar"
    shard.write_bytes(shard.read_bytes()[:2000])
    with pytest.raises(DatasetError, match="run align again"):
        crops.batch([0])
    shard.unlink()
    with pytest.raises(DatasetError, match="cannot be read: run align again"):
        Crops(tmp_path / "cut").batch([0])
