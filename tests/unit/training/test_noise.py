"""Wrong labels that were planted among embeddings made up for it stand first in the table."""

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

from facewright.errors import TrainingError
from facewright.training import Trained
from facewright.training.noise import LARGEST_ANGLE, label_noise_table

PEOPLE, EACH, SUB_CENTRES, SIZE = 4, 8, 2, 10
STRAYS = {2: 90.0, 13: 80.0, 30: 120.0}  # crops, and their degrees to where they should be
FRINGE = {5: 74.0}  # far, but within the bound


class Lookup(nn.Module):
    """An embedding per crop; the crop's number is its colour."""

    def __init__(self, embeddings: Tensor):
        super().__init__()
        self.register_buffer("embeddings", embeddings)

    def forward(self, images: Tensor) -> Tensor:
        numbers = ((images[:, 0, 0, 0] + 1) * 127.5).round().long()
        return self.embeddings[numbers]


class Colours:
    def __init__(self) -> None:
        self.labels = np.arange(PEOPLE).repeat(EACH)
        self.identities = ["ann", "bob", "cid", "dan"]
        self.ids = [f"crop-{n}" for n in range(len(self.labels))]

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, indices: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        return np.tile(indices.astype(np.uint8)[:, None, None, None], (1, 112, 112, 3))


def planted() -> tuple[Trained, list[float]]:
    """A training that ended so, and each crop's degrees to its identity's main sub-centre.

    Sub-centres are axes; the main one of odd identities is the second. Every crop lies in the
    plane of it and of an axis that is nobody's, and has a length of its own.
    """
    crops = Colours()
    random = np.random.default_rng(0)
    axes = np.eye(SIZE)
    degrees = random.uniform(5, 40, len(crops))
    for number, angle in (STRAYS | FRINGE).items():
        degrees[number] = angle
    radians = np.radians(degrees)[:, None]
    main = SUB_CENTRES * crops.labels + crops.labels % 2
    rows = np.cos(radians) * axes[main] + np.sin(radians) * axes[-1]
    rows *= random.uniform(0.5, 20, (len(crops), 1))
    trained = Trained(
        network=Lookup(torch.from_numpy(rows).float()),
        crops=crops,
        history=[],
        seconds=1.0,
        images_per_second=1.0,
        waited=0.0,
        centres=torch.from_numpy(3 * axes[: PEOPLE * SUB_CENTRES]).float(),
    )
    return trained, degrees.tolist()


def test_planted_strays_stand_first_and_only_they_are_dropped() -> None:
    trained, degrees = planted()
    table = label_noise_table(trained, sub_centres=SUB_CENTRES)
    assert list(table.columns) == ["id", "identity", "angle", "nearest_is_dominant", "dropped"]
    assert len(table) == len(trained.crops)
    assert table["id"].tolist()[:4] == ["crop-30", "crop-2", "crop-13", "crop-5"]
    assert set(table[table["dropped"]]["id"]) == {f"crop-{number}" for number in STRAYS}
    assert table["angle"].is_monotonic_decreasing
    for _, row in table.iterrows():
        number = int(row["id"].partition("-")[2])
        assert row["identity"] == trained.crops.identities[number // EACH]
        assert row["angle"] == pytest.approx(degrees[number], abs=1e-3)
        assert row["dropped"] == (degrees[number] > LARGEST_ANGLE)
        # Beyond a right angle the other sub-centre, at 90°, is nearer.
        if degrees[number] != 90:
            assert row["nearest_is_dominant"] == (degrees[number] < 90)


def test_a_head_without_centres_says_nothing_of_labels() -> None:
    trained, _ = planted()
    bare = Trained(
        network=trained.network,
        crops=trained.crops,
        history=[],
        seconds=1.0,
        images_per_second=1.0,
        waited=0.0,
    )
    with pytest.raises(TrainingError, match="no sub-centres"):
        label_noise_table(bare, sub_centres=SUB_CENTRES)


def test_centres_of_another_number_of_sub_centres_are_refused() -> None:
    trained, _ = planted()
    with pytest.raises(TrainingError, match="do not fit"):
        label_noise_table(trained, sub_centres=3)
