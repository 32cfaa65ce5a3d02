"""What all backends share: crops in, unit embeddings out."""

import time
from abc import ABC, abstractmethod
from pathlib import Path

import numpy as np
import numpy.typing as npt

from facewright.datasets.crops import Crops
from facewright.models.recognizer import WEIGHTS, RecognizerCard, to_input
from facewright.progress import progress

BATCH = 64  # crops per call of a backend; larger ones are no faster on a CPU and take more memory
DECODED = 128  # crops of a dataset in memory at a time


class Recognizer(ABC):
    """An opened recognizer; a backend adds `run`."""

    batch = BATCH

    def __init__(self, folder: Path, card: RecognizerCard):
        self.card = card
        self.model_bytes = (folder / WEIGHTS[card.format]).stat().st_size

    @abstractmethod
    def run(self, images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """`(n, 3, S, S) float32` as the card wants it, 1 ≤ n ≤ `batch` → `(n, E) float32`."""

    def embed(self, crops: npt.NDArray[np.uint8], *, flip: bool = False) -> npt.NDArray[np.float32]:
        """Embeddings of `crops`.

        Args:
            crops: `(N, S, S, 3) uint8 RGB`, S the card's input size (112).
            flip: average the embedding of each crop with that of its mirror image (before
                normalizing, as ArcFace's evaluation does).

        Returns:
            `(N, E) float32` of Euclidean length 1, so that a dot product is the cosine
            similarity. An embedding of zeros stays zero: similar to nothing.
        """
        side = self.card.input_size
        if crops.dtype != np.uint8 or crops.shape[1:] != (side, side, 3):
            raise ValueError(
                f"crops must be (N, {side}, {side}, 3) uint8, got {crops.shape} {crops.dtype}"
            )
        embeddings = np.zeros((len(crops), self.card.embedding_size), np.float32)
        for start in range(0, len(crops), self.batch):
            part = crops[start : start + self.batch]
            raw = self.run(to_input(part, self.card))
            if flip:
                mirrored = self.run(to_input(part[:, :, ::-1], self.card))
                raw = np.asarray((raw + mirrored) / 2, np.float32)
            embeddings[start : start + self.batch] = raw
        length = np.linalg.norm(embeddings, axis=1, keepdims=True)
        length[length == 0] = 1
        embeddings /= length
        return embeddings


def embed_all(recognizer: Recognizer, crops: Crops, *, flip: bool) -> npt.NDArray[np.float32]:
    """`(N, E)` embeddings of all crops of a dataset, as `Recognizer.embed` gives them."""
    starts = range(0, len(crops), DECODED)
    batches = (
        recognizer.embed(crops.batch(np.arange(i, min(i + DECODED, len(crops)))), flip=flip)
        for i in starts
    )
    label = f"embed {recognizer.card.name}"
    return np.concatenate(list(progress(batches, total=len(starts), label=label)))


def latency(
    recognizer: Recognizer, crop: npt.NDArray[np.uint8], *, calls: int, flip: bool
) -> float:
    """Median wall-clock milliseconds of embedding one crop, preparation included.

    After a warm-up, on as many threads as the recognizer was opened with.

    Args:
        crop: `(S, S, 3) uint8 RGB`.
        calls: timed calls.
        flip: as in `Recognizer.embed`: the time is of what the accuracy is measured on.
    """
    one = crop[None]
    for _ in range(max(3, calls // 10)):
        recognizer.embed(one, flip=flip)
    times = np.empty(calls)
    for call in range(calls):
        start = time.perf_counter()
        recognizer.embed(one, flip=flip)
        times[call] = time.perf_counter() - start
    return float(np.median(times) * 1000)
