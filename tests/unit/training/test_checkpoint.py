"""Checkpoints: whole or absent, the right ones, the last unharmed one."""

import errno
import json
import os
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from facewright.errors import StorageError, TrainingError
from facewright.training import checkpoint
from facewright.training.checkpoint import (
    Checkpoint,
    checkpoint_digest,
    last_checkpoint,
    named_checkpoint,
    only_writer,
    remove_checkpoints,
    save_checkpoint,
)
from facewright.training.distributed import Processes

ALONE = Processes(0, 1, torch.device("cpu"))
ABOUT = {"network": "resnet_tiny", "identities": 3}


def save(folder: Path, step: int, *, key: str = "k", **changed: Any) -> Path:
    state = {"done": step, "model": {"w": torch.full((50,), float(step))}, "history": [{"a": 0.1}]}
    values: dict[str, Any] = {
        "head_rows": 3,
        "about": ABOUT,
        "kept": 2,
        "group": ALONE,
        "head": {"rows.weight": torch.arange(6.0).view(3, 2)},
        "state": state,
    }
    return save_checkpoint(folder, key=key, step=step, **(values | changed))


def test_the_last_one_comes_back_bit_for_bit(tmp_path: Path) -> None:
    kept = torch.randn(3, 4, 5, 6).contiguous(memory_format=torch.channels_last)
    head = {"rows.weight": torch.randn(3, 7), "all.steps": torch.tensor(5)}
    save(tmp_path, 5, state={"t": kept, "n": 0.1}, head=head)
    loaded = last_checkpoint(tmp_path, key="k")
    assert loaded is not None
    assert loaded.step == 5
    state = loaded.state()
    assert torch.equal(state["t"], kept)
    assert state["t"].stride() == kept.stride()
    assert state["n"] == 0.1
    back = loaded.head(slice(0, 3))
    assert back.keys() == head.keys()
    assert all(torch.equal(back[name], value) for name, value in head.items())


def test_the_rows_of_any_number_of_processes_come_back_for_any_other(tmp_path: Path) -> None:
    """What three processes wrote, as one, two or five would read it."""
    whole = torch.randn(23, 4)
    path = save(
        tmp_path, 1, head_rows=23, head={"rows.weight": whole, "all.steps": torch.tensor(7)}
    )
    (path / "head-0000-of-0001.pt").unlink()
    edges = [0, 8, 15, 23]
    names = []
    for rank in range(3):
        rows = slice(edges[rank], edges[rank + 1])
        names.append(f"head-{rank:04d}-of-0003.pt")
        part = {"rows.weight": whole[rows].clone(), "all.steps": torch.tensor(7)}
        torch.save({"count": rows.stop - rows.start, **part}, path / names[-1])
    loaded = Checkpoint(path, 1, tuple(names))
    for count in (1, 2, 5, 23):
        cuts = [round(23 * rank / count) for rank in range(count + 1)]
        for first, last in pairwise(cuts):
            back = loaded.head(slice(first, last))
            assert torch.equal(back["rows.weight"], whole[first:last])
            assert back["all.steps"] == 7


def test_as_many_are_kept_as_asked(tmp_path: Path) -> None:
    save(tmp_path, 7, key="another")
    for step in (1, 2, 9, 10, 100):
        save(tmp_path, step, kept=3)
    kept = sorted(int(path.name.split("-")[1]) for path in tmp_path.glob("step-*-k.checkpoint"))
    assert kept == [9, 10, 100]
    assert list(tmp_path.glob("step-*-another.checkpoint"))


def test_no_folder_is_no_checkpoint(tmp_path: Path) -> None:
    assert last_checkpoint(tmp_path / "none", key="k") is None


@pytest.mark.parametrize("file", ["state.pt", "head-0000-of-0001.pt", "checkpoint.json"])
@pytest.mark.parametrize("harm", ["flip", "cut", "empty", "gone"])
def test_a_damaged_one_is_refused_aloud_and_the_one_before_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], file: str, harm: str
) -> None:
    save(tmp_path, 1)
    last = save(tmp_path, 2)
    content = bytearray((last / file).read_bytes())
    content[len(content) // 2] ^= 255
    harmed = {"flip": bytes(content), "cut": content[:-20], "empty": b""}
    if harm == "gone":
        (last / file).unlink()
    else:
        (last / file).write_bytes(harmed[harm])
    loaded = last_checkpoint(tmp_path, key="k")
    assert loaded is not None
    assert loaded.step == loaded.state()["done"] == 1
    said = capsys.readouterr().err
    assert f"{last} is damaged" in said
    assert "step-00000001-k.checkpoint is unharmed, and used instead" in said


def test_another_trainings_checkpoint_is_ignored_aloud(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(tmp_path, 900, key="old-parameters")
    assert last_checkpoint(tmp_path, key="new-parameters") is None
    assert "ignoring 1 checkpoint" in capsys.readouterr().err
    save(tmp_path, 3, key="new-parameters")
    loaded = last_checkpoint(tmp_path, key="new-parameters")
    assert loaded is not None
    assert loaded.step == 3


def test_a_kill_or_a_full_disk_while_saving_leaves_the_last_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path, 1)

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="disk is full"):
        save(tmp_path, 2)
    assert not list(tmp_path.glob(".*.partial"))  # it would keep the disk full
    loaded = last_checkpoint(tmp_path, key="k")
    assert loaded is not None
    assert loaded.step == 1
    monkeypatch.undo()
    save(tmp_path, 2)
    assert not list(tmp_path.glob(".*.partial"))


def test_a_checkpoint_cannot_run_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its digest may be right; an object that is no plain data is refused all the same."""
    save(tmp_path, 1, state={"evil": Path("/")})
    with pytest.raises(TrainingError, match=r"all checkpoints of this training .* are damaged"):
        last_checkpoint(tmp_path, key="k")
    assert "state.pt is not plain tensors and numbers" in capsys.readouterr().err


class Apart(Processes):
    """A second process that sees another disk than the first, which has made its folder there."""

    def from_first(self, value: Any) -> Any:
        return value


def test_a_process_without_the_shared_disk_says_so_in_one_line(tmp_path: Path) -> None:
    other = Apart(1, 2, torch.device("cpu"))
    with pytest.raises(TrainingError, match=r"process 1 of 2 does not see .*step-00000007") as one:
        save(tmp_path, 7, group=other)
    assert "a disk that they share" in str(one.value)
    assert "\n" not in str(one.value)


def test_a_named_one_is_taken_whatever_its_key(tmp_path: Path) -> None:
    path = save(tmp_path, 4, key="other parameters")
    assert named_checkpoint(path, about=ABOUT).state()["done"] == 4


def test_a_named_one_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path, 4)
    with pytest.raises(TrainingError, match="network is 'resnet_tiny', not 'iresnet50'"):
        named_checkpoint(path, about=ABOUT | {"network": "iresnet50"})
    with pytest.raises(TrainingError, match="identities is 3, not 4"):
        named_checkpoint(path, about=ABOUT | {"identities": 4})
    with pytest.raises(TrainingError, match=r"no checkpoint .*step-9"):
        named_checkpoint(tmp_path / "step-9.checkpoint", about=ABOUT)
    (path / "state.pt").write_bytes(b"")
    with pytest.raises(TrainingError, match="damaged"):
        named_checkpoint(path, about=ABOUT)
    shutil.rmtree(path)
    path.mkdir()
    (path / "checkpoint.json").write_text(json.dumps(["no card"]))
    with pytest.raises(TrainingError, match="damaged"):
        named_checkpoint(path, about=ABOUT)


def test_two_trainings_do_not_write_to_one_folder(tmp_path: Path) -> None:
    other = Processes(1, 2, torch.device("cpu"))
    with only_writer(tmp_path / "new", ALONE):
        with only_writer(tmp_path / "new", other), only_writer(None, ALONE):
            pass  # the other processes of the same training, and one without checkpoints
        for _ in range(2):  # a refused one leaves the lock as it is
            with (
                pytest.raises(TrainingError, match="another training writes checkpoints"),
                only_writer(tmp_path / "new", ALONE),
            ):
                raise AssertionError
    with only_writer(tmp_path / "new", ALONE):
        pass


def test_an_error_of_the_training_itself_is_not_taken_for_another_training(tmp_path: Path) -> None:
    with pytest.raises(BlockingIOError), only_writer(tmp_path / "new", ALONE):
        raise BlockingIOError
    assert not (tmp_path / "new").exists()


def test_damaged_ones_do_not_push_out_the_good_ones(tmp_path: Path) -> None:
    """After 10 was found damaged, training went on from 5 and saves 6."""
    good, damaged = save(tmp_path, 5, kept=2), save(tmp_path, 10, kept=2)
    (damaged / "state.pt").write_bytes(b"")
    found = last_checkpoint(tmp_path, key="k")
    assert found is not None
    assert found.path == good
    new = save(tmp_path, 6, kept=1)
    assert [path for path in tmp_path.iterdir() if path.name.startswith("step-")] == [new]


def test_what_a_checkpoint_says_of_itself_is_guarded_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(tmp_path, 10)
    path = save(tmp_path, 20) / "checkpoint.json"
    path.write_text(path.read_text().replace('"step": 20', '"step": 21'))
    found = last_checkpoint(tmp_path, key="k")
    assert found is not None
    assert found.step == 10
    assert "the digest in checkpoint.json is not that of what it says" in capsys.readouterr().err


def test_where_all_are_damaged_nothing_is_begun_anew(tmp_path: Path) -> None:
    other = save(tmp_path, 1, key="another")
    own = [save(tmp_path, step) for step in (2, 3)]
    for path in (other, *own):
        (path / "state.pt").write_bytes(b"")
    for _ in range(2):
        with pytest.raises(TrainingError, match=r"all checkpoints of .* are damaged: bring one"):
            last_checkpoint(tmp_path, key="k")
    assert all(path.is_dir() for path in own)
    # Nothing hangs on those of another training, nor on what a kill left of a removal.
    assert last_checkpoint(tmp_path, key="a third") is None
    for path in own:
        (path / "checkpoint.json").unlink()
    assert last_checkpoint(tmp_path, key="k") is None


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EACCES, errno.EMFILE])
def test_a_disk_that_does_not_answer_is_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Else good checkpoints would be passed over, and removed by the next that is saved."""
    kept = [save(tmp_path, 5), save(tmp_path, 10)]

    def silent(path: Path) -> str:
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(checkpoint, "file_digest", silent)
    for look in (
        lambda: last_checkpoint(tmp_path, key="k"),
        lambda: named_checkpoint(kept[0], about=ABOUT),
    ):
        with pytest.raises(StorageError, match=r"cannot be read now .*: nothing was changed"):
            look()
    monkeypatch.undo()
    assert all(path.is_dir() for path in kept)
    found = last_checkpoint(tmp_path, key="k")
    assert found is not None
    assert found.path == kept[1]


def test_too_little_memory_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path, 5)

    def full(*where: Any, **how: Any) -> None:
        raise RuntimeError("unable to mmap 64 bytes: Cannot allocate memory (12)\nException …")

    monkeypatch.setattr(torch, "load", full)
    with pytest.raises(StorageError, match=r"cannot be read now \(unable to mmap") as caught:
        last_checkpoint(tmp_path, key="k")
    assert "\n" not in str(caught.value)
    assert path.is_dir()
    with pytest.raises(StorageError, match="cannot be read now"):  # nor later, when it is taken
        Checkpoint(path, 5, ("head-0000-of-0001.pt",)).state()


def test_a_disk_that_does_not_say_what_is_there_is_told_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(tmp_path, 5)
    (path / "state.pt").write_bytes(b"")

    def silent(path: Path) -> bool:
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))

    for name in ("is_file", "exists"):
        monkeypatch.setattr(Path, name, silent)
    for look in (
        lambda: last_checkpoint(tmp_path, key="k"),
        lambda: named_checkpoint(path, about=ABOUT),
        lambda: checkpoint_digest(path),
    ):
        with pytest.raises(StorageError, match="cannot be read now"):
            look()


def test_all_of_it_is_on_the_disk_before_it_is_called_a_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    synced, renamed = os.fsync, Path.rename

    def sync(handle: int) -> None:
        done.append(Path(f"/proc/self/fd/{handle}").readlink().name)
        synced(handle)

    def rename(path: Path, target: Path) -> Path:
        done.append(f"rename to {target.name}")
        return renamed(path, target)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(Path, "rename", rename)
    path = save(tmp_path, 1)
    before = {*(file.name for file in path.iterdir()), f".{path.name}.partial"}
    turn = done.index(f"rename to {path.name}")
    assert len(before) == 4
    assert before <= set(done[:turn])
    assert tmp_path.name in done[turn:]


def test_a_training_that_ended_removes_its_own_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(tmp_path / "a", 1)
    other = save(tmp_path / "a", 2, key="another")
    remove_checkpoints(tmp_path / "a", key="k")
    assert list((tmp_path / "a").iterdir()) == [other]
    assert "1 checkpoint(s) of other trainings stay" in capsys.readouterr().err
    remove_checkpoints(tmp_path / "a", key="another")
    assert not (tmp_path / "a").exists()
