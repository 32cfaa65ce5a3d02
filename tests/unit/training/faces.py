"""Toy crops that a tiny network can tell apart, shared by the training tests."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from facewright.training import Trained, fit, is_main_process


class ToyCrops:
    """`people` colour patterns with noise, `photos` crops each, in memory."""

    def __init__(self, people: int = 4, photos: int = 9):
        random = np.random.default_rng(0)
        coarse = random.integers(0, 200, (people, 4, 4, 3))
        fine = coarse.repeat(28, axis=1).repeat(28, axis=2).repeat(photos, axis=0)
        noise = random.integers(0, 55, fine.shape)
        self.images = (fine + noise).astype(np.uint8)
        self.labels = np.arange(people).repeat(photos).astype(np.int64)
        self.identities = [f"person-{index}" for index in range(people)]
        self.ids = [f"person-{n // photos}/{n % photos:04d}" for n in range(people * photos)]

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, indices: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        return self.images[indices]


class Killed(BaseException):
    """A process killed in the middle of an epoch; nothing catches it."""


class RecordedCrops(ToyCrops):
    """Crops that note what is read, and kill the training in place of one batch more."""

    def __init__(self, people: int = 4, photos: int = 9, *, batches: int | None = None):
        super().__init__(people, photos)
        self.batches = batches
        self.read: list[list[int]] = []  # in order, as long as one thread reads

    def batch(self, indices: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        if len(self.read) == self.batches:
            raise Killed
        self.read.append(indices.tolist())
        return super().batch(indices)


TRIPLET = {"name": "triplet", "margin": 0.2}
MAGFACE = {"name": "magface", "scale": 16.0, "l_a": 2.0, "u_a": 9.0, "l_m": 0.4, "u_m": 0.8}
MAGFACE |= {"lambda_g": 1.0}
SPHEREFACE = {
    "name": "sphereface",
    "margin": 2,
    "lambda_base": 10.0,
    "lambda_gamma": 0.1,
    "lambda_power": 1.0,
    "lambda_min": 1.0,
}
SUBCENTRE = {"name": "subcentre", "scale": 16.0, "margin": 0.1, "sub_centres": 2}
ADAFACE = {"name": "adaface", "scale": 16.0, "margin": 0.2, "h": 0.333, "t_alpha": 0.3}

SETTINGS: dict[str, Any] = {
    "network": "resnet_tiny",
    "embedding_size": 8,
    "dropout": 0.2,
    "start": None,
    "frozen": False,
    "head": {"name": "cosface", "scale": 16.0, "margin": 0.1},
    "sampled_identities": 1.0,
    "label_smoothing": 0.1,
    "epochs": 2,
    "batch_size": 8,
    "passes": 1,
    "crops_per_identity": None,
    "optimizer": "sgd",
    "learning_rate": 0.05,
    "weight_decay": 5e-4,
    "warmup": 0.1,
    "schedule": {"name": "cosine"},
    "clip_norm": 5.0,
    "average": 0.0,
    "precision": "fp32",
    "compiled": False,
    "augmentation": {
        "flip": 0.5,
        "rotation": 10.0,
        "zoom": 0.08,
        "shift": 0.05,
        "brightness": 0.1,
        "contrast": 0.1,
        "saturation": 0.1,
        "erase": 0.2,
        "grey": 0.05,
        "lowres": 0.0,
        "noise": 0.0,
        "salt": 0.0,
        "jpeg": 0.0,
        "erase_area": [0.05, 0.2],
    },
    "validation_identities": 0,
    "seed": 1,
    "readers": 2,
    "resume": None,
    "checkpoints": 2,
    "checkpoint_every": 3,
    "checkpoint_dir": None,
    "checkpoint_key": "key",
    "report": lambda metrics, step: None,
}


def without_batchnorm(name: str, *, embedding_size: int, dropout: float) -> nn.Module:
    """A stand-in for `build_network`: each crop's embedding depends on that crop alone."""
    return nn.Sequential(
        nn.AvgPool2d(14),
        nn.Flatten(),
        nn.Linear(192, 32),
        nn.ReLU(),
        nn.Linear(32, embedding_size),
    )


def train_without_batchnorm(
    checkpoints: Path | None, crops: ToyCrops | None = None, **changed: Any
) -> dict[str, Any]:
    """One process's training, with `without_batchnorm` in place, and all that it saw of it."""
    reports: list[int] = []
    settings = SETTINGS | {
        "head": {"name": "subcentre", "scale": 16.0, "margin": 0.1, "sub_centres": 2},
        "epochs": 4,
        "checkpoint_dir": checkpoints,
        "report": lambda metrics, step: reports.append(step),
    }
    trained = fit(crops or ToyCrops(people=3, photos=9), **(settings | changed))
    weights = torch.cat([value.flatten() for value in trained.network.state_dict().values()])
    noise = trained.label_noise
    return {
        "losses": [row["train_loss"] for row in trained.history],
        "norms": [row["gradient_norm"] for row in trained.history],
        "weights": weights.tolist(),
        "angles": [] if noise is None else noise["angle"].sort_index().tolist(),  # to centres
        "reports": reports,
        "waited": trained.waited,
        "resumed": trained.resumed,
        "rates": [row.get("validation_true_match_rate") for row in trained.history],
        "chosen": trained.chosen_epoch,
        "main": is_main_process(),
    }


def train(crops: ToyCrops | None = None, **settings: Any) -> Trained:
    return fit(crops or ToyCrops(), **(SETTINGS | settings))


def same_weights(one: Trained, other: Trained) -> bool:
    first, second = one.network.state_dict(), other.network.state_dict()
    return all(torch.equal(first[key], second[key]) for key in first)


def losses(trained: Trained) -> list[float]:
    return [row["train_loss"] for row in trained.history]
