"""Pairs of images to similarities, and scores to the arrays that all metrics work on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat

import numpy as np
import numpy.typing as npt
import pandas as pd

from facewright.errors import EvaluationError
from facewright.files import values_digest

OK = "ok"
FAILURE = "failure"
COLUMNS = ("fold", "label", "a", "b")
CHUNK = 256  # pairs whose embeddings are gathered at a time: 1 MiB at 512 float32 values, a cache
NORM_TOLERANCE = 1e-3  # float32 normalization is good to 1e-6; beyond this something else happened

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


def score_pairs(
    pairs: pd.DataFrame, *, ids: Sequence[str], embeddings: npt.NDArray[np.float32]
) -> pd.DataFrame:
    """Cosine similarity of each pair.

    Args:
        pairs: columns fold, label (1 genuine, 0 impostor), a, b (ids of images).
        ids: the images that have an embedding, without repetition.
        embeddings: `(len(ids), E)`, each of length 1.

    Returns:
        The four columns in the order of `pairs`, `similarity` (float64 in [-1, 1]) and `status`:
        `ok`, or `failure` with a NaN similarity where one of the images has no embedding.

    Raises:
        EvaluationError: a column is missing, there is no pair, a pair is repeated, an id is
            repeated, or an embedding is not finite or not of length 1.
    """
    _check_columns(pairs, COLUMNS, what="pairs")
    image, unique = _images(pairs)
    if len(ids) != len(embeddings):
        raise ValueError(f"{len(ids)} ids for {len(embeddings)} embeddings")
    places = dict(zip(ids, range(len(ids)), strict=True))
    if len(places) < len(ids):
        repeated = next(name for row, name in enumerate(ids) if places[name] != row)
        raise EvaluationError(f"two embeddings for image {repeated!r}: embed each image once")
    _check_embeddings(embeddings, ids)

    first, second = np.array(list(map(places.get, unique, repeat(-1))))[image]
    found = (first >= 0) & (second >= 0)
    similarity = np.full(len(pairs), np.nan)
    rows = np.flatnonzero(found)
    for start in range(0, len(rows), CHUNK):
        part = rows[start : start + CHUNK]
        one, other = embeddings[first[part]], embeddings[second[part]]
        # float64 sums: the order in which a CPU adds float32 products would show in the digits.
        similarity[part] = np.vecdot(one, other, dtype=np.float64)
    scores = pairs[list(COLUMNS)].reset_index(drop=True)
    scores["similarity"] = np.clip(similarity, -1.0, 1.0)
    scores["status"] = np.where(found, OK, FAILURE)
    return scores


def pairs_digest(pairs: pd.DataFrame, *, photos: Mapping[str, str]) -> str:
    """sha256 over the pairs and the photos that they name, whatever file they came in.

    Two recognizers can be compared if this is the same for both.

    Args:
        pairs: columns fold, label, a, b, in any order of rows.
        photos: sha256 of each photo by id.
    """
    rows = sorted(
        [int(fold), int(label), photos[a], photos[b]]
        for fold, label, a, b in pairs[list(COLUMNS)].itertuples(index=False)
    )
    return values_digest(rows)


def _check_embeddings(embeddings: npt.NDArray[np.float32], ids: Sequence[str]) -> None:
    norms = np.sqrt(np.vecdot(embeddings, embeddings))
    wrong = np.flatnonzero(~(np.abs(norms - 1.0) <= NORM_TOLERANCE))  # catches NaN as well
    if len(wrong):
        raise EvaluationError(
            f"{len(wrong)} of {len(norms)} embeddings are not of length 1, first that of "
            f"{ids[wrong[0]]!r} with {norms[wrong[0]]:.4g}: the recognizer is broken, or its "
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


def checked(scores: pd.DataFrame) -> tuple[Scored, Ints]:
    """Scores as arrays, and the row of `scores` that each entry came from.

    Raises:
        EvaluationError: a column is missing, there is no pair, a label or status is unknown, all
            pairs are genuine or all are impostors, or a pair with status `ok` has no similarity.
    """
    _check_columns(scores, (*COLUMNS, "similarity", "status"), what="scores")
    label = scores["label"].to_numpy()
    if not np.isin(label, (0, 1)).all():
        raise EvaluationError("a label is neither 0 (impostor) nor 1 (genuine): check the pairs")
    genuine = label.astype(bool)
    refuse_one_class(genuine)
    found = (scores["status"] == OK).to_numpy()
    if not (found | (scores["status"] == FAILURE).to_numpy()).all():
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
    order = np.argsort(-ranked, kind="stable")
    ranked, compared = ranked[order], int(found.sum())
    changes = np.flatnonzero(np.diff(ranked[:compared])) + 1
    fold, names = pd.factorize(scores["fold"], sort=True)
    scored = Scored(
        similarity=ranked,
        genuine=genuine[order],
        fold=fold[order].astype(np.int64),
        fold_names=tuple(str(name) for name in names),
        compared=compared,
        cuts=np.append(changes, compared).astype(np.int64) if compared else np.empty(0, np.int64),
    )
    return scored, order.astype(np.int64)


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

    Raises:
        EvaluationError: an image has no identity, a label contradicts the identities, or a pair
            is there twice.
    """
    image, unique = _images(scores)
    names = list(map(identities.get, unique))
    if None in names:
        raise EvaluationError(
            f"image {unique[names.index(None)]!r} of a pair has no identity: "
            "check the manifest against the pairs"
        )
    person, people = pd.factorize(np.array(names, dtype=object))
    first, second = person[image].astype(np.int64)
    wrong = np.flatnonzero((first == second) != scores["label"].to_numpy().astype(bool))
    if len(wrong):
        pair = scores.iloc[int(wrong[0])]
        kind = "genuine" if pair["label"] else "impostor"
        raise EvaluationError(
            f"the pair {pair['a']!r}, {pair['b']!r} is labelled {kind} but the manifest says "
            f"otherwise ({len(wrong)} such pairs): mend the pairs file"
        )
    return first, second, len(people)


def _images(pairs: pd.DataFrame) -> tuple[Ints, npt.NDArray[np.object_]]:
    """Index of the image on each side `(2, P)`, and the ids by index.

    Raises:
        EvaluationError: two rows hold the same two images, in either order: they would count as
            two trials where there was one.
    """
    ids = np.concatenate([pairs[side].to_numpy(dtype=object) for side in ("a", "b")])
    image, unique = pd.factorize(ids)
    codes = image.reshape(2, -1).astype(np.int64)
    key = codes.min(axis=0) * len(unique) + codes.max(axis=0)
    ranked = np.sort(key)
    again = np.flatnonzero(ranked[1:] == ranked[:-1])
    if len(again):
        a, b = divmod(int(ranked[again[0]]), len(unique))
        raise EvaluationError(
            f"the pair {unique[a]!r}, {unique[b]!r} is there twice ({len(again)} repeated pairs, "
            "the order of the two images set aside): keep each once in the pairs file"
        )
    return codes, unique


def _check_columns(frame: pd.DataFrame, columns: Sequence[str], *, what: str) -> None:
    missing = [column for column in columns if column not in frame.columns]
    if missing:
        raise EvaluationError(f"the {what} have no column {missing[0]!r}: import the pairs again")
    if frame.empty:
        raise EvaluationError(f"there is not one pair among the {what}: check the pairs file")
