"""Checkpoints that are whole or absent, belong to one training, and prove that they are unharmed.

A checkpoint is a folder: `state.pt` (the network and all that goes with it), a `head-K-of-N.pt`
for the centres of each process, and `checkpoint.json` with what it belongs to and the digest of
each file. The files are read back with `weights_only`, which runs no code from them.
"""

import fcntl
import hashlib
import json
import os
import pickle
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from facewright.errors import StorageError, TrainingError
from facewright.files import file_digest, storage_errors, sync_to_disk, values_digest, write_json
from facewright.progress import say
from facewright.training.distributed import Processes

CARD = "checkpoint.json"
STATE = "state.pt"
PATTERN = "step-*.checkpoint"

# What a damaged checkpoint raises. Other errors of a disk say nothing of what lies on it.
DAMAGE = (ValueError, KeyError, TypeError, FileNotFoundError, NotADirectoryError)

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint on the disk whose digests are right."""

    path: Path
    step: int
    shards: tuple[str, ...]  # files of the head, in the order of their rows

    def state(self) -> dict[str, Any]:
        """What `save_checkpoint` was given as `state`."""
        return _read(self.path / STATE)

    def head(self, rows: slice) -> Tensors:
        """The head's tensors, of those whose name starts with `rows.` these rows of all."""
        whole: dict[str, list[torch.Tensor]] = {}
        start = 0
        for name in self.shards:
            shard = _read(self.path / name)
            size = int(shard.pop("count"))
            part = slice(max(rows.start - start, 0), min(max(rows.stop - start, 0), size))
            for key, value in shard.items():
                if not key.startswith("rows."):
                    whole[key] = [value]
                elif part.start < part.stop:
                    whole.setdefault(key, []).append(value[part])
            start += size
        # Copies: the files are mapped into memory, and may be removed while training goes on.
        return {
            key: torch.cat(parts) if parts[0].ndim else parts[0].clone()
            for key, parts in whole.items()
        }


@contextmanager
def only_writer(folder: Path | None, group: Processes) -> Iterator[None]:
    """Keep other trainings out of `folder`, such as processes that outlived their `torchrun`.

    Raises:
        TrainingError: another training is writing there.
    """
    if folder is None or not group.main:
        yield
        return
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # gone with the process, however it ends
    except BlockingIOError as error:
        os.close(lock)
        raise TrainingError(
            f"another training writes checkpoints to {folder}: wait for it, or end it and all "
            "processes of its torchrun"
        ) from error
    try:
        yield
    finally:
        with suppress(OSError):  # unless there is a checkpoint in it
            folder.rmdir()
        os.close(lock)


def save_checkpoint(
    folder: Path,
    state: Mapping[str, Any],
    head: Tensors,
    *,
    head_rows: int,
    key: str,
    step: int,
    about: Mapping[str, Any],
    kept: int,
    group: Processes,
) -> Path:
    """Write the state after `step` steps; all processes call it, each with its part of the head.

    Args:
        state: tensors, numbers, strings, in lists and mappings; the first process's is written.
        head: tensors; those whose name starts with `rows.` have this process's `head_rows` rows.
        about: what a training must have in common with this one to go on from here.
        kept: checkpoints of the same key that stay; those of other trainings are not touched.
    """
    path = folder / f"step-{step:08d}{_ending(key)}"
    partial = folder / f".{path.name}.partial"
    with storage_errors(path), _gone_if_not_whole(partial, group):
        if group.main:
            folder.mkdir(parents=True, exist_ok=True)
            for left in folder.glob(".step-*.partial"):  # by a kill
                shutil.rmtree(left, ignore_errors=True)
            shutil.rmtree(path, ignore_errors=True)
            partial.mkdir()
        group.from_first(None)  # the others wait for the folder
        must_see(partial, group)
        shard = f"head-{group.rank:04d}-of-{group.count:04d}.pt"
        digests = {shard: _write(partial / shard, {"count": head_rows, **head})}
        if group.main:
            digests[STATE] = _write(partial / STATE, dict(state))
        files = {
            name: digest for one in group.gather_objects(digests) for name, digest in one.items()
        }
        if group.main:
            card = {"key": key, "step": step, "about": dict(about), "files": files}
            write_json(partial / CARD, card | {"digest": values_digest(card)})
            sync_to_disk(partial / CARD)
            sync_to_disk(partial)
            partial.rename(path)
            sync_to_disk(folder)
            # Later ones are damaged: training went on from before them.
            own = sorted(folder.glob(f"step-*{_ending(key)}"))
            done = own.index(path) + 1
            _remove(*own[: max(done - kept, 0)], *own[done:])
    return path


@contextmanager
def _gone_if_not_whole(partial: Path, group: Processes) -> Iterator[None]:
    """A disk that became full while a checkpoint was written has its room back."""
    try:
        yield
    except BaseException:
        if group.main:
            shutil.rmtree(partial, ignore_errors=True)
        raise


def must_see(path: Path, group: Processes) -> None:
    """Refuse to go on where the first process has a folder that this one does not see.

    Raises:
        TrainingError: it is not there.
    """
    if not path.is_dir():
        raise TrainingError(
            f"process {group.rank} of {group.count} does not see {path}, which the first one has: "
            "start all of them in a folder on a disk that they share"
        )


def remove_checkpoints(folder: Path, *, key: str) -> None:
    """Remove those of a training that has ended; how many of others stay is said."""
    _remove(*folder.glob(f"step-*{_ending(key)}"))
    if others := len(list(folder.glob(PATTERN))):
        say(f"train: {others} checkpoint(s) of other trainings stay in {folder}")
    else:
        shutil.rmtree(folder, ignore_errors=True)


def _remove(*checkpoints: Path) -> None:
    for path in checkpoints:
        (path / CARD).unlink(missing_ok=True)  # no longer a checkpoint, whatever is left
        shutil.rmtree(path, ignore_errors=True)


def last_checkpoint(folder: Path, *, key: str) -> Checkpoint | None:
    """The last unharmed checkpoint with this key, or None where there is none.

    What is passed over is said: damaged ones, and those of a training with other crops, parameters
    or code.

    Raises:
        StorageError: the disk does not give a checkpoint now, which is not to say that it is
            damaged.
        TrainingError: there are some with this key, and all are damaged.
    """
    others, passed, own_damaged = 0, 0, 0
    for path in sorted(folder.glob(PATTERN), reverse=True):
        try:
            with _disk_answers(path):
                card = _card(path)
                if card["key"] != key:
                    others += 1
                    continue
                found = _checked(path, card)
        except DAMAGE as error:
            say(f"train: {path} is damaged ({error}): it is passed over")
            passed += 1
            with _disk_answers(path):  # a card that is gone is that of a checkpoint half removed
                own_damaged += path.name.endswith(_ending(key)) and (path / CARD).exists()
            continue
        if passed:
            say(f"train: {found.path} is unharmed, and used instead")
        return found
    if own_damaged:
        raise TrainingError(
            f"all checkpoints of this training in {folder} are damaged: bring one back from a "
            "backup, or remove the folder to train from the start"
        )
    if others:
        say(
            f"train: ignoring {others} checkpoint(s) in {folder}: they belong to other crops, "
            "parameters or code"
        )
    return None


def named_checkpoint(path: Path, *, about: Mapping[str, Any]) -> Checkpoint:
    """The checkpoint `path`, of a training that has `about` in common with this one.

    Raises:
        StorageError: the disk does not give it now.
        TrainingError: it is not there, damaged, or of another architecture or other identities.
    """
    with _disk_answers(path):
        there = (path / CARD).is_file()
    if not there:
        raise TrainingError(f"no checkpoint {path}: name a folder step-….checkpoint, or none")
    try:
        with _disk_answers(path):
            card = _card(path)
            for name, value in about.items():
                if card["about"].get(name) != value:
                    raise TrainingError(
                        f"{path} is of a training whose {name.replace('_', ' ')} is "
                        f"{card['about'].get(name)!r}, not {value!r}: it cannot be gone on from"
                    )
            return _checked(path, card)
    except DAMAGE as error:
        raise TrainingError(f"{path} is damaged ({error}): name another checkpoint") from error


def checkpoint_digest(path: Path) -> str:
    """sha256 of what the checkpoint says of itself, and so of all of it; empty without one."""
    with _disk_answers(path):
        return file_digest(path / CARD) if (path / CARD).is_file() else ""


@contextmanager
def _disk_answers(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if isinstance(error, DAMAGE):
            raise
        raise StorageError(
            f"{path} cannot be read now ({error.strerror or error}): nothing was changed; mend the "
            "disk and run it again"
        ) from error


def _ending(key: str) -> str:
    return f"-{key[:8]}.checkpoint"


def _card(path: Path) -> dict[str, Any]:
    card: dict[str, Any] = json.loads((path / CARD).read_text(encoding="utf-8"))
    if card.pop("digest") != values_digest(card):
        raise ValueError(f"the digest in {CARD} is not that of what it says")
    return card


def _checked(path: Path, card: Mapping[str, Any]) -> Checkpoint:
    for name, digest in card["files"].items():
        if file_digest(path / Path(name).name) != digest:
            raise ValueError(f"the digest of {name} is not that of its content")
        _read(path / name)
    shards = sorted(name for name in card["files"] if name != STATE)
    return Checkpoint(path, int(card["step"]), tuple(shards))


def _read(path: Path) -> dict[str, Any]:
    with _disk_answers(path):
        try:
            state: dict[str, Any] = torch.load(
                path, weights_only=True, map_location="cpu", mmap=True
            )
        except pickle.UnpicklingError as error:
            # PyTorch's message recommends to load it without the protection.
            raise ValueError(f"{path.name} is not plain tensors and numbers") from error
        except RuntimeError as error:  # no memory to map it; the digest says that it is unharmed
            raise OSError(str(error).partition("\n")[0]) from error
    return state


class _Digested:
    """A file that is hashed as it is written: large states are not held twice."""

    def __init__(self, path: Path) -> None:
        self.file = path.open("wb")
        self.sha256 = hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.sha256.update(data)
        return self.file.write(data)

    def flush(self) -> None:
        self.file.flush()


def _write(path: Path, value: dict[str, Any]) -> str:
    """The digest of what is then on the disk."""
    digested = _Digested(path)
    with digested.file:
        torch.save(value, digested)  # type: ignore[arg-type]
        digested.file.flush()
        os.fsync(digested.file.fileno())
    return digested.sha256.hexdigest()
