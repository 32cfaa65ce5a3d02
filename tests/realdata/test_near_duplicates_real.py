"""Real faces, centred and alike: their copies are found, and no two people are taken for one."""

import tarfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from facewright.datasets.images import decode_rgb
from facewright.datasets.perceptual import RADIUS, image_hash, near_pairs

pytestmark = pytest.mark.realdata

Picture = npt.NDArray[np.uint8]
EVERY = 40  # of LFW's photos one in so many is copied


def encode(picture: Picture, quality: int) -> Picture:
    data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)


def resize(picture: Picture, factor: float) -> Picture:
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    return encode(cv2.resize(picture, None, fx=factor, fy=factor, interpolation=how), 90)


def light(picture: Picture, factor: float) -> Picture:
    return np.clip(picture * factor, 0, 255).astype(np.uint8)


def border(picture: Picture) -> Picture:
    return encode(cv2.copyMakeBorder(picture, 2, 2, 2, 2, cv2.BORDER_CONSTANT), 90)


def mark(picture: Picture) -> Picture:
    at, face = (12, 238), cv2.FONT_HERSHEY_SIMPLEX
    return cv2.putText(picture.copy(), "(c) agency", at, face, 0.5, (255, 255, 255), 1, cv2.LINE_AA)


COPIES: dict[str, Callable[[Picture], Picture]] = {
    "JPEG at 95": lambda p: encode(p, 95),
    "JPEG at 30": lambda p: encode(p, 30),
    "0.3 of the size": lambda p: resize(p, 0.3),
    "twice the size": lambda p: resize(p, 2.0),
    "darker by 10 %": lambda p: light(p, 0.9),
    "brighter by 10 %": lambda p: light(p, 1.1),
    "blurred": lambda p: cv2.GaussianBlur(p, (0, 0), 1.2),
    "1 % off every side": lambda p: encode(p[2:-2, 2:-2], 90),
    "black border of 1 %": border,
    "watermark": mark,
}


def photos(archive: Path) -> list[tuple[str, bytes]]:
    with tarfile.open(archive) as tar:
        files = [m for m in tar if m.name.endswith(".jpg")]
        return sorted((m.name, tar.extractfile(m).read()) for m in files)  # type: ignore[union-attr]


def hash_of(picture: Picture) -> npt.NDArray[np.uint8]:
    value = image_hash(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY))
    assert value is not None  # a face always has structure
    return np.frombuffer(value, np.uint8)


@pytest.fixture(scope="module")
def lfw(shared_data: Path) -> list[tuple[str, bytes]]:
    return photos(shared_data / "lfw" / "lfw-deepfunneled.tgz")


def test_copies_of_faces_are_found(lfw: list[tuple[str, bytes]]) -> None:
    found: Counter[str] = Counter()
    chosen = lfw[::EVERY]
    for _, data in chosen:
        picture = np.ascontiguousarray(decode_rgb(data)[..., ::-1])
        original = hash_of(picture)
        for name, copy in COPIES.items():
            found[name] += int(np.bitwise_count(original ^ hash_of(copy(picture))).sum()) <= RADIUS
    assert len(chosen) == 331
    for name in COPIES:
        assert found[name] >= 0.99 * len(chosen), name


def test_no_two_different_photos_of_lfw_are_taken_for_copies(lfw: list[tuple[str, bytes]]) -> None:
    names = [name for name, _ in lfw]
    grey = [cv2.cvtColor(decode_rgb(data), cv2.COLOR_RGB2GRAY) for _, data in lfw]
    hashes = [image_hash(picture) for picture in grey]
    assert None not in hashes
    pairs, _ = near_pairs(np.frombuffer(b"".join(map(bytes, hashes)), np.uint8).reshape(-1, 32))
    # LFW has photos twice, some of them under two names; of 87,549,528 pairs nothing else is near.
    assert 10 <= len(pairs) <= 30
    small = [
        cv2.GaussianBlur(cv2.resize(p, (128, 128), interpolation=cv2.INTER_AREA), (0, 0), 1.0)
        for p in grey
    ]
    for i, j in pairs:
        warp = np.eye(2, 3, dtype=np.float32)
        stop = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 60, 1e-4)
        alike, _ = cv2.findTransformECC(small[i], small[j], warp, cv2.MOTION_AFFINE, stop, None, 3)
        assert alike > 0.93  # correlation once the one is laid upon the other; strangers have 0.5
    assert sum(names[i].split("/")[1] != names[j].split("/")[1] for i, j in pairs) >= 3


def test_near_frames_of_films_are_of_one_person(shared_data: Path) -> None:
    frames = photos(shared_data / "ytf" / "ytf347.tar")
    hashes = np.stack([hash_of(np.ascontiguousarray(decode_rgb(d)[..., ::-1])) for _, d in frames])
    person = [name.split("/")[1] for name, _ in frames]
    video = [name.rpartition(".")[0][:-1] for name, _ in frames]
    pairs, _ = near_pairs(hashes)
    assert len(pairs) > 500
    assert all(person[i] == person[j] for i, j in pairs)
    assert sum(video[i] == video[j] for i, j in pairs) > 0.98 * len(pairs)
