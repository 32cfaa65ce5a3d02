"""Crops with a wrong label, as a trained sub-centre ArcFace sees them (Deng et al., ECCV 2020).

The clean crops of an identity gather at one of its sub-centres, the dominant one; those of other
people at the others, or far from all.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from facewright.errors import TrainingError

CHUNK = 1024  # crops at a time: memory stays the same however many there are


@dataclass(frozen=True)
class LabelNoise:
    """What is said of each of N crops, and of each identity."""

    angle: npt.NDArray[np.float64]  # (N,) degrees to the dominant sub-centre of its identity
    nearest_is_dominant: npt.NDArray[np.bool_]  # (N,) of the sub-centres of its identity
    dropped: npt.NDArray[np.bool_]  # (N,) farther than the largest angle: most likely noise
    dominant: npt.NDArray[np.int64]  # (identities,) 0 … sub_centres - 1; -1: it has no crops


def label_noise(
    embeddings: npt.NDArray[np.floating],
    labels: npt.NDArray[np.integer],
    weight: npt.NDArray[np.floating],
    *,
    sub_centres: int,
    largest_angle: float,
) -> LabelNoise:
    """Judge crops by `embeddings (N, E)`, any norm, and `labels (N,)` 0 … identities - 1.

    `weight (identities · sub_centres, E)` is that of the head after training, the rows of one
    identity next to each other. The dominant sub-centre is the nearest one of most crops of its
    identity, the first of equals. A crop is dropped when its angle to it is above
    `largest_angle` degrees (paper: 75).

    Raises:
        TrainingError: shapes that do not fit, a label out of range, an embedding that is not
            finite.
    """
    centres = _sub_centres(embeddings, labels, weight, sub_centres)
    nearest = np.empty(len(labels), dtype=np.int64)
    for part, angles in _angles(embeddings, labels, centres):
        nearest[part] = angles.argmin(axis=1)

    votes = np.zeros(centres.shape[:2], dtype=np.int64)
    np.add.at(votes, (labels, nearest), 1)
    dominant = np.where(votes.any(axis=1), votes.argmax(axis=1), -1)

    # Angles are computed twice: those to all sub-centres of all crops would have to be kept.
    own = dominant[labels]
    angle = np.empty(len(labels))
    for part, angles in _angles(embeddings, labels, centres):
        angle[part] = np.take_along_axis(angles, own[part, None], axis=1)[:, 0]
    return LabelNoise(
        angle=angle,
        nearest_is_dominant=nearest == own,
        dropped=angle > largest_angle,
        dominant=dominant,
    )


def _sub_centres(
    embeddings: npt.NDArray[np.floating],
    labels: npt.NDArray[np.integer],
    weight: npt.NDArray[np.floating],
    sub_centres: int,
) -> npt.NDArray[np.floating]:
    """`weight` as `(identities, sub_centres, E)`, once everything is seen to fit."""
    rows, size = weight.shape
    if rows % sub_centres or embeddings.shape != (len(labels), size):
        raise TrainingError(
            f"label noise: embeddings {embeddings.shape}, {len(labels)} labels, and weights "
            f"{weight.shape} with {sub_centres} sub-centres do not fit: take all from one training"
        )
    identities = rows // sub_centres
    if len(labels) and not (labels.min() >= 0 and labels.max() < identities):
        raise TrainingError(
            f"label noise: labels {labels.min()} to {labels.max()}, but the weights have "
            f"identities 0 to {identities - 1}: take both from one training"
        )
    return weight.reshape(identities, sub_centres, size)


def _angles(
    embeddings: npt.NDArray[np.floating],
    labels: npt.NDArray[np.integer],
    centres: npt.NDArray[np.floating],
) -> Iterator[tuple[slice, npt.NDArray[np.float64]]]:
    """Chunk by chunk, which crops and their degrees to each sub-centre of their identity."""
    for start in range(0, len(labels), CHUNK):
        part = slice(start, start + CHUNK)
        x = embeddings[part].astype(np.float64)
        bad = np.flatnonzero(~np.isfinite(x).all(axis=1))
        if len(bad):
            raise TrainingError(
                f"label noise: the embedding of crop {start + bad[0]} is not finite: leave it out"
            )
        one = _unit(x)[:, None]
        other = _unit(centres[labels[part]].astype(np.float64))
        # As in `sphere`: exact for the smallest angles too.
        apart = np.linalg.norm(one - other, axis=2)
        together = np.linalg.norm(one + other, axis=2)
        yield part, np.degrees(2 * np.arctan2(apart, together))


def _unit(vectors: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.where(norms > 0, norms, np.inf)
