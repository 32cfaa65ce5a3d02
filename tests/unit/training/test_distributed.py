"""Two gloo processes against one, at the same global batch.

BatchNorm takes its statistics over each process's own crops, so that a network with it sees
other numbers on two processes, as it should. What can be equal is compared with a network
without BatchNorm: the same crops, the same changes, the same sums of gradients. A network that
ships, with BatchNorm and dropout, goes on after a kill to the bit.
"""

import errno
import json
import os
import signal
import time
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from facewright.errors import FacewrightError, TrainingError
from facewright.models import build_network
from facewright.training import checkpoint, is_main_process, learner
from facewright.training.checkpoint import last_checkpoint
from facewright.training.distributed import GONE, Processes, process_group

from .faces import Killed, RecordedCrops, ToyCrops, train_without_batchnorm, without_batchnorm
from .processes import belongs, run_together

COMPARED = ("losses", "norms", "weights", "angles")
ADAFACE = {"name": "adaface", "scale": 16.0, "margin": 0.2, "h": 0.333, "t_alpha": 0.1}
# Three people on two processes: two on the first, one on the second; steps of 7, 7, 7 and 6 crops.
TOGETHER: dict[str, dict[str, Any]] = {
    "plain": {},
    "passes": {"passes": 2, "batch_size": 9, "head": ADAFACE},
    "balanced": {"crops_per_identity": 4},
    "triplets": {
        "head": {"name": "triplet", "margin": 0.5},
        "label_smoothing": 0.0,
        "crops_per_identity": 4,
    },
    "sampled": {"sampled_identities": 0.5, "optimizer": "adamw", "learning_rate": 0.003},
}
# One training, killed in the middle of its second and of its fourth epoch, of four steps each.
LONG: dict[str, Any] = {
    "epochs": 6,
    "checkpoint_every": 5,
    "readers": 1,
    "average": 0.5,
    "head": ADAFACE,
}
RUNS = (
    (2, 8),
    (1, 8),
    (2, None),
)  # processes, and how many batches they read until they are killed


# Epochs are compared on people held out, weights are averaged, and the second half names the first.
HALVES: dict[str, Any] = {"validation_identities": 2, "average": 0.5, "checkpoint_every": 4}


# A real network, whole and killed in the middle of its third epoch, of four steps each.
REAL: dict[str, Any] = {"epochs": 4, "checkpoint_every": 5, "readers": 1, "head": ADAFACE}
REAL_RUNS = {"whole": None, "killed": 10, "gone on": None}  # batches that are read

GROUPS = len(TOGETHER) + len(RUNS) + 3 + len(REAL_RUNS) + 3  # of processes, one after another


def in_halves(folder: Path, half: int) -> dict[str, Any]:
    """Two epochs of four steps, or the two after them at another rate."""
    changed: dict[str, Any] = {"epochs": 2}
    if half:
        named = folder / "step-00000008-key.checkpoint"
        changed = {"resume": named, "learning_rate": 0.1, "checkpoint_key": "second"}
    crops = ToyCrops(people=5)
    noise = np.random.default_rng(1).integers(0, 256, crops.images.shape)
    crops.images = (0.19 * crops.images + 0.81 * noise).astype(np.uint8)  # else all are told apart
    return train_without_batchnorm(folder, crops, **HALVES | changed)


def not_finite() -> dict[str, torch.Tensor]:
    weights = without_batchnorm("", embedding_size=8, dropout=0.0).state_dict()
    weights["2.weight"][0, 0] = float("nan")
    return weights


class Slow(ToyCrops):
    """The second process gets its crops late."""

    def batch(self, indices: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        time.sleep(0.3 if os.environ["RANK"] == "1" else 0)
        return super().batch(indices)


class FullDisk:
    """Writes files of checkpoints, some, and then the disk is full."""

    def __init__(self, *, of: Callable[..., str], writes: int):
        self.of, self.writes = of, writes

    def __call__(self, path: Path, value: dict[str, Any]) -> str:
        self.writes -= 1
        if self.writes < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self.of(path, value)


def refusal(folder: Path, **changed: Any) -> str:
    """What a training that cannot end well says."""
    try:
        train_without_batchnorm(folder, **changed)
    except FacewrightError as error:
        return str(error)
    return ""


def work(folder: str) -> None:
    """All that the tests ask of two processes; each writes down what it saw."""
    learner.build_network = without_batchnorm
    seen: dict[str, Any] = {}
    for turn, (name, settings) in enumerate(TOGETHER.items()):
        belongs(group=turn, processes=2)
        kept = Path(folder, "checkpoints") if name == "plain" else None
        seen[name] = train_without_batchnorm(kept, **settings)
    for run, (processes, batches) in enumerate(RUNS):
        if not belongs(group=len(TOGETHER) + run, processes=processes):
            continue
        crops = RecordedCrops(people=3, photos=9, batches=batches)
        try:
            seen["long"] = train_without_batchnorm(Path(folder, "long"), crops, **LONG)
        except Killed:
            assert batches is not None
        seen[f"run {run}"] = crops.read
    for half in (0, 1):
        belongs(group=len(TOGETHER) + len(RUNS) + half, processes=2)
        seen[f"half {half}"] = in_halves(Path(folder, "halves"), half)
    learner.build_network = build_network
    for turn, (name, batches) in enumerate(REAL_RUNS.items()):
        belongs(group=len(TOGETHER) + len(RUNS) + 3 + turn, processes=2)
        crops = RecordedCrops(people=3, photos=9, batches=batches)
        checkpoints = None if name == "whole" else Path(folder, "real")
        try:
            seen[name] = train_without_batchnorm(checkpoints, crops, **REAL)
        except Killed:
            assert batches is not None
    belongs(group=len(TOGETHER) + len(RUNS) + 2, processes=2)
    try:
        train_without_batchnorm(None, learning_rate=0.02 if os.environ["RANK"] == "0" else 0.01)
    except TrainingError as error:
        seen["unlike"] = str(error)
    rank = int(os.environ["RANK"])
    learner.build_network = without_batchnorm
    belongs(group=GROUPS - 3, processes=2)
    slow = Slow(people=3, photos=9)
    seen["slow"] = train_without_batchnorm(None, slow, readers=1, epochs=1)
    belongs(group=GROUPS - 2, processes=2)
    seen["not finite"] = refusal(Path(folder, "not finite"), start=not_finite())
    belongs(group=GROUPS - 1, processes=2)
    if rank:
        checkpoint._write = FullDisk(of=checkpoint._write, writes=2)
    seen["full"] = refusal(Path(folder, "full"), checkpoint_every=3)
    belongs(group=0, processes=2)
    worker = "main" if seen["plain"]["main"] else "other"
    Path(folder, f"{worker}.json").write_text(json.dumps(seen))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the two processes have left what they saw, and a training's checkpoints."""
    folder = tmp_path_factory.mktemp("two")
    run_together(work, str(folder), processes=2, groups=GROUPS)
    return folder


@pytest.fixture(scope="module")
def seen(folder: Path) -> list[dict[str, Any]]:
    """What the first and the second process saw, by the names of their trainings."""
    return [json.loads((folder / f"{one}.json").read_text()) for one in ("main", "other")]


@pytest.fixture(autouse=True)
def no_batchnorm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learner, "build_network", without_batchnorm)


@pytest.mark.parametrize("name", [name for name in TOGETHER if name != "sampled"])
def test_two_processes_learn_what_one_does(seen: list[dict[str, Any]], name: str) -> None:
    one = train_without_batchnorm(None, **TOGETHER[name] | {"passes": 1})
    first, second = (process[name] for process in seen)
    for key in COMPARED:
        assert first[key] == pytest.approx(one[key], rel=1e-3, abs=1e-5)
        assert second[key] == ([] if key == "angles" else first[key])  # they are the first's
    if name != "triplets":  # whose loss is a mean over those that are not solved yet
        assert one["losses"][-1] < one["losses"][0]
    assert first["reports"] == one["reports"]
    assert (first["main"], second["main"], second["reports"]) == (True, False, [])


def test_one_process_goes_on_for_two(seen: list[dict[str, Any]], folder: Path) -> None:
    """The last checkpoint of the two lies one step before the end, amid a row of the history."""
    alone = train_without_batchnorm(folder / "checkpoints")
    assert alone["resumed"] == [15]
    assert alone["reports"] == seen[0]["plain"]["reports"]
    for key in COMPARED:
        assert alone[key] == pytest.approx(seen[0]["plain"][key], rel=1e-3, abs=1e-5)


def test_two_processes_that_sample_agree_and_learn(seen: list[dict[str, Any]]) -> None:
    first, second = (process["sampled"] for process in seen)
    for key in ("losses", "norms", "weights"):
        assert first[key] == second[key]
    assert first["losses"][-1] < first["losses"][0]
    assert len(first["angles"]) == 27


def test_two_processes_choose_average_and_go_on_from_a_named_checkpoint_as_one_does(
    seen: list[dict[str, Any]], tmp_path: Path
) -> None:
    for half in (0, 1):
        one = in_halves(tmp_path, half)
        first, second = (process[f"half {half}"] for process in seen)
        assert first["resumed"] == second["resumed"] == one["resumed"] == [[], [8]][half]
        for key in ("losses", "norms", "weights"):
            assert first[key] == pytest.approx(one[key], rel=1e-3, abs=1e-5)
            assert first[key] == second[key]
        assert first["rates"] == second["rates"] == pytest.approx(one["rates"], abs=0.02)
        assert len(set(one["rates"])) > 1
        # The rate of the second half makes it worse, and the first is remembered.
        assert first["chosen"] == second["chosen"] == one["chosen"] == 2


def test_two_then_one_then_two_processes_are_one_training(seen: list[dict[str, Any]]) -> None:
    whole = train_without_batchnorm(None, **LONG)
    first, second = (process["long"] for process in seen)
    assert first["resumed"] == second["resumed"] == [5, 10]
    for key in COMPARED:
        assert first[key] == pytest.approx(whole[key], rel=1e-3, abs=1e-5)
        assert first[key] == second[key]

    # What was read for the steps that count: after a kill the last checkpoint's come again.
    assert "run 1" not in seen[1]
    trained: list[list[int]] = []
    for run, (start, end) in enumerate(((0, 5), (5, 10), (10, 24))):
        parts = [process[f"run {run}"] for process in seen if f"run {run}" in process]
        steps = [list(chain(*step)) for step in zip(*parts, strict=True)]
        trained += steps[: end - start]
    assert len(trained) == 24
    for epoch in range(6):
        assert sorted(chain(*trained[4 * epoch : 4 * epoch + 4])) == list(range(27))
    assert sorted(trained[0]) != sorted(trained[4])


def test_a_network_that_ships_goes_on_after_a_kill_of_two_processes_to_the_bit(
    seen: list[dict[str, Any]],
) -> None:
    whole, gone_on = seen[0]["whole"], seen[0]["gone on"]
    assert (whole["resumed"], gone_on["resumed"]) == ([], [10])
    for key in ("losses", "norms", "weights"):
        assert gone_on[key] == whole[key]
    assert whole["losses"][-1] < 0.7 * whole["losses"][0]


def test_processes_with_other_parameters_do_not_train_together(seen: list[dict[str, Any]]) -> None:
    for process in seen:
        assert "processes 1 of 2 have other crops or parameters than the first" in process["unlike"]


def test_who_waits_longest_counts(seen: list[dict[str, Any]]) -> None:
    """The first waits for the second, and not for crops."""
    for process in seen:
        assert process["slow"]["waited"] > 0.5


def test_weights_that_are_no_numbers_stop_all_processes(
    seen: list[dict[str, Any]], folder: Path
) -> None:
    for process in seen:
        assert process["not finite"].startswith("training became unstable at step 1: loss nan")
        assert "\n" not in process["not finite"]
    saved = json.loads((folder / "not finite" / "not-finite.json").read_text())
    assert len(saved["crops"]) == 7  # of both


def test_a_disk_that_is_full_for_one_process_stops_all_and_leaves_the_checkpoint_before(
    seen: list[dict[str, Any]], folder: Path
) -> None:
    first, second = (process["full"] for process in seen)
    assert first.startswith("process 0 of 2 lost another one, whose own message says why")
    assert second.startswith("the disk is full while writing")
    assert "step-00000009" in second
    left = sorted(path.name for path in (folder / "full").iterdir())
    assert left == ["step-00000003-key.checkpoint", "step-00000006-key.checkpoint"]
    found = last_checkpoint(folder / "full", key="key")
    assert found is not None
    assert found.step == 6


@pytest.mark.parametrize("words", GONE)
def test_a_process_that_is_lost_or_silent_is_told_in_a_line(
    monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    for name in ("init_process_group", "destroy_process_group"):
        monkeypatch.setattr(torch.distributed, name, lambda *_: None)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 0)
    with pytest.raises(TrainingError, match="process 0 of 2 lost another one"), process_group():
        raise RuntimeError(f"[somewhere/pair.cc:5] {words} [127.0.0.1]:5")
    with pytest.raises(RuntimeError, match="shapes"), process_group():
        raise RuntimeError("shapes do not fit")


class Deadly(ToyCrops):
    """Kills the second process when its third batch is read."""

    left = 3

    def batch(self, indices: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        self.left -= 1
        if self.left < 0 and os.environ["RANK"] == "1":
            os.kill(os.getpid(), signal.SIGKILL)
        return super().batch(indices)


def be_left(folder: str) -> None:
    learner.build_network = without_batchnorm
    belongs(group=0, processes=2)
    crops = Deadly(people=3, photos=9)
    with pytest.raises(TrainingError, match="process 0 of 2 lost another one"):
        train_without_batchnorm(Path(folder), crops, checkpoint_every=1, readers=1)
    assert last_checkpoint(Path(folder), key="key") is not None
    Path(folder, "told").touch()


def test_who_loses_another_process_says_so_and_the_checkpoint_before_is_there(
    tmp_path: Path,
) -> None:
    run_together(be_left, str(tmp_path), processes=2, groups=1, killed=1)
    assert (tmp_path / "told").exists()


def test_the_search_for_convolutions_is_off_again_after_training() -> None:
    assert not torch.backends.cudnn.benchmark
    with process_group():
        assert torch.backends.cudnn.benchmark
    assert not torch.backends.cudnn.benchmark


def test_more_processes_than_gpus_are_refused_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setenv("LOCAL_RANK", "1")
    with (
        pytest.raises(TrainingError, match=r"no GPU of its own, there are 1: .*per-node=1"),
        process_group(),
    ):
        pass


def test_one_process_alone_writes_whatever_rank_it_is_said_to_have(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RANK", "1")
    assert is_main_process()
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert not is_main_process()


def test_the_gpu_of_a_process_is_named_where_there_is_one() -> None:
    assert Processes(1, 2, torch.device("cuda", 1)).gpus == [1]
    assert Processes(1, 2, torch.device("cpu")).gpus == []
