"""Near-copies: a perceptual hash of a picture, and every pair of hashes that lie close.

The hash keeps the signs of 16 × 16 low frequencies of a discrete cosine transform, as PDQ does
(Facebook, The TMK+PDQF Video-Hashing Algorithm and the PDQ Image-Hashing Algorithm, 2019), and
leaves out those that are constant along a side, which a border or uneven light would change.

The search is multi-index hashing (Norouzi, Punjani and Fleet, Fast Exact Search in Hamming Space
With Multi-Index Hashing, TPAMI 2014) with uneven thresholds (Qin et al., GPH: Similarity Search in
Hamming Space, ICDE 2018): where two hashes differ in few bits, they differ in very few within at
least one part, so only those that nearly share a part are compared. It misses no pair.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from itertools import combinations
from math import comb, inf
from threading import Event, Lock

import cv2
import numpy as np
import numpy.typing as npt

from facewright.errors import DatasetError
from facewright.workers import usable_cores

HASH_BYTES = 32
RADIUS = 40  # bits of 256; docs/decisions/near-duplicates.md has what it finds and what it mistakes
MOST_PAIRS = 2_000_000  # those of 2,000 copies of one picture

Indices = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]  # (N, 4): a hash as four words of 64 bits

GRID = 32  # cells along a side, whose means are transformed
BAND = 16  # frequencies along a side, from 1: half a wave along the side
ONE = 1 << 12  # the cosines in fixed point
DEPTH = 16  # steps per grey level of a cell's mean
STRUCTURE = 1.0  # grey levels; faces have 5 and more, noise on one grey less than 1
MAX_INTEGRAL = 1 << 22  # pixels whose sum fits the integral image's 32 bits

WORDS = HASH_BYTES // 8
CELLS = 1 << 16  # comparisons at once: their words stay in a core's cache
WIDTH = 1 << 10  # hashes with which others are compared at once
BUFFER = 1_000_000  # pairs that are gathered before they are merged
# What the plan reckons with, measured roughly; wrong ones make the search slower, never wrong.
COMPARISON_NS = 1.3
BUCKET_NS = 30_000.0
NEIGHBOUR_NS = 150.0


def image_hash(grey: npt.NDArray[np.uint8]) -> bytes | None:
    """The perceptual hash of a grey picture, `HASH_BYTES` bytes.

    Copies that were encoded again, resized, brightened, softened or trimmed by a per cent differ
    in few of the 256 bits; pictures of different scenes in about half. A mirrored or turned copy
    has another hash. Every number on the way is an integer, so a picture's hash is the same on
    every machine.

    Args:
        grey: (H, W) uint8, at least one pixel.

    Returns:
        None for a picture with too little structure (one grey, a smooth gradient, faint noise):
        all such pictures would be alike, or at the mercy of noise.
    """
    waves, places = _transform()
    # Integers below 2**53 throughout, so float64 holds every sum exactly, in whatever order.
    band = waves @ _cell_means(grey) @ waves.T
    unit = DEPTH * ONE * ONE * GRID / 2  # one grey level of an orthonormal transform
    middle = np.partition(np.abs(band), band.size // 2, axis=None)[band.size // 2]
    if middle < STRUCTURE * unit:
        return None
    return np.packbits(band.ravel()[places] > 0).tobytes()


@cache
def _transform() -> tuple[npt.NDArray[np.float64], Indices]:
    """The cosines (BAND, GRID), and the order in which the coefficients become bits.

    The order takes each row and column once in 16 bits: neighbouring frequencies of faces go
    together, and the search wants bits that do not.
    """
    frequency, cell = np.arange(1, BAND + 1)[:, None], 2 * np.arange(GRID) + 1
    waves = np.rint(np.cos(np.pi * frequency * cell / (2 * GRID)) * ONE)
    turn, row = np.divmod(np.arange(BAND * BAND), BAND)
    return waves, row * BAND + (5 * row + turn) % BAND


def _cell_means(grey: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """Means of the picture's GRID × GRID equal cells, (GRID, GRID), whole steps of 1 / DEPTH.

    A cell's border may cut through pixels, which then count by their share: the integral image
    is read between its points, in integers.
    """
    while grey.size > MAX_INTEGRAL:
        height, width = (max(side // 2, 1) for side in grey.shape)
        even = grey[: 2 * height, : 2 * width]
        grey = cv2.resize(even, (width, height), interpolation=cv2.INTER_AREA)
    height, width = grey.shape
    sums: npt.NDArray[np.int32] = cv2.integral(np.ascontiguousarray(grey))
    edge, share = np.divmod(np.arange(GRID + 1) * height, GRID)
    after = np.minimum(edge + 1, height)
    bands = sums[edge] * (GRID - share)[:, None] + sums[after] * share[:, None]
    bands = bands[1:] - bands[:-1]
    edge, share = np.divmod(np.arange(GRID + 1) * width, GRID)
    after = np.minimum(edge + 1, width)
    cells = bands[:, edge] * (GRID - share) + bands[:, after] * share
    means = (cells[:, 1:] - cells[:, :-1]) * DEPTH // (height * width)
    return np.asarray(means, np.float64)


def near_pairs(
    hashes: npt.NDArray[np.uint8], *, radius: int = RADIUS
) -> tuple[Indices, npt.NDArray[np.int64]]:
    """Every pair of hashes that differ in at most `radius` bits, as comparing all would find.

    Of equal hashes only the first is paired with others; each further one is paired with that
    first, at distance 0, and with nothing else.

    Args:
        hashes: (N, HASH_BYTES) uint8.
        radius: bits, from 0.

    Returns:
        pairs (M, 2) int64, i < j, in ascending order; their distances (M,) int64, bits.

    Raises:
        DatasetError: more than `MOST_PAIRS` pairs of different hashes: very many pictures are
            nearly the same one.
    """
    words, first, copies = _distinct(hashes)
    found = _Pairs(len(words), most=MOST_PAIRS)
    _search(words, radius, found)
    i, j, distances = found.pairs()
    # `first` ascends, so the pairs keep i < j.
    pairs = np.concatenate([np.stack([first[i], first[j]], axis=1), copies])
    distances = np.concatenate([distances, np.zeros(len(copies), np.int64)])
    order = np.lexsort((pairs[:, 1], pairs[:, 0]))
    return pairs[order], distances[order]


def _distinct(hashes: npt.NDArray[np.uint8]) -> tuple[Words, Indices, Indices]:
    """Distinct hashes by first occurrence, the index of each, and pairs (first, further copy)."""
    words: Words = np.ascontiguousarray(hashes).view(np.uint64).reshape(-1, WORDS)
    order = np.lexsort(words.T)  # stable: the first of equal hashes leads
    ordered = words[order]
    leads = np.ones(len(words), bool)
    leads[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    leader = order[leads][np.cumsum(leads) - 1]
    first = np.sort(order[leads])
    copies = np.stack([leader[~leads], order[~leads]], axis=1)
    return words[first], first, copies


@dataclass(frozen=True)
class _Part:
    """Some bits of a word: hashes near each other agree on them in all but `slack`.

    Of those, only the ones that differ in at most `limit` bits of the whole word are compared.
    """

    word: int
    limit: int
    shift: int
    bits: int
    slack: int


def _plan(count: int, radius: int) -> list[_Part]:
    """Parts such that hashes within `radius` bits meet in at least one of them.

    If d ≤ r bits are shared out over words with limits t such that the sum of t + 1 is r + 1, at
    least one word keeps its limit; the same again for the parts of a word.
    """
    parts: list[_Part] = []
    for word, quota in enumerate(_shares(radius + 1, WORDS)):
        if quota == 0:
            continue
        best, least = [_Part(word, quota - 1, 0, 0, 0)], count * count / 2 * COMPARISON_NS
        for number in range(3, 17):
            widths = _shares(64, number)
            slacks = [share - 1 for share in _shares(quota, number)]
            cost = sum(map(partial(_cost, count), widths, slacks))
            if cost < least:
                starts = [sum(widths[:n]) for n in range(number)]
                best = [
                    _Part(word, quota - 1, shift, bits, slack)
                    for shift, bits, slack in zip(starts, widths, slacks, strict=True)
                    if slack >= 0
                ]
                least = cost
        parts += best
    return parts


def _shares(total: int, number: int) -> list[int]:
    """`total` in `number` whole shares that differ by one at most, the larger first."""
    return [total // number + (n < total % number) for n in range(number)]


def _cost(count: int, bits: int, slack: int) -> float:
    """Nanoseconds for a part, roughly, if its bits were independent and even."""
    if slack < 0:
        return 0.0
    if slack >= bits:
        return inf
    neighbours = sum(comb(bits, flipped) for flipped in range(slack + 1))
    comparisons = count * count / 2 * neighbours / float(1 << bits)
    buckets = min(1 << bits, count) * (BUCKET_NS + neighbours * NEIGHBOUR_NS)
    return comparisons * COMPARISON_NS + buckets


class _Pairs:
    """Gathers pairs, each once."""

    def __init__(self, count: int, *, most: int) -> None:
        self._count = count
        self._most = most
        self._codes: list[Indices] = [np.empty(0, np.int64)]
        self._waiting = 0

    def add(self, i: Indices, j: Indices, distances: Indices) -> None:
        pair = np.minimum(i, j) * self._count + np.maximum(i, j)
        self._codes.append(pair << 9 | distances)
        self._waiting += len(pair)
        if self._waiting > BUFFER:
            self._merge()

    def _merge(self) -> Indices:
        merged = np.concatenate(self._codes)
        merged.sort()
        fresh = np.ones(len(merged), bool)
        fresh[1:] = merged[1:] != merged[:-1]
        merged = merged[fresh]
        self._codes, self._waiting = [merged], 0
        if len(merged) > self._most:
            raise DatasetError(
                f"more than {MOST_PAIRS} pairs of near-copies: very many images are nearly the "
                "same picture (a placeholder, a still camera): take most of them out of the source"
            )
        return merged

    def pairs(self) -> tuple[Indices, Indices, Indices]:
        """(i, j, distance), in ascending order."""
        pair, distances = np.divmod(self._merge(), 1 << 9)
        i, j = np.divmod(pair, max(self._count, 1))
        return i, j, distances


def _search(words: Words, radius: int, found: _Pairs) -> None:
    """Give `found` every pair of distinct hashes within `radius`, some of them more than once.

    The parts are searched in threads: numpy lets go of the interpreter while it compares.
    """
    lock, over = Lock(), Event()

    def sweep(part: _Part) -> None:
        for i, j, distances in _meet(words, part, radius):
            with lock:
                if over.is_set():
                    return
                try:
                    found.add(i, j, distances)
                except DatasetError:
                    over.set()
                    raise

    if len(words) > 1 and radius >= 0:
        with ThreadPoolExecutor(usable_cores()) as pool:
            try:
                for _ in pool.map(sweep, _plan(len(words), radius)):
                    pass
            finally:
                over.set()  # whoever interrupts does not wait for the rest


def _meet(words: Words, part: _Part, radius: int) -> Iterator[tuple[Indices, Indices, Indices]]:
    """Pairs (i, j, distance) within `radius` that meet in `part`, block by block."""
    column = words[:, part.word]
    keys = (column >> np.uint64(part.shift)) & np.uint64((1 << part.bits) - 1)
    order = np.argsort(keys, kind="stable")
    column = column[order]
    sizes = np.bincount(keys.astype(np.int64), minlength=1 << part.bits)
    bounds = [0, *np.cumsum(sizes).tolist()]
    flips = [
        sum(1 << bit for bit in bits)
        for number in range(part.slack + 1)
        for bits in combinations(range(part.bits), number)
    ]
    for key in np.flatnonzero(sizes).tolist():
        start, stop = bounds[key], bounds[key + 1]
        # The bucket itself comes first; of two buckets the lower key looks at the upper.
        others = [key ^ flip for flip in flips if key ^ flip >= key]
        spans = [np.arange(bounds[o], bounds[o + 1]) for o in others if bounds[o] < bounds[o + 1]]
        partners = np.concatenate(spans)
        for left in range(0, len(partners), WIDTH):
            there = partners[left : left + WIDTH]
            against = column[there]
            height = CELLS // len(there)
            for top in range(start, stop, height):
                bottom = min(top + height, stop)
                if there[-1] <= top:
                    continue
                near = np.bitwise_count(column[top:bottom, None] ^ against) <= part.limit
                row, place = np.divmod(np.flatnonzero(near), len(there))
                here, hit = row + top, there[place]
                # Partners in the same bucket lie before or behind: one of the two is enough.
                i, j = order[here[hit > here]], order[hit[hit > here]]
                distances = np.bitwise_count(words[i] ^ words[j]).sum(axis=1, dtype=np.int64)
                within = distances <= radius
                if within.any():
                    yield i[within], j[within], distances[within]
