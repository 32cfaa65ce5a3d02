"""How far one form of a recognizer is from the one that it was made of."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from facewright.evaluation.assess import Answers
from facewright.evaluation.intervals import normal_quantile
from facewright.evaluation.pairs import Bools
from facewright.evaluation.thresholds import Target, targets_of


@dataclass(frozen=True)
class Parity:
    """What the same crops and pairs give through two forms; None for what neither can say."""

    form: str
    reference: str
    cosine: float  # of the two embeddings of a crop, on average
    cosine_lowest: float
    threshold_shift: float | None  # of `threshold_accuracy`, without its sign
    fmr: float | None  # the finest target that both report, and at it:
    fnmr_reference: float | None
    fnmr_change: float | None  # FNMR of the form less that of the reference
    fnmr_change_low: float | None  # 95 % interval, see `paired_change`
    fnmr_change_high: float | None

    def metrics(self) -> dict[str, float]:
        """The flat figures of the form."""
        values = {
            "cosine": self.cosine,
            "cosine_lowest": self.cosine_lowest,
            "threshold_shift": self.threshold_shift,
        }
        return {key: value for key, value in values.items() if value is not None}


def parity_of(
    answers: Mapping[str, Answers],
    embeddings: Mapping[str, npt.NDArray[np.float32]],
    *,
    reference: str,
    made_of: str,
) -> list[Parity]:
    """Each form against the reference, and that against what it was made of.

    Puts the figures of each among its metrics.

    Args:
        answers, embeddings: by form, see `compare_forms`.
    """
    compared = []
    for form in (name for name in answers if name != made_of):
        other = made_of if form == reference else reference
        both = embeddings[form], embeddings[other]
        compared.append(
            compare_forms((form, other), answers[form], answers[other], embeddings=both)
        )
        answers[form].metrics.update(compared[-1].metrics())
    return compared


def compare_forms(
    names: tuple[str, str],
    form: Answers,
    reference: Answers,
    *,
    embeddings: tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]],
) -> Parity:
    """Compare a form with its reference.

    Args:
        names: of the form and of its reference.
        form, reference: answers on the same pairs in the same order.
        embeddings: `(N, E)` each, of the same N crops, each row of length 1.
    """
    cosines = np.einsum("ne,ne->n", *embeddings, dtype=np.float64)
    key = "threshold_accuracy"
    shift = None
    if key in form.metrics and key in reference.metrics:
        shift = abs(form.metrics[key] - reference.metrics[key])
    ours, theirs = ({t.fmr: t for t in targets_of(a.metrics)} for a in (form, reference))
    common = sorted(set(ours) & set(theirs))
    fmr = common[0] if common else None
    fnmr = change = low = high = None
    if fmr is not None:
        fnmr = theirs[fmr].fnmr
        change, low, high = paired_change(
            _rejected(form, ours[fmr]), _rejected(reference, theirs[fmr])
        )
    return Parity(
        form=names[0],
        reference=names[1],
        cosine=float(cosines.mean()),
        cosine_lowest=float(cosines.min()),
        threshold_shift=shift,
        fmr=fmr,
        fnmr_reference=fnmr,
        fnmr_change=change,
        fnmr_change_low=low,
        fnmr_change_high=high,
    )


def paired_change(new: Bools, old: Bools) -> tuple[float, float, float]:
    """Share of `new` less share of `old`, of the same trials, with its 95 % interval.

    Wald's interval after half a trial was added to each of the four outcomes (Agresti & Min,
    Statistics in Medicine 2005), which takes trials as independent.

    Args:
        new, old: `(N,)`, N ≥ 1: whether each trial had the outcome.
    """
    gained, lost, trials = int((new & ~old).sum()), int((old & ~new).sum()), len(new)
    more, less, total = gained + 0.5, lost + 0.5, trials + 2
    middle = (more - less) / total
    half = math.sqrt(more + less - (more - less) ** 2 / total) / total
    spread = normal_quantile() * half
    return (gained - lost) / trials, max(middle - spread, -1.0), min(middle + spread, 1.0)


def _rejected(answer: Answers, target: Target) -> Bools:
    """Which genuine pairs are not matched; without a similarity none is."""
    similarity = answer.scores.loc[answer.scores["label"] == 1, "similarity"].to_numpy(np.float64)
    return ~(similarity >= target.threshold)
