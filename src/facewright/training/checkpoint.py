"""Checkpoints that are whole or absent, belong to one training, and prove that they are unharmed.

A file is one line of JSON (key, step, digest of the rest) and then the state as `torch.save`
writes it; it is read back with `weights_only`, which runs no code from the file.
"""

import hashlib
import io
import json
import os
import pickle
from pathlib import Path
from typing import Any

import torch

from facewright.files import storage_errors
from facewright.progress import say

KEPT = 2  # the last one, and the one before should the last be harmed
PATTERN = "step-*.checkpoint"


def save_checkpoint(folder: Path, state: dict[str, Any], *, key: str, step: int) -> Path:
    """Write `state` (tensors, numbers, strings, in lists and mappings) as that after `step` steps.

    The file appears under its name only when its bytes are on the disk. `KEPT` of the same key
    stay; those of other trainings are not touched.
    """
    content = io.BytesIO()
    torch.save(state, content)
    payload = content.getbuffer()
    head = {"key": key, "sha256": hashlib.sha256(payload).hexdigest(), "step": step}
    path = folder / f"step-{step:08d}-{key[:8]}.checkpoint"
    partial = path.with_suffix(".partial")
    with storage_errors(path):
        folder.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            file.write(json.dumps(head).encode() + b"\n")
            file.write(payload)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        _sync(folder)
        for old in sorted(folder.glob(f"step-*-{key[:8]}.checkpoint"))[:-KEPT]:
            old.unlink()
    return path


def load_checkpoint(folder: Path, *, key: str) -> dict[str, Any] | None:
    """The last unharmed state with this key, or None where there is none.

    What is passed over is said: harmed files, and files of a training with other crops,
    parameters or code.
    """
    others = 0
    for path in sorted(folder.glob(PATTERN), reverse=True):
        try:
            with path.open("rb") as file:
                head = json.loads(file.readline())
                if head["key"] != key:
                    others += 1
                    continue
                payload = file.read()
            if hashlib.sha256(payload).hexdigest() != head["sha256"]:
                raise ValueError("its digest is not that of its content")
            return _read(payload)
        except (ValueError, KeyError, TypeError) as error:
            say(f"train: {path} is damaged ({error}): using the one before")
    if others:
        say(
            f"train: ignoring {others} checkpoint(s) in {folder}: they belong to other crops, "
            "parameters or code"
        )
    return None


def _read(payload: bytes) -> dict[str, Any]:
    try:
        state: dict[str, Any] = torch.load(
            io.BytesIO(payload), weights_only=True, map_location="cpu"
        )
    except (pickle.UnpicklingError, RuntimeError) as error:
        # PyTorch's message recommends to load it without the protection.
        raise ValueError("its content is not plain tensors and numbers") from error
    return state


def _sync(folder: Path) -> None:
    """Make a rename in `folder` survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
