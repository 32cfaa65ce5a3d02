"""Do the 95 % intervals and the comparison hold what they say? Simulated experiments tell.

Parts `coverage` and `gate` of `benchmarks.evaluation`.

People differ: some are recognized easily, some are taken for others, so that pairs of one person
err together. Similarities are normal, hence the true accuracy (at the best threshold), EER and
FNMR at each FMR are known in closed form. The cases are an evaluation like LFW's View 2 (each
person in few pairs), one with as few pairs as LFW's View 1, and one like the sample set (few
people, each in many pairs, and any two of one fold again and again), all three at an accuracy of
about 91 %; and View 2 at 98, 99.5 and 99.9 %, where few errors decide.

For the comparison two models see the same faces. Of the variance of each part of a similarity
seven tenths are common to both models: a photo that is hard for one is hard for the other. A
promotion is false

- between equals, where the gate asks for a better one (`equal`);
- of a challenger that is worse by just the margin that the gate allows (`at_margin`), which must
  not be called better or not worse; once worse by that in accuracy, once in FNMR.

Both may happen in 5 % of all comparisons. `…_at_most` is the upper 95 % bound of their rate that
the number of experiments allows. `better` and `twice` are the shares of truly better challengers,
by `better_by` in accuracy and by twice as much, that are promoted.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from statistics import NormalDist

import numpy as np
import pandas as pd

from facewright.evaluation import verification_metrics
from facewright.evaluation.comparison import BETTER, NOT_WORSE, compare
from facewright.evaluation.intervals import upper_bound, wilson
from facewright.progress import progress
from facewright.workers import worker_pool

FOLDS = 10
FMRS = (0.1, 0.01)
LEVEL = 0.05
COMMON = 0.7  # share of the variance that two models have in common
# Similarity = mean + what each person brings (two in an impostor pair) + what the pair brings.
GENUINE, GENUINE_PERSON, GENUINE_PAIR = 0.60, 0.15, 0.15
IMPOSTOR, IMPOSTOR_PERSON, IMPOSTOR_PAIR = 0.10, 0.08, 0.12
POWER_SHARE = 4  # times fewer experiments for power than for false promotions


@dataclass(frozen=True)
class Case:
    people: int  # over all folds, which share nobody
    pairs: int  # over all folds, half of them genuine
    finest: float  # the finest FMR that the impostor pairs support
    margin: float = 0.01  # loss that the gate allows
    better_by: float = 0.01  # accuracy by which a better challenger is better
    accuracy: float | None = None  # in truth; that of the constants above if not given

    @property
    def shift(self) -> float:
        """How much higher genuine similarities are than the constants say."""
        return 0.0 if self.accuracy is None else shift_to("accuracy", self.accuracy)


VIEW2 = Case(people=4000, pairs=6000, finest=0.01)
CASES = {
    "lfw_view2": VIEW2,
    "lfw_view1": Case(people=1700, pairs=1000, finest=0.1),
    "sample": Case(people=50, pairs=3000, finest=0.01),
    "lfw_view2_98": replace(VIEW2, accuracy=0.98, margin=0.005, better_by=0.005),
    "lfw_view2_99.5": replace(VIEW2, accuracy=0.995, margin=0.002, better_by=0.00125),
    "lfw_view2_99.9": replace(VIEW2, accuracy=0.999, margin=0.001, better_by=0.00025),
}
# figure → (value, low end, high end), and the ends of Wilson's interval
Outcome = dict[str, tuple[float, float, float, float, float]]


def truth(shift: float = 0.0) -> dict[str, float]:
    """Accuracy at the best threshold, EER and FNMR per FMR of a verification without end."""
    genuine = NormalDist(GENUINE + shift, math.hypot(GENUINE_PERSON, GENUINE_PAIR))
    impostor = NormalDist(IMPOSTOR, math.hypot(IMPOSTOR_PERSON * math.sqrt(2), IMPOSTOR_PAIR))
    thresholds = np.linspace(IMPOSTOR, GENUINE + shift, 5001)
    rates = [(1 - impostor.cdf(t), genuine.cdf(t)) for t in thresholds]
    fnmrs = {f"fnmr_at_fmr_{fmr:g}": genuine.cdf(impostor.inv_cdf(1 - fmr)) for fmr in FMRS}
    equal = bisected(lambda t: genuine.cdf(t) - 1 + impostor.cdf(t), IMPOSTOR, GENUINE + shift)
    return {
        "accuracy": max(1 - (fmr + fnmr) / 2 for fmr, fnmr in rates),
        "eer": genuine.cdf(equal),
        **fnmrs,
    }


@cache
def shift_to(figure: str, wanted: float) -> float:
    """How much higher the genuine similarities are of a model with such a figure in truth."""
    sign = 1 if figure == "accuracy" else -1
    return bisected(lambda shift: sign * (truth(shift)[figure] - wanted), -0.3, 2.0)


def bisected(rising: Callable[[float], float], low: float, high: float) -> float:
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if rising(middle) > 0 else (middle, high)
    return (low + high) / 2


def draw(
    case: Case, rng: np.random.Generator, *, shifts: tuple[float, ...] = (0.0,)
) -> tuple[list[pd.DataFrame], dict[str, str]]:
    """Scores as `score_pairs` gives them, one frame per model, and the identity of each photo."""
    each = case.pairs // FOLDS // 2
    members = case.people // FOLDS
    fold = np.repeat(np.arange(FOLDS), each)
    one, i = fold * members + rng.integers(0, members, (2, len(fold)))
    j = fold * members + (i + rng.integers(1, members, len(fold))) % members

    def parts(spread: float, size: int) -> Iterator[np.ndarray]:
        """The part that each model gives to people, or to pairs."""
        common = rng.normal(0, spread * math.sqrt(COMMON), size)
        for _ in shifts:
            yield common + rng.normal(0, spread * math.sqrt(1 - COMMON), size)

    made = zip(
        shifts,
        parts(GENUINE_PERSON, case.people),
        parts(GENUINE_PAIR, len(fold)),
        parts(IMPOSTOR_PERSON, case.people),
        parts(IMPOSTOR_PAIR, len(fold)),
        strict=True,
    )
    frame = pd.DataFrame(
        {
            "fold": np.tile(fold, 2),
            "label": np.repeat([1, 0], len(fold)),
            # Photos of its own for each pair: none is there twice.
            "a": [f"{person}/{n}a" for n, person in enumerate((*one, *i))],
            "b": [f"{person}/{n}b" for n, person in enumerate((*one, *j))],
            "status": "ok",
        }
    )
    frames = []
    for shift, known, genuine, alike, impostor in made:
        mates = GENUINE + shift + known[one] + genuine
        others = IMPOSTOR + alike[i] + alike[j] + impostor
        frames.append(frame.assign(similarity=np.concatenate((mates, others))))
    return frames, {name: name.partition("/")[0] for name in (*frame["a"], *frame["b"])}


def covering(number: int, *, name: str, resamples: int) -> Outcome:
    """One experiment: per figure the value with both intervals."""
    rng = np.random.default_rng([list(CASES).index(name), number])
    (scores,), identities = draw(CASES[name], rng, shifts=(CASES[name].shift,))
    metrics = verification_metrics(
        scores, identities=identities, fmr_targets=FMRS, bootstrap=resamples, seed=number
    )
    found = {}
    for figure in truth():
        if figure in metrics:  # else the impostor pairs do not support that FMR
            value = metrics[figure]
            trials = len(scores) if figure == "accuracy" else len(scores) // 2
            ends = (metrics[f"{figure}_low"], metrics[f"{figure}_high"])
            found[figure] = (value, *ends, *wilson(value, trials))
    return found


def coverage(experiments: int, resamples: int, cases: Sequence[str] = tuple(CASES)) -> dict:
    """Per case and figure: how often the interval holds the truth, and how wide it is.

    `coverage_independent` is that of Wilson's interval, pairs independent and thresholds known;
    `relative_width` the width ÷ the width that would just cover 95 %.
    """
    table = {}
    with worker_pool("experiments") as pool:
        for name in cases:
            true = truth(CASES[name].shift)
            run = partial(covering, name=name, resamples=resamples)
            runs = pool.map(run, range(experiments), chunksize=4)
            found = list(progress(runs, total=experiments, label=f"coverage {name}"))
            table[name] = {
                figure: judged(np.array([row[figure] for row in found]), true[figure])
                for figure in found[0]
            }
    shares = [row["coverage"] for case in table.values() for row in case.values()]
    return {
        "coverage_experiments": experiments,
        "coverage_resamples": resamples,
        "coverage": table,
        "coverage_95": [min(shares), max(shares)],
    }


def judged(outcomes: np.ndarray, true: float) -> dict[str, float]:
    """From rows of value, low, high, and Wilson's low and high."""
    value, low, high, naive_low, naive_high = outcomes.T
    # How many times longer the side towards the truth would have to be to reach it.
    side = np.where(true < value, value - low, high - value)
    needed = np.divide(abs(true - value), side, out=np.full(len(value), np.inf), where=side > 0)
    return {
        "truth": round(true, 6),
        "mean": round(float(value.mean()), 6),
        "coverage": round(float(((low <= true) & (true <= high)).mean()), 4),
        "coverage_independent": round(
            float(((naive_low <= true) & (true <= naive_high)).mean()), 4
        ),
        "mean_width": round(float((high - low).mean()), 4),
        "relative_width": round(float(1 / np.quantile(needed, 0.95)), 2),
    }


def judging(
    number: int, *, name: str, shift: float, margin: float, resamples: int
) -> dict[str, str]:
    """One comparison with a challenger whose genuine pairs are at `shift`: verdict per figure."""
    case = CASES[name]
    rng = np.random.default_rng([len(CASES) + list(CASES).index(name), number])
    (challenger, champion), identities = draw(case, rng, shifts=(shift, case.shift))
    found = compare(
        challenger,
        champion,
        identities=identities,
        fmr_target=case.finest,
        level=LEVEL,
        margin=margin,
        bootstrap=resamples,
        seed=number,
    )
    if found.accuracy is None or found.fnmr is None:
        raise RuntimeError(f"{name}: a figure is missing")
    return {
        "accuracy": found.accuracy.verdict,
        f"fnmr_at_fmr_{case.finest:g}": found.fnmr.verdict,
    }


def gate(experiments: int, resamples: int, cases: Sequence[str] = tuple(CASES)) -> dict:
    """Share of comparisons that promote, where that is false and where it is true."""
    table = {}
    with worker_pool("experiments") as pool:

        def promoted(name: str, kind: str, shift: float, margin: float, count: int) -> dict:
            """How many of `count` comparisons promote, per figure."""
            run = partial(judging, name=name, shift=shift, margin=margin, resamples=resamples)
            runs = pool.map(run, range(count), chunksize=4)
            found = list(progress(runs, total=count, label=f"gate {name} {kind}"))
            passing = {BETTER, NOT_WORSE} if margin else {BETTER}
            return {key: sum(row[key] in passing for row in found) for key in found[0]}

        fewer = max(1, experiments // POWER_SHARE)
        for name in cases:
            case = CASES[name]
            true = truth(case.shift)
            equal = promoted(name, "equal", case.shift, 0.0, experiments)
            better = [
                promoted(name, f"better by {gain:g}", shift_to("accuracy", gain), 0.0, fewer)
                for gain in (true["accuracy"] + case.better_by * k for k in (1, 2))
            ]
            table[name] = {}
            for figure, promotions in equal.items():
                loss = -case.margin if figure == "accuracy" else case.margin
                worse = shift_to(figure, true[figure] + loss)
                kind = f"at the margin in {figure}"
                wrong = promoted(name, kind, worse, case.margin, experiments)[figure]
                table[name][figure] = {
                    **rate("equal", promotions, experiments),
                    "margin": case.margin,
                    **rate("at_margin", wrong, experiments),
                    "better_by": case.better_by,
                    "better": round(better[0][figure] / fewer, 4),
                    "twice": round(better[1][figure] / fewer, 4),
                }
    rows = [row for case in table.values() for row in case.values()]
    false = [(row[kind], row[f"{kind}_at_most"]) for row in rows for kind in ("equal", "at_margin")]
    return {
        "gate_experiments": experiments,
        "gate_resamples": resamples,
        "gate_level": LEVEL,
        "gate": table,
        "false_promotion_rate": max(share for share, _ in false),
        "false_promotion_rate_at_most": max(bound for _, bound in false),
    }


def rate(name: str, count: int, trials: int) -> dict[str, float]:
    """A share, and the highest that `trials` independent experiments leave open, at 95 %."""
    most = upper_bound(count, trials)
    return {name: round(count / trials, 4), f"{name}_at_most": round(most, 4)}
