"""All figures of one recognizer on one set of pairs, with 95 % intervals."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd

from facewright.evaluation.curves import (
    Weights,
    accepted,
    area_under_roc,
    equal_error_rate,
    fmr_bound,
    fnmr_at_fmr,
    supported,
)
from facewright.evaluation.folds import check_folds, fold_accuracies
from facewright.evaluation.pairs import Bools, Floats, Ints, Scored, checked, identity_codes

CONFIDENCE = (0.025, 0.975)
Z = 1.959963984540054  # the normal quantile of 0.975
CELLS = 1_000_000  # resamples × pairs worked on at a time; keeps a chunk's arrays in the cache


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
      UMass 07-49), and `threshold_accuracy`, the mean of the folds' thresholds.
    - `eer`, `auc`, `fnmr_at_fmr_X` and `threshold_at_fmr_X` for each target X (`curves`, which
      also says how failures count). A target below what the impostor pairs support (ten expected
      false matches) is left out.
    - `_low` and `_high` of accuracy, eer, and both figures per target: 95 % percentile interval
      of a bootstrap that draws identities with replacement; a genuine pair counts as often as its
      identity was drawn, an impostor pair as often as the product of its two (Bolle et al.,
      Comput. Vis. Image Underst. 2004, on why pairs of one person must stay together; Snijders &
      Borgatti, Connections 1999, for the product). The product errs to the wide side: where each
      identity is in few impostor pairs, as in LFW, it overstates their variance up to threefold
      (Owen, Ann. Appl. Stat. 2007), which makes the intervals up to 1.7 times as wide as needed.
      Where no resample differs from the others, as with no error at all, Wilson's interval for
      independent pairs stands in, since an interval of width zero would claim certainty.
    - `fmr_bound`: the FMR that is excluded at 95 % if no impostor pair is accepted.
    - `pairs`, `genuine`, `impostor`, `identities`, `failures` (pairs with a face not found),
      `failures_genuine`, `failures_impostor`.

    Args:
        scores: from `score_pairs`.
        identities: identity of every image in the pairs.
        fmr_targets: shares in (0, 1).
        bootstrap: number of resamples.
        seed: of the bootstrap; the same scores and seed give the same figures.

    Raises:
        EvaluationError: nothing can be said from these scores: see `checked`, `identity_codes`
            and `check_folds`.
    """
    scored, rows = checked(scores)
    check_folds(scored)
    first, second, people = identity_codes(scores, rows, identities=identities)
    targets = [fmr for fmr in fmr_targets if supported(scored, fmr)]

    ones = np.ones((1, scored.pairs), np.int32)
    point = _statistics(scored, ones, targets)
    accuracies, thresholds = fold_accuracies(scored, ones)
    drawn: dict[str, list[Floats]] = {name: [] for name in point}
    for weights in identity_resamples(
        first, second, scored.genuine, people=people, count=bootstrap, seed=seed
    ):
        for name, values in _statistics(scored, weights, targets).items():
            drawn[name].append(values)

    failed = ~np.isfinite(scored.similarity)
    metrics: dict[str, float] = {
        "pairs": scored.pairs,
        "genuine": int(scored.genuine.sum()),
        "impostor": int((~scored.genuine).sum()),
        "identities": people,
        "failures": int(failed.sum()),
        "failures_genuine": int((failed & scored.genuine).sum()),
        "failures_impostor": int((failed & ~scored.genuine).sum()),
        "fmr_bound": fmr_bound(scored.impostors_compared),
        "accuracy_se": float(accuracies.std(ddof=1) / np.sqrt(accuracies.size)),
        "threshold_accuracy": float(thresholds.mean()),
        "auc": float(area_under_roc(accepted(scored, ones))[0]),
    }
    for name, values in point.items():
        low, high = _interval(
            float(values[0]), np.concatenate(drawn[name]), trials=_trials(name, scored)
        )
        metrics |= {name: float(values[0]), f"{name}_low": low, f"{name}_high": high}
    return metrics


def _statistics(scored: Scored, weights: Weights, targets: Sequence[float]) -> dict[str, Floats]:
    """The figures that get an interval, `(R,)` each."""
    counts = accepted(scored, weights)
    values = {
        "accuracy": np.nanmean(fold_accuracies(scored, weights)[0], axis=1),
        "eer": equal_error_rate(counts),
    }
    for fmr in targets:
        fnmr, threshold = fnmr_at_fmr(counts, fmr)
        values |= {f"fnmr_at_fmr_{fmr:g}": fnmr, f"threshold_at_fmr_{fmr:g}": threshold}
    return values


def _trials(name: str, scored: Scored) -> int:
    """Pairs behind a share, 0 for what is no share."""
    genuine = int(scored.genuine.sum())
    if name.startswith("threshold"):
        return 0
    if name.startswith("fnmr"):
        return genuine
    return scored.pairs if name == "accuracy" else min(genuine, scored.pairs - genuine)


def identity_resamples(
    first: Ints, second: Ints, genuine: Bools, *, people: int, count: int, seed: int
) -> Iterator[Weights]:
    """Weights `(r, P) int32` of `count` bootstrap resamples over identities, in chunks.

    Args:
        first, second: `(P,)` identity index of each side of the pairs.
        genuine: `(P,)`; a genuine pair's weight is its identity's multiplicity, an impostor
            pair's the product of the two. A resample in which one kind is missing altogether,
            which only tiny sets have, is drawn again.
    """
    rng = np.random.default_rng(seed)
    chunk = max(1, CELLS // len(first))
    left = count
    while left:
        rows = min(chunk, left)
        draws = rng.integers(0, people, (rows, people)) + np.arange(rows)[:, None] * people
        times = np.bincount(draws.ravel(), minlength=rows * people).astype(np.int32)
        times = times.reshape(rows, people)
        weights = times[:, first] * np.where(genuine, np.int32(1), times[:, second])
        weights = weights[weights[:, genuine].any(axis=1) & weights[:, ~genuine].any(axis=1)]
        left -= len(weights)
        yield weights


def _interval(value: float, drawn: Floats, *, trials: int) -> tuple[float, float]:
    low, high = (float(edge) for edge in np.quantile(drawn, CONFIDENCE))
    if low == high == value and trials:
        return wilson(value, trials)
    return low, high


def wilson(share: float, trials: int) -> tuple[float, float]:
    """Wilson's 95 % score interval of a share seen in independent trials (JASA 1927)."""
    spread = Z * np.sqrt(share * (1 - share) / trials + Z**2 / (4 * trials**2))
    centre = share + Z**2 / (2 * trials)
    scale = 1 + Z**2 / trials
    return max(0.0, float((centre - spread) / scale)), min(1.0, float((centre + spread) / scale))
