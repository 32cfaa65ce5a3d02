"""Templates: several photos of a person that stand for one, as in the IJB protocols.

The frames of one video are nearly one photo. So the embeddings of a template are averaged within
each medium (a still, or the frames of a video) first, then over media, and the mean is brought to
length 1 (Crosswhite et al., Template Adaptation for Face Verification and Identification, FG 2017).
"""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from facewright.errors import EvaluationError
from facewright.evaluation.pairs import Ints

ROWS = 16_384  # of embeddings gathered at a time: 64 MiB of float64 at 512 values
SHORTEST = 1e-6  # a mean of embeddings this short points nowhere


def pool_templates(
    embeddings: npt.NDArray[np.float32],
    *,
    ids: Sequence[str],
    image: Sequence[str],
    image_template: Sequence[str],
    image_media: Sequence[str],
) -> tuple[list[str], npt.NDArray[np.float32]]:
    """One embedding per template.

    Of a template in which only some faces were found, those count. One in which none was found is
    left out: `score_pairs` then marks its pairs as failures, and FNMR counts them.

    Args:
        embeddings: `(len(ids), E)`, finite. Their lengths are weights: of length 1 they count
            alike.
        ids: the images that have an embedding, without repetition.
        image, image_template, image_media: one row per image in a template, in any order, as
            `datasets.readers.templates.read_templates` gives them; an image may be in several
            templates. A medium is one only within its template.

    Returns:
        The templates in the order of their first rows that have an embedding, and `(T, E)`
        float32, each of length 1.

    Raises:
        EvaluationError: no image of any template has an embedding, an id is repeated, an embedding
            is not finite, or the embeddings of a template cancel out.
    """
    index = pd.Index(ids)
    if len(index) != len(embeddings):
        raise ValueError(f"{len(index)} ids for {len(embeddings)} embeddings")
    if not len(image) == len(image_template) == len(image_media):
        raise ValueError("image, image_template and image_media must have the same length")
    if not index.is_unique:
        repeated = index[index.duplicated()][0]
        raise EvaluationError(f"two embeddings for image {repeated!r}: embed each image once")
    rows = index.get_indexer(pd.Index(image))
    found = rows >= 0
    if not found.any():
        raise EvaluationError(
            f"none of the {len(rows)} images of the templates has an embedding: check the list of "
            "templates against the images"
        )
    template, names = pd.factorize(np.asarray(image_template, dtype=object)[found])
    media, _ = pd.factorize(np.asarray(image_media, dtype=object)[found])
    order = np.lexsort((rows[found], media, template))
    rows, template, media = rows[found][order], template[order], media[order]

    pooled = np.empty((len(names), embeddings.shape[1]), np.float32)
    for start, stop in _parts(template):
        here, ours = slice(start, stop), template[start:stop]
        values = np.asarray(embeddings[rows[here]], np.float64)
        if not np.isfinite(values).all():
            wrong = int(np.flatnonzero(~np.isfinite(values).all(axis=1))[0])
            raise EvaluationError(
                f"the embedding of image {index[rows[here][wrong]]!r} is not finite: the "
                "recognizer is broken"
            )
        means, firsts = _means(values, _changes(ours) | _changes(media[here]))
        means, last = _means(means, _changes(ours[firsts]))
        lengths = np.sqrt(np.einsum("te,te->t", means, means))
        if (lengths < SHORTEST).any():
            name = names[ours[firsts[last[int(lengths.argmin())]]]]
            raise EvaluationError(
                f"the embeddings of template {name!r} cancel out, or have length 0: the "
                "recognizer is broken"
            )
        pooled[ours[firsts[last]]] = means / lengths[:, None]
    return [str(name) for name in names], pooled


def _changes(values: npt.NDArray[np.intp]) -> npt.NDArray[np.bool_]:
    """`(N,)`: whether a value differs from the one before; true for the first."""
    return np.concatenate(([True], values[1:] != values[:-1]))


def _means(
    values: npt.NDArray[np.float64], starts: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.float64], Ints]:
    """Means of runs of rows, and where each run starts."""
    firsts = np.flatnonzero(starts)
    sums = np.add.reduceat(values, firsts, axis=0)
    return sums / np.diff(np.append(firsts, len(values)))[:, None], firsts


def _parts(template: npt.NDArray[np.intp]) -> Iterator[tuple[int, int]]:
    """(start, stop) of rows, about ROWS at a time, none of which divides a template."""
    firsts = np.append(np.flatnonzero(_changes(template)), len(template))
    start = 0
    while start < len(template):
        after = int(np.searchsorted(firsts, start + ROWS, side="right")) - 1
        stop = int(firsts[after])
        if stop <= start:  # a template with more images than ROWS
            stop = int(firsts[after + 1])
        yield start, stop
        start = stop
