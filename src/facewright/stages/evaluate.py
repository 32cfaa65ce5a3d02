"""evaluate: the same pairs through teacher, student, INT8, and the engines that run here."""

import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from facewright.datasets.crops import Crops
from facewright.datasets.form import open_dataset
from facewright.engines import Recognizer, engine_status, latency, load_recognizer
from facewright.evaluation import roc, score_pairs, verification_metrics
from facewright.evaluation.report import write_report
from facewright.files import file_digest, whole_directory, write_json
from facewright.params import Evaluate
from facewright.progress import progress, say
from facewright.stages.metrics import read_metrics

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
    pairs = pd.read_parquet(align / "verify" / "pairs.parquet")
    people = pd.read_parquet(align / "verify" / "manifest.parquet", columns=["id", "identity"])
    folders = {"teacher": train / "teacher"}
    folders |= {name: quantize / name for name in ("student", "student-int8")}
    engines = sorted(card.parent for card in compile.glob("*/recognizer.yaml"))
    idle = {engine.name: why for engine in engines if (why := engine_status(engine))}
    folders |= {engine.name: engine for engine in engines if engine.name not in idle}

    threads = os.cpu_count() or 1
    figures: dict[str, dict[str, float]] = {}
    scores: dict[str, pd.DataFrame] = {}
    with whole_directory(output) as folder:
        for name, source in folders.items():
            recognizer = load_recognizer(source, runtime=params.runtime, threads=threads)
            embeddings = _embed(recognizer, crops, flip=params.flip)
            scores[name] = score_pairs(pairs, ids=crops.ids, embeddings=embeddings)
            row = verification_metrics(
                scores[name],
                identities=dict(zip(people["id"], people["identity"], strict=True)),
                far_targets=params.far_targets,
                bootstrap=params.bootstrap,
                seed=SEED,
            )
            single = load_recognizer(source, runtime=params.runtime, threads=1)
            timed = latency(single, crops.batch([0])[0], calls=params.latency_calls)
            row["latency_ms"] = timed["median_ms"]
            row["megabytes"] = recognizer.model_bytes / 1e6
            figures[name] = row
            say(f"evaluate {name}: accuracy {row['accuracy']:.4f}")

        table = pd.concat([frame.assign(recognizer=name) for name, frame in scores.items()])
        table.to_parquet(folder / "scores.parquet", index=False)
        curves = [roc(frame).assign(recognizer=name) for name, frame in scores.items()]
        pd.concat(curves).to_csv(folder / "roc.csv", index=False)
        flat = {f"{name}.{key}": v for name, row in figures.items() for key, v in row.items()}
        write_json(folder / "metrics.json", flat)
        rows = [{"recognizer": name, **row} for name, row in figures.items()]
        card = open_dataset(align / "verify").card
        notice = SAMPLE_NOTICE if card.source.startswith("sample") else ""
        facts = {
            "pairs_digest": file_digest(align / "verify" / "pairs.parquet"),
            "rows": rows,
            "verification_set": asdict(card),
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
            parity=_parity(read_metrics(quantize)),
            engines=[{"engine": e.name, "run here": idle.get(e.name, "yes")} for e in engines],
            data=asdict(card),
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


def _parity(metrics: dict[str, float]) -> list[dict[str, Any]]:
    """The measures that `quantize` took, a row per ONNX recognizer."""
    rows: dict[str, dict[str, Any]] = {}
    for key, value in metrics.items():
        name, _, measure = key.partition(".")
        if measure:
            rows.setdefault(name, {"against PyTorch": name})[measure] = value
    return list(rows.values())
