"""Networks to and from recognizer folders; safetensors only, so that loading runs no code."""

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from facewright.errors import EngineError, TrainingError
from facewright.files import storage_errors
from facewright.models import build_network
from facewright.models.recognizer import WEIGHTS, RecognizerCard, read_card, write_card


def save_network(
    folder: Path,
    network_module: nn.Module,
    *,
    name: str,
    network: str,
    embedding_size: int,
    data_digest: str,
    code_digest: str,
) -> RecognizerCard:
    """Write `folder` as a recognizer: `model.safetensors` and its card.

    `network` is the architecture that `build_network` knows; the digests are those of the crops
    and of the code that made the weights. The same weights give the same bytes.
    """
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        weights = {
            key: value.detach().to("cpu", memory_format=torch.contiguous_format).contiguous()
            for key, value in network_module.state_dict().items()
        }
        save_file(weights, folder / WEIGHTS["torch"])
        return write_card(
            folder,
            name=name,
            format="torch",
            network=network,
            embedding_size=embedding_size,
            precision="fp32",
            data_digest=data_digest,
            code_digest=code_digest,
        )


def load_network(folder: Path) -> nn.Module:
    """The network of a PyTorch recognizer folder, on the CPU, in evaluation mode.

    Raises:
        EngineError: the folder holds no PyTorch recognizer, or its weights do not fit the
            architecture on the card.
    """
    card = read_card(folder)
    if card.format != "torch":
        raise EngineError(
            f"{folder} holds a recognizer in {card.format} form: PyTorch cannot run it"
        )
    path = folder / WEIGHTS["torch"]
    try:
        # Loading draws initial weights and throws them away: the caller's generator stays as it is.
        with torch.random.fork_rng(devices=[]):
            network = build_network(card.network, embedding_size=card.embedding_size)
        network.load_state_dict(load_file(path))
    except (RuntimeError, SafetensorError, TrainingError) as error:
        raise EngineError(f"{path} is no {card.network}: {error}") from error
    return network.eval()
