"""Identification of 20,000 probes against 100,000 templates, beside the bare matrix product.

`identification_efficiency` is the time of the plain float32 matrix product of that size ÷ the time
of the whole identification: checks, mates' scores, product, ranks, highest scores of others, and
all figures. Both run on the BLAS that numpy brings, with as many threads as it is given. The
product is done in blocks of rows into one buffer, because 20,000 × 100,000 float32 scores (8 GB)
do not fit beside the rest; the identification has blocks of both. They run in turns, and the
ratio is taken within each turn, so that a busy machine hits both alike.

Half the probes are of enrolled people, each one entry, cosine to the mate 0.4 in the mean, so that
some mates are not first among the many others; the rest are not enrolled.

    python -m benchmarks.evaluation_identification [--quick] [--turns 3]

The last line on standard output is one JSON object.
"""

import argparse
import json
import statistics
import time

import numpy as np

from facewright.evaluation.identification import identification_metrics
from facewright.evaluation.search import search

PROBES, TEMPLATES, SIZE = 20_000, 100_000, 512
QUICK = 5  # times fewer of both
ROWS = 1000  # of the plain product's blocks: 400 MB at 100,000 templates
FPIR_TARGETS = (0.1, 0.01)


def identification(quick: bool, turns: int = 3) -> dict:
    """The efficiency, the seconds of both in the median over turns, and how far turns differ."""
    count, entries = (n // (QUICK if quick else 1) for n in (PROBES, TEMPLATES))
    gallery, people, probes, shown = _made(count, entries)
    plain, whole = [], []
    for _ in range(turns):
        plain.append(_product(probes, gallery))
        start = time.perf_counter()
        found = search(gallery, people, probes, shown)
        metrics = identification_metrics(found, fpir_targets=FPIR_TARGETS)
        whole.append(time.perf_counter() - start)
    ratios = [one / other for one, other in zip(plain, whole, strict=True)]
    return {
        "identification_probes": count,
        "identification_templates": entries,
        "identification_efficiency": round(statistics.median(ratios), 3),
        "identification_efficiency_spread": [round(min(ratios), 3), round(max(ratios), 3)],
        "identification_s": round(statistics.median(whole), 2),
        "identification_product_s": round(statistics.median(plain), 2),
        "identification_rank_1": round(metrics["rank_1"], 4),
        "identification_fnir_at_fpir_0.01": round(metrics["fnir_at_fpir_0.01"], 4),
    }


def _product(probes: np.ndarray, gallery: np.ndarray) -> float:
    buffer = np.empty((ROWS, len(gallery)), np.float32)
    buffer.fill(0)  # memory that is touched for the first time costs more
    start = time.perf_counter()
    for row in range(0, len(probes), ROWS):
        part = probes[row : row + ROWS]
        np.matmul(part, gallery.T, out=buffer[: len(part)])
    return time.perf_counter() - start


def _made(count: int, entries: int) -> tuple[np.ndarray, list[str], np.ndarray, list[str]]:
    rng = np.random.default_rng(0)
    gallery = _unit(rng.standard_normal((entries, SIZE), dtype=np.float32))
    probes = _unit(rng.standard_normal((count, SIZE), dtype=np.float32))
    mated = rng.permutation(entries)[: count // 2]
    # Cosines from about 0.1 to 0.7; the best of 100,000 others is near 0.2.
    near = rng.normal(0.4, 0.1, (len(mated), 1)).clip(0.05, 0.95).astype(np.float32)
    probes[: len(mated)] = _unit(
        near * gallery[mated] + np.sqrt(1 - near**2) * probes[: len(mated)]
    )
    shown = [f"person {k}" for k in mated] + [f"nobody {k}" for k in range(count - len(mated))]
    return gallery, [f"person {k}" for k in range(entries)], probes, shown


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a fifth of both")
    parser.add_argument("--turns", type=int, default=3)
    options = parser.parse_args()
    print(json.dumps(identification(options.quick, options.turns)))


if __name__ == "__main__":
    main()
