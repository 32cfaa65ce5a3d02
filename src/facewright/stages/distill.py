"""distill: a smaller student that learns the teacher's embeddings on the same crops."""

from pathlib import Path

import pandas as pd

from facewright.compression.distillation import distill
from facewright.datasets.crops import Crops
from facewright.files import code_digest, whole_directory, write_json
from facewright.models.recognizer import read_card
from facewright.models.weights import load_network, save_network
from facewright.params import Distill
from facewright.registry.tracking import track


def run(*, align: Path, train: Path, output: Path, params: Distill) -> None:
    """Write `student/` (a recognizer), `curves.csv` and `metrics.json`."""
    crops = Crops(align / "train")
    teacher = read_card(train / "teacher")
    values = params.model_dump()
    tags = {"facewright.teacher": teacher.weights_sha256}
    tracking = track("distill", params=values, tags=tags, spool=True)
    with whole_directory(output) as folder, tracking as tracked:
        distilled = distill(
            crops,
            teacher=load_network(train / "teacher"),
            embedding_size=teacher.embedding_size,
            report=tracked.report,
            **values,
        )
        card = save_network(
            folder / "student",
            distilled.network,
            name="student",
            network=params.network,
            embedding_size=teacher.embedding_size,
            data_digest=crops.digest,
            code_digest=code_digest("models", "training", "compression"),
        )
        tracked.trained(card.weights_sha256, distilled.precision)
        pd.DataFrame(distilled.history).to_csv(folder / "curves.csv", index=False)
        metrics = {
            "seconds": round(distilled.seconds, 1),
            "images_per_second": round(distilled.images_per_second, 1),
            "final_loss": distilled.history[-1]["train_loss"],
        }
        write_json(folder / "metrics.json", metrics)
