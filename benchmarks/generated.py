"""What the benchmark of datasets reads: pictures, records and hashes of any number."""

import io
import random
import tarfile
from functools import cache
from pathlib import Path

import cv2
import numpy as np

from benchmarks.fuzz_files import framed, record
from facewright.datasets.perceptual import HASH_BYTES
from facewright.progress import progress
from facewright.workers import map_in_order, usable_cores, worker_pool

SIDE, TEXTURES = 72, 256
EACH = 50  # records of an identity


@cache
def textures() -> np.ndarray:
    """(TEXTURES, SIDE, SIDE) float32, mean 0, deviation 1: clouds of several sizes."""
    rng = np.random.default_rng(0)
    made = np.zeros((TEXTURES, SIDE, SIDE), np.float32)
    for cells, weight in ((4, 1.0), (9, 0.7), (24, 0.4)):
        for picture in made:
            noise = rng.normal(0, weight, (cells, cells)).astype(np.float32)
            picture += cv2.resize(noise, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    return (made - made.mean((1, 2), keepdims=True)) / made.std((1, 2), keepdims=True)


def encode(numbers: range) -> list[bytes]:
    """Tiny JPEGs, the same for the same number.

    One in 200 is a near copy of the one before, and one in 1,000 the same file.
    """
    return [_picture(number) for number in numbers]


def _picture(number: int) -> bytes:
    """Two shifted clouds in one colour."""
    same, near = number % 1000 == 499, number % 200 == 199
    draw = random.Random(number - 1 if same or near else number)
    grey = np.zeros((SIDE, SIDE), np.float32)
    for weight in (40.0, 30.0):
        cloud = textures()[draw.randrange(TEXTURES)]
        shift = (draw.randrange(SIDE), draw.randrange(SIDE))
        grey += weight * np.roll(cloud, shift, axis=(0, 1))
    tint = np.array([draw.uniform(-20, 20) for _ in range(3)], np.float32)
    pixels = np.clip(128 + grey[..., None] + tint, 0, 255).astype(np.uint8)
    quality = [cv2.IMWRITE_JPEG_QUALITY, 70 if near else 85]
    return cv2.imencode(".jpg", pixels, quality)[1].tobytes()


def write_tar(path: Path, *, images: int, identities: int, first: int = 0) -> None:
    """A tar of `images` JPEGs in `identities` folders, written as it is made."""
    step = 500
    chunks = [range(k, min(k + step, first + images)) for k in range(first, first + images, step)]
    each = -(-images // identities)
    with worker_pool("pictures") as pool, tarfile.open(path, "w") as tar:
        parts = map_in_order(pool, encode, chunks, ahead=4 * usable_cores())
        for chunk, part in zip(
            chunks, progress(parts, total=len(chunks), label=path.name), strict=True
        ):
            for number, data in zip(chunk, part, strict=True):
                person = (number - first) // each + first // 1000
                member = tarfile.TarInfo(f"{person:07d}/{number:07d}.jpg")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
                tar.members.clear()  # tarfile remembers all of them


def write_records(path: Path, *, records: int) -> None:
    """InsightFace's form: a header, images of 2 to 5 KB, a record per identity, and the index."""
    rng = np.random.default_rng(0)
    faces = [_face(rng) for _ in range(64)]
    tails = rng.bytes(1 << 20)  # behind a JPEG's end anything may stand
    identities = -(-records // EACH)
    with path.open("wb") as file, path.with_suffix(".idx").open("w") as index:

        def write(key: int, *labels: float, content: bytes = b"") -> None:
            index.write(f"{key}\t{file.tell()}\n")
            file.write(framed(record(labels, key, content, scalar=len(labels) == 1)))

        write(0, records + 1, records + 1 + identities)
        for k in range(records):
            face = faces[k % len(faces)]
            length = max(0, int(rng.integers(2000, 5000)) - len(face))
            start = int(rng.integers(0, len(tails) - length))
            write(k + 1, k // EACH, content=face + tails[start : start + length])
        for k in range(identities):
            write(records + 1 + k, k * EACH + 1, min(k * EACH + EACH, records) + 1)
    path.with_name("property").write_text(f"{identities},112,112\n")


def _face(rng: np.random.Generator) -> bytes:
    noise = rng.integers(0, 256, (14, 14, 3), dtype=np.uint8)
    pixels = cv2.resize(noise, (112, 112), interpolation=cv2.INTER_CUBIC)
    return cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 70])[1].tobytes()


def hashes(count: int) -> tuple[np.ndarray, np.ndarray]:
    """(count, HASH_BYTES) uint8, as alike as those of aligned faces; 2 % are near copies.

    Signs of normal numbers that lean to a common face and to each person's, and share ten moods
    (light, pose). Two photos differ in 120 of 256 bits, deviation 9.6; those of LFW's
    aligned crops in 121, deviation 9.5. The second array has the rows that are copies, of the row
    before each, with 0 to 44 bits flipped.
    """
    rng = np.random.default_rng(0)
    bits = 8 * HASH_BYTES
    common, moods = rng.normal(0, 0.4, bits), rng.normal(0, 0.6 / 10**0.5, (10, bits))
    made = np.empty((count, HASH_BYTES), np.uint8)
    for start in range(0, count, EACH):
        photos = min(EACH, count - start)
        values = rng.normal(0, 1, (photos, bits)) + rng.normal(0, 1, (photos, 10)) @ moods
        values += common + rng.normal(0, 0.4, bits)
        made[start : start + photos] = np.packbits(values > 0, axis=1)
    copies = rng.choice(np.arange(1, count), count // 50, replace=False)
    for place in copies:
        flipped = np.zeros(bits, np.uint8)
        flipped[rng.choice(bits, rng.integers(0, 45), replace=False)] = 1
        made[place] = made[place - 1] ^ np.packbits(flipped)
    return made, copies


def some_of(rows: np.ndarray, copies: np.ndarray, *, count: int) -> np.ndarray:
    """`count` places in `rows`, ascending: one half copies with what they copy, one at random.

    Wherever a hash is among them, all rows that equal it are, so that they may be a few more.
    """
    rng = np.random.default_rng(1)
    near = rng.permutation(copies)[: count // 4]
    order = np.concatenate((near, near - 1, rng.permutation(len(rows))))
    _, first = np.unique(order, return_index=True)
    chosen = order[np.sort(first)[:count]]
    _, same = np.unique(rows, axis=0, return_inverse=True)
    return np.flatnonzero(np.isin(same, same[chosen]))


def brute_force(rows: np.ndarray, *, radius: int) -> np.ndarray:
    """(M, 2) int64: every pair within `radius` bits, sorted; each hash is compared with each.

    As `near_pairs` has it, what equals an earlier hash is paired with the first such alone.
    """
    words = rows.view(np.uint64)
    further = np.zeros(len(rows), bool)  # equal an earlier one
    found = []
    for i in range(len(rows)):
        if not further[i]:
            distance = np.bitwise_count(words[i] ^ words[i + 1 :]).sum(axis=1)
            further[i + 1 :] |= distance == 0
            near = np.flatnonzero(distance <= radius) + i + 1
            found.append(np.stack((np.full(len(near), i), near), axis=1))
    pairs = np.concatenate(found)
    equal = (words[pairs[:, 0]] == words[pairs[:, 1]]).all(axis=1)
    return pairs[equal | ~further[pairs[:, 1]]]
