"""Going on: after a kill, from a named checkpoint, with other parameters, with an average."""

import errno
import hashlib
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from facewright.errors import StorageError, TrainingError
from facewright.models import build_network
from facewright.training import Trained, learner
from facewright.training.checkpoint import Checkpoint, last_checkpoint

from .faces import (
    SPHEREFACE,
    SUBCENTRE,
    Killed,
    RecordedCrops,
    ToyCrops,
    losses,
    same_weights,
    train,
    train_without_batchnorm,
    without_batchnorm,
)


@pytest.mark.parametrize(
    "settings",
    [
        {"optimizer": "sgd"},
        {"optimizer": "adamw"},
        {"head": SPHEREFACE, "average": 0.9},  # the head counts steps, the average has weights
        {"sampled_identities": 0.5},
        {"sampled_identities": 0.5, "optimizer": "adamw", "passes": 2},
        {"crops_per_identity": 2, "validation_identities": 2},
    ],
    ids=["sgd", "adamw", "counts and averages", "sampled", "sampled adamw", "validation"],
)
def test_a_killed_training_goes_on_to_the_very_same_weights(
    tmp_path: Path, settings: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {"learning_rate": 0.01, "checkpoint_every": 3, **settings}
    if "validation_identities" in settings:
        settings["batch_size"] = 4  # as many steps with fewer crops
    reports: dict[str, list[tuple[int, float]]] = {"whole": [], "resumed": []}

    def collect(name: str) -> Any:
        return lambda metrics, step: reports[name].append((step, metrics["train_loss"]))

    whole = train(report=collect("whole"), **settings)
    with pytest.raises(Killed):
        train(RecordedCrops(batches=8), checkpoint_dir=tmp_path, **settings)
    assert list(tmp_path.iterdir())
    resumed = train(checkpoint_dir=tmp_path, report=collect("resumed"), **settings)
    said = capsys.readouterr().err
    assert "going on after step 6 of 10" in said or "going on after step 3 of 10" in said
    assert same_weights(whole, resumed)
    assert losses(whole) == losses(resumed)
    assert [row["step"] for row in resumed.history] == [5, 10]
    assert whole.resumed == []
    assert resumed.resumed in ([3], [6])
    # What was reported before the kill is reported again, since the run that heard it is gone.
    assert reports["resumed"] == reports["whole"]
    assert [step for step, _ in reports["whole"]] == [5, 10]


def test_a_finished_training_is_not_done_again(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"checkpoint_every": 5, "checkpoint_dir": tmp_path}
    whole = train(**settings)
    again = train(RecordedCrops(batches=0), **settings)
    assert same_weights(whole, again)
    assert again.images_per_second > 0


def test_another_keys_checkpoint_does_not_leak_in(tmp_path: Path) -> None:
    train(checkpoint_dir=tmp_path, checkpoint_key="other", seed=3)
    assert same_weights(train(), train(checkpoint_dir=tmp_path))


def weights_of_every_step(folder: Path) -> list[dict[str, torch.Tensor]]:
    return [Checkpoint(path, 0, ()).state()["network"] for path in sorted(folder.glob("step-*"))]


def check_average(trained: Trained, states: list[dict[str, torch.Tensor]], decay: float) -> None:
    """Against TensorFlow's formula, weight by weight."""
    for name, value in trained.network.state_dict().items():
        if value.is_floating_point():
            expected = states[0][name].double()
            for n, state in enumerate(states[1:], start=1):
                share = min(decay, (1 + n) / (10 + n))
                expected = share * expected + (1 - share) * state[name]
            torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("decay", [0.2, 0.999])  # shares of 2/11, 0.2, 0.2 and 2/11, 3/12, 4/13
def test_the_average_of_the_weights_is_the_result(tmp_path: Path, decay: float) -> None:
    settings: dict[str, Any] = {"batch_size": 36, "epochs": 4, "checkpoint_every": 1}
    averaged = train(average=decay, checkpoint_dir=tmp_path, checkpoints=4, **settings)
    states = weights_of_every_step(tmp_path)
    assert len(states) == 4
    check_average(averaged, states, decay)
    assert not same_weights(averaged, train(**settings))


def test_a_named_checkpoint_that_is_not_there_is_never_a_start_from_nothing(
    tmp_path: Path,
) -> None:
    with pytest.raises(TrainingError, match="no checkpoint"):
        train(resume=tmp_path / "step-00000005-key.checkpoint")


def test_a_named_checkpoint_goes_on_with_other_parameters_but_no_other_network_or_people(
    tmp_path: Path,
) -> None:
    train(checkpoint_dir=tmp_path, checkpoint_every=5)
    path = tmp_path / "step-00000005-key.checkpoint"
    longer = train(resume=path, epochs=3, learning_rate=0.01)
    assert longer.resumed == [5]
    assert longer.checkpoints == [
        hashlib.sha256((path / "checkpoint.json").read_bytes()).hexdigest()
    ]
    assert [row["step"] for row in longer.history] == [5, 10, 15]
    with pytest.raises(TrainingError, match="whose network is 'resnet_tiny', not 'resnet_small'"):
        train(resume=path, network="resnet_small")
    with pytest.raises(TrainingError, match="whose head is 'cosface', not 'softmax'"):
        train(resume=path, head={"name": "softmax"})
    with pytest.raises(TrainingError, match="whose identities is 4, not 5"):
        train(ToyCrops(people=5), resume=path)
    with pytest.raises(TrainingError, match="whose optimizer is 'sgd', not 'adamw'"):
        train(resume=path, optimizer="adamw")
    with pytest.raises(TrainingError, match=r"of step 10 and this training ends with 5"):
        train(resume=tmp_path / "step-00000010-key.checkpoint", epochs=1)
    # A step is so many crops, and an epoch so many steps: with others its number says nothing.
    with pytest.raises(TrainingError, match="whose batch size is 8, not 4"):
        train(resume=path, batch_size=4)
    with pytest.raises(TrainingError, match="whose crops is 36, not 32"):
        train(ToyCrops(photos=8), resume=path)
    # As many crops of the same people, in another order, under other names or labels; another
    # shuffle: what was seen of an epoch would be something else.
    shuffled, renamed, swapped = ToyCrops(), ToyCrops(), ToyCrops()
    shuffled.ids = shuffled.ids[::-1]
    renamed.ids = [f"new/{one}" for one in renamed.ids]
    swapped.labels = np.roll(swapped.labels, 1)
    for others in (shuffled, renamed, swapped):
        with pytest.raises(TrainingError, match="whose crops digest is '"):
            train(others, resume=path)
    with pytest.raises(TrainingError, match="whose seed is 1, not 2"):
        train(resume=path, seed=2)


def test_an_average_that_is_switched_on_begins_with_the_weights_that_it_finds(
    tmp_path: Path,
) -> None:
    plain = train(checkpoint_dir=tmp_path, checkpoint_every=5)
    end = tmp_path / "step-00000010-key.checkpoint"
    assert same_weights(train(resume=end, average=0.5), plain)
    settings: dict[str, Any] = {"checkpoint_every": 1, "checkpoints": 9, "average": 0.5}
    own = tmp_path / "own"
    middle = tmp_path / "step-00000005-key.checkpoint"
    averaged = train(resume=middle, checkpoint_dir=own, **settings)
    states = [Checkpoint(middle, 0, ()).state()["network"], *weights_of_every_step(own)]
    assert len(states) == 6
    check_average(averaged, states, 0.5)


def test_a_named_checkpoint_is_looked_at_and_gives_way_to_the_own_last(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(checkpoint_dir=tmp_path / "first", checkpoint_every=5)
    path = tmp_path / "first" / "step-00000005-key.checkpoint"
    settings: dict[str, Any] = {"checkpoint_dir": tmp_path / "own", "checkpoint_key": "own"}
    settings |= {"epochs": 3, "checkpoint_every": 11, "resume": path}
    train(**settings)
    again = train(**settings)
    assert again.resumed == [5, 11]
    assert len(set(again.checkpoints)) == 2
    assert "goes on from its own last" in capsys.readouterr().err
    shutil.rmtree(path)
    with pytest.raises(TrainingError, match="no checkpoint"):
        train(**settings)


def test_a_named_checkpoint_of_other_sub_centres_is_refused(tmp_path: Path) -> None:
    train(head=SUBCENTRE, epochs=1, checkpoint_dir=tmp_path, checkpoint_every=5)
    path = tmp_path / "step-00000005-key.checkpoint"
    with pytest.raises(TrainingError, match="whose sub centres is 2, not 3"):
        train(head=SUBCENTRE | {"sub_centres": 3}, resume=path)


@pytest.mark.parametrize("where", ["write", "fsync"])
def test_a_disk_that_fills_up_is_one_line_and_the_training_goes_on_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """Some file systems refuse to take the bytes, others to bring them to the disk."""
    if where == "write" and not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    whole = train()
    opened, synced, calls = Path.open, os.fsync, []

    def open_full(path: Path, *mode: Any, **options: Any) -> Any:
        full = path.name == "state.pt" and path.parent.name.startswith(".step-00000006")
        return opened(Path("/dev/full") if full else path, *mode, **options)

    def sync_full(handle: int) -> None:
        calls.append(handle)
        if len(calls) > 6:  # a checkpoint takes five
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        synced(handle)

    if where == "write":
        monkeypatch.setattr(Path, "open", open_full)
    else:
        monkeypatch.setattr(os, "fsync", sync_full)
    with pytest.raises(StorageError, match=r"the disk is full while writing .*step-00000006"):
        train(checkpoint_dir=tmp_path)
    monkeypatch.undo()
    found = last_checkpoint(tmp_path, key="key")
    assert found is not None
    assert found.step == 3
    resumed = train(checkpoint_dir=tmp_path)
    assert resumed.resumed == [3]
    assert same_weights(whole, resumed)
    assert not list(tmp_path.glob(".*"))


def test_fp16_goes_on_from_a_checkpoint_of_bf16_with_a_scale_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learner, "build_network", without_batchnorm)
    monkeypatch.setattr(learner, "FIRST_LOSS_SCALE", 2.0**10)
    settings: dict[str, Any] = {"epochs": 2, "checkpoint_every": 4}
    train_without_batchnorm(tmp_path / "bf16", precision="bf16", **settings)
    path = next((tmp_path / "bf16").glob("step-00000004-*"))
    half = tmp_path / "fp16"
    train_without_batchnorm(half, precision="fp16", resume=path, checkpoint_key="half", **settings)
    saved = last_checkpoint(half, key="half")
    assert saved is not None
    assert 2.0**5 < saved.state()["loss_scale"] <= 2.0**10


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_what_was_frozen_can_be_set_free_later(tmp_path: Path, optimizer: str) -> None:
    """What never moved has no momentum in the checkpoint."""
    torch.manual_seed(0)
    start = build_network("resnet_tiny", embedding_size=8).state_dict()
    settings: dict[str, Any] = {"start": start, "optimizer": optimizer, "checkpoint_every": 10}
    frozen = train(frozen=True, checkpoint_dir=tmp_path, **settings)
    assert torch.equal(frozen.network.state_dict()["stem.0.weight"], start["stem.0.weight"])
    (named,) = tmp_path.glob("step-*")
    free = train(resume=named, epochs=4, **settings)
    assert free.resumed == [10]
    assert not torch.equal(free.network.state_dict()["stem.0.weight"], start["stem.0.weight"])


def test_another_precision_after_a_stop_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(checkpoint_dir=tmp_path, checkpoint_every=10)
    (named,) = tmp_path.glob("step-*")
    train(resume=named, precision="fp32")
    assert "trained in" not in capsys.readouterr().err
    train(resume=named, precision="bf16")
    assert "was trained in fp32 so far and goes on in bf16" in capsys.readouterr().err


def test_a_training_whose_steps_were_all_left_out_so_far_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """fp16 overflowed in each: no weight has momentum yet."""
    monkeypatch.setattr(learner, "build_network", without_batchnorm)
    monkeypatch.setattr(learner, "FIRST_LOSS_SCALE", 2.0**40)
    settings: dict[str, Any] = {"precision": "fp16", "checkpoint_every": 1, "readers": 1}
    with pytest.raises(Killed):
        train(RecordedCrops(batches=4), checkpoint_dir=tmp_path, **settings)
    saved = last_checkpoint(tmp_path, key="key")
    assert saved is not None
    assert saved.state()["optimizer"] == {}
    assert train(checkpoint_dir=tmp_path, **settings).resumed == [saved.step]
