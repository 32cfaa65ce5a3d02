"""What is asked of every recognizer alike, and what one of them answers."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from facewright.evaluation.calibration import Calibration, calibrate, reliability
from facewright.evaluation.identification import (
    by_gallery_size,
    cmc,
    identification_metrics,
    search_split,
    split_gallery,
    without_shared,
)
from facewright.evaluation.metrics import verification_metrics
from facewright.evaluation.pairs import score_pairs
from facewright.evaluation.slices import largest_ratio, slice_table, with_derived
from facewright.evaluation.thresholds import targets_of

WITHOUT = "_without_overlap"


@dataclass(frozen=True)
class Questions:
    """A verification set, and what is measured on it; the same for all that are compared."""

    pairs: pd.DataFrame  # fold, label, a, b
    images: pd.DataFrame  # id, identity, status and the columns to slice by
    trained: frozenset[str]  # ids of images whose person was in training
    fmr_targets: Sequence[float]
    bootstrap: int
    seed: int
    calibration: str  # logistic or isotonic
    slices: Sequence[str]  # columns of `images`, `turn`, `photos`; others are left out
    slice_bins: int
    unenrolled_share: float
    gallery_sizes: Sequence[int]
    fpir_targets: Sequence[float]
    photos: pd.DataFrame | None = None  # id, photo: which photos each template has, if of these


@dataclass(frozen=True)
class Answers:
    """What one recognizer answers. Tables that the set does not support are empty."""

    scores: pd.DataFrame  # from `score_pairs`
    metrics: dict[str, float]  # flat: see `assess`
    slices: pd.DataFrame  # from `slice_table`
    sizes: pd.DataFrame  # from `by_gallery_size`
    cmc: pd.DataFrame
    reliability: pd.DataFrame
    calibration: Calibration


def assess(
    questions: Questions, *, ids: Sequence[str], embeddings: npt.NDArray[np.float32]
) -> Answers:
    """Ask all of one recognizer.

    `metrics` holds what `verification_metrics` gives, and where the set supports it

    - the same with `_without_overlap`, over the pairs whose people were not in training, and
      `overlap_pairs`, how many others there are (0, and no such figures, where there are none);
    - what `identification_metrics` gives over the whole gallery, `people` as `gallery_people`, and
      of templates `probes_shared`: mated probes left out (see `without_shared`);
    - `fnmr_ratio_COLUMN` and `fmr_ratio_COLUMN`, the largest between slices at the threshold of the
      finest FMR target (`slices`), else at `threshold_accuracy`;
    - `calibration_error`, over folds (`reliability`).

    Args:
        ids: images that have an embedding; the others failed.
        embeddings: `(len(ids), E)`, each of length 1.

    Raises:
        EvaluationError: nothing can be said of this set or from these embeddings.
    """
    identities = dict(zip(questions.images["id"], questions.images["identity"], strict=True))
    scores = score_pairs(questions.pairs, ids=ids, embeddings=embeddings)

    def verified(part: pd.DataFrame) -> dict[str, float]:
        return verification_metrics(
            part,
            identities=identities,
            fmr_targets=questions.fmr_targets,
            bootstrap=questions.bootstrap,
            seed=questions.seed,
        )

    metrics = verified(scores)
    known = scores["a"].isin(questions.trained) | scores["b"].isin(questions.trained)
    metrics["overlap_pairs"] = int(known.sum())
    if known.any() and not known.all():
        rest = verified(scores[~known])
        metrics |= {f"{key}{WITHOUT}": value for key, value in rest.items()}

    sizes = curve = split = pd.DataFrame({"role": []})
    if _enrollable(identities, questions.unenrolled_share):
        split = split_gallery(
            identities, unenrolled_share=questions.unenrolled_share, seed=questions.seed
        )
        if questions.photos is not None:
            whole = len(split)
            split = without_shared(split, photos=questions.photos)
            metrics["probes_shared"] = whole - len(split)
    if (split["role"] == "mated").any():
        people = int((split["role"] == "gallery").sum())
        smaller = [size for size in questions.gallery_sizes if size < people]
        found = search_split(
            split, ids=ids, embeddings=embeddings, sizes=smaller, seed=questions.seed
        )
        named = identification_metrics(found, fpir_targets=questions.fpir_targets)
        metrics |= {"gallery_people" if key == "people" else key: v for key, v in named.items()}
        sizes = by_gallery_size(found, fpir_targets=questions.fpir_targets)
        curve = cmc(found)

    slices = _slices(questions, scores, metrics)
    table = pd.DataFrame()
    if scores["fold"].nunique() > 1:
        table, metrics["calibration_error"] = reliability(scores, kind=questions.calibration)
    return Answers(
        scores=scores,
        metrics=metrics,
        slices=slices,
        sizes=sizes,
        cmc=curve,
        reliability=table,
        calibration=calibrate(scores, kind=questions.calibration),
    )


def _enrollable(identities: dict[str, str], unenrolled_share: float) -> bool:
    """Whether somebody has a photo to enrol and another to search with."""
    several = int((pd.Series(identities).value_counts() > 1).sum())
    return several > round(unenrolled_share * several)


def _slices(questions: Questions, scores: pd.DataFrame, metrics: dict[str, float]) -> pd.DataFrame:
    """The table of slices; the largest ratios go to `metrics`."""
    images = with_derived(questions.images)
    columns = [name for name in questions.slices if name in images and images[name].notna().any()]
    targets = targets_of(metrics)
    threshold = targets[-1].threshold if targets else metrics.get("threshold_accuracy")
    if not columns or threshold is None:
        return pd.DataFrame()
    named = scores["a"], scores["b"]
    images = images[images["id"].isin(set(named[0]) | set(named[1]))]
    table = slice_table(
        scores, images=images, columns=columns, threshold=threshold, bins=questions.slice_bins
    )
    for rate in ("fnmr", "fmr"):
        for column, ratio in largest_ratio(table, rate).items():
            if ratio is not None:
                metrics[f"{rate}_ratio_{column}"] = ratio.ratio
    return table.assign(threshold=threshold)
