"""Near copies: codes and pairs against a comparison of all."""

import numpy as np
import pytest

from facewright.datasets.perceptual import HASH_BYTES
from facewright.datasets.validation import copies as module
from facewright.datasets.validation.copies import Copies, find_copies
from facewright.errors import DatasetError

DISTANCE = 10


@pytest.fixture(scope="module")
def hashes() -> np.ndarray:
    """Near ones, equal ones and strangers, shuffled."""
    random = np.random.default_rng(4)
    base = random.integers(0, 256, (30, HASH_BYTES), dtype=np.uint8)
    near = base.copy()
    for row in near:
        row[random.integers(0, HASH_BYTES, 3)] ^= np.uint8(1 << random.integers(0, 8))
    return random.permutation(np.concatenate([base, near, base[:10], base[:5]]))


def distances(hashes: np.ndarray) -> np.ndarray:
    bits = np.unpackbits(hashes, axis=1).astype(int)
    return np.abs(bits[:, None] - bits[None]).sum(axis=2)


def test_near_is_what_comparing_all_finds(hashes: np.ndarray) -> None:
    hashed = np.arange(len(hashes)) % 7 != 0
    found = find_copies(hashes, hashed, distance=DISTANCE)
    assert (found.code[~hashed] == -1).all()
    assert (found.distance > 0).all()
    rows = np.arange(len(hashes)) < 40
    near = (distances(hashes) <= DISTANCE) & hashed[:, None] & hashed[None]
    expected = rows & (near & ~rows[None]).any(axis=1)
    assert 0 < expected.sum() < rows.sum()
    assert np.array_equal(found.near(rows, others=~rows), expected)


def test_a_code_is_the_first_image_of_the_hash(hashes: np.ndarray) -> None:
    found = find_copies(hashes, np.ones(len(hashes), bool), distance=0)
    first = [np.flatnonzero((hashes == row).all(axis=1))[0] for row in hashes]
    assert found.code.tolist() == first
    assert len(found.pairs) == 0


def test_nobody_searched_nothing_found() -> None:
    rows = np.array([True, False, True])
    assert not Copies.none(3).near(rows, others=~rows).any()
    assert not Copies.none(0).near(rows[:0], others=rows[:0]).any()


def test_too_many_pairs_are_looked_for_nearer(
    hashes: np.ndarray, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    every = np.ones(len(hashes), bool)
    expected = find_copies(hashes, every, distance=2)
    search = module.near_pairs

    def refuse(hashes: np.ndarray, *, radius: int) -> object:
        if radius > 2:
            raise DatasetError("too many")
        return search(hashes, radius=radius)

    monkeypatch.setattr(module, "near_pairs", refuse)
    found = find_copies(hashes, every, distance=DISTANCE)
    assert np.array_equal(found.pairs, expected.pairs)
    assert "too many; now looking for copies within 2 bits only" in capsys.readouterr().err
