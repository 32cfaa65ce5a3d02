"""Which crops a trained sub-centre head takes for wrongly labelled."""

import pandas as pd
import torch

from facewright.errors import TrainingError
from facewright.models.label_noise import label_noise
from facewright.training.loop import Trained
from facewright.training.validation import embed

LARGEST_ANGLE = 75.0  # degrees; Deng et al., ECCV 2020


def label_noise_table(trained: Trained, *, sub_centres: int) -> pd.DataFrame:
    """One row per crop that was trained on, the most suspicious first.

    Columns `id`, `identity`, `angle` (degrees to the sub-centre that most crops of the identity are
    nearest to), `nearest_is_dominant`, and `dropped`: most likely another person.
    """
    if trained.centres is None:
        raise TrainingError("the head has no sub-centres: nothing can be said of labels")
    crops = trained.crops
    embeddings = embed(trained.network, crops, device=torch.device("cpu"), precision=torch.float32)
    found = label_noise(
        embeddings.numpy(),
        crops.labels,
        trained.centres.numpy(),
        sub_centres=sub_centres,
        largest_angle=LARGEST_ANGLE,
    )
    table = pd.DataFrame(
        {
            "id": crops.ids,
            "identity": [crops.identities[label] for label in crops.labels],
            "angle": found.angle,
            "nearest_is_dominant": found.nearest_is_dominant,
            "dropped": found.dropped,
        }
    )
    return table.sort_values("angle", ascending=False, kind="stable")
