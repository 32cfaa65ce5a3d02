"""Do the 95 % intervals of the evaluation hold what they say? Simulated experiments tell.

People differ: some are recognized easily, some are taken for others, so that pairs of one person
err together. Similarities are normal, hence the true accuracy (at the best threshold) and the true
FNMR at each FMR are known in closed form. Many experiments are drawn; for each figure are told

    coverage             share of experiments whose interval holds the truth; 0.95 is the claim
    coverage_independent the same of Wilson's interval: pairs independent, thresholds known
    relative_width       width of the interval ÷ the width that would just cover 95 %

The cases are an evaluation like LFW's View 2 (each person in few pairs), one like the sample set
(few people, each in many pairs), and one with as few pairs as LFW's View 1.

    make bench-intervals            # about 2 minutes on two cores
    python -m benchmarks.intervals [--experiments 500] [--bootstrap 400]

The last line on standard output is one JSON object.
"""

import argparse
import json
import math
from dataclasses import asdict, dataclass
from functools import partial
from statistics import NormalDist

import numpy as np
import pandas as pd

from facewright.evaluation import verification_metrics
from facewright.evaluation.metrics import wilson
from facewright.progress import progress
from facewright.workers import worker_pool

FOLDS = 10
FMRS = (0.1, 0.01)
# Similarity = mean + what each person brings (two in an impostor pair) + what the pair brings.
GENUINE, GENUINE_PERSON, GENUINE_PAIR = 0.60, 0.15, 0.15
IMPOSTOR, IMPOSTOR_PERSON, IMPOSTOR_PAIR = 0.10, 0.08, 0.12


@dataclass(frozen=True)
class Case:
    people: int  # over all folds, which share nobody
    pairs: int  # over all folds, half of them genuine


CASES = {
    "lfw_view2": Case(people=4000, pairs=6000),
    "lfw_view1": Case(people=1700, pairs=1000),
    "sample": Case(people=50, pairs=3000),
}
Outcome = tuple[float, float, float]  # figure, low end, high end


def truth() -> dict[str, float]:
    """Accuracy at the best threshold and FNMR per FMR of a verification without end."""
    genuine = NormalDist(GENUINE, math.hypot(GENUINE_PERSON, GENUINE_PAIR))
    impostor = NormalDist(IMPOSTOR, math.hypot(IMPOSTOR_PERSON * math.sqrt(2), IMPOSTOR_PAIR))
    thresholds = np.linspace(IMPOSTOR, GENUINE, 10_001)
    right = [(1 - genuine.cdf(t) + impostor.cdf(t)) / 2 for t in thresholds]
    fnmrs = {f"fnmr_at_fmr_{fmr:g}": genuine.cdf(impostor.inv_cdf(1 - fmr)) for fmr in FMRS}
    return {"accuracy": max(right), **fnmrs}


def draw(case: Case, rng: np.random.Generator) -> tuple[pd.DataFrame, dict[str, str]]:
    """One verification: scores as `score_pairs` gives them, and the identity of each photo."""
    each = case.pairs // FOLDS // 2
    members = case.people // FOLDS
    fold = np.repeat(np.arange(FOLDS), each)
    one, i = fold * members + rng.integers(0, members, (2, len(fold)))
    j = fold * members + (i + rng.integers(1, members, len(fold))) % members
    known = rng.normal(0, GENUINE_PERSON, case.people)
    alike = rng.normal(0, IMPOSTOR_PERSON, case.people)
    genuine = GENUINE + known[one] + rng.normal(0, GENUINE_PAIR, len(fold))
    impostor = IMPOSTOR + alike[i] + alike[j] + rng.normal(0, IMPOSTOR_PAIR, len(fold))
    scores = pd.DataFrame(
        {
            "fold": np.tile(fold, 2),
            "label": np.repeat([1, 0], len(fold)),
            "a": [f"{person}/a" for person in (*one, *i)],
            "b": [f"{person}/b" for person in (*one, *j)],
            "similarity": np.concatenate((genuine, impostor)),
            "status": "ok",
        }
    )
    return scores, {f"{k}/{photo}": str(k) for k in range(case.people) for photo in "ab"}


def experiment(number: int, *, name: str, bootstrap: int) -> dict[str, tuple[Outcome, Outcome]]:
    """Per figure the bootstrap's interval and Wilson's."""
    rng = np.random.default_rng([list(CASES).index(name), number])
    scores, identities = draw(CASES[name], rng)
    metrics = verification_metrics(
        scores, identities=identities, fmr_targets=FMRS, bootstrap=bootstrap, seed=number
    )
    found = {}
    for figure in truth():
        if figure in metrics:  # else the impostor pairs do not support that FMR
            value = metrics[figure]
            trials = len(scores) if figure == "accuracy" else len(scores) // 2
            ends = (metrics[f"{figure}_low"], metrics[f"{figure}_high"])
            found[figure] = ((value, *ends), (value, *wilson(value, trials)))
    return found


def judge(outcomes: list[Outcome], true: float) -> tuple[float, float, float]:
    """Coverage, mean width, and width relative to what would just cover 95 %."""
    value, low, high = np.array(outcomes).T
    covered = (low <= true) & (true <= high)
    # How many times longer the side towards the truth would have to be to reach it.
    side = np.where(true < value, value - low, high - value)
    needed = np.divide(abs(true - value), side, out=np.full(len(value), np.inf), where=side > 0)
    return float(covered.mean()), float((high - low).mean()), float(1 / np.quantile(needed, 0.95))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--experiments", type=int, default=500)
    parser.add_argument("--bootstrap", type=int, default=400)
    options = parser.parse_args()
    result: dict = {"experiments": options.experiments, "bootstrap": options.bootstrap}
    true = truth()
    with worker_pool("experiments") as pool:
        for name, case in CASES.items():
            run = partial(experiment, name=name, bootstrap=options.bootstrap)
            runs = pool.map(run, range(options.experiments), chunksize=4)
            found = list(progress(runs, total=options.experiments, label=name))
            result[name] = asdict(case)
            for figure in found[0]:
                outcomes = [[row[figure][kind] for row in found] for kind in (0, 1)]
                coverage, width, relative = judge(outcomes[0], true[figure])
                result[name][figure] = {
                    "truth": round(true[figure], 4),
                    "mean": round(float(np.mean([row[0] for row in outcomes[0]])), 4),
                    "coverage": round(coverage, 3),
                    "coverage_independent": round(judge(outcomes[1], true[figure])[0], 3),
                    "mean_width": round(width, 4),
                    "relative_width": round(relative, 2),
                }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
