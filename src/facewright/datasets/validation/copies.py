"""Which photos are near copies of each other, by their perceptual hashes."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from facewright.datasets.perceptual import HASH_BYTES, near_pairs
from facewright.errors import DatasetError
from facewright.progress import say

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

BITS = 8 * HASH_BYTES


@dataclass(frozen=True)
class Copies:
    """Near copies among N images, told by their distinct hashes: images of one hash are alike.

    A hash is known by the first image that has it. `code` (N,): that image, -1 for an image
    without a hash; `pairs` (M, 2): codes of hashes that lie near each other, first below second;
    `distance` (M,): in bits, above 0.
    """

    code: Ints
    pairs: Ints
    distance: Ints

    @classmethod
    def none(cls, count: int) -> Self:
        """No near copies among `count` images: nobody searched."""
        empty = np.zeros(0, np.int64)
        return cls(np.full(count, -1, np.int64), empty.reshape(0, 2), empty)

    def near(self, rows: Bools, *, others: Bools) -> Bools:
        """(N,) bool: which of the images `rows` are near copies of one of the images `others`."""
        reached = np.zeros(int(self.code.max(initial=-1)) + 2, bool)  # the last is for code -1
        reached[self.code[others & (self.code >= 0)]] = True
        sources = reached.copy()
        reached[self.pairs[sources[self.pairs[:, 1]], 0]] = True
        reached[self.pairs[sources[self.pairs[:, 0]], 1]] = True
        return rows & reached[self.code]


def find_copies(hashes: npt.NDArray[np.uint8], hashed: Bools, *, distance: int) -> Copies:
    """Near copies among N images.

    Args:
        hashes: (N, HASH_BYTES) uint8, see `perceptual.image_hash`.
        hashed: (N,) bool, which images have a hash.
        distance: bits in which the hashes of near copies may differ.

    Where there are millions of pairs, as among the frames of many films, only nearer ones are
    looked for, and that is said aloud.
    """
    places = np.flatnonzero(hashed)
    while True:
        try:
            pairs, distances = near_pairs(hashes[places], radius=distance)
            break
        except DatasetError as error:  # equal hashes alone are never too many
            say(f"validate: {error}; now looking for copies within {distance // 2} bits only")
            distance //= 2
    pairs = places[pairs]
    code = np.where(hashed, np.arange(len(hashes)), -1)
    same = distances == 0  # each further image of a hash comes with the first, and with it alone
    code[pairs[same, 1]] = pairs[same, 0]
    return Copies(code, pairs[~same], distances[~same])
