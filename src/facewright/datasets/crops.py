"""Aligned crops for training and evaluation, by index, from a dataset of crops."""

import os
import threading
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from facewright.datasets.form import open_dataset
from facewright.datasets.tars import shard_path
from facewright.errors import DatasetError

MEMORY = 2 * 1024**3  # bytes of decoded crops that are kept
SIDE = 112  # px


class Crops:
    """The crops of a dataset folder whose status is `ok`, in the manifest's order.

    Crops stay in memory once decoded where all of them fit into `memory` bytes; else they are
    decoded at each call. Threads may call `batch` at the same time.
    """

    def __init__(self, root: Path, *, memory: int = MEMORY) -> None:
        dataset = open_dataset(root)
        table = dataset.manifest
        if "status" in table.columns:
            table = table[table["status"] == "ok"]
        if table.empty:
            raise DatasetError(f"{root} holds no usable crop: see the counts of align and validate")
        self.root = root
        self.digest = dataset.digest  # sha256 of the manifest
        self.ids: list[str] = table["id"].tolist()
        self.identities: list[str] = sorted(table["identity"].unique())
        number = {identity: k for k, identity in enumerate(self.identities)}
        # (N,) int64: the place of each crop's identity in `identities`.
        labels = [number[identity] for identity in table["identity"]]
        self.labels: npt.NDArray[np.int64] = np.array(labels, dtype=np.int64)
        self._places = list(zip(table["shard"], table["offset"], table["length"], strict=True))
        self._files: dict[str, int] = {}
        self._lock = threading.Lock()
        self._kept: npt.NDArray[np.uint8] | None = None
        self._known = np.zeros(len(self.ids), dtype=bool)
        if len(self.ids) * SIDE * SIDE * 3 <= memory:
            self._kept = np.empty((len(self.ids), SIDE, SIDE, 3), np.uint8)

    def __len__(self) -> int:
        return len(self.ids)

    def __del__(self) -> None:
        for file in getattr(self, "_files", {}).values():
            os.close(file)

    def batch(self, indices: Sequence[int] | npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        """The crops at `indices`: (B, 112, 112, 3) uint8 RGB, a copy.

        Raises:
            DatasetError: a crop cannot be read, or is no 112 × 112 image.
        """
        chosen = np.asarray(indices, dtype=np.int64)
        if self._kept is None:
            return np.stack([self._decode(i) for i in chosen]) if len(chosen) else _none()
        for i in chosen[~self._known[chosen]]:
            self._kept[i] = self._decode(i)
            self._known[i] = True
        return self._kept[chosen]

    def _decode(self, index: int) -> npt.NDArray[np.uint8]:
        shard, offset, length = self._places[index]
        # Crops are PNG files of our own: no orientation, no header to distrust.
        data = os.pread(self._open(shard), length, offset)
        pixels = np.frombuffer(data, np.uint8)
        image = cv2.imdecode(pixels, cv2.IMREAD_COLOR_RGB) if len(data) == length else None
        if image is None or image.shape != (SIDE, SIDE, 3):
            raise DatasetError(
                f"{self.root / shard}: {self.ids[index]!r} is no {SIDE} × {SIDE} crop: "
                "run align again"
            )
        crop: npt.NDArray[np.uint8] = image
        return crop

    def _open(self, shard: str) -> int:
        """A file to read at any place by any thread: pread has no position to fight over."""
        with self._lock:
            if shard not in self._files:
                try:
                    self._files[shard] = os.open(shard_path(self.root, shard), os.O_RDONLY)
                except OSError as error:
                    raise DatasetError(
                        f"{self.root / shard} cannot be read: run align again"
                    ) from error
            return self._files[shard]


def _none() -> npt.NDArray[np.uint8]:
    return np.empty((0, SIDE, SIDE, 3), np.uint8)
