"""How fast the figures of a verification are, beside the loops that face projects run.

Parts `view2`, `bootstrap` and `det` of `benchmarks.evaluation`, which says what they measure.

The peer is written after the procedure of InsightFace's `eval/verification.py`, plainly: for each
of ten folds and each of 400 thresholds on the squared distance (0 to 4 in steps of 0.01) the
accuracy on the other folds, and on the fold itself for the ROC; then for each fold and each of
4,000 finer thresholds the FAR on the other folds, and the VAL (1 - FNMR) on the fold where FAR is
the target.
"""

import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from facewright.evaluation import score_pairs, verification_metrics
from facewright.evaluation.curves import det
from facewright.evaluation.pairs import with_categories

FOLDS, PEOPLE, PAIRS, SIZE = 10, 4000, 6000, 512
FMR = 0.01
GRID = np.arange(0, 4, 0.01)
FINE_GRID = np.arange(0, 4, 0.001)
ALIKE = 0.25  # cosine of two photos of a person in the mean; half as much varies by person
DET_PAIRS = 10_000_000


def view2(quick: bool, turns: int = 7) -> dict:
    """All figures against the peer's loops, in turns, CPU seconds of one thread."""
    ids, embeddings, pairs, people = made()
    one, other = (embeddings[[ids.index(x) for x in pairs[side]]] for side in ("a", "b"))
    same, fold = pairs["label"].to_numpy() == 1, pairs["fold"].to_numpy()

    def ours_scores() -> pd.DataFrame:
        return score_pairs(pairs, ids=ids, embeddings=embeddings)

    def ours(scores: pd.DataFrame) -> dict[str, float]:
        return verification_metrics(
            scores, identities=people, fmr_targets=[0.1, FMR], bootstrap=0, seed=0
        )

    def peer_distances() -> np.ndarray:
        return np.square(one - other).sum(axis=1)

    scores, distance = ours_scores(), peer_distances()
    works: dict[str, tuple[Callable[[], object], int]] = {
        # Ours are so short that one call would be at the mercy of the clock.
        "scores": (ours_scores, 10),
        "metrics": (lambda: ours(scores), 10),
        "distances": (peer_distances, 2),
        "accuracy": (lambda: peer_accuracies(distance, same, fold), 1),
        "val": (lambda: peer_val(distance, same, fold), 1),
    }
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(1 + (2 if quick else turns)):
        for name, (work, calls) in works.items():
            took = cpu_seconds(work, calls=calls)
            if turn:  # what is done for the first time costs more
                seconds[name].append(took)
    metrics, accuracies = ours(scores), peer_accuracies(distance, same, fold)
    by_loops = looped_accuracy(scores["similarity"].to_numpy(), same, fold)
    difference = abs(metrics["accuracy"] - by_loops)
    if difference > 1e-6:
        raise SystemExit(f"view2: the accuracy is {difference} from what loops count")
    spent = {name: np.array(values) for name, values in seconds.items()}
    loops, metrics_s = spent["accuracy"] + spent["val"], spent["metrics"]
    ratios = loops / metrics_s
    whole = (loops + spent["distances"]) / (metrics_s + spent["scores"])
    return {
        "view2_speedup": round(float(np.median(whole)), 1),
        "view2_speedup_spread": [round(float(whole.min()), 1), round(float(whole.max()), 1)],
        "view2_speedup_from_similarities": round(float(np.median(ratios)), 1),
        **{f"view2_{name}_ms": round(1000 * float(np.median(s)), 2) for name, s in spent.items()},
        "view2_difference_from_loops": difference,
        "view2_accuracy": round(metrics["accuracy"], 5),
        "view2_accuracy_by_the_peer": round(float(accuracies.mean()), 5),
        "view2_fnmr_at_fmr_0.01": round(metrics[f"fnmr_at_fmr_{FMR:g}"], 5),
        "view2_fnmr_by_the_peer": round(1 - peer_val(distance, same, fold), 5),
    }


def made() -> tuple[list[str], np.ndarray, pd.DataFrame, dict[str, str]]:
    """Ids, embeddings, pairs as in LFW's View 2, and whose photo each is."""
    rng = np.random.default_rng(0)
    each, members = PAIRS // FOLDS // 2, PEOPLE // FOLDS
    fold = np.repeat(np.arange(FOLDS), each)
    one, i = fold * members + rng.integers(0, members, (2, len(fold)))
    j = fold * members + (i + rng.integers(1, members, len(fold))) % members
    who = np.concatenate((one, i, one, j))
    ids = [f"{person}/{photo}" for photo, person in enumerate(who)]
    centres = rng.normal(size=(PEOPLE, SIZE)).astype(np.float32)
    alike = np.clip(rng.normal(ALIKE, ALIKE / 4, PEOPLE), 0.05, 0.95)[who, None]
    noise = rng.normal(size=(len(who), SIZE))
    embeddings = (np.sqrt(alike) * centres[who] + np.sqrt(1 - alike) * noise).astype(np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    columns = {"fold": np.tile(fold, 2), "label": np.repeat([1, 0], len(fold))}
    pairs = pd.DataFrame({**columns, "a": ids[:PAIRS], "b": ids[PAIRS:]})
    # Names become numbers once for all recognizers, as the peer gets its two arrays ready made.
    return ids, embeddings, with_categories(pairs), {name: name.partition("/")[0] for name in ids}


def cpu_seconds(work: Callable[[], object], *, calls: int) -> float:
    """Per call, of one process: a machine that others use as well does not count against it."""
    start = time.process_time()
    for _ in range(calls):
        work()
    return (time.process_time() - start) / calls


def peer_accuracies(distance: np.ndarray, same: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """`(K,)`: nested loops over folds and the 400 thresholds."""
    accuracies = np.empty(FOLDS)
    for k in range(FOLDS):
        train, test = fold != k, fold == k
        distances, truths, test_distances, test_truths = (
            values[rows] for rows in (train, test) for values in (distance, same)
        )
        found = np.array([peer_rates(t, distances, truths)[2] for t in GRID])
        for threshold in GRID:  # the fold's part of the mean ROC
            peer_rates(threshold, test_distances, test_truths)
        best = GRID[found.argmax()]
        accuracies[k] = peer_rates(best, test_distances, test_truths)[2]
    return accuracies


def peer_rates(
    threshold: float, distance: np.ndarray, same: np.ndarray
) -> tuple[float, float, float]:
    """True and false positive rate, and accuracy, at one threshold."""
    says_same = np.less(distance, threshold)
    right = np.sum(np.logical_and(says_same, same))
    false = np.sum(np.logical_and(says_same, np.logical_not(same)))
    rejected = np.sum(np.logical_and(np.logical_not(says_same), np.logical_not(same)))
    missed = np.sum(np.logical_and(np.logical_not(says_same), same))
    accuracy = float(right + rejected) / distance.size
    return right / (right + missed), false / (false + rejected), accuracy


def peer_val(distance: np.ndarray, same: np.ndarray, fold: np.ndarray) -> float:
    """VAL at the FAR, a mean over folds, with the threshold interpolated on the finer grid."""
    vals = np.empty(FOLDS)
    for k in range(FOLDS):
        train, test = fold != k, fold == k
        fars = np.array([peer_far(t, distance[train], same[train])[1] for t in FINE_GRID])
        threshold = float(np.interp(FMR, fars, FINE_GRID)) if fars.max() >= FMR else 0.0
        vals[k] = peer_far(threshold, distance[test], same[test])[0]
    return float(vals.mean())


def peer_far(threshold: float, distance: np.ndarray, same: np.ndarray) -> tuple[float, float]:
    says_same = np.less(distance, threshold)
    right = np.sum(np.logical_and(says_same, same))
    false = np.sum(np.logical_and(says_same, np.logical_not(same)))
    return float(right) / float(np.sum(same)), float(false) / float(np.sum(np.logical_not(same)))


def looped_accuracy(similarity: np.ndarray, same: np.ndarray, fold: np.ndarray) -> float:
    """The mean accuracy under our rule, by loops over folds and all thresholds.

    It need not be the peer's, whose threshold is the best of 400: ours is the best of all, midway
    between two neighbouring pairs of the other folds, and of equally good ones the highest.
    """
    accuracies = np.empty(FOLDS)
    for k in range(FOLDS):
        train, test = fold != k, fold == k
        ranked = np.unique(similarity[train])[::-1]
        most, best = -1, 0.0
        for threshold in np.concatenate(([1.5], (ranked[:-1] + ranked[1:]) / 2, [-1.5])):
            correct = int(np.sum((similarity[train] >= threshold) == same[train]))
            if correct > most:  # not for as many: the highest threshold came first
                most, best = correct, threshold
        accuracies[k] = np.mean((similarity[test] >= best) == same[test])
    return float(accuracies.mean())


def bootstrap(quick: bool) -> dict:
    """Wall seconds of all figures with 1,000 resamples of identities, corrected, one thread."""
    ids, embeddings, pairs, people = made()
    scores = score_pairs(pairs, ids=ids, embeddings=embeddings)
    took = []
    for _ in range(1 if quick else 3):
        start = time.perf_counter()
        verification_metrics(
            scores, identities=people, fmr_targets=[0.1, FMR], bootstrap=1000, seed=0
        )
        took.append(time.perf_counter() - start)
    return {"bootstrap_1000_s": round(statistics.median(took), 3)}


def det_10m(quick: bool) -> dict:
    """DET of ten million scored pairs in a process of its own, with the highest memory of it."""
    count = DET_PAIRS // (10 if quick else 1)
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.evaluation_speed", str(count)],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"det: {done.stderr.strip()}")
    found: dict = json.loads(done.stdout.splitlines()[-1])
    return found


def det_child(count: int) -> dict:
    """One in ten pairs is genuine, as the lists of large protocols have it or fewer."""
    rng = np.random.default_rng(0)
    genuine = rng.random(count, dtype=np.float32) < 0.1
    similarity = rng.standard_normal(count, dtype=np.float32)
    similarity *= 0.1
    similarity[genuine] += 0.5
    start = time.perf_counter()
    curve = det(similarity, genuine)
    took = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    # Some points are checked against plain counts, which take memory of their own.
    for row in curve.iloc[:: max(1, len(curve) // 9)].itertuples():
        accept = similarity >= np.float64(row.threshold)
        if (accept & ~genuine).sum() != round(row.fmr * (~genuine).sum()):
            raise SystemExit(f"FMR {row.fmr} at {row.threshold} is not what counting gives")
    return {
        "det_pairs": count,
        "det_points": len(curve),
        "det_10m_s": round(took, 2),
        "det_10m_peak_mb": round(peak),
    }


if __name__ == "__main__":
    print(json.dumps(det_child(int(sys.argv[1]))))
