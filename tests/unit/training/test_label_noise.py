"""Label noise that was planted is found, and nothing else, by one process and by two."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from facewright.errors import TrainingError
from facewright.models.heads import build_head
from facewright.training import validation
from facewright.training.classifier import Classifier
from facewright.training.distributed import Processes, process_group
from facewright.training.label_noise import (
    LARGEST_ANGLE,
    angles_to_own,
    judge,
    label_noise_table,
)

from .processes import belongs, run_together

PEOPLE, SUB_CENTRES, SIZE = 5, 3, 32
ALONE = Processes(0, 1, torch.device("cpu"))
Floats = npt.NDArray[np.float64]


class Lookup(nn.Module):
    """An embedding per crop; the crop's number is its colour. `turned` is a running average."""

    def __init__(self, embeddings: Floats, turned: float = 1.0):
        super().__init__()
        self.embeddings = nn.Parameter(torch.from_numpy(embeddings).float())
        self.register_buffer("turned", torch.tensor(turned))

    def forward(self, images: Tensor) -> Tensor:
        assert not self.training
        numbers = ((images[:, 0, 0, 0] + 1) * 127.5).round().long()
        return self.turned * self.embeddings[numbers]


class Colours:
    def __init__(self, labels: npt.NDArray[np.int64]) -> None:
        self.labels = labels
        self.identities = [f"person-{n}" for n in range(PEOPLE)]
        self.ids = [f"crop-{n}" for n in range(len(labels))]
        self.read: list[int] = []

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, indices: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        self.read += indices.tolist()
        return np.tile(indices.astype(np.uint8)[:, None, None, None], (1, 112, 112, 3))


def at_angle(centre: Floats, degrees: float, generator: np.random.Generator) -> Floats:
    """A vector of some length at this angle to `centre`."""
    centre = centre / np.linalg.norm(centre)
    aside = generator.normal(size=SIZE)
    aside -= aside @ centre * centre
    aside /= np.linalg.norm(aside)
    angle = math.radians(degrees)
    length: float = generator.uniform(1, 20)
    return length * (math.cos(angle) * centre + math.sin(angle) * aside)


def planted() -> tuple[Floats, npt.NDArray[np.int64], Floats, npt.NDArray[np.str_], Floats]:
    """Embeddings, labels, weights; and the kind and angle of each crop.

    Sub-centres are orthogonal; the dominant one of identity i is i % 3. Per identity 12 crops are
    clean (10–65° off), 3 belong to the next sub-centre (80° off the dominant one), 2 are far
    from all (110–111°).
    """
    generator = np.random.default_rng(0)
    basis, _ = np.linalg.qr(generator.normal(size=(SIZE, SIZE)))
    rows_of_all = PEOPLE * SUB_CENTRES
    weight = basis[:rows_of_all] * generator.uniform(0.1, 3, (rows_of_all, 1))
    rows, labels, kinds, angles = [], [], [], []
    for identity in range(PEOPLE):
        main = weight[identity * SUB_CENTRES + identity % 3]
        other = weight[identity * SUB_CENTRES + (identity + 1) % 3]
        for number in range(17):
            if number < 12:
                kind, angle = "clean", 10.0 + 5 * number
                row = at_angle(main, angle, generator)
            elif number < 15:
                kind, angle = "other", 80.0
                unit = [v / np.linalg.norm(v) for v in (main, other)]
                row = math.cos(math.radians(80)) * unit[0] + math.sin(math.radians(80)) * unit[1]
            else:
                kind, angle = "far", 95.0 + number
                row = at_angle(main, angle, generator)
            rows.append(row)
            labels.append(identity)
            kinds.append(kind)
            angles.append(angle)
    order = generator.permutation(len(rows))
    return (
        np.array(rows)[order],
        np.array(labels)[order],
        weight,
        np.array(kinds)[order],
        np.array(angles)[order],
    )


def table_of(
    network: nn.Module, crops: Colours, weight: Floats, *, group: Processes = ALONE
) -> pd.DataFrame | None:
    """What is said after a training that ended with these centres."""
    classifier = Classifier(
        lambda identities: build_head(
            "subcentre",
            embedding_size=SIZE,
            identities=identities,
            label_smoothing=0.0,
            scale=16.0,
            margin=0.1,
            sub_centres=SUB_CENTRES,
        ),
        identities=PEOPLE,
        sampled=1.0,
        seed=1,
        group=group,
    )
    with torch.no_grad():
        classifier.head.weight.copy_(torch.from_numpy(weight)[classifier.rows])
    return label_noise_table(
        network, classifier, crops, precision=torch.float32, readers=2, group=group
    )


def test_planted_noise_stands_first_and_nothing_else_is_dropped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    embeddings, labels, weight, kinds, angles = planted()
    crops = Colours(labels)
    monkeypatch.setattr(validation, "BATCH", 7)  # the parts must not show
    table = table_of(Lookup(embeddings), crops, weight)
    assert table is not None
    assert list(table.columns) == ["id", "identity", "angle", "nearest_is_dominant", "dropped"]
    assert sorted(table["id"]) == sorted(crops.ids)
    assert table["angle"].is_monotonic_decreasing
    number = table["id"].str.removeprefix("crop-").astype(int).to_numpy()
    np.testing.assert_allclose(table["angle"], angles[number], atol=1e-3)
    assert table["identity"].tolist() == [f"person-{label}" for label in labels[number]]
    assert set(kinds[number][:10]) == {"far"}
    assert np.array_equal(table["dropped"], kinds[number] != "clean")
    assert np.array_equal(table["dropped"], angles[number] > LARGEST_ANGLE)
    assert not table["nearest_is_dominant"][kinds[number] == "other"].any()
    near = (kinds[number] == "clean") & (angles[number] <= 45)  # than any at a right angle
    assert table["nearest_is_dominant"][near].all()


def test_each_crop_against_a_slow_reference() -> None:
    generator = np.random.default_rng(1)
    centres = generator.normal(size=(4, 3, 5))
    embeddings, labels = generator.normal(size=(60, 5)), generator.integers(0, 4, 60)
    angles = angles_to_own(torch.from_numpy(embeddings), labels, torch.from_numpy(centres))
    found = judge(angles, labels, identities=4)
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    rows = centres / np.linalg.norm(centres, axis=2, keepdims=True)
    cosine = np.array([rows[k] @ x for x, k in zip(unit, labels, strict=True)])
    nearest = [int(np.argmax(row)) for row in cosine]
    for n, identity in enumerate(labels):
        votes = [nearest[i] for i in range(60) if labels[i] == identity]
        dominant = max(range(3), key=lambda k: (votes.count(k), -k))
        assert found.dominant[identity] == dominant
        assert found.angle[n] == pytest.approx(math.degrees(math.acos(cosine[n, dominant])))
        assert found.nearest_is_dominant[n] == (nearest[n] == dominant)


def test_identities_without_crops_do_no_harm() -> None:
    embeddings, labels, weight, *_ = planted()
    some = labels != 4
    table = table_of(Lookup(embeddings[some]), Colours(labels[some]), weight)
    assert table is not None
    assert set(table["identity"]) == {"person-0", "person-1", "person-2", "person-3"}
    assert len(judge(np.empty((0, 3)), labels[:0], identities=2).angle) == 0


def test_an_embedding_that_is_no_number_is_refused() -> None:
    embeddings, labels, weight, *_ = planted()
    embeddings[8, 3] = np.nan
    with pytest.raises(TrainingError, match="embedding of crop-8 is not finite"):
        table_of(Lookup(embeddings), Colours(labels), weight)


# --- two processes -------------------------------------------------------------------------------


def work(folder: str) -> None:
    torch.set_num_threads(1)
    belongs(group=0, processes=2)
    embeddings, labels, weight, *_ = planted()
    crops = Colours(labels)
    with process_group() as group:
        # The second process's running averages are its own, and not those of the result.
        network = Lookup(embeddings, turned=1.0 - 2 * group.rank)
        seen: dict[str, Any] = {"table": table_of(network, crops, weight, group=group)}
        seen["read"] = list(crops.read)
        embeddings[3, 0] = np.nan
        try:
            table_of(Lookup(embeddings), crops, weight, group=group)
        except TrainingError as error:
            seen["error"] = str(error)
        pd.to_pickle(seen, Path(folder, f"{group.rank}.pkl"))


def test_two_processes_say_what_one_does_and_share_the_work(tmp_path: Path) -> None:
    run_together(work, str(tmp_path), processes=2, groups=1)
    first, second = (pd.read_pickle(tmp_path / f"{rank}.pkl") for rank in range(2))
    embeddings, labels, weight, *_ = planted()
    table = table_of(Lookup(embeddings), Colours(labels), weight)
    assert table is not None
    pd.testing.assert_frame_equal(first["table"], table)
    assert second["table"] is None
    assert sorted(first["read"]) == np.flatnonzero(labels < 2).tolist()
    assert sorted(second["read"]) == np.flatnonzero(labels >= 2).tolist()
    # Whoever has the crop, all stop.
    assert first["error"] == second["error"]
    assert "crop-3 is not finite" in first["error"]
