"""Networks to disk and back."""

import hashlib
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
import yaml

from facewright.errors import EngineError
from facewright.models import build_network
from facewright.models.recognizer import (
    CARD,
    WEIGHTS,
    derive_card,
    read_card,
    to_input,
    write_card,
)
from facewright.models.weights import load_network, save_network

ABOUT = {"name": "teacher", "embedding_size": 16, "data_digest": "d", "code_digest": "c"}


@pytest.fixture
def network() -> torch.nn.Module:
    torch.manual_seed(3)
    network = build_network("resnet_tiny", embedding_size=16, dropout=0.4)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    network.train()(torch.randn(4, 3, 112, 112))
    return network.eval()


def test_a_derived_card_keeps_all_but_the_changes_and_the_weights(tmp_path: Path) -> None:
    for folder, kind in (("source", "torch"), ("made", "onnx")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / WEIGHTS[kind]).write_bytes(folder.encode())
    about = ABOUT | {"network": "resnet_tiny", "format": "torch", "precision": "fp32"}
    other = {"input_size": 64, "colour": "BGR", "mean": 1.0, "scale": 2.0, "engine": {"a": 1}}
    source = write_card(tmp_path / "source", **about, **other)
    changes = {"format": "onnx", "precision": "int8", "name": "student-int8"}
    made = derive_card(tmp_path / "made", source, **changes)
    assert read_card(tmp_path / "made") == made
    digest = hashlib.sha256(b"made").hexdigest()
    assert asdict(made) == asdict(source) | changes | {"weights_sha256": digest}
    assert made.weights_sha256 != source.weights_sha256
    with pytest.raises(TypeError, match="colours"):
        derive_card(tmp_path / "made", source, format="onnx", colours="RGB")


def test_round_trip_keeps_every_bit(tmp_path: Path, network: torch.nn.Module) -> None:
    card = save_network(tmp_path / "a", network, network="resnet_tiny", **ABOUT)
    assert read_card(tmp_path / "a") == card
    assert (card.format, card.precision, card.colour) == ("torch", "fp32", "RGB")
    before = torch.random.get_rng_state()
    loaded = load_network(tmp_path / "a")
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not loaded.training
    state = loaded.state_dict()
    assert list(state) == list(network.state_dict())
    for key, value in network.state_dict().items():
        assert torch.equal(value, state[key])
    again = save_network(tmp_path / "b", loaded, network="resnet_tiny", **ABOUT)
    assert again.weights_sha256 == card.weights_sha256


def test_weights_of_another_architecture_are_refused(
    tmp_path: Path, network: torch.nn.Module
) -> None:
    save_network(tmp_path, network, network="resnet_small", **ABOUT)
    with pytest.raises(EngineError, match="is no resnet_small"):
        load_network(tmp_path)


def test_tampered_weights_are_refused(tmp_path: Path, network: torch.nn.Module) -> None:
    save_network(tmp_path, network, network="resnet_tiny", **ABOUT)
    path = tmp_path / WEIGHTS["torch"]
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(EngineError, match="its digest is not the one"):
        load_network(tmp_path)


def test_a_file_that_is_no_safetensors_is_refused(tmp_path: Path) -> None:
    """A pickle under the right name is not executed, whatever its card says."""
    torch.save({"weight": torch.zeros(1)}, tmp_path / WEIGHTS["torch"])
    write_card(tmp_path, format="torch", network="resnet_tiny", precision="fp32", **ABOUT)
    with pytest.raises(EngineError, match="is no resnet_tiny"):
        load_network(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"colours": "RGB"}, r"unknown keys \['colours'\]"),
        ({"format": "pickle"}, "not a recognizer card"),
        ({"format": "onnx"}, "model.onnx is missing"),
    ],
)
def test_a_bad_card_is_refused_in_one_line(
    tmp_path: Path, network: torch.nn.Module, change: dict[str, str], message: str
) -> None:
    save_network(tmp_path, network, network="resnet_tiny", **ABOUT)
    path = tmp_path / CARD
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | change))
    with pytest.raises(EngineError, match=message):
        load_network(tmp_path)


def test_a_folder_without_card_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"is not a recognizer: recognizer.yaml is missing"):
        load_network(tmp_path)


def test_input_is_scaled_as_the_card_says(tmp_path: Path, network: torch.nn.Module) -> None:
    card = save_network(tmp_path, network, network="resnet_tiny", **ABOUT)
    crop = torch.zeros(1, 112, 112, 3, dtype=torch.uint8)
    crop[..., 0] = 255
    values = to_input(crop.numpy(), card)
    assert values.shape == (1, 3, 112, 112)
    assert (values[0, 0] == 1).all()
    assert (values[0, 1:] == -1).all()
