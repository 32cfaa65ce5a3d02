"""The loop: it learns, repeats itself, goes on after a crash, and stops when numbers go bad."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from facewright.errors import TrainingError
from facewright.training import Trained, fit

from .faces import SETTINGS, ToyCrops


def train(crops: ToyCrops | None = None, **settings: Any) -> Trained:
    return fit(crops or ToyCrops(), **(SETTINGS | settings))


def same_weights(one: Trained, other: Trained) -> bool:
    first, second = one.network.state_dict(), other.network.state_dict()
    return all(torch.equal(first[key], second[key]) for key in first)


def losses(trained: Trained) -> list[float]:
    return [row["train_loss"] for row in trained.history]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_training_learns_to_tell_people_apart(precision: str) -> None:
    off = dict.fromkeys(SETTINGS["augmentation"], 0.0)
    crops = ToyCrops()
    trained = train(crops, epochs=6, precision=precision, augmentation=off, dropout=0.0)
    assert losses(trained)[-1] < 0.6 * losses(trained)[0]
    images = torch.from_numpy(crops.images).permute(0, 3, 1, 2) / 127.5 - 1
    with torch.no_grad():
        embeddings = torch.nn.functional.normalize(trained.network(images))
    similarity = embeddings @ embeddings.T
    own = torch.from_numpy(crops.labels[:, None] == crops.labels)
    assert similarity[own].mean() > similarity[~own].mean() + 0.3


def test_same_seed_same_weights_and_another_seed_others() -> None:
    one = train()
    torch.manual_seed(99)  # the caller's generator must not matter, nor be touched
    before = torch.random.get_rng_state()
    assert same_weights(one, train())
    assert torch.equal(before, torch.random.get_rng_state())
    assert not same_weights(one, train(seed=2))


class Killed(BaseException):
    """A process killed in the middle of an epoch; nothing catches it."""


class KilledCrops(ToyCrops):
    """Crops that kill the training at the n-th batch."""

    left = 8

    def batch(self, indices: Any) -> Any:
        self.left -= 1
        if self.left < 0:
            raise Killed
        return super().batch(indices)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_killed_training_goes_on_to_the_very_same_weights(
    tmp_path: Path, optimizer: str, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {"optimizer": optimizer, "learning_rate": 0.01, "checkpoint_every": 3}
    reports: dict[str, list[tuple[int, float]]] = {"whole": [], "resumed": []}

    def collect(name: str) -> Any:
        return lambda metrics, step: reports[name].append((step, metrics["train_loss"]))

    whole = train(report=collect("whole"), **settings)
    with pytest.raises(Killed):
        train(KilledCrops(), checkpoint_dir=tmp_path, **settings)
    assert list(tmp_path.iterdir())
    resumed = train(checkpoint_dir=tmp_path, report=collect("resumed"), **settings)
    said = capsys.readouterr().err
    assert "going on after step 6 of 10" in said or "going on after step 3 of 10" in said
    assert same_weights(whole, resumed)
    assert losses(whole) == losses(resumed)
    assert [row["step"] for row in resumed.history] == [5, 10]
    # What was reported before the kill is reported again, since the run that heard it is gone.
    assert reports["resumed"] == reports["whole"]
    assert [step for step, _ in reports["whole"]] == [5, 10]


def test_a_finished_training_is_not_done_again(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"checkpoint_every": 5, "checkpoint_dir": tmp_path}
    whole = train(**settings)
    crops = KilledCrops()
    crops.left = 0
    again = train(crops, **settings)
    assert same_weights(whole, again)
    assert again.images_per_second > 0


def test_another_keys_checkpoint_does_not_leak_in(tmp_path: Path) -> None:
    train(checkpoint_dir=tmp_path, checkpoint_key="other", seed=3)
    assert same_weights(train(), train(checkpoint_dir=tmp_path))


def test_reports_come_at_the_end_of_every_epoch_with_all_metrics() -> None:
    reports: list[tuple[dict[str, float], int]] = []
    trained = train(report=lambda metrics, step: reports.append((metrics, step)))
    assert [step for _, step in reports] == [5, 10]
    for metrics, _ in reports:
        assert set(metrics) == {
            "train_loss",
            "learning_rate",
            "images_per_second",
            "gradient_norm",
        }
        assert all(math.isfinite(value) and value >= 0 for value in metrics.values())
    assert [row["epoch"] for row in trained.history] == [1, 2]
    assert trained.seconds > 0
    assert trained.images_per_second == pytest.approx(72 / trained.seconds)


def test_the_network_comes_back_ready_to_use() -> None:
    network = train(epochs=1).network
    assert not network.training
    assert all(parameter.grad is None for parameter in network.parameters())
    assert all(value.is_contiguous() for value in network.state_dict().values())


def test_a_loss_that_is_no_number_stops_with_step_and_crops() -> None:
    with pytest.raises(
        TrainingError, match=r"unstable at step \d+: loss .*crops person-\d/0.* and 4 more"
    ) as caught:
        train(batch_size=12, learning_rate=1e30, clip_norm=1e30)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"network": "resnet"}, "unknown network"),
        ({"head": "sphere"}, "unknown head"),
        ({"optimizer": "lion"}, "unknown optimizer"),
    ],
)
def test_unknown_names_are_refused(settings: dict[str, str], message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        train(**settings)


def test_one_identity_is_refused() -> None:
    with pytest.raises(TrainingError, match="hold 1 identity"):
        train(ToyCrops(people=1))
