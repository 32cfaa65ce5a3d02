"""A PyTorch network on the CPU."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from facewright.engines.recognizer import Recognizer
from facewright.models.recognizer import RecognizerCard
from facewright.models.weights import load_network


class TorchRecognizer(Recognizer):
    """Weights from safetensors, run in float32 and in evaluation mode."""

    def __init__(self, folder: Path, card: RecognizerCard, *, threads: int):
        super().__init__(folder, card)
        self.threads = threads
        self.network = load_network(folder)
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def run(self, images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        # PyTorch has one thread count per process: borrow it, and give it back.
        before = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        try:
            with torch.inference_mode():
                batch = torch.from_numpy(images).to(memory_format=torch.channels_last)
                embeddings: npt.NDArray[np.float32] = self.network(batch).numpy()
        finally:
            torch.set_num_threads(before)
        return embeddings
