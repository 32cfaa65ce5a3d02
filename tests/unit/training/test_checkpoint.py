"""Checkpoints: whole or absent, the right ones, the last unharmed one."""

import errno
import os
from pathlib import Path

import pytest
import torch

from facewright.errors import StorageError
from facewright.training.checkpoint import load_checkpoint, save_checkpoint


def state(step: int) -> dict[str, object]:
    return {"done": step, "model": {"w": torch.full((50,), float(step))}, "history": [{"a": 0.1}]}


def test_the_last_one_comes_back_bit_for_bit(tmp_path: Path) -> None:
    kept = torch.randn(3, 4, 5, 6).contiguous(memory_format=torch.channels_last)
    save_checkpoint(tmp_path, {"t": kept, "n": 0.1}, key="k", step=5)
    loaded = load_checkpoint(tmp_path, key="k")
    assert loaded is not None
    assert torch.equal(loaded["t"], kept)
    assert loaded["t"].stride() == kept.stride()
    assert loaded["n"] == 0.1


def test_two_are_kept(tmp_path: Path) -> None:
    for step in (1, 2, 9, 10, 100):
        save_checkpoint(tmp_path, state(step), key="k", step=step)
    assert sorted(int(path.name.split("-")[1]) for path in tmp_path.iterdir()) == [10, 100]


def test_no_folder_is_no_checkpoint(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path / "none", key="k") is None


@pytest.mark.parametrize("harm", ["flip", "cut", "empty", "head"])
def test_a_damaged_one_is_refused_aloud_and_the_one_before_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], harm: str
) -> None:
    save_checkpoint(tmp_path, state(1), key="k", step=1)
    last = save_checkpoint(tmp_path, state(2), key="k", step=2)
    content = bytearray(last.read_bytes())
    content[-200] ^= 255
    harmed = {"flip": bytes(content), "cut": content[:-100], "empty": b"", "head": content[9:]}
    last.write_bytes(harmed[harm])
    loaded = load_checkpoint(tmp_path, key="k")
    assert loaded is not None
    assert loaded["done"] == 1
    said = capsys.readouterr().err
    assert last.name in said
    assert "damaged" in said


def test_another_trainings_checkpoint_is_ignored_aloud(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_checkpoint(tmp_path, state(900), key="old-parameters", step=900)
    assert load_checkpoint(tmp_path, key="new-parameters") is None
    assert "ignoring 1 checkpoint" in capsys.readouterr().err
    save_checkpoint(tmp_path, state(3), key="new-parameters", step=3)
    loaded = load_checkpoint(tmp_path, key="new-parameters")
    assert loaded is not None
    assert loaded["done"] == 3


def test_a_kill_or_a_full_disk_while_saving_leaves_the_last_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_checkpoint(tmp_path, state(1), key="k", step=1)

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="disk is full"):
        save_checkpoint(tmp_path, state(2), key="k", step=2)
    loaded = load_checkpoint(tmp_path, key="k")
    assert loaded is not None
    assert loaded["done"] == 1
    monkeypatch.undo()
    save_checkpoint(tmp_path, state(2), key="k", step=2)
    assert not list(tmp_path.glob("*.partial"))


def test_a_checkpoint_cannot_run_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its digest may be right; an object that is no plain data is refused all the same."""
    save_checkpoint(tmp_path, {"evil": Path("/")}, key="k", step=1)
    assert load_checkpoint(tmp_path, key="k") is None
    assert "damaged" in capsys.readouterr().err
