"""A teacher that has learned a little, on crops that are drawn, not photographed."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn

from facewright.compression.onnx_export import export_onnx
from facewright.models.weights import save_network
from facewright.training import fit
from facewright.training.augmentation import NAMES

EMBEDDING = 32
STILL = dict.fromkeys(NAMES, 0.0)


@dataclass(frozen=True)
class Drawn:
    """Crops as the training room takes them: one smooth pattern per identity, with variations."""

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]

    @property
    def identities(self) -> list[str]:
        return [f"identity {label}" for label in np.unique(self.labels)]

    @property
    def ids(self) -> list[str]:
        return [f"{label}/{row}" for row, label in enumerate(self.labels)]

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, indices: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        return self.images[indices]


@pytest.fixture(scope="session")
def crops() -> Drawn:
    draw = np.random.default_rng(0)
    faces = draw.uniform(40, 215, (12, 1, 7, 7, 3))
    photos = faces + draw.normal(0, 20, (12, 6, 7, 7, 3)) + draw.normal(0, 15, (12, 6, 1, 1, 1))
    images = photos.clip(0, 255).astype(np.uint8).reshape(-1, 7, 7, 3)
    return Drawn(images.repeat(16, axis=1).repeat(16, axis=2), np.repeat(np.arange(12), 6))


@pytest.fixture(scope="session")
def teacher(crops: Drawn) -> nn.Module:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        trained = fit(
            crops,
            network="resnet_tiny",
            embedding_size=EMBEDDING,
            dropout=0.0,
            start=None,
            frozen=False,
            head={"name": "cosface", "scale": 16.0, "margin": 0.1},
            sampled_identities=1.0,
            label_smoothing=0.0,
            epochs=12,
            batch_size=24,
            passes=1,
            crops_per_identity=None,
            optimizer="sgd",
            learning_rate=0.05,
            weight_decay=0.0005,
            warmup=0.1,
            schedule={"name": "cosine"},
            clip_norm=5.0,
            average=0.0,
            precision="bf16",
            compiled=False,
            augmentation=STILL,
            validation_identities=0,
            seed=0,
            readers=2,
            resume=None,
            checkpoints=2,
            checkpoint_every=1000,
            checkpoint_dir=None,
            checkpoint_key="",
            report=lambda metrics, step: None,
        )
    finally:
        torch.set_num_threads(threads)
    assert trained.history[-1]["train_loss"] < trained.history[0]["train_loss"] / 2
    return trained.network


@pytest.fixture(scope="session")
def torch_folder(teacher: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("torch") / "student"
    save_network(
        folder,
        teacher,
        name="student",
        network="resnet_tiny",
        embedding_size=EMBEDDING,
        data_digest="d" * 64,
        code_digest="c" * 64,
    )
    return folder


@pytest.fixture(scope="session")
def fp32(teacher: nn.Module, torch_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from facewright.models.recognizer import read_card

    folder = tmp_path_factory.mktemp("onnx") / "student"
    export_onnx(teacher, folder, source=read_card(torch_folder))
    return folder
