"""evaluate: the same faces through teacher, student, INT8, and the engines that run here."""

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from facewright.datasets.crops import Crops
from facewright.datasets.form import PAIRS, Dataset, open_dataset
from facewright.datasets.names import comparable, is_label
from facewright.engines import embed_all, engine_status, latency, load_recognizer
from facewright.evaluation import pairs_digest
from facewright.evaluation.assess import Answers, Questions, assess
from facewright.evaluation.record import write_record
from facewright.evaluation.report import write_report
from facewright.evaluation.thresholds import Cohort, Thresholds, targets_of, write_thresholds
from facewright.files import whole_directory, write_json
from facewright.params import Evaluate
from facewright.progress import say
from facewright.stages.metrics import parity_rows, read_metrics
from facewright.workers import usable_cores

SEED = 0  # of the bootstrap: the same scores give the same intervals
REFERENCE = {"student": "teacher"}  # what a form is compared with; all others with the student
SAMPLE_NOTICE = (
    "These figures come from rendered people. They say that the pipeline works, and nothing about "
    "how well real people are recognized."
)


def run(
    *, align: Path, train: Path, quantize: Path, compile: Path, output: Path, params: Evaluate
) -> None:
    """Write what `evaluation.record` says, `thresholds.json`, `metrics.json`, `report.html`."""
    crops, halves = Crops(align / "verify"), [open_dataset(align / h) for h in ("train", "verify")]
    verify, pairs = halves[1], pd.read_parquet(align / "verify" / PAIRS)
    asked = params.model_dump(exclude={"runtime", "flip", "latency_calls"})
    questions = Questions(
        pairs=pairs, images=verify.manifest, trained=_trained(*halves), seed=SEED, **asked
    )
    folders = {"teacher": train / "teacher"}
    folders |= {name: quantize / name for name in ("student", "student-int8")}
    engines = sorted(card.parent for card in compile.glob("*/recognizer.yaml"))
    idle = {engine.name: why for engine in engines if (why := engine_status(engine))}
    folders |= {engine.name: engine for engine in engines if engine.name not in idle}

    photos = dict(zip(verify.manifest["id"], verify.manifest["photo_sha256"], strict=True))
    digest = pairs_digest(questions.pairs, photos=photos)
    answers: dict[str, Answers] = {}
    embedded: dict[str, npt.NDArray[np.float32]] = {}
    thresholds = []
    for name, source in folders.items():
        recognizer = load_recognizer(source, runtime=params.runtime, threads=usable_cores())
        embedded[name] = embed_all(recognizer, crops, flip=params.flip)
        answers[name] = answer = assess(questions, ids=crops.ids, embeddings=embedded[name])
        single = load_recognizer(source, runtime=params.runtime, threads=1)
        answer.metrics["latency_ms"] = latency(
            single, crops.batch([0])[0], calls=params.latency_calls, flip=params.flip
        )
        answer.metrics["megabytes"] = recognizer.model_bytes / 1e6
        if (other := REFERENCE.get(name, "student")) in answers:
            _add_parity(answer, answers[other], np.sum(embedded[name] * embedded[other], axis=1))
        thresholds.append(
            Thresholds(
                recognizer=name,
                weights_sha256=recognizer.card.weights_sha256,
                backend=params.runtime
                if recognizer.card.format == "onnx"
                else recognizer.card.format,
                date=datetime.now(UTC).date().isoformat(),
                cohort=Cohort(verify.card.name, digest, int(answer.metrics["impostor"])),
                targets=targets_of(answer.metrics),
                calibration=answer.calibration,
            )
        )
        say(f"evaluate {name}: accuracy {answer.metrics.get('accuracy', float('nan')):.4f}")

    rows = [{"recognizer": name, **answer.metrics} for name, answer in answers.items()]
    facts = {
        "pairs_digest": digest,
        "weights": {one.recognizer: one.weights_sha256 for one in thresholds},
        "rows": rows,
        "verification_set": asdict(verify.card),
        "licences": {half.card.name: half.card.licence for half in halves},
        "collected": {half.card.name: half.card.collected for half in halves},
        "engines_not_run": idle,
        "notice": SAMPLE_NOTICE if verify.card.source.startswith("sample:") else "",
    }
    identities = dict(zip(verify.manifest["id"], verify.manifest["identity"], strict=True))
    with whole_directory(output) as folder:
        write_record(folder, answers, identities=identities, facts=facts)
        write_thresholds(folder / "thresholds.json", thresholds)
        flat = {f"{name}.{k}": v for name, a in answers.items() for k, v in a.metrics.items()}
        write_json(folder / "metrics.json", flat)
        write_report(
            folder / "report.html",
            title="Verification report",
            notice=str(facts["notice"]),
            rows=rows,
            scores={name: answer.scores for name, answer in answers.items()},
            parity=parity_rows(read_metrics(quantize)),
            engines=[{"engine": e.name, "run here": idle.get(e.name, "yes")} for e in engines],
            data=asdict(verify.card),
        )


def _add_parity(answer: Answers, reference: Answers, cosines: npt.NDArray[np.float32]) -> None:
    """How far a form is from the one that it was made of: embeddings, threshold."""
    answer.metrics["cosine"] = float(cosines.mean())
    answer.metrics["cosine_lowest"] = float(cosines.min())
    key = "threshold_accuracy"
    if key in answer.metrics:
        shift = abs(answer.metrics[key] - reference.metrics[key])
        answer.metrics["threshold_shift"] = shift


def _trained(train: Dataset, verify: Dataset) -> frozenset[str]:
    """The verification images whose person, by name, is among those that were trained on."""
    table = train.manifest
    names = table.loc[table["status"] == "ok", "identity"].unique()
    known = {comparable(name) for name in names if not is_label(name)}
    seen = verify.manifest["identity"].map(comparable).isin(known)
    return frozenset(verify.manifest.loc[seen, "id"])
