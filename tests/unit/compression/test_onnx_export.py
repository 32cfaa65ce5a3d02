"""The ONNX file computes what PyTorch computes, and says nothing about the machine."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from torch import nn

import facewright
from facewright.compression.onnx_export import export_onnx
from facewright.compression.quantization import parity
from facewright.engines import load_recognizer
from facewright.models.recognizer import read_card


def test_parity_with_pytorch(fp32: Path, torch_folder: Path, crops: Any) -> None:
    reference = load_recognizer(torch_folder)
    for runtime in ("onnxruntime", "openvino"):
        apart = parity(reference, load_recognizer(fp32, runtime=runtime), crops.images)
        assert apart["max_difference"] < 1e-4
        assert apart["cosine_min"] > 0.99999


def test_batch_is_dynamic(fp32: Path, crops: Any) -> None:
    recognizer = load_recognizer(fp32)
    whole = recognizer.embed(crops.images)
    for count in (1, 2, 5, 64, 65):
        np.testing.assert_allclose(recognizer.embed(crops.images[:count]), whole[:count], atol=1e-5)


def test_one_file_with_folded_batchnorms(fp32: Path) -> None:
    assert sorted(path.name for path in fp32.iterdir()) == ["model.onnx", "recognizer.yaml"]
    model = onnx.load(fp32 / "model.onnx", load_external_data=False)
    onnx.checker.check_model(model, full_check=True)
    kinds = {node.op_type for node in model.graph.node}
    assert kinds == {"Conv", "Relu", "Add", "Reshape", "Gemm"}
    assert all(not value.external_data for value in model.graph.initializer)


def test_card_is_that_of_the_source(fp32: Path, torch_folder: Path) -> None:
    source, card = read_card(torch_folder), read_card(fp32)
    assert (card.format, card.precision) == ("onnx", "fp32")
    same = ("name", "network", "embedding_size", "data_digest", "input_size", "colour", "mean")
    for field in same:
        assert getattr(card, field) == getattr(source, field)


def test_same_weights_same_bytes_and_no_paths(
    fp32: Path, torch_folder: Path, teacher: nn.Module, tmp_path: Path
) -> None:
    again = export_onnx(teacher, tmp_path / "again", source=read_card(torch_folder))
    assert again.weights_sha256 == read_card(fp32).weights_sha256
    content = (fp32 / "model.onnx").read_bytes()
    assert str(Path(facewright.__file__).parent).encode() not in content
    assert b".py" not in content


def test_the_network_is_left_as_it_was(
    teacher: nn.Module, torch_folder: Path, tmp_path: Path
) -> None:
    teacher.train()
    before = {key: value.clone() for key, value in teacher.state_dict().items()}
    try:
        card = export_onnx(teacher, tmp_path / "student", source=read_card(torch_folder))
        assert teacher.training
    finally:
        teacher.eval()
    assert all((before[key] == value).all() for key, value in teacher.state_dict().items())
    # Exported in evaluation mode all the same: BatchNorms are folded.
    assert card.precision == "fp32"
    kinds = {node.op_type for node in onnx.load(tmp_path / "student" / "model.onnx").graph.node}
    assert "BatchNormalization" not in kinds
