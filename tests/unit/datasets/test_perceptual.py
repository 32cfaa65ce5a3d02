"""The hash keeps through what copies go through; the search equals comparing all with all."""

import hashlib
from itertools import pairwise

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facewright.datasets import perceptual
from facewright.datasets.perceptual import (
    HASH_BYTES,
    MOST_PAIRS,
    RADIUS,
    image_hash,
    near_pairs,
)
from facewright.errors import DatasetError

Picture = npt.NDArray[np.uint8]
Hashes = npt.NDArray[np.uint8]

# Of the picture below. Where it changes, stored hashes no longer mean anything.
REFERENCE = "269626d044ed093d692d6da40dac03f2c25ad25a5b4a037a376e2294a096b4f6"


def scene(seed: int, side: int = 200) -> Picture:
    """Discs and bars of many greys on a light that falls off, without faint noise."""
    rng = np.random.default_rng(seed)
    picture = np.linspace(90, 160, side)[:, None] * np.ones(side)
    for _ in range(40):
        x, y, w, h = rng.integers(0, side, 4)
        grey = int(rng.integers(0, 256))
        if rng.random() < 0.5:
            cv2.circle(picture, (int(x), int(y)), int(w) // 6 + 2, grey, -1)
        else:
            end = (int(x + w // 4), int(y + h // 4))
            cv2.rectangle(picture, (int(x), int(y)), end, grey, -1)
    return cv2.GaussianBlur(picture, (0, 0), 1.0).astype(np.uint8)


def distance(a: bytes | None, b: bytes | None) -> int:
    assert a is not None
    assert b is not None
    return (int.from_bytes(a) ^ int.from_bytes(b)).bit_count()


def jpeg(picture: Picture, quality: int) -> Picture:
    data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    decoded: Picture = cv2.imdecode(data, cv2.IMREAD_GRAYSCALE)
    return decoded


def scaled(picture: Picture, factor: float) -> Picture:
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    resized: Picture = cv2.resize(picture, None, fx=factor, fy=factor, interpolation=how)
    return resized


def brightened(picture: Picture, factor: float) -> Picture:
    return np.clip(picture * factor, 0, 255).astype(np.uint8)


def trimmed(picture: Picture, share: float) -> Picture:
    edge = round(len(picture) * share)
    return picture[edge:-edge, edge:-edge]


@pytest.mark.parametrize("seed", range(5))
def test_copies_stay_within_the_radius(seed: int) -> None:
    picture = scene(seed)
    original = image_hash(picture)
    assert original is not None
    assert len(original) == HASH_BYTES
    copies = {
        "encoded at 30": jpeg(picture, 30),
        "encoded at 95": jpeg(picture, 95),
        "a third of the size": scaled(picture, 0.3),
        "twice the size": scaled(picture, 2.0),
        "darker": brightened(picture, 0.9),
        "brighter": brightened(picture, 1.1),
        "softened": cv2.GaussianBlur(picture, (0, 0), 1.2),
        "trimmed": trimmed(picture, 0.01),
        "bordered": cv2.copyMakeBorder(picture, 2, 2, 2, 2, cv2.BORDER_CONSTANT, value=0),
        "stretched": cv2.resize(picture, (260, 200), interpolation=cv2.INTER_AREA),
    }
    distances = {name: distance(original, image_hash(copy)) for name, copy in copies.items()}
    assert max(distances.values()) <= RADIUS, distances


def test_whole_multiples_of_a_size_have_the_same_hash() -> None:
    picture = scene(1)
    for times in ((2, 2), (3, 1), (1, 5)):
        assert image_hash(np.kron(picture, np.ones(times, np.uint8))) == image_hash(picture)


def test_a_negative_has_every_bit_the_other_way_round() -> None:
    picture = scene(2)
    assert distance(image_hash(picture), image_hash(255 - picture)) >= 250  # but for rounding


def test_different_scenes_differ_in_about_half_the_bits() -> None:
    hashes = [image_hash(scene(seed)) for seed in range(20)]
    distances = [distance(a, b) for n, a in enumerate(hashes) for b in hashes[:n]]
    assert min(distances) > 2 * RADIUS
    assert 115 < np.mean(distances) < 135


def test_pictures_without_structure_have_no_hash() -> None:
    rng = np.random.default_rng(0)
    ramp = np.linspace(0, 255, 250).astype(np.uint8)[None].repeat(250, 0)
    noise = np.clip(128 + rng.normal(0, 5, (250, 250)), 0, 255).astype(np.uint8)
    for flat in (
        np.zeros((1, 1), np.uint8),
        np.full((250, 250), 255, np.uint8),
        ramp,
        ramp.T,
        jpeg(ramp, 50),
        noise,
        np.full((17, 900), 77, np.uint8),
    ):
        assert image_hash(flat) is None
    assert image_hash(scene(0, 40)) is not None
    assert image_hash(brightened(scene(0), 0.3)) is not None


def test_the_hash_of_a_picture_never_changes() -> None:
    y, x = np.mgrid[:90, :120]
    picture = ((x * x // 7 + 3 * y * y // 5 + x * y // 2 + 40 * (x // 20)) % 256).astype(np.uint8)
    value = image_hash(picture)
    assert value is not None
    assert value.hex() == REFERENCE


def test_the_largest_pictures_hash_like_their_smaller_copies() -> None:
    small = scene(3)
    large = cv2.resize(small, None, fx=11, fy=11, interpolation=cv2.INTER_NEAREST)
    assert large.size > perceptual.MAX_INTEGRAL
    for picture in (large, np.full((1, perceptual.MAX_INTEGRAL + 1), 9, np.uint8)):
        assert (image_hash(picture) is None) == (picture is not large)
    assert distance(image_hash(large), image_hash(small)) <= 4


def test_the_hash_equals_a_plain_transform_of_cell_means() -> None:
    picture = scene(4, 256)
    cells = picture.reshape(32, 8, 32, 8).mean((1, 3))
    band = cv2.dct(cells)[1:17, 1:17]
    value = np.unpackbits(np.frombuffer(image_hash(picture) or b"", np.uint8))
    n = np.arange(256)
    row, turn = n % 16, n // 16
    expected = band[row, (5 * row + turn) % 16] > 0
    clear = np.abs(band[row, (5 * row + turn) % 16]) > 0.5
    assert clear.sum() > 200
    assert np.array_equal(value[clear] == 1, expected[clear])


def brute_force(hashes: Hashes, radius: int) -> tuple[npt.NDArray[np.int64], ...]:
    """All pairs by comparing all with all; equal hashes as `near_pairs` says."""
    first = {value.tobytes(): n for n, value in reversed(list(enumerate(hashes)))}
    found = []
    for j, value in enumerate(hashes):
        leader = first[value.tobytes()]
        if leader != j:
            found.append((leader, j, 0))
            continue
        apart = np.bitwise_count(hashes[:j] ^ value).sum(1)
        found += [
            (i, j, int(apart[i]))
            for i in np.flatnonzero(apart <= radius).tolist()
            if first[hashes[i].tobytes()] == i
        ]
    table = np.array(sorted(found), np.int64).reshape(-1, 3)
    return table[:, :2], table[:, 2]


def clustered(seed: int, count: int, *, centres: int, flips: int) -> Hashes:
    """Hashes around some centres, so that every distance from 0 occurs, with equal ones."""
    rng = np.random.default_rng(seed)
    bits = rng.random((centres, 256)) < rng.random(256)  # skewed, as real bits are
    chosen = bits[rng.integers(0, centres, count)]
    chosen ^= rng.random((count, 256)) < rng.integers(0, flips + 1, (count, 1)) / 256
    return np.packbits(chosen, axis=1)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    count=st.integers(0, 300),
    centres=st.integers(1, 60),
    flips=st.integers(0, 40),
    radius=st.sampled_from([0, 1, 3, 24, RADIUS, 47, 90, 256]),
    cheap_buckets=st.booleans(),
)
def test_search_equals_brute_force(
    seed: int, count: int, centres: int, flips: int, radius: int, cheap_buckets: bool
) -> None:
    hashes = clustered(seed, count, centres=centres, flips=flips)
    with pytest.MonkeyPatch.context() as patch:
        if cheap_buckets:  # so that few hashes are searched by parts, too
            patch.setattr(perceptual, "BUCKET_NS", 50.0)
        pairs, distances = near_pairs(hashes, radius=radius)
    expected, apart = brute_force(hashes, radius)
    assert pairs.dtype == distances.dtype == np.int64
    assert np.array_equal(pairs, expected)
    assert np.array_equal(distances, apart)


@pytest.mark.parametrize("radius", [12, RADIUS, 47])
def test_search_by_parts_equals_brute_force(radius: int) -> None:
    hashes = clustered(7, 2500, centres=900, flips=30)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(perceptual, "BUCKET_NS", 300.0)
        plan = perceptual._plan(len(hashes), radius)
        pairs, distances = near_pairs(hashes, radius=radius)
    assert all(part.bits for part in plan)
    assert (len(plan) > 4) == (max(part.slack for part in plan) >= 0)
    expected, apart = brute_force(hashes, radius)
    assert len(pairs) > 300
    assert np.array_equal(pairs, expected)
    assert np.array_equal(distances, apart)


@pytest.mark.parametrize("count", [2, 10_000, 500_000, 5_000_000])
@pytest.mark.parametrize("radius", [0, 2, 3, 31, RADIUS, 63, 200])
def test_no_pair_within_the_radius_can_miss_every_part(count: int, radius: int) -> None:
    plan = perceptual._plan(count, radius)
    limits = {part.word: part.limit for part in plan}
    # The least number of differing bits with which two hashes escape must be more than the radius.
    assert sum(limit + 1 for limit in limits.values()) == radius + 1
    for word, limit in limits.items():
        parts = [part for part in plan if part.word == word]
        if parts[0].bits:
            assert sum(part.slack + 1 for part in parts) == limit + 1
            spans = sorted((part.shift, part.shift + part.bits) for part in parts)
            assert spans[0][0] >= 0
            assert spans[-1][1] <= 64
            assert all(a[1] <= b[0] for a, b in pairwise(spans))


def test_each_further_equal_hash_is_paired_with_the_first_only() -> None:
    a, near, far = np.zeros((3, HASH_BYTES), np.uint8)
    near[0], far[:] = 0b111, 255
    hashes = np.stack([far, a, near, a, near, a])
    pairs, distances = near_pairs(hashes)
    assert pairs.tolist() == [[1, 2], [1, 3], [1, 5], [2, 4]]
    assert distances.tolist() == [3, 0, 0, 0]


@pytest.mark.parametrize("count", [0, 1])
def test_none_or_one_has_no_pair(count: int) -> None:
    hashes = np.zeros((count, HASH_BYTES), np.uint8)
    pairs, distances = near_pairs(hashes)
    assert pairs.shape == (0, 2)
    assert distances.shape == (0,)


def test_a_heap_of_nearly_equal_pictures_is_refused() -> None:
    rng = np.random.default_rng(0)
    heap = np.packbits(rng.random((8_000, 256), dtype=np.float32) < 0.02, axis=1)
    with pytest.raises(DatasetError, match=f"more than {MOST_PAIRS} pairs"):
        near_pairs(heap)


def test_any_number_of_equal_hashes_is_paired(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(perceptual, "MOST_PAIRS", 5)
    pairs, distances = near_pairs(np.zeros((50, HASH_BYTES), np.uint8))
    assert pairs.tolist() == [[0, n] for n in range(1, 50)]
    assert not distances.any()


def test_the_order_of_the_hashes_does_not_matter() -> None:
    hashes = clustered(3, 1500, centres=300, flips=25)
    order = np.random.default_rng(1).permutation(len(hashes))
    distinct, index = np.unique(hashes, axis=0, return_index=True)
    assert len(index) > 1000
    turned = distinct[order[order < len(distinct)]]
    there, apart = near_pairs(turned)
    here, distances = near_pairs(distinct)
    back = np.sort(order[order < len(distinct)][there], axis=1)
    sort = np.lexsort((back[:, 1], back[:, 0]))
    assert np.array_equal(back[sort], here)
    assert np.array_equal(apart[sort], distances)


def test_the_search_does_not_change_its_input() -> None:
    hashes = clustered(5, 300, centres=50, flips=20)
    digest = hashlib.sha256(hashes).digest()
    near_pairs(hashes)
    assert hashlib.sha256(hashes).digest() == digest
