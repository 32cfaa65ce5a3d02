"""A recognizer written by hand as ONNX, so that these tests export nothing."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import helper, numpy_helper

from facewright.compression.quantization import quantize_onnx
from facewright.models.recognizer import write_card

EMBEDDING = 16


@pytest.fixture(scope="session")
def crops() -> npt.NDArray[np.uint8]:
    """Seven smooth colour patterns, `(7, 112, 112, 3) uint8`."""
    coarse = np.random.default_rng(0).integers(0, 256, (7, 8, 8, 3)).astype(np.uint8)
    return coarse.repeat(14, axis=1).repeat(14, axis=2)


@pytest.fixture(scope="session")
def fp32(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """conv, ReLU, residual block, linear layer: all that the small networks are made of."""
    folder = tmp_path_factory.mktemp("onnx") / "student"
    folder.mkdir()
    draw = np.random.default_rng(1)
    weights: dict[str, npt.NDArray[np.float32] | npt.NDArray[np.int64]] = {
        "w1": draw.normal(0, 0.2, (8, 3, 3, 3)).astype(np.float32),
        "b1": draw.normal(0, 0.2, 8).astype(np.float32),
        "w2": draw.normal(0, 0.2, (8, 8, 3, 3)).astype(np.float32),
        "b2": draw.normal(0, 0.2, 8).astype(np.float32),
        "w3": draw.normal(0, 0.2, (8, 8, 3, 3)).astype(np.float32),
        "b3": draw.normal(0, 0.2, 8).astype(np.float32),
        "flat": np.array([-1, 8 * 7 * 7]),
        "w4": draw.normal(0, 0.1, (EMBEDDING, 8 * 7 * 7)).astype(np.float32),
        "b4": draw.normal(0, 1, EMBEDDING).astype(np.float32),
    }
    same = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    stem = {"kernel_shape": [3, 3], "strides": [16, 16], "pads": [1, 1, 1, 1]}
    nodes = [
        helper.make_node("Conv", ["input", "w1", "b1"], ["c1"], "conv1", **stem),
        helper.make_node("Relu", ["c1"], ["r1"], "relu1"),
        helper.make_node("Conv", ["r1", "w2", "b2"], ["c2"], "conv2", **same),
        helper.make_node("Relu", ["c2"], ["r2"], "relu2"),
        helper.make_node("Conv", ["r2", "w3", "b3"], ["c3"], "conv3", **same),
        helper.make_node("Add", ["c3", "r1"], ["sum"], "add"),
        helper.make_node("Relu", ["sum"], ["r3"], "relu3"),
        helper.make_node("Reshape", ["r3", "flat"], ["view"], "flatten"),
        helper.make_node("Gemm", ["view", "w4", "b4"], ["embedding"], "gemm", transB=1),
    ]
    kind = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "recognizer",
        [helper.make_tensor_value_info("input", kind, ["batch", 3, 112, 112])],
        [helper.make_tensor_value_info("embedding", kind, ["batch", EMBEDDING])],
        [numpy_helper.from_array(values, name) for name, values in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, folder / "model.onnx")
    write_card(
        folder,
        name="student",
        format="onnx",
        network="by_hand",
        embedding_size=EMBEDDING,
        precision="fp32",
        data_digest="d" * 64,
        code_digest="c" * 64,
    )
    return folder


@pytest.fixture(scope="session")
def int8(fp32: Path, crops: npt.NDArray[np.uint8]) -> Path:
    folder = fp32.with_name("student-int8")
    quantize_onnx(fp32, folder, calibration=[crops], method="minmax")
    return folder
