"""The loop: it learns, repeats itself, and stops when numbers go bad."""

import json
import math
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from facewright.errors import TrainingError
from facewright.models import build_network
from facewright.models.heads import HEADS
from facewright.training import Trained, learner
from facewright.training.augmentation import NAMES
from facewright.training.checkpoint import last_checkpoint
from facewright.training.learner import embedding_layers

from ..models.papers import OPTIONS
from .faces import (
    ADAFACE,
    MAGFACE,
    SETTINGS,
    SPHEREFACE,
    SUBCENTRE,
    TRIPLET,
    ToyCrops,
    losses,
    same_weights,
    train,
    train_without_batchnorm,
    without_batchnorm,
)


def apart(trained: Trained) -> float:
    """By how much crops of one person are more alike than others, as cosines."""
    crops = ToyCrops()
    images = torch.from_numpy(crops.images).permute(0, 3, 1, 2) / 127.5 - 1
    with torch.no_grad():
        embeddings = torch.nn.functional.normalize(trained.network(images))
    similarity = embeddings @ embeddings.T
    own = torch.from_numpy(crops.labels[:, None] == crops.labels)
    return float(similarity[own].mean() - similarity[~own].mean())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_training_learns_to_tell_people_apart(precision: str) -> None:
    off = SETTINGS["augmentation"] | dict.fromkeys(NAMES, 0.0)
    trained = train(epochs=6, precision=precision, augmentation=off, dropout=0.0)
    assert losses(trained)[-1] < 0.6 * losses(trained)[0]
    assert apart(trained) > 0.3


def test_same_seed_same_weights_and_another_seed_others() -> None:
    one = train()
    torch.manual_seed(99)  # the caller's generator must not matter, nor be touched
    before = torch.random.get_rng_state()
    on_gpu = torch.cuda.get_rng_state() if torch.cuda.is_available() else None
    assert same_weights(one, train())
    assert torch.equal(before, torch.random.get_rng_state())
    if on_gpu is not None:
        assert torch.equal(on_gpu, torch.cuda.get_rng_state())
    assert not same_weights(one, train(seed=2))


def test_reports_come_at_the_end_of_every_epoch_with_all_metrics() -> None:
    reports: list[tuple[dict[str, float], int]] = []
    trained = train(report=lambda metrics, step: reports.append((metrics, step)))
    assert [step for _, step in reports] == [5, 10]
    for metrics, _ in reports:
        assert set(metrics) == {
            "train_loss",
            "learning_rate",
            "images_per_second",
            "data_wait",
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
        ({"head": {"name": "sphere"}}, "unknown head"),
        ({"head": {"name": "cosface", "scale": 16.0}}, "margin is missing"),
        ({"schedule": {"name": "linear"}}, "unknown schedule"),
        ({"optimizer": "lion"}, "unknown optimizer"),
        ({"frozen": True}, "frozen is True: without a start"),
        ({"head": TRIPLET, "label_smoothing": 0.0}, "crops_per_identity is None: head triplet"),
        (
            {"head": TRIPLET, "label_smoothing": 0.0, "crops_per_identity": 1},
            "crops_per_identity is 1: head triplet",
        ),
        (
            {"head": TRIPLET, "label_smoothing": 0.0, "crops_per_identity": 4, "passes": 2},
            "crops_per_identity is 4: head triplet .* batch_size 8 .* raise it to 16",
        ),
        ({"crops_per_identity": 4, "batch_size": 10}, "is 4: batch_size 10 is no multiple"),
        ({"head": TRIPLET, "crops_per_identity": 4}, r"label_smoothing is 0\.1: .* no classes"),
        ({"head": MAGFACE | {"u_a": 2.0}}, r"u_a is 2\.0: must be above l_a, 2\.0"),
        ({"head": MAGFACE | {"l_m": 0.9}}, r"u_m is 0\.8: must not be below l_m, 0\.9"),
    ],
)
def test_unknown_names_and_settings_that_teach_nothing_are_refused(
    settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(TrainingError, match=message):
        train(**settings)


def test_one_identity_is_refused() -> None:
    with pytest.raises(TrainingError, match="hold 1 identity"):
        train(ToyCrops(people=1))


def test_one_crop_of_each_person_can_be_trained_on(capsys: pytest.CaptureFixture[str]) -> None:
    trained = train(ToyCrops(people=12, photos=1), epochs=6, learning_rate=0.02)
    assert losses(trained)[-1] < losses(trained)[0]
    assert "no identity has two crops" in capsys.readouterr().err


def test_a_batch_larger_than_the_set_is_one_step(capsys: pytest.CaptureFixture[str]) -> None:
    assert [row["step"] for row in train(batch_size=1000).history] == [1, 2]
    assert "36 crops are fewer than batch_size 1000" in capsys.readouterr().err


@pytest.mark.parametrize("head", [SUBCENTRE, SPHEREFACE, ADAFACE], ids=lambda head: head["name"])
def test_a_step_in_passes_learns_what_a_whole_one_does(
    monkeypatch: pytest.MonkeyPatch, head: dict[str, Any]
) -> None:
    """Without BatchNorm, whose statistics are those of a pass."""
    monkeypatch.setattr(learner, "build_network", without_batchnorm)
    one, three = (
        train_without_batchnorm(None, head=head, learning_rate=0.01, passes=passes)
        for passes in (1, 3)
    )
    assert len(one["angles"]) == (27 if head is SUBCENTRE else 0)
    for key in ("losses", "norms", "weights", "angles"):
        assert three[key] == pytest.approx(one[key], rel=1e-4, abs=1e-6)


@pytest.mark.parametrize(
    "head",
    [
        {"name": "softmax"},
        TRIPLET,
        SUBCENTRE,
        ADAFACE,
    ],
    ids=lambda head: head["name"],
)
def test_other_heads_learn_too(head: dict[str, Any]) -> None:
    off = SETTINGS["augmentation"] | dict.fromkeys(NAMES, 0.0)
    several = 4 if head["name"] == "triplet" else None
    trained = train(
        head=head,
        epochs=6,
        label_smoothing=0.0,
        augmentation=off,
        dropout=0.0,
        crops_per_identity=several,
    )
    if head["name"] == "triplet":  # its loss is a mean over triplets that are not solved yet
        assert apart(trained) > 0.3
    else:
        assert losses(trained)[-1] < 0.6 * losses(trained)[0]
    if head["name"] == "subcentre":
        assert trained.label_noise is not None
        assert sorted(trained.label_noise["id"]) == ToyCrops().ids
    else:
        assert trained.label_noise is None


def test_a_frozen_body_stays_and_the_embedding_learns() -> None:
    start = train(epochs=1).network.state_dict()
    tuned = train(start=start, frozen=True, seed=5).network
    named = {id(p): name for name, p in tuned.named_parameters()}
    learns = {named[id(p)] for layer in embedding_layers(tuned) for p in layer.parameters()}
    assert learns == {"embedding.weight", "normalize.weight", "normalize.bias"}
    for name, value in tuned.state_dict().items():
        same = torch.equal(value, start[name])
        assert same == (not name.startswith(("embedding.", "normalize."))), name


def test_dropout_acts_on_features_that_are_frozen() -> None:
    start = train(epochs=1).network.state_dict()
    settings: dict[str, Any] = {"start": start, "frozen": True, "epochs": 1}
    assert not same_weights(train(dropout=0.0, **settings), train(dropout=0.5, **settings))


def test_a_start_of_another_network_is_refused() -> None:
    start = train(epochs=1).network.state_dict()
    with pytest.raises(TrainingError, match="no resnet_tiny with embeddings of 16 values") as one:
        train(start=start, embedding_size=16)
    assert len(str(one.value)) < 200  # without the names of all weights


def test_the_best_epoch_on_people_held_out_is_taken() -> None:
    crops = ToyCrops(people=6)
    trained = train(crops, validation_identities=2, epochs=3)
    rates = {
        int(row["epoch"]): row["validation_true_match_rate"]
        for row in trained.history
        if "validation_true_match_rate" in row
    }
    assert sorted(rates) == [1, 2, 3]
    assert trained.chosen_epoch == max(rates, key=lambda epoch: (rates[epoch], epoch))
    assert len(trained.crops.identities) == 4
    assert not {one.rpartition("/")[0] for one in trained.crops.ids} - set(trained.crops.identities)
    assert len(trained.crops) == 36


def test_a_compiled_network_learns_what_the_plain_one_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By the tracer alone: a compiler would take minutes. Steps are of seven crops and of six."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    monkeypatch.setattr(learner, "build_network", without_batchnorm)
    plain, compiled = (
        train_without_batchnorm(None, compiled=each, passes=2, validation_identities=0)
        for each in (False, True)
    )
    for key in ("losses", "norms", "weights", "angles"):
        assert compiled[key] == pytest.approx(plain[key], rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("name", HEADS)
def test_weights_that_are_no_numbers_stop_it_and_the_crops_are_saved(
    tmp_path: Path, name: str
) -> None:
    torch.manual_seed(0)
    start = build_network("resnet_tiny", embedding_size=8).state_dict()
    start["stem.0.weight"][0, 0, 0, 0] = float("nan")
    settings: dict[str, Any] = {
        "head": {"name": name, **(OPTIONS | {"triplet": {"margin": 0.2}})[name]}
    }
    if name == "triplet":
        settings |= {"label_smoothing": 0.0, "crops_per_identity": 4}
    with pytest.raises(TrainingError, match=r"unstable at step 1: .*not-finite\.json") as caught:
        train(start=start, checkpoint_dir=tmp_path, **settings)
    assert "\n" not in str(caught.value)
    saved = json.loads((tmp_path / "not-finite.json").read_text())
    assert saved["step"] == 1
    assert len(saved["crops"]) == 8
    assert set(saved["crops"]) <= set(ToyCrops().ids)


def test_fp16_leaves_out_steps_that_overflow_and_halves_its_scale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A scale of 2^40 overflows fp16's 65,504 until it is halved often enough."""
    monkeypatch.setattr(learner, "build_network", without_batchnorm)
    monkeypatch.setattr(learner, "FIRST_LOSS_SCALE", 2.0**40)
    half = train_without_batchnorm(tmp_path, precision="fp16", epochs=12, checkpoint_every=48)
    saved = last_checkpoint(tmp_path, key="key")
    assert saved is not None
    assert 1 < saved.state()["loss_scale"] < 2.0**40
    # The first steps are left out; with as many again it is where fp32 is.
    full = train_without_batchnorm(None, epochs=4)
    assert half["losses"][-1] < full["losses"][-1]


def test_fp16_learns_what_fp32_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gradients are scaled back before they are clipped, and so is the length that is told."""
    monkeypatch.setattr(learner, "build_network", without_batchnorm)
    monkeypatch.setattr(learner, "FIRST_LOSS_SCALE", 2.0**10)
    for clip_norm in (0.5, 1000.0):
        half, full = (
            train_without_batchnorm(None, precision=kind, epochs=1, clip_norm=clip_norm)
            for kind in ("fp16", "fp32")
        )
        for key in ("losses", "norms"):
            assert half[key] == pytest.approx(full[key], rel=0.02)
        assert half["weights"] == pytest.approx(full["weights"], rel=0.02, abs=0.002)


def test_fp16_doubles_its_scale_where_nothing_overflows_and_gives_up_where_all_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learner, "build_network", without_batchnorm)
    monkeypatch.setattr(learner, "FIRST_LOSS_SCALE", 4.0)
    monkeypatch.setattr(learner, "DOUBLE_AFTER", 2)
    train_without_batchnorm(tmp_path, precision="fp16", epochs=1, checkpoint_every=4)
    saved = last_checkpoint(tmp_path, key="key")
    assert saved is not None
    assert saved.state()["loss_scale"] == 16.0

    monkeypatch.setattr(learner.Learner, "clip", lambda *unused: torch.tensor(math.inf))
    with pytest.raises(TrainingError, match=r"unstable at step 4: .*gradient norm inf"):
        train_without_batchnorm(None, precision="fp16")  # 4, 2, 1, 1/2: below 1 is no scale


def test_weights_that_an_update_made_infinite_are_no_result(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def last_step(self: torch.optim.Optimizer, *unused: object) -> None:
        for group in self.param_groups:
            group["params"][0].data.fill_(math.inf)

    monkeypatch.setattr(torch.optim.SGD, "step", last_step)
    with pytest.raises(TrainingError, match="ended with weights that are not finite"):
        train(epochs=1, batch_size=len(ToyCrops()))
