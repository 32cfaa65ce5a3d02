"""evaluate: the same faces through teacher, student, INT8, and the engines that run here."""

from dataclasses import asdict
from pathlib import Path

import numpy as np
import numpy.typing as npt

from facewright.datasets.crops import Crops
from facewright.datasets.form import open_dataset
from facewright.datasets.names import named_among
from facewright.engines import embed_all, engine_status, latency, load_recognizer
from facewright.evaluation.assess import Answers, Questions, assess
from facewright.evaluation.parity import parity_of
from facewright.evaluation.record import THRESHOLDS, data_facts, write_record
from facewright.evaluation.report import write_report
from facewright.evaluation.templates import Subjects
from facewright.evaluation.thresholds import backend_of, thresholds_of, write_thresholds
from facewright.files import whole_directory
from facewright.params import Evaluate
from facewright.progress import say
from facewright.stages.metrics import began_from, parity_rows, read_metrics
from facewright.workers import usable_cores

SEED = 0  # of the bootstrap: the same scores give the same intervals
TEACHER, STUDENT = "teacher", "student"
OWN = {"runtime", "flip", "latency_calls", "show_faces"}  # parameters that are no question


def run(
    *, align: Path, train: Path, quantize: Path, compile: Path, output: Path, params: Evaluate
) -> None:
    """Write what `evaluation.record` says, `thresholds.json`, `metrics.json`, `report.html`."""
    crops = Crops(align / "verify")
    trained, verify = (open_dataset(align / half) for half in ("train", "verify"))
    subjects = Subjects(verify.manifest, verify.templates)
    assert verify.pairs is not None  # align writes them
    taught = trained.manifest.query("status == 'ok'")["identity"]
    questions = Questions(
        pairs=verify.pairs,
        images=subjects.table,
        photos=subjects.photos,
        trained=subjects.of(named_among(subjects.table["identity"], taught)),
        seed=SEED,
        began_from=began_from(train),
        **params.model_dump(exclude=OWN),
    )
    forms = {name: quantize / name for name in (STUDENT, "student-int8")}
    folders = {TEACHER: train / TEACHER, **forms}
    engines = sorted(found.parent for found in compile.glob("*/recognizer.yaml"))
    idle = {engine.name: why for engine in engines if (why := engine_status(engine))}
    folders |= {engine.name: engine for engine in engines if engine.name not in idle}

    digest = subjects.digest(questions.pairs)
    answers: dict[str, Answers] = {}
    embedded: dict[str, npt.NDArray[np.float32]] = {}
    thresholds = []
    for name, source in folders.items():
        recognizer = load_recognizer(source, runtime=params.runtime, threads=usable_cores())
        one = recognizer.card
        embedded[name] = embed_all(recognizer, crops, flip=params.flip)
        named, pooled = subjects.embeddings(crops.ids, embedded[name])
        answers[name] = answer = assess(questions, ids=named, embeddings=pooled)
        alone = load_recognizer(source, runtime=params.runtime, threads=1)
        took = latency(alone, crops.batch([0])[0], calls=params.latency_calls, flip=params.flip)
        measured = {"latency_ms": took, "megabytes": recognizer.model_bytes / 1e6}
        answer.metrics.update(measured | subjects.counts())
        found = thresholds_of(
            answer.metrics,
            recognizer=name,
            weights_sha256=one.weights_sha256,
            backend=backend_of(one.format, runtime=params.runtime, engine=one.engine),
            dataset=verify.card.name,
            pairs_digest=digest,
            subjects=subjects.kind,
            calibration=answer.calibration,
            flip=params.flip,
        )
        thresholds.append(found)
        say(f"evaluate {name}: accuracy {answer.metrics.get('accuracy', float('nan')):.4f}")
    parity = parity_of(answers, embedded, reference=STUDENT, made_of=TEACHER)
    facts = {
        "pairs_digest": digest,
        "subjects": subjects.kind,
        "weights": {one.recognizer: one.weights_sha256 for one in thresholds},
        "flip": params.flip,
        "runtime": params.runtime,
        "bootstrap": params.bootstrap,
        "engines_not_run": idle,
        "slices": params.slices,
        **data_facts(training=asdict(trained.card), verification=asdict(verify.card)),
    }
    with whole_directory(output) as folder:
        write_record(folder, answers, identities=subjects.identities, facts=facts)
        write_thresholds(folder / THRESHOLDS, thresholds)
        write_report(
            folder / "report.html",
            title="Verification report",
            notice=facts["notice"],
            answers=answers,
            thresholds=thresholds,
            parity=parity,
            quantized=parity_rows(read_metrics(quantize)),
            engines=[{"engine": e.name, "run here": idle.get(e.name, "yes")} for e in engines],
            data={"Training": asdict(trained.card), "Verification": asdict(verify.card)},
            faces=subjects.faces(crops.ids, crops.batch) if params.show_faces else None,
            shown=STUDENT,
        )
