"""Accuracy by folds: the threshold of each fold comes from all the others (the LFW protocol)."""

import numpy as np

from facewright.errors import EvaluationError
from facewright.evaluation.curves import Weights
from facewright.evaluation.pairs import Bools, Floats, Ints, Scored


def check_folds(scored: Scored) -> None:
    """Refuse folds from which no threshold can be learned.

    Raises:
        EvaluationError: there are fewer than two folds, or those beside one fold lack a class.
    """
    folds = len(scored.fold_names)
    if folds < 2:
        raise EvaluationError(
            "all pairs are in one fold: a threshold must come from other folds than it is judged "
            "on, assign at least two (ten are usual)"
        )
    for kind, mask in (("genuine", scored.genuine), ("impostor", ~scored.genuine)):
        present = np.unique(scored.fold[mask])
        if len(present) == 1:
            raise EvaluationError(
                f"only fold {scored.fold_names[present[0]]!r} has {kind} pairs: spread both kinds "
                "over the folds, or its threshold cannot be learned from the others"
            )


def fold_accuracies(scored: Scored, weights: Weights) -> tuple[Floats, Floats]:
    """Accuracy and threshold of each of K folds, both `(R, K)`.

    The threshold of a fold is the one with the most correct decisions on all other folds, among
    *all* thresholds: midway between two neighbouring similarities there; of several equally good
    ones the highest, which accepts least. (Huang et al., LFW, UMass 07-49, 2007, "image
    restricted": the threshold may be set on nine of the ten sets only.) A pair in which a face
    was not found is an error under every threshold, genuine or impostor. NaN where a resample
    leaves a fold empty.
    """
    rows, folds = len(weights), len(scored.fold_names)
    accuracy, threshold = np.full((rows, folds), np.nan), np.empty((rows, folds))
    fold, genuine = scored.fold[: scored.compared], scored.genuine[: scored.compared]
    for k in range(folds):
        threshold[:, k] = _best_thresholds(
            scored.similarity[: scored.compared][fold != k],
            genuine[fold != k],
            weights[:, : scored.compared][:, fold != k],
        )
        inside = fold == k
        similarity, within = scored.similarity[: scored.compared][inside], genuine[inside]
        own = weights[:, : scored.compared][:, inside]
        gain = _cumulated(own, within)
        accept = np.searchsorted(-similarity, -threshold[:, k], side="right")
        correct = gain[np.arange(rows), accept] + own[:, ~within].sum(axis=1, dtype=np.int64)
        total = weights[:, scored.fold == k].sum(axis=1, dtype=np.int64)
        np.divide(correct, total, out=accuracy[:, k], where=total > 0)
    return accuracy, threshold


def _cumulated(weights: Weights, genuine: Bools) -> Ints:
    """`(R, P + 1)`: correct decisions won by accepting the first k pairs over accepting none."""
    signed = np.where(genuine, weights, -weights)
    out = np.zeros((len(weights), weights.shape[1] + 1), np.int32)
    np.cumsum(signed, axis=1, out=out[:, 1:])
    return out


def _best_thresholds(similarity: Floats, genuine: Bools, weights: Weights) -> Floats:
    """`(R,)`, from similarities in falling order."""
    size = len(similarity)
    if not size:
        return np.full(len(weights), 1.0)  # nothing was compared: nothing to tell, nothing to lose
    gain = _cumulated(weights, genuine)
    tied = np.flatnonzero(np.diff(similarity) == 0) + 1
    gain[:, tied] = np.iinfo(np.int32).min  # no threshold stands between equal similarities
    best = gain.argmax(axis=1)
    # A pair of weight zero is not there: find the first one below the cut that is.
    below = best.copy()
    rows = np.arange(len(weights))
    while True:
        skip = (below < size) & (weights[rows, np.minimum(below, size - 1)] == 0)
        if not skip.any():
            break
        below += skip
    upper, lower = similarity[np.maximum(best - 1, 0)], similarity[np.minimum(below, size - 1)]
    middle: Floats = lower + (upper - lower) / 2
    middle = np.where(middle > lower, middle, upper)  # neighbouring floats have no middle
    middle = np.where(best == 0, np.nextafter(lower, np.inf), middle)
    middle[below == size] = upper[below == size]
    return middle
