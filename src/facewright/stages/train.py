"""train: the teacher, a network with a margin head, on the crops of the training identities."""

import shutil
from functools import partial
from pathlib import Path

import pandas as pd

from facewright.datasets.crops import Crops
from facewright.files import code_digest, values_digest, whole_directory, write_json
from facewright.models.weights import save_network
from facewright.params import Train
from facewright.registry.tracking import RECOGNIZER_TAG, track
from facewright.training import fit, is_main_process


def run(*, align: Path, output: Path, params: Train) -> None:
    """Write `teacher/` (a recognizer), `curves.csv` and `metrics.json`.

    Checkpoints lie beside the output until it is whole; a training that was killed goes on from
    the last one when crops, parameters and code are still the same. Under `torchrun` every
    process trains and the first one writes.
    """
    crops = Crops(align / "train")
    values = params.model_dump()
    code = code_digest("models", "training")
    checkpoints = output.with_name(f".{output.name}.checkpoints")
    train = partial(
        fit,
        crops,
        **values,
        checkpoint_dir=checkpoints,
        checkpoint_key=values_digest([values, crops.digest, code]),
    )
    if not is_main_process():
        train(report=lambda metrics, step: None)
        return
    tracking = track("train", params=values, tags={}, spool=True)
    with whole_directory(output) as folder, tracking as tracked:
        trained = train(report=tracked.report)
        card = save_network(
            folder / "teacher",
            trained.network,
            name="teacher",
            network=params.network,
            embedding_size=params.embedding_size,
            data_digest=crops.digest,
            code_digest=code,
        )
        tracked.tag(RECOGNIZER_TAG, card.weights_sha256)
        pd.DataFrame(trained.history).to_csv(folder / "curves.csv", index=False)
        metrics = {
            "identities": len(crops.identities),
            "crops": len(crops),
            "seconds": round(trained.seconds, 1),
            "images_per_second": round(trained.images_per_second, 1),
            "final_loss": trained.history[-1]["train_loss"],
        }
        write_json(folder / "metrics.json", metrics)
    shutil.rmtree(checkpoints, ignore_errors=True)
