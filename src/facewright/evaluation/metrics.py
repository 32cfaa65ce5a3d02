"""All figures of one recognizer on one set of pairs, with 95 % intervals."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from facewright.evaluation.bootstrap import Sides, couples, deviations, normal_interval
from facewright.evaluation.curves import (
    Counts,
    Weights,
    accepted,
    area_under_roc,
    best_threshold,
    equal_error_rate,
    fnmr_at_fmr,
    fnmr_at_threshold,
    supported,
)
from facewright.evaluation.folds import Folds, check_folds, fold_accuracies
from facewright.evaluation.intervals import FEW, fmr_bound, log_odds, share_of, wilson
from facewright.evaluation.pairs import Floats, Scored, checked, identity_codes, refuse_alike

BOUND = "fnmr_at_fmr_bound"


def verification_metrics(
    scores: pd.DataFrame,
    *,
    identities: Mapping[str, str],
    fmr_targets: Sequence[float],
    bootstrap: int,
    seed: int,
) -> dict[str, float]:
    """Verification figures by name; no value is NaN.

    - `accuracy`: mean over folds, the threshold of each from the others (`folds`), with
      `accuracy_se`, the standard error of that mean over K folds, s / √K with s from K - 1 (LFW,
      UMass 07-49). These are left out where all pairs are in one fold: that protocol has no folds.
    - `threshold_accuracy`: the mean of the folds' thresholds; without folds the threshold at which
      the mean of FMR and FNMR is lowest (`best_threshold`). That one was chosen on the very pairs
      that it would be judged on: a place on the scale, and no promise of an accuracy.
    - `eer`, `auc`, `fnmr_at_fmr_X` and `threshold_at_fmr_X` for each target X (`curves`, which
      also says how failures count). A target below what the impostor pairs support (ten expected
      false matches) is left out.
    - `fmr_bound`: the FMR that is excluded at 95 % if no impostor pair is accepted, and
      `fnmr_at_fmr_bound` at `threshold_at_fmr_bound`, just above the highest impostor, which is
      what can be said below the finest target. The latter two are left out where no impostor pair
      was compared.
    - `_low` and `_high` of accuracy, eer and every FNMR and threshold at a target: 95 % intervals
      from the spread of resamples of identities (`bootstrap`), for shares that of their log-odds,
      so that the side with more room is the longer one, as it is for few errors; that of
      `fnmr_at_fmr_bound` takes its threshold as given. Where no resample differs from the others,
      as with no error at all, Wilson's interval for as many trials as people stands in, since an
      interval of width zero would claim certainty.
    - `pairs`, `genuine`, `impostor`, `identities`, `failures` (pairs with a face not found),
      `failures_genuine`, `failures_impostor`.

    Args:
        scores: from `score_pairs`.
        identities: identity of every image in the pairs.
        fmr_targets: shares in (0, 1).
        bootstrap: number of resamples; 0 leaves the intervals out.
        seed: of the bootstrap; the same scores and seed give the same figures.

    Raises:
        EvaluationError: nothing can be said from these scores: see `checked`, `refuse_alike`,
            `identity_codes` and `check_folds`.
    """
    scored, rows = checked(scores)
    refuse_alike(scored)
    folds = Folds.of(scored) if check_folds(scored) else None
    first, second, people = identity_codes(scores, identities=identities)
    targets = [fmr for fmr in fmr_targets if supported(scored, fmr)]
    bound = _above_impostors(scored)

    def statistics(weights: Weights) -> dict[str, Floats]:
        accuracies = fold_accuracies(folds, weights)[0] if folds else None
        figures = _figures(accepted(scored, weights), accuracies, targets, bound)
        return {
            name: log_odds(values, trials) if (trials := _trials(name, scored)) else values
            for name, values in figures.items()
        }

    ones = np.ones((1, scored.pairs), np.int32)
    counts = accepted(scored, ones)
    accuracies, thresholds = fold_accuracies(folds, ones) if folds else (None, None)
    failed = np.arange(scored.pairs) >= scored.compared
    metrics: dict[str, float] = {
        "pairs": scored.pairs,
        "genuine": int(scored.genuine.sum()),
        "impostor": int((~scored.genuine).sum()),
        "identities": people,
        "failures": int(failed.sum()),
        "failures_genuine": int((failed & scored.genuine).sum()),
        "failures_impostor": int((failed & ~scored.genuine).sum()),
        "fmr_bound": fmr_bound(scored.impostors_compared),
        "auc": float(area_under_roc(counts)[0]),
    }
    if bound is not None:
        metrics["threshold_at_fmr_bound"] = bound
    if accuracies is not None and thresholds is not None:
        metrics["accuracy_se"] = float(accuracies.std(ddof=1) / np.sqrt(accuracies.size))
        metrics["threshold_accuracy"] = float(thresholds.mean())
    else:
        metrics["threshold_accuracy"] = best_threshold(counts)
    figures = _figures(counts, accuracies, targets, bound)
    point = {name: float(values[0]) for name, values in figures.items()}
    metrics |= point
    if bootstrap:
        sides = Sides(first, second, first == second, people).permuted(rows)
        units: dict[str, int] = {}
        for fmr in targets:
            matched = couples(sides, scored.similarity >= point[f"threshold_at_fmr_{fmr:g}"])
            units |= {f"{figure}_at_fmr_{fmr:g}": matched for figure in ("fnmr", "threshold")}
        found = deviations(statistics, sides, count=bootstrap, seed=seed, units=units)
        for name, value in point.items():
            low, high = _ends(value, found[name], trials=_trials(name, scored), people=people)
            metrics |= {f"{name}_low": low, f"{name}_high": high}
    return metrics


def _above_impostors(scored: Scored) -> float | None:
    """The lowest threshold that accepts no impostor pair; None if none was compared."""
    impostor = np.flatnonzero(~scored.genuine[: scored.compared])
    if not len(impostor):
        return None
    return float(np.nextafter(scored.similarity[impostor[0]], np.inf))


def _figures(
    counts: Counts, accuracies: Floats | None, targets: Sequence[float], bound: float | None
) -> dict[str, Floats]:
    """The figures that get an interval, `(R,)` each."""
    values = {"eer": equal_error_rate(counts)}
    if accuracies is not None:
        values["accuracy"] = np.nanmean(accuracies, axis=1)
    for fmr in targets:
        fnmr, threshold = fnmr_at_fmr(counts, fmr)
        values |= {f"fnmr_at_fmr_{fmr:g}": fnmr, f"threshold_at_fmr_{fmr:g}": threshold}
    if bound is not None:
        values[BOUND] = fnmr_at_threshold(counts, bound)
    return values


def _trials(name: str, scored: Scored) -> int:
    """Pairs behind a share, 0 for what is no share."""
    genuine = int(scored.genuine.sum())
    if name.startswith("threshold"):
        return 0
    if name.startswith("fnmr"):
        return genuine
    return scored.pairs if name == "accuracy" else min(genuine, scored.pairs - genuine)


def _ends(value: float, deviation: Floats, *, trials: int, people: int) -> tuple[float, float]:
    """Ends of an interval: `trials` are those of a share, 0 for a similarity.

    Resamples of hardly any error show hardly any spread, and nothing of how errors gather in
    people: then no end is nearer than Wilson's, with no more trials than people.
    """
    if not trials:
        return normal_interval(value, deviation)
    least = wilson(value, min(trials, people))
    if not deviation.any():
        return least
    odds = float(log_odds(np.array(value), trials))
    low, high = (share_of(end, trials) for end in normal_interval(odds, deviation))
    if min(value, 1 - value) * trials < FEW:
        low, high = min(low, least[0]), max(high, least[1])
    return low, high
