"""The evaluation: how fast it is, and whether its intervals and verdicts hold what they say.

    view2            all figures of a protocol like LFW's View 2 (6,000 pairs, ten folds), without
                     intervals, against nested loops over folds and thresholds
    bootstrap        the same with 1,000 resamples of identities: wall seconds, one thread
    det              DET of ten million scored pairs: seconds, highest memory of the process
    identification   20,000 probes against 100,000 templates: time of the plain matrix product ÷
                     time of the whole identification
    coverage         share of simulated experiments whose 95 % interval holds the truth
    gate             share of comparisons that promote falsely at level 5 %, between equals and at
                     the margin, with its upper 95 % bound; and of truly better ones

`view2_speedup` begins at the embeddings, where both do the same sums; the names in the pairs are
numbers already, as a set of questions makes them once for all recognizers, and the peer has its two
arrays. It compares what gives the same figures: accuracy by folds (400 thresholds in the loops, all
in ours) and FNMR at an FMR (4,000 thresholds); ours gives EER, AUC and more besides, and checks its
input. `…_from_similarities` is without those sums; the parts are told in `…_ms`. That the accuracy
is counted rightly is shown by loops over our own thresholds, to 1e-6; the peer's thresholds are
fewer, and so its figures a little different (`view2_accuracy`, `view2_accuracy_by_the_peer`).

    make bench-evaluation            # the two simulations take hours on two cores
    python -m benchmarks.evaluation [PART …] [--quick] [--experiments 2000] [--resamples N]
                                    [--cases NAME …]

The last line on standard output is one JSON object; null stands for what was not run.
"""

import argparse
import json
from collections.abc import Callable

PARTS = ("view2", "bootstrap", "det", "identification", "coverage", "gate")
HEADLINES = (
    "view2_speedup",
    "bootstrap_1000_s",
    "det_10m_s",
    "det_10m_peak_mb",
    "identification_efficiency",
    "coverage_95",
    "false_promotion_rate",
    "false_promotion_rate_at_most",
)
RESAMPLES = {"coverage": 1000, "gate": 400}
QUICK_EXPERIMENTS, QUICK_RESAMPLES = 40, 200


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all")
    parser.add_argument("--quick", action="store_true", help="smaller, to see that it runs")
    parser.add_argument("--experiments", type=int, default=2000)
    parser.add_argument("--cases", nargs="+", metavar="NAME", help="of the simulations; all")
    parser.add_argument("--resamples", type=int, help="per experiment; else 1000, in the gate 400")
    options = parser.parse_args()
    unknown = [part for part in options.parts if part not in PARTS]
    if unknown:
        parser.error(f"there is no part {unknown[0]!r}: choose of {', '.join(PARTS)}")
    experiments = QUICK_EXPERIMENTS if options.quick else options.experiments
    result: dict = dict.fromkeys(HEADLINES)
    result["quick"] = options.quick
    for part in options.parts or PARTS:
        resamples = (
            QUICK_RESAMPLES if options.quick else options.resamples or RESAMPLES.get(part, 0)
        )
        found = work(part, experiments, resamples, options.cases)(options.quick)
        result |= found
        if part in ("coverage", "gate"):
            print(table(found[part]), flush=True)
        else:
            print(f"{part}: {json.dumps(found)}", flush=True)
    print(json.dumps(result))


def work(
    part: str, experiments: int, resamples: int, cases: list[str] | None
) -> Callable[[bool], dict]:
    # Each part loads what it needs alone, so that one can be run where another cannot.
    if part == "identification":
        from benchmarks.evaluation_identification import identification

        return identification
    if part in ("coverage", "gate"):
        from benchmarks import evaluation_coverage

        chosen = cases or list(evaluation_coverage.CASES)
        unknown = [name for name in chosen if name not in evaluation_coverage.CASES]
        if unknown:
            known = ", ".join(evaluation_coverage.CASES)
            raise SystemExit(f"there is no case {unknown[0]!r}: choose of {known}")
        simulate = getattr(evaluation_coverage, part)
        return lambda quick: simulate(experiments, resamples, chosen)
    from benchmarks import evaluation_speed

    return {
        "view2": evaluation_speed.view2,
        "bootstrap": evaluation_speed.bootstrap,
        "det": evaluation_speed.det_10m,
    }[part]


def table(found: dict) -> str:
    """A Markdown table: a line per case and figure."""
    titles = list(next(iter(next(iter(found.values())).values())))
    lines = [["case", "figure", *titles], ["---"] * (2 + len(titles))]
    for case, figures in found.items():
        for figure, row in figures.items():
            lines.append([case, figure, *(str(row[title]) for title in titles)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    main()
