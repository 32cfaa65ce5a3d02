"""evaluate: the same pairs through teacher, student, INT8, and the engines that run here."""

from dataclasses import asdict
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from facewright.datasets.crops import Crops
from facewright.datasets.form import PAIRS, open_dataset
from facewright.engines import Recognizer, engine_status, latency, load_recognizer
from facewright.evaluation import pairs_digest, roc, score_pairs, verification_metrics
from facewright.evaluation.report import write_report
from facewright.files import whole_directory, write_json
from facewright.params import Evaluate
from facewright.progress import progress, say
from facewright.stages.metrics import parity_rows, read_metrics
from facewright.workers import usable_cores

SEED = 0  # of the bootstrap: the same scores give the same intervals
BATCH = 128  # crops per call
SAMPLE_NOTICE = (
    "These figures come from rendered people. They say that the pipeline works, and nothing about "
    "how well real people are recognized."
)


def run(
    *, align: Path, train: Path, quantize: Path, compile: Path, output: Path, params: Evaluate
) -> None:
    """Write `scores.parquet`, `roc.csv`, `metrics.json`, `evaluation.json`, `report.html`."""
    crops = Crops(align / "verify")
    dataset = open_dataset(align / "verify")
    table, pairs = dataset.manifest, pd.read_parquet(align / "verify" / PAIRS)
    people = dict(zip(table["id"], table["identity"], strict=True))
    photos = dict(zip(table["id"], table["photo_sha256"], strict=True))
    folders = {"teacher": train / "teacher"}
    folders |= {name: quantize / name for name in ("student", "student-int8")}
    engines = sorted(card.parent for card in compile.glob("*/recognizer.yaml"))
    idle = {engine.name: why for engine in engines if (why := engine_status(engine))}
    folders |= {engine.name: engine for engine in engines if engine.name not in idle}

    figures: dict[str, dict[str, float]] = {}
    scores: dict[str, pd.DataFrame] = {}
    with whole_directory(output) as folder:
        for name, source in folders.items():
            recognizer = load_recognizer(source, runtime=params.runtime, threads=usable_cores())
            embeddings = _embed(recognizer, crops, flip=params.flip)
            scores[name] = score_pairs(pairs, ids=crops.ids, embeddings=embeddings)
            row = verification_metrics(
                scores[name],
                identities=people,
                fmr_targets=params.fmr_targets,
                bootstrap=params.bootstrap,
                seed=SEED,
            )
            single = load_recognizer(source, runtime=params.runtime, threads=1)
            row["latency_ms"] = latency(
                single, crops.batch([0])[0], calls=params.latency_calls, flip=params.flip
            )
            row["megabytes"] = recognizer.model_bytes / 1e6
            figures[name] = row
            say(f"evaluate {name}: accuracy {row['accuracy']:.4f}")

        scored = [frame.assign(recognizer=name) for name, frame in scores.items()]
        pd.concat(scored).to_parquet(folder / "scores.parquet", index=False)
        curves = [roc(frame).assign(recognizer=name) for name, frame in scores.items()]
        pd.concat(curves).to_csv(folder / "roc.csv", index=False)
        flat = {f"{name}.{key}": v for name, row in figures.items() for key, v in row.items()}
        write_json(folder / "metrics.json", flat)
        rows = [{"recognizer": name, **row} for name, row in figures.items()]
        notice = SAMPLE_NOTICE if dataset.card.source.startswith("sample:") else ""
        facts = {
            "pairs_digest": pairs_digest(pairs, photos=photos),
            "rows": rows,
            "verification_set": asdict(dataset.card),
            "engines_not_run": idle,
            "notice": notice,
        }
        write_json(folder / "evaluation.json", facts)
        write_report(
            folder / "report.html",
            title="Verification report",
            notice=notice,
            rows=rows,
            scores=scores,
            parity=parity_rows(read_metrics(quantize)),
            engines=[{"engine": e.name, "run here": idle.get(e.name, "yes")} for e in engines],
            data=asdict(dataset.card),
        )


def _embed(recognizer: Recognizer, crops: Crops, *, flip: bool) -> npt.NDArray[np.float32]:
    """Embeddings `(N, E)` of all crops."""
    starts = range(0, len(crops), BATCH)
    batches = (
        recognizer.embed(crops.batch(np.arange(i, min(i + BATCH, len(crops)))), flip=flip)
        for i in starts
    )
    label = f"embed {recognizer.card.name}"
    return np.concatenate(list(progress(batches, total=len(starts), label=label)))
