"""Pairs of images to similarities, and scores to the arrays that all metrics work on."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from facewright.errors import EvaluationError

OK = "ok"
FAILURE = "failure"
STATUS = pd.CategoricalDtype([OK, FAILURE])
COLUMNS = ("fold", "label", "a", "b")
CHUNK = 512  # pairs whose embeddings are gathered at a time: 2 MiB at 512 float32 values, a cache
SAME = 1e-6  # similarities of float32 products that differ by no more are one
NORM_TOLERANCE = 1e-3  # float32 normalization is good to 1e-6; beyond this something else happened

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Objects = npt.NDArray[np.object_]


def score_pairs(
    pairs: pd.DataFrame, *, ids: Sequence[str], embeddings: npt.NDArray[np.float32]
) -> pd.DataFrame:
    """Cosine similarity of each pair.

    Args:
        pairs: columns fold, label (1 genuine, 0 impostor), a, b (ids of images).
        ids: the images that have an embedding, without repetition; those in no pair do not matter.
        embeddings: `(len(ids), E)`, each of length 1.

    Returns:
        The four columns in the order of `pairs`, `similarity` (float64 in [-1, 1], of float32
        products) and `status`: `ok`, or `failure` with a NaN similarity where one of the images
        has no embedding. `a`, `b` and `status` are categories, the first two of the same ids, so
        that no later step reads text again.

    Raises:
        EvaluationError: a column is missing, there is no pair, a pair is repeated or of an image
            with itself, an image of the pairs has two embeddings, or an embedding is not finite
            or not of length 1.
    """
    _check_columns(pairs, COLUMNS, what="pairs")
    if len(ids) != len(embeddings):
        raise ValueError(f"{len(ids)} ids for {len(embeddings)} embeddings")
    pairs = with_categories(pairs)
    image, unique = image_codes(pairs)
    _check_pairs(image, unique)
    check_lengths(embeddings, name=lambda row: f"that of {ids[row]!r}")

    names = pd.Index(np.array(ids, dtype=object), dtype=object)  # pandas need not guess a type
    own = pairs["a"].array.categories.get_indexer(names)
    inside = np.flatnonzero(own >= 0)
    row_of = np.full(len(unique), -1)
    row_of[own[inside]] = inside
    repeated = inside[row_of[own[inside]] != inside]
    if len(repeated):
        raise EvaluationError(
            f"two embeddings for image {ids[repeated[0]]!r}: embed each image once"
        )
    first, second = row_of[image]
    found = (first >= 0) & (second >= 0)
    rows = np.flatnonzero(found)
    similarity = np.full(len(pairs), np.nan)
    room = np.empty((2, min(CHUNK, len(rows)), embeddings.shape[1]), embeddings.dtype)
    for start in range(0, len(rows), CHUNK):
        part = rows[start : start + CHUNK]
        one, other = room[:, : len(part)]
        for side, out in ((first, one), (second, other)):
            # No row is out of range; with "clip" numpy gathers without a copy of its own.
            np.take(embeddings, side[part], axis=0, out=out, mode="clip")
        similarity[part] = np.vecdot(one, other)
    return pd.DataFrame(
        {name: pairs[name].array for name in COLUMNS}
        | {
            "similarity": np.clip(similarity, -1.0, 1.0),
            "status": pd.Categorical.from_codes((~found).astype(np.int8), dtype=STATUS),
        }
    )


def with_categories(pairs: pd.DataFrame) -> pd.DataFrame:
    """The pairs with `a` and `b` as categories of the same ids, by their first appearance.

    Where several recognizers are asked the same pairs, their names are looked up only once.
    """
    if _share_categories(pairs):
        return pairs
    codes, unique = image_codes(pairs)
    named = pd.CategoricalDtype(pd.Index(unique, dtype=object))
    sides = {
        side: pd.Categorical.from_codes(code, dtype=named)
        for side, code in zip(("a", "b"), codes, strict=True)
    }
    return pairs.assign(**sides)


def _share_categories(pairs: pd.DataFrame) -> bool:
    first, second = (pairs[side].dtype for side in ("a", "b"))
    return (
        isinstance(first, pd.CategoricalDtype)
        and isinstance(second, pd.CategoricalDtype)
        and first.categories is second.categories
    )


def pairs_digest(pairs: pd.DataFrame, *, photos: Mapping[str, str]) -> str:
    """sha256 over the pairs and the photos that they name, whatever file they came in.

    Two recognizers can be compared if this is the same for both. Neither the order of the pairs
    nor which photo of a pair comes first makes a difference.

    Args:
        pairs: columns fold, label, a, b, in any order of rows.
        photos: sha256 of each photo by id.

    Raises:
        EvaluationError: a photo has no digest.
    """
    image, unique = image_codes(pairs)
    found = list(map(photos.get, unique))
    if None in found:
        raise EvaluationError(
            f"image {unique[found.index(None)]!r} of a pair has no digest of its photo: check the "
            "manifest against the pairs"
        )
    digests, code = np.unique(np.array(found, dtype=str), return_inverse=True)
    low, high = np.sort(code[image], axis=0)
    fold, label = (pairs[name].to_numpy().astype(np.int64) for name in ("fold", "label"))
    rows = np.stack((fold, label, low, high), axis=1)[np.lexsort((high, low, label, fold))]
    total = hashlib.sha256("\n".join(digests.tolist()).encode())
    total.update(rows.astype("<i8").tobytes())
    return total.hexdigest()


def check_lengths(embeddings: npt.NDArray[np.floating], *, name: Callable[[int], str]) -> None:
    """Refuse embeddings `(N, E)` that are not all finite and of length 1.

    Args:
        name: what to call a row in the error, such as `that of 'Ada/1'`.

    Raises:
        EvaluationError: with the number of such embeddings and the first of them.
    """
    norms = np.sqrt(np.vecdot(embeddings, embeddings))
    wrong = np.flatnonzero(~(np.abs(norms - 1.0) <= NORM_TOLERANCE))  # catches NaN as well
    if len(wrong):
        raise EvaluationError(
            f"{len(wrong)} of {len(norms)} embeddings are not of length 1, first "
            f"{name(int(wrong[0]))} with {norms[wrong[0]]:.4g}: the recognizer is broken, or its "
            "embeddings were not normalized"
        )


@dataclass(frozen=True)
class Scored:
    """Checked scores as arrays over P pairs, by falling similarity, failures last.

    The first `compared` entries are the pairs with a similarity. `cuts` are the numbers k of
    leading pairs that some threshold accepts, 0 left out: those k where the next similarity
    differs, so that equal similarities are never told apart.
    """

    similarity: Floats  # (P,) falling; -inf for failures
    genuine: Bools  # (P,)
    fold: Ints  # (P,) index into fold_names
    fold_names: tuple[str, ...]
    compared: int
    cuts: Ints  # rising, the last one is `compared`

    @property
    def pairs(self) -> int:
        return len(self.similarity)

    @property
    def impostors_compared(self) -> int:
        return int((~self.genuine[: self.compared]).sum())

    @cached_property
    def thresholds(self) -> Floats:
        """`(len(cuts) + 1,)`: one that accepts nothing, then the similarity at each cut."""
        values = self.similarity[self.cuts - 1]
        first = np.nextafter(values[0], np.inf) if len(values) else 1.0
        return np.concatenate(([first], values))


def checked(scores: pd.DataFrame) -> tuple[Scored, Ints]:
    """Scores as arrays, and the row of `scores` that each entry came from.

    Raises:
        EvaluationError: a column is missing, there is no pair, a label or status is unknown, all
            pairs are genuine or all are impostors, or a pair with status `ok` has no similarity.
    """
    _check_columns(scores, (*COLUMNS, "similarity", "status"), what="scores")
    label = scores["label"].to_numpy()
    genuine = label == 1
    if not (genuine | (label == 0)).all():
        raise EvaluationError("a label is neither 0 (impostor) nor 1 (genuine): check the pairs")
    refuse_one_class(genuine)
    found = (scores["status"] == OK).to_numpy()
    if not (found.all() or (found | (scores["status"] == FAILURE).to_numpy()).all()):
        raise EvaluationError(f"a status is neither {OK} nor {FAILURE}: score the pairs again")
    similarity = scores["similarity"].to_numpy(dtype=np.float64)
    bad = np.flatnonzero(found & ~np.isfinite(similarity))
    if len(bad):
        pair = scores.iloc[int(bad[0])]
        raise EvaluationError(
            f"the similarity of {pair['a']!r} and {pair['b']!r} is {similarity[bad[0]]} although "
            f"both faces were found ({len(bad)} such pairs): score the pairs again"
        )
    ranked = np.where(found, similarity, -np.inf)
    order = np.argsort(-ranked, kind="stable").astype(np.int64, copy=False)
    ranked, compared = ranked[order], int(found.sum())
    changes = np.flatnonzero(np.diff(ranked[:compared])) + 1
    fold, names = pd.factorize(scores["fold"], sort=True)
    scored = Scored(
        similarity=ranked,
        genuine=genuine[order],
        fold=fold[order].astype(np.int64, copy=False),
        fold_names=tuple(str(name) for name in names),
        compared=compared,
        cuts=np.append(changes, compared).astype(np.int64) if compared else np.empty(0, np.int64),
    )
    return scored, order


def refuse_alike(scored: Scored) -> None:
    """Refuse to judge a recognizer by similarities that no threshold tells apart.

    Raises:
        EvaluationError: all pairs that were compared, two or more, have the same similarity.
    """
    compared = scored.similarity[: scored.compared]
    if len(compared) > 1 and compared[0] - compared[-1] <= SAME:
        raise EvaluationError(
            f"all {len(compared)} pairs that were compared have one similarity, {compared[0]:g}: "
            "the recognizer says the same of every face, train it again"
        )


def refuse_one_class(genuine: Bools) -> None:
    """Raises:
    EvaluationError: all pairs are genuine, or all are impostors.
    """
    if genuine.all() or not genuine.any():
        kind, other = ("genuine", "impostor") if genuine.all() else ("impostor", "genuine")
        raise EvaluationError(
            f"all {len(genuine)} pairs are {kind}: add {other} pairs, verification needs both"
        )


def identity_codes(
    scores: pd.DataFrame, *, identities: Mapping[str, str]
) -> tuple[Ints, Ints, int]:
    """Dense identity indices of both sides of each pair, and how many identities there are.

    Identities are numbered as they come in the pairs, first along `a`, then along `b`.

    Raises:
        EvaluationError: an image has no identity, a label contradicts the identities, or a pair
            is there twice or of an image with itself.
    """
    image, unique = image_codes(scores)
    _check_pairs(image, unique)
    person, _ = pd.factorize(np.array(list(map(identities.get, unique)), dtype=object))
    codes = person[image]
    if (codes < 0).any():
        raise EvaluationError(
            f"image {unique[image[codes < 0][0]]!r} of a pair has no identity: "
            "check the manifest against the pairs"
        )
    dense, people = pd.factorize(codes.ravel())
    first, second = dense.reshape(2, -1).astype(np.int64)
    wrong = np.flatnonzero((first == second) != scores["label"].to_numpy().astype(bool))
    if len(wrong):
        pair = scores.iloc[int(wrong[0])]
        kind = "genuine" if pair["label"] else "impostor"
        raise EvaluationError(
            f"the pair {pair['a']!r}, {pair['b']!r} is labelled {kind} but the manifest says "
            f"otherwise ({len(wrong)} such pairs): mend the pairs file"
        )
    return first, second, len(people)


def image_codes(pairs: pd.DataFrame) -> tuple[Ints, Objects]:
    """Index of the image on each side `(2, P)`, and the ids by index; some may be in no pair."""
    if _share_categories(pairs):
        codes = np.stack([pairs[side].array.codes for side in ("a", "b")]).astype(np.int64)
        return codes, pairs["a"].cat.categories.to_numpy(dtype=object)
    sides: list[Any] = [pairs[side].array for side in ("a", "b")]
    if all(isinstance(side, pd.Categorical) for side in sides):  # as a file gives them back
        named = [np.array([*side.categories, None], dtype=object) for side in sides]
        places, unique = pd.factorize(np.concatenate(named))  # None, the last, for what is missing
        where = places[: len(named[0])], places[len(named[0]) :]
        codes = np.stack([at[side.codes] for at, side in zip(where, sides, strict=True)])
        return codes.astype(np.int64), unique
    codes, unique = pd.factorize(np.concatenate([side.to_numpy(dtype=object) for side in sides]))
    return codes.reshape(2, -1).astype(np.int64), unique


def _check_pairs(image: Ints, unique: Objects) -> None:
    """Raises:
    EvaluationError: a pair lacks an image; or is of an image with itself, which any recognizer
        gets right; or two rows hold the same two images, in either order: they would count as two
        trials where there was one.
    """
    lacking = np.flatnonzero((image < 0).any(axis=0))
    if len(lacking):
        raise EvaluationError(f"pair {lacking[0] + 1} names no image: mend the pairs file")
    same = np.flatnonzero(image[0] == image[1])
    if len(same):
        raise EvaluationError(
            f"pair {same[0] + 1} is of {unique[image[0, same[0]]]!r} with itself "
            f"({len(same)} such pairs): take it out of the pairs file"
        )
    key = image.min(axis=0) * len(unique) + image.max(axis=0)
    ranked = np.sort(key)
    again = np.flatnonzero(ranked[1:] == ranked[:-1])
    if len(again):
        a, b = divmod(int(ranked[again[0]]), len(unique))
        raise EvaluationError(
            f"the pair {unique[a]!r}, {unique[b]!r} is there twice ({len(again)} repeated pairs, "
            "the order of the two images set aside): keep each once in the pairs file"
        )


def _check_columns(frame: pd.DataFrame, columns: Sequence[str], *, what: str) -> None:
    missing = [column for column in columns if column not in frame.columns]
    if missing:
        raise EvaluationError(f"the {what} have no column {missing[0]!r}: import the pairs again")
    if frame.empty:
        raise EvaluationError(f"there is not one pair among the {what}: check the pairs file")
