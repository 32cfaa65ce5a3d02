"""What is asked of every recognizer alike, and what one of them answers."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from facewright.errors import EvaluationError
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
from facewright.evaluation.pairs import image_codes, score_pairs, with_categories
from facewright.evaluation.ratios import ratio_figures
from facewright.evaluation.slices import slice_table, sliceable, with_derived
from facewright.evaluation.thresholds import targets_of

WITHOUT = "_without_overlap"
# What may not be measured.
START = "overlap with the people of an earlier training"
OVERLAP, IDENTIFICATION = "figures without overlap", "identification"
SLICES, PROBABILITIES = "slices by", "probabilities on unseen folds"


@dataclass(frozen=True)
class Questions:
    """A verification set, and what is measured on it; the same for all that are compared."""

    pairs: pd.DataFrame  # fold, label, a, b
    images: pd.DataFrame  # id, identity, status, photo_sha256 and the columns to slice by
    trained: frozenset[str]  # ids of images whose person was in training
    fmr_targets: Sequence[float]
    bootstrap: int
    seed: int
    calibration: str  # logistic or isotonic
    slices: Sequence[str]  # columns of `images`, `turn`, `photos`
    slice_bins: int
    unenrolled_share: float
    gallery_sizes: Sequence[int]
    fpir_targets: Sequence[float]
    began_from: str = ""  # another recognizer that training began from, in words
    photos: pd.DataFrame | None = None  # id, photo: which photos each template has, if of these

    def __post_init__(self) -> None:
        """Once for all recognizers, and before the first one is asked.

        Raises:
            EvaluationError: see `sliceable`.
        """
        sliceable(with_derived(self.images), columns=self.slices)
        object.__setattr__(self, "pairs", with_categories(self.pairs))


@dataclass(frozen=True)
class Answers:
    """What one recognizer answers. Tables that the set does not support are empty."""

    scores: pd.DataFrame  # from `score_pairs`
    metrics: dict[str, float]  # flat: see `assess`
    slices: pd.DataFrame  # from `slice_table`
    sizes: pd.DataFrame  # from `by_gallery_size`
    cmc: pd.DataFrame
    reliability: pd.DataFrame
    calibration: Calibration | None
    photos: Mapping[str, str]  # of each image of the set a name that tells nobody, see `opaque`
    not_measured: Mapping[str, str] = field(default_factory=dict)  # what, and why, as one line


def assess(
    questions: Questions, *, ids: Sequence[str], embeddings: npt.NDArray[np.float32]
) -> Answers:
    """Ask all of one recognizer.

    `metrics` holds what `verification_metrics` gives, and where the set supports it

    - the same with `_without_overlap`, over the pairs whose people were not in training, and
      `overlap_pairs`, how many others there are (0, and no such figures, where there are none);
    - what `identification_metrics` gives over the whole gallery, `people` as `gallery_people`, and
      of templates `probes_shared`: mated probes left out (see `without_shared`);
    - what `ratio_figures` gives of slices at the threshold of the finest FMR target, else at
      `threshold_accuracy`;
    - `calibration_error`, over folds (`reliability`).

    What the set does not support, such as figures without overlap where only impostor pairs are
    left, is missing, and `not_measured` says why.

    Args:
        ids: images that have an embedding; the others failed.
        embeddings: `(len(ids), E)`, each of length 1.

    Raises:
        EvaluationError: nothing can be said of this set or from these embeddings.
    """
    identities = dict(zip(questions.images["id"], questions.images["identity"], strict=True))
    scores = score_pairs(questions.pairs, ids=ids, embeddings=embeddings)
    lacking: dict[str, str] = {}

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
    if questions.began_from:
        lacking[START] = (
            f"unknown, since training began from {questions.began_from}, and whom that has seen is "
            "told nowhere here"
        )
    if known.any() and not known.all():
        with _told(lacking, OVERLAP):
            rest = verified(scores[~known])
            metrics |= {f"{key}{WITHOUT}": value for key, value in rest.items()}

    sizes = curve = pd.DataFrame()
    with _told(lacking, IDENTIFICATION):
        split = split_gallery(
            identities, unenrolled_share=questions.unenrolled_share, seed=questions.seed
        )
        if questions.photos is not None:
            whole = len(split)
            split = without_shared(split, photos=questions.photos)
            metrics["probes_shared"] = whole - len(split)
        people = int((split["role"] == "gallery").sum())
        smaller = [size for size in questions.gallery_sizes if size < people]
        found = search_split(
            split, ids=ids, embeddings=embeddings, sizes=smaller, seed=questions.seed
        )
        named = identification_metrics(found, fpir_targets=questions.fpir_targets)
        metrics |= {"gallery_people" if key == "people" else key: v for key, v in named.items()}
        sizes = by_gallery_size(found, fpir_targets=questions.fpir_targets)
        curve = cmc(found)

    slices = _slices(questions, scores, identities, metrics, lacking)
    table, calibration = pd.DataFrame(), None
    with _told(lacking, PROBABILITIES):
        calibration = calibrate(scores, kind=questions.calibration)
        table, metrics["calibration_error"] = reliability(scores, kind=questions.calibration)
    return Answers(
        scores=scores,
        metrics=metrics,
        slices=slices,
        sizes=sizes,
        cmc=curve,
        reliability=table,
        calibration=calibration,
        photos=opaque(questions.images),
        not_measured=lacking,
    )


@contextmanager
def _told(lacking: dict[str, str], what: str) -> Iterator[None]:
    """What cannot be measured is told, and the rest goes on."""
    try:
        yield
    except EvaluationError as error:
        lacking[what] = str(error)


def _slices(
    questions: Questions,
    scores: pd.DataFrame,
    identities: Mapping[str, str],
    metrics: dict[str, float],
    lacking: dict[str, str],
) -> pd.DataFrame:
    """The table of slices; the largest ratios go to `metrics`."""
    images = sliceable(with_derived(questions.images), columns=questions.slices)
    codes, ids = image_codes(scores)
    images = images[images["id"].isin(ids[np.unique(codes)])]
    columns = [name for name in questions.slices if images[name].notna().any()]
    for name in questions.slices:
        if name not in columns:
            lacking[f"{SLICES} {name}"] = "no photo of the pairs has a value"
    if not columns:
        return pd.DataFrame()
    targets = targets_of(metrics)
    threshold = targets[-1].threshold if targets else metrics["threshold_accuracy"]
    how: dict[str, Any] = {
        "images": images,
        "columns": columns,
        "threshold": threshold,
        "bins": questions.slice_bins,
    }
    table = slice_table(scores, **how)
    metrics |= ratio_figures(
        scores,
        table,
        identities=identities,
        bootstrap=questions.bootstrap,
        seed=questions.seed,
        **how,
    )
    return table.assign(threshold=threshold)


def opaque(images: pd.DataFrame) -> dict[str, str]:
    """The digest of each image's photo, by id; empty where the digests are not known.

    Of copies of one photo, all but the first by id get a number as well: no two names are equal.
    """
    if "photo_sha256" not in images.columns:
        return {}
    named = images[["id", "photo_sha256"]].sort_values("id")
    copy = named.groupby("photo_sha256").cumcount()
    digests = named["photo_sha256"].astype(str)
    names = digests.where(copy == 0, digests + "-" + (copy + 1).astype(str))
    return dict(zip(named["id"], names, strict=True))
