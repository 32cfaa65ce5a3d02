"""Exact search of probes in a gallery, in blocks: nothing as large as all scores is ever held.

Scores are float32 matrix products. The order of their sums differs between blocks and machines, so
scores closer than TIE are taken as equal. What rank and mate are, `identification` says.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from facewright.errors import EvaluationError
from facewright.evaluation.pairs import Bools, Floats, Ints, check_lengths
from facewright.progress import progress

TIE = 1e-6  # of similarity; sums of 512 float32 products differ by about 1e-7
PROBES = 2048  # rows of a block; smaller ones cost the product its speed
ENTRIES = 4096  # columns of a block: 32 MiB of scores at a time
GATHERED = 32_768  # rows whose embeddings are gathered at a time
MISSED = np.iinfo(np.int64).max  # the rank of a mate that could not be compared

Embeddings = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Found:
    """What N probes found, in galleries of S sizes.

    At size k each probe is compared with k people: its own, if enrolled, and the first others of
    one random order. So the same probes count at every size, and each gallery lies in the next.
    """

    sizes: tuple[int, ...]  # numbers of people, rising; the last one is everybody
    mated: Bools  # (N,)
    searched: Bools  # (N,) False where the probe's face was not found
    mate: Floats  # (N,) score of the mate, -inf if it could not be compared, NaN if unenrolled
    rank: Ints  # (S, N) of the mate, from 1; MISSED if it could not be compared, 0 if unenrolled
    other: Floats  # (S, N) highest score of another person; -inf if there is none
    lost_entries: int = 0  # enrolled photos or templates in which no face was found


def search(
    gallery: Embeddings,
    gallery_identities: Sequence[str] | npt.NDArray[np.object_],
    probes: Embeddings,
    probe_identities: Sequence[str] | npt.NDArray[np.object_],
    *,
    sizes: Sequence[int] = (),
    seed: int = 0,
) -> Found:
    """Compare every probe with every entry of the gallery.

    Memory beyond the arguments: one block of scores (32 MiB), one of gathered entries, and a few
    numbers per probe and size; never `(N, G)`.

    Args:
        gallery: `(G, E)`, each of length 1.
        gallery_identities: G; several entries may be of one person.
        probes: `(N, E)`, each of length 1.
        probe_identities: N; whoever has no entry in the gallery is not enrolled.
        sizes: numbers of people of smaller galleries (see `Found`); those not below the number of
            people enrolled are left out, and that number is always the last.
        seed: of the order in which people join the galleries.

    Raises:
        EvaluationError: nobody is enrolled, there is no probe, the two have embeddings of
            different sizes, or an embedding is not finite or not of length 1.
    """
    if any(size < 1 for size in sizes):
        raise ValueError(f"a gallery of {min(sizes)} people: sizes are at least 1")
    for what, some, names in (
        ("gallery", gallery, gallery_identities),
        ("probes", probes, probe_identities),
    ):
        if some.ndim != 2 or len(some) != len(names):
            raise ValueError(f"{len(names)} identities for embeddings {some.shape} of the {what}")
    if not len(gallery):
        raise EvaluationError("nobody is enrolled: the gallery is empty, or no face was found")
    if not len(probes):
        raise EvaluationError("there is not one probe: give photos that are not in the gallery")
    if gallery.shape[1] != probes.shape[1]:
        raise EvaluationError(
            f"the gallery's embeddings have {gallery.shape[1]} values and the probes' "
            f"{probes.shape[1]}: embed both with one recognizer"
        )
    for what, some in (("the gallery", gallery), ("the probes", probes)):
        check_lengths(some, name=lambda row, what=what: f"number {row} of {what}")  # type: ignore[misc]

    person, people = pd.factorize(np.asarray(gallery_identities, dtype=object), sort=True)
    entries = _Entries.of(person, len(people))
    own = pd.Index(people).get_indexer(pd.Index(np.asarray(probe_identities, dtype=object)))
    mated = own >= 0
    levels = sorted({int(size) for size in sizes if size < len(people)} | {len(people)})
    order = np.arange(len(people))
    if len(levels) > 1:
        np.random.default_rng(seed).shuffle(order)
    place = np.full(len(people) + 1, -1)  # the last stands for who is not enrolled
    place[order] = np.arange(len(people))

    mate = _mate_scores(gallery, entries, probes, own)
    running = _Running(
        place=place[own],
        limit=np.where(mated, mate - TIE, np.inf).astype(np.float32),
        other=np.full(len(probes), -np.inf, np.float32),
        above=np.zeros(len(probes), np.int64),
    )
    other = np.full((len(levels), len(probes)), -np.inf)
    above = np.zeros((len(levels), len(probes)), np.int64)
    blocks = list(entries.blocks(order, stops={*levels, *(size - 1 for size in levels)}))
    scores = np.empty(PROBES * max(ENTRIES, *(len(block.rows) for block in blocks)), np.float32)
    for block in progress(blocks, total=len(blocks), label="search the gallery"):
        running.add(block, gallery[block.rows], probes, scores)
        for k, size in enumerate(levels):
            if block.stop == size:  # the own person is among them, or nowhere
                at = running.place < size
            elif block.stop == size - 1:  # the own person, who comes later, joins them
                at = running.place >= size
            else:
                continue
            other[k, at], above[k, at] = running.other[at], running.above[at]
    return Found(
        sizes=tuple(levels),
        mated=mated,
        searched=np.ones(len(probes), bool),
        mate=mate,
        rank=np.where(mated, above + 1, 0),
        other=other,
    )


@dataclass(frozen=True)
class _Block:
    """Entries of the people `order[start:stop]`, in layers: a first entry of each, a second, …

    People with more entries come first, so that a layer lies over the front of the one before, and
    the best entry of each person is an elementwise maximum.
    """

    start: int
    stop: int
    rows: Ints  # of the gallery
    layers: tuple[int, ...]  # entries in each layer, falling
    column: Ints  # (stop - start,) in the first layer, of each person in the order


@dataclass(frozen=True)
class _Entries:
    """The rows of the gallery by person."""

    rows: Ints  # (G,) person by person
    first: Ints  # (P,) where a person's rows begin
    count: Ints  # (P,)

    @classmethod
    def of(cls, person: npt.NDArray[np.intp], people: int) -> "_Entries":
        count = np.bincount(person, minlength=people)
        return cls(np.argsort(person, kind="stable"), np.cumsum(count) - count, count)

    def blocks(self, order: Ints, *, stops: set[int]) -> Iterator[_Block]:
        """Blocks of about ENTRIES entries; some block ends at each of `stops` that is not 0."""
        ends = np.cumsum(self.count[order])
        start = 0
        while start < len(order):
            before = ends[start - 1] if start else 0
            full = int(np.searchsorted(ends, before + ENTRIES, side="right"))
            stop = min(max(full, start + 1), *(s for s in stops if s > start))
            members = order[start:stop]
            sorting = np.argsort(-self.count[members], kind="stable")
            members, column = members[sorting], np.argsort(sorting)
            most = self.count[members[0]]
            layers = [members[self.count[members] > k] for k in range(most)]
            rows = [self.rows[self.first[layer] + k] for k, layer in enumerate(layers)]
            sizes = tuple(len(layer) for layer in layers)
            yield _Block(start, stop, np.concatenate(rows), sizes, column)
            start = stop


def _mate_scores(gallery: Embeddings, entries: _Entries, probes: Embeddings, own: Ints) -> Floats:
    """`(N,)`: the best score with an entry of the own person; NaN where there is none."""
    mate = np.full(len(probes), np.nan)
    owns = np.where(own >= 0, entries.count[own], 0)
    for k in range(owns.max()):
        having = np.flatnonzero(owns > k)
        for start in range(0, len(having), GATHERED):
            part = having[start : start + GATHERED]
            rows = entries.rows[entries.first[own[part]] + k]
            score = np.einsum("ne,ne->n", probes[part], gallery[rows], dtype=np.float64)
            mate[part] = np.fmax(mate[part], score)
    return mate


@dataclass(frozen=True)
class _Running:
    """What the probes have found so far; `add` goes on by one block, in place."""

    place: Ints  # (N,) of the own person in the order of people, -1 where not enrolled
    limit: npt.NDArray[np.float32]  # (N,) from which on another person counts as above the mate
    other: npt.NDArray[np.float32]  # (N,)
    above: Ints  # (N,)

    def add(
        self,
        block: _Block,
        entries: Embeddings,
        probes: Embeddings,
        memory: npt.NDArray[np.float32],
    ) -> None:
        for start in range(0, len(probes), PROBES):
            part = np.asarray(probes[start : start + PROBES], np.float32)
            scores = memory[: len(part) * len(entries)].reshape(len(part), len(entries))
            np.matmul(part, entries.T, out=scores)
            best, taken = scores[:, : block.layers[0]], block.layers[0]
            for size in block.layers[1:]:
                layer = scores[:, taken : taken + size]
                np.maximum(best[:, :size], layer, out=best[:, :size])
                taken += size
            place = self.place[start : start + PROBES]
            mine = np.flatnonzero((place >= block.start) & (place < block.stop))
            best[mine, block.column[place[mine] - block.start]] = -np.inf
            top = best.max(axis=1)
            here = slice(start, start + PROBES)
            np.maximum(self.other[here], top, out=self.other[here])
            # Most mates are beaten by nobody in most blocks: only the others need counting.
            limit = self.limit[here]
            for row in np.flatnonzero(top >= limit):
                self.above[start + row] += np.count_nonzero(best[row] >= limit[row])
