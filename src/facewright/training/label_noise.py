"""Crops with a wrong label, as a trained sub-centre ArcFace sees them (Deng et al., ECCV 2020).

The clean crops of an identity gather at one of its sub-centres, the dominant one; those of other
people at the others, or far from all.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor, nn

from facewright.errors import TrainingError
from facewright.models.sphere import angle_between, unit
from facewright.training.batches import CropSource
from facewright.training.classifier import Classifier
from facewright.training.distributed import Processes
from facewright.training.validation import Part, embed_in_parts

LARGEST_ANGLE = 75.0  # degrees; the paper's


@dataclass(frozen=True)
class LabelNoise:
    """What is said of each of N crops, and of each identity."""

    angle: npt.NDArray[np.float64]  # (N,) degrees to the dominant sub-centre of its identity
    nearest_is_dominant: npt.NDArray[np.bool_]  # (N,) of the sub-centres of its identity
    dominant: npt.NDArray[np.int64]  # (identities,) 0 … sub_centres - 1; 0: it has no crops


def label_noise_table(
    network: nn.Module,
    classifier: Classifier,
    crops: CropSource,
    *,
    precision: torch.dtype,
    readers: int,
    group: Processes,
) -> pd.DataFrame | None:
    """One row per crop, the most suspicious first, on the first process; None on the others.

    Columns `id`, `identity`, `angle` (degrees to the sub-centre that most crops of the identity are
    nearest to), `nearest_is_dominant`, and `dropped`: most likely another person.

    Each process embeds the crops of the identities whose centres it has, on its device: neither
    centres nor embeddings are sent, and none of these are kept.

    Raises:
        TrainingError: an embedding that is not finite.
    """
    # BatchNorm's running averages are each process's own, and those of the first are the result's.
    buffers = {name: value.cpu() for name, value in network.named_buffers()}
    network.load_state_dict(group.from_first(buffers), strict=False)
    network.eval()
    labels = np.asarray(crops.labels)
    first, last = classifier.first, classifier.last
    indices = np.flatnonzero((labels >= first) & (labels < last))
    own = Part(crops, indices, labels[indices] - first, crops.identities[first:last])
    centres = classifier.own_centres()
    angles = np.empty((len(own), centres.shape[1]))
    start = 0
    for embeddings in embed_in_parts(
        network, own, device=group.device, precision=precision, readers=readers
    ):
        part = slice(start, start := start + len(embeddings))
        angles[part] = angles_to_own(embeddings, own.labels[part], centres)
    found = judge(angles, own.labels, identities=last - first)

    # All processes hear of all crops, so that what is wrong stops all of them.
    parts = group.gather_objects((indices, found.angle, found.nearest_is_dominant))
    order, angle, nearest = (np.concatenate(column) for column in zip(*parts, strict=True))
    bad = order[~np.isfinite(angle)]
    if len(bad):
        raise TrainingError(
            f"label noise: the embedding of {crops.ids[bad[0]]} is not finite: look at the crop"
        )
    if not group.main:
        return None
    table = pd.DataFrame(
        {
            "id": [crops.ids[index] for index in order],
            "identity": [crops.identities[label] for label in labels[order]],
            "angle": angle,
            "nearest_is_dominant": nearest,
            "dropped": angle > LARGEST_ANGLE,
        },
        index=order,
    )
    return table.sort_index().sort_values("angle", ascending=False, kind="stable")


def angles_to_own(
    embeddings: Tensor, labels: npt.NDArray[np.int64], centres: Tensor
) -> npt.NDArray[np.float64]:
    """Degrees `(N, K)` of `embeddings (N, E)` to each sub-centre of their identity.

    `labels (N,)` count among `centres (identities, K, E)`; neither needs to have length 1.
    """
    own = unit(centres[torch.from_numpy(labels).to(centres.device)].double().flatten(0, 1))
    each = unit(embeddings.double()).repeat_interleave(centres.shape[1], dim=0)
    angles = torch.rad2deg(angle_between(each, own)).view(len(labels), -1)
    return np.asarray(angles.cpu().numpy())


def judge(
    angles: npt.NDArray[np.float64], labels: npt.NDArray[np.int64], *, identities: int
) -> LabelNoise:
    """Judge crops by their `angles (N, K)` to the sub-centres of their identity, `labels (N,)`.

    The dominant sub-centre is the nearest one of most crops of its identity, the first of equals.
    """
    nearest = angles.argmin(axis=1)
    votes = np.zeros((identities, angles.shape[1]), dtype=np.int64)
    np.add.at(votes, (labels, nearest), 1)
    dominant = votes.argmax(axis=1)
    own = dominant[labels]
    angle = np.take_along_axis(angles, own[:, None], axis=1)[:, 0]
    return LabelNoise(angle=angle, nearest_is_dominant=nearest == own, dominant=dominant)
