"""Recognizer folders, most with a few bytes for weights, for the tests of what stores them."""

from pathlib import Path

from facewright.models.recognizer import WEIGHTS, write_card

EMBEDDING = 16  # of networks that run
KINDS = {"teacher": "torch", "student": "onnx", "student-int8": "onnx"}


def write_recognizer(folder: Path, *, name: str, kind: str, content: bytes) -> Path:
    """Write weights and card of a recognizer of format `kind`; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / WEIGHTS[kind]).write_bytes(content)
    write_card(
        folder,
        name=name,
        format=kind,
        network="resnet_tiny",
        embedding_size=8,
        precision="int8" if "int8" in name else "fp32",
        data_digest="d" * 64,
        code_digest="c" * 64,
        engine={"target": "sm86"} if kind == "engine" else {},
    )
    return folder


def write_networks(root: Path) -> dict[str, Path]:
    """Two networks that can be run, and differ in their weights; their folders by name."""
    import torch

    from facewright.models import build_network
    from facewright.models.weights import save_network

    made = {}
    for seed, name in enumerate(("teacher", "student-torch")):
        torch.manual_seed(seed)
        made[name] = root / name
        save_network(
            made[name],
            build_network("resnet_tiny", embedding_size=EMBEDDING),
            name=name,
            network="resnet_tiny",
            embedding_size=EMBEDDING,
            data_digest="d" * 64,
            code_digest="c" * 64,
        )
    return made


class Folders:
    """Recognizers that differ by `seed`, in folders below `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def __call__(self, seed: str, *, engine: bytes | None = None) -> dict[str, Path]:
        contents = {name: (kind, f"{seed} {name}".encode()) for name, kind in KINDS.items()}
        if engine is not None:
            contents["student-sm86"] = ("engine", engine)
        return {
            name: write_recognizer(self.root / seed / name, name=name, kind=kind, content=content)
            for name, (kind, content) in contents.items()
        }
