"""train: the teacher, a network with a margin head, on the crops of the training identities."""

import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from facewright.datasets.crops import Crops
from facewright.files import code_digest, values_digest, whole_directory, write_json
from facewright.models.recognizer import read_card
from facewright.models.weights import load_network, save_network
from facewright.params import Train
from facewright.progress import say
from facewright.registry.fetching import fetch_recognizer
from facewright.registry.tracking import RESUMED_TAG, START_TAG, Tracked, track
from facewright.stages.metrics import START
from facewright.training import Trained, fit, is_main_process
from facewright.training.augmentation import augmentation_sheet
from facewright.training.checkpoint import checkpoint_digest, remove_checkpoints

SHEET = {"rows": 6, "columns": 8}
NOT_OF_THE_RESULT = {"resume", "readers", "checkpoint_every", "checkpoints", "log_samples"}


def run(*, align: Path, output: Path, params: Train) -> None:
    """Write `teacher/` (a recognizer), `curves.csv` and `metrics.json`; for a head with sub-centres
    `label_noise.csv` too.

    Checkpoints lie beside the output until it is whole; a training that was killed goes on from
    the last one when crops, parameters and code are still the same. Under `torchrun` every
    process trains and the first one writes.
    """
    crops = Crops(align / "train")
    values = params.model_dump()
    code = code_digest("models", "training")
    checkpoints = output.with_name(f".{output.name}.checkpoints")
    resume = None if params.resume is None else Path(params.resume)
    train = partial(
        fit,
        crops,
        **{key: value for key, value in values.items() if key != "log_samples"}
        | {"checkpoint_dir": checkpoints, "resume": resume},
    )
    if not is_main_process():  # what they start from, and the key, the first one tells them
        train(start=None, checkpoint_key="", report=lambda metrics, step: None)
        return
    with tempfile.TemporaryDirectory() as scratch:
        start = _start(params, Path(scratch))
        tags = {} if start is None else {START_TAG: read_card(start).weights_sha256}
        weights = None if start is None else load_network(start).state_dict()
    of_result = {key: value for key, value in values.items() if key not in NOT_OF_THE_RESULT}
    from_which = "" if resume is None else checkpoint_digest(resume)
    key = values_digest([of_result, tags, crops.digest, code, from_which])
    with (
        whole_directory(output, lasting=True) as folder,
        track("train", params=values, tags=tags, spool=True) as tracked,
    ):
        if params.log_samples:
            faces = crops.batch(np.linspace(0, len(crops) - 1, SHEET["rows"]).astype(np.int64))
            sheet = augmentation_sheet(faces, values["augmentation"], seed=params.seed, **SHEET)
            tracked.picture(sheet, "augmentation.png")
        trained = train(start=weights, checkpoint_key=key, report=tracked.report)
        _write(folder, trained, crops, params, code, tracked)
        if start is not None:
            write_json(folder / START, {"start": params.start, "weights": tags[START_TAG]})
    remove_checkpoints(checkpoints, key=key)


def _start(params: Train, scratch: Path) -> Path | None:
    """The folder of the recognizer to start from, brought here if it is a registered one."""
    if params.start is None or not params.start.startswith("models:"):
        return None if params.start is None else Path(params.start)
    return fetch_recognizer(params.start, scratch / "start", name="teacher")


def _write(
    folder: Path, trained: Trained, crops: Crops, params: Train, code: str, tracked: Tracked
) -> None:
    card = save_network(
        folder / "teacher",
        trained.network,
        name="teacher",
        network=params.network,
        embedding_size=params.embedding_size,
        data_digest=crops.digest,
        code_digest=code,
    )
    tracked.trained(card.weights_sha256, trained.precision)
    if trained.resumed:
        went_on = zip(trained.resumed, trained.checkpoints, strict=True)
        tracked.tag(RESUMED_TAG, ", ".join(f"{step} from {of[:16]}" for step, of in went_on))
    pd.DataFrame(trained.history).to_csv(folder / "curves.csv", index=False)
    metrics: dict[str, Any] = {
        "identities": len(trained.crops.identities),
        "crops": len(trained.crops),
        "seconds": round(trained.seconds, 1),
        "images_per_second": round(trained.images_per_second, 1),
        "data_wait": round(trained.waited, 4),
        "final_loss": trained.history[-1]["train_loss"],
    }
    if trained.chosen_epoch is not None:
        metrics["chosen_epoch"] = trained.chosen_epoch
    if trained.label_noise is not None:
        trained.label_noise.to_csv(folder / "label_noise.csv", index=False)
        metrics["label_noise"] = int(trained.label_noise["dropped"].sum())
        say(f"train: {metrics['label_noise']} crops look wrongly labelled: see label_noise.csv")
    write_json(folder / "metrics.json", metrics)
