"""Folders of trainings on a volume that all nodes see.

VOLUME/crops/DIGEST/train/           crops, copied once for all trainings of them
VOLUME/crops/DIGEST/trainings/KEY/   the folder of a training: its output, its checkpoints
VOLUME/locks/NAME                    files that are locked, while they are in use
"""

import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from facewright.errors import StorageError
from facewright.files import storage_errors, whole_directory
from facewright.progress import progress, say

APPEARS = 65.0  # seconds; `acdirmax` of an NFS mount is 60


@contextmanager
def training_folder(volume: Path, crops: Path, *, digest: str, key: str) -> Iterator[Path]:
    """The folder of a training, which nobody else has meanwhile; crops are two folders above.

    When all went well it is removed, and the crops with the last training of them. After an error
    it stays, so that another start finds its checkpoints and the crops.

    Args:
        crops: a dataset folder, copied to the volume unless it is there already.
        digest: names the crops.
        key: names the training, among all on this volume.

    Raises:
        StorageError: the volume is full, not to be written or not to be locked.
    """
    shared = volume / "crops" / digest
    folder = shared / "trainings" / key
    if not volume.is_dir():
        raise StorageError(f"no folder {volume}: mount the volume that all nodes see there")
    with _held(volume, f"training-{key}"):
        with _held(volume, f"crops-{digest}"), storage_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            if not (shared / "train").exists():
                with whole_directory(shared / "train") as copy:
                    copy_files(crops, copy, label=f"crops copied to {volume}, files")
        try:
            yield folder
        except BaseException:
            say(f"train: {folder} stays: the same training goes on from there")
            raise
        with _held(volume, f"crops-{digest}"), storage_errors(folder):
            shutil.rmtree(folder)
            if not any(folder.parent.iterdir()):
                shutil.rmtree(shared)


def copy_files(source: Path, target: Path, *, label: str) -> None:
    """Copy the files below `source` to the same places below `target`."""
    files = sorted(path for path in source.rglob("*") if path.is_file())
    for path in progress(files, total=len(files), label=label):
        copy = target / path.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)


def move_entries(source: Path, target: Path) -> int:
    """Move what lies in one folder of the volume, which may be missing, to another; how many."""
    entries = list(source.iterdir()) if source.is_dir() else []
    with storage_errors(target):
        for entry in entries:
            target.mkdir(exist_ok=True)
            entry.replace(target / entry.name)
    return len(entries)


def appears(folder: Path) -> bool:
    """Whether a folder is there, or soon is: NFS remembers for a while that it was not."""
    until = time.monotonic() + APPEARS
    while not folder.is_dir():
        if time.monotonic() > until:
            return False
        time.sleep(1)
    return True


@contextmanager
def _held(volume: Path, name: str) -> Iterator[None]:
    """Hold the lock of this name against all machines, after waiting for another holder.

    The file is open for writing, without which NFS gives no exclusive lock, and removed afterwards.
    """
    path = volume / "locks" / name
    while True:
        with storage_errors(path):
            path.parent.mkdir(exist_ok=True)
            lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _lock(lock, path)
            if not _is_still(lock, path):
                continue  # its last holder has removed it
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
            return
        finally:
            os.close(lock)


def _lock(lock: int, path: Path) -> None:
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"train: another step holds {path}: waiting for its end")
            fcntl.flock(lock, fcntl.LOCK_EX)
    except OSError as error:
        raise StorageError(
            f"{path} cannot be locked ({error.strerror}): the volume has to be one with locks"
        ) from error


def _is_still(lock: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(lock), path.stat())
    except FileNotFoundError:
        return False
