"""Accuracy by folds: the threshold of each fold comes from all the others (the LFW protocol)."""

from dataclasses import dataclass

import numpy as np

from facewright.errors import EvaluationError
from facewright.evaluation.curves import Weights
from facewright.evaluation.pairs import Bools, Floats, Ints, Scored


def check_folds(scored: Scored) -> bool:
    """Whether there are folds; False where all pairs are in one, as in a protocol without.

    Raises:
        EvaluationError: the folds beside one of them lack a class, so that no threshold can be
            learned from them.
    """
    if len(scored.fold_names) < 2:
        return False
    for kind, mask in (("genuine", scored.genuine), ("impostor", ~scored.genuine)):
        present = np.unique(scored.fold[mask])
        if len(present) == 1:
            raise EvaluationError(
                f"only fold {scored.fold_names[present[0]]!r} has {kind} pairs: spread both kinds "
                "over the folds, or its threshold cannot be learned from the others"
            )
    return True


@dataclass(frozen=True)
class _Fold:
    """What does not change with the weights; pairs by falling similarity."""

    own: Ints  # compared pairs of the fold
    lost: Ints  # its pairs in which a face was not found
    signs: Weights  # of own: 1 genuine, -1 impostor
    impostor: Ints  # places among own
    similarity: Floats  # of own, negated, so that it rises
    inside: Weights  # how many of own lie before each useful cut


@dataclass(frozen=True)
class Folds:
    """Folds made ready for many weightings of their pairs."""

    scored: Scored
    signs: Weights  # of all compared pairs
    cuts: Ints  # see `_useful_cuts`
    folds: tuple[_Fold, ...]

    @classmethod
    def of(cls, scored: Scored) -> "Folds":
        genuine = scored.genuine[: scored.compared]
        signs = np.where(genuine, np.int32(1), np.int32(-1))
        cuts = _useful_cuts(scored)
        folds = []
        for k in range(len(scored.fold_names)):
            pairs = np.flatnonzero(scored.fold == k)
            own = pairs[: np.searchsorted(pairs, scored.compared)]
            folds.append(
                _Fold(
                    own=own,
                    lost=pairs[len(own) :],
                    signs=signs[own],
                    impostor=np.flatnonzero(~genuine[own]),
                    similarity=-scored.similarity[own],
                    inside=np.searchsorted(own, cuts).astype(np.int32),
                )
            )
        return cls(scored, signs, cuts, tuple(folds))


def fold_accuracies(folds: Folds, weights: Weights) -> tuple[Floats, Floats]:
    """Accuracy and threshold of each of K folds, both `(R, K)`.

    The threshold of a fold is the one with the most correct decisions on all other folds, among
    *all* thresholds: midway between two neighbouring similarities there; of several equally good
    ones the highest, which accepts least. (Huang et al., LFW, UMass 07-49, 2007, "image
    restricted": the threshold may be set on nine of the ten sets only.) A pair in which a face
    was not found is an error under every threshold, genuine or impostor. NaN where a resample
    leaves a fold empty.
    """
    scored = folds.scored
    size = len(weights), len(folds.folds)
    accuracy, threshold = np.full(size, np.nan), np.empty(size)
    similarity, fold = scored.similarity[: scored.compared], scored.fold[: scored.compared]
    within = weights[:, : scored.compared]
    gain = _cumulated(within * folds.signs)[:, folds.cuts]
    each = np.arange(len(weights))
    for k, part in enumerate(folds.folds):
        own_weights = within[:, part.own]
        own_gain = _cumulated(own_weights * part.signs)
        # What the other folds gain is what all gain less what this one does.
        best = folds.cuts[(gain - own_gain[:, part.inside]).argmax(axis=1)]
        threshold[:, k] = _between(similarity, within, best, fold=fold, without=k)
        accept = np.searchsorted(part.similarity, -threshold[:, k], side="right")
        rejected = own_weights[:, part.impostor].sum(axis=1, dtype=np.int64)
        total = own_weights.sum(axis=1, dtype=np.int64)
        total += weights[:, part.lost].sum(axis=1, dtype=np.int64)
        correct = own_gain[each, accept] + rejected
        np.divide(correct, total, out=accuracy[:, k], where=total > 0)
    return accuracy, threshold


def correct_decisions(scored: Scored, thresholds: Floats) -> Bools:
    """`(P,)`: whether each pair is decided rightly at its fold's threshold, of `(K,)`."""
    found = np.arange(scored.pairs) < scored.compared
    accepted = scored.similarity >= thresholds[scored.fold]
    return np.asarray(found & (accepted == scored.genuine))


def _cumulated(values: Weights) -> Weights:
    """`(R, P + 1)`: sums of the first k values."""
    out = np.zeros((len(values), values.shape[1] + 1), np.int32)
    np.cumsum(values, axis=1, out=out[:, 1:])
    return out


def _useful_cuts(scored: Scored) -> Ints:
    """Numbers of leading pairs after which a best threshold can lie, whatever the weights.

    It never pays to stop within a run of genuine pairs, nor after an impostor pair: only a cut
    with a genuine pair just before it and an impostor pair just after it can be the best, and the
    two ends. Equal similarities stand on one side together.
    """
    if not scored.compared:
        return np.zeros(1, np.int64)
    starts = np.concatenate(([0], scored.cuts[:-1]))
    genuine = np.add.reduceat(scored.genuine[: scored.compared].astype(np.int64), starts)
    impostor = np.diff(np.append(starts, scored.compared)) - genuine
    useful = (genuine[:-1] > 0) & (impostor[1:] > 0)
    return np.concatenate(([0], scored.cuts[:-1][useful], [scored.compared]))


def _between(
    similarity: Floats, weights: Weights, cut: Ints, *, fold: Ints, without: int
) -> Floats:
    """`(R,)`: the threshold midway between what stands on both sides of each cut.

    A pair of weight zero, or one of the fold `without`, is not there.
    """
    size, rows = len(similarity), np.arange(len(weights))
    if not size:
        return np.full(len(weights), 1.0)  # nothing was compared: nothing to tell, nothing to lose
    above, below = cut - 1, cut.copy()
    for place, step in ((above, -1), (below, 1)):
        walking = rows
        while len(walking):
            at = place[walking]
            inside = (at >= 0) & (at < size)
            walking, at = walking[inside], at[inside]
            walking = walking[(weights[walking, at] == 0) | (fold[at] == without)]
            place[walking] += step
    upper, lower = similarity[np.maximum(above, 0)], similarity[np.minimum(below, size - 1)]
    middle: Floats = lower + (upper - lower) / 2
    middle = np.where(middle > lower, middle, upper)  # neighbouring floats have no middle
    middle = np.where(above < 0, np.nextafter(lower, np.inf), middle)
    return np.where(below == size, upper, middle)
