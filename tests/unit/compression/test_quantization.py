"""INT8 stays close to FP32, has the form TensorRT reads, and is the same every time."""

import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from PIL import Image

from facewright.compression.quantization import METHODS, join_relu, parity, quantize_onnx
from facewright.engines import load_recognizer
from facewright.errors import EngineError
from facewright.models.recognizer import read_card


@pytest.fixture(scope="session", params=sorted(METHODS))
def int8(request: pytest.FixtureRequest, fp32: Path, crops: Any) -> Path:
    folder = fp32.with_name(f"int8-{request.param}")
    batches = (crops.images[i : i + 16] for i in range(0, 48, 16))
    quantize_onnx(fp32, folder, calibration=batches, method=request.param)
    return folder


def test_embeddings_stay_close(int8: Path, torch_folder: Path, crops: Any) -> None:
    reference = load_recognizer(torch_folder)
    for runtime in ("onnxruntime", "openvino"):
        recognizer = load_recognizer(int8, runtime=runtime)
        apart = parity(reference, recognizer, crops.images[48:])  # not seen in calibration
        assert apart["cosine_min"] >= 0.98
        assert apart["cosine_min"] <= apart["cosine_p01"] <= apart["cosine_mean"] <= 1.000001


def test_a_recognizer_agrees_with_itself(fp32: Path, crops: Any) -> None:
    recognizer = load_recognizer(fp32)
    apart = parity(recognizer, recognizer, crops.images)
    assert apart["max_difference"] == 0
    assert apart["cosine_min"] == pytest.approx(1, abs=1e-6)


def test_the_form_is_the_one_tensorrt_reads(int8: Path) -> None:
    graph = onnx.load(int8 / "model.onnx").graph
    constants = {value.name: numpy_helper.to_array(value) for value in graph.initializer}
    producers = {output: node for node in graph.node for output in node.output}
    pairs = [n for n in graph.node if n.op_type in ("QuantizeLinear", "DequantizeLinear")]
    for node in pairs:
        assert constants[node.input[2]].dtype == np.int8
        assert not constants[node.input[2]].any()
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    assert "input" in convolutions[0].input
    for node in [*convolutions[1:], *(n for n in graph.node if n.op_type == "Gemm")]:
        weights = producers[node.input[1]]
        assert producers[node.input[0]].op_type == weights.op_type == "DequantizeLinear"
        shape = constants[weights.input[0]].shape
        assert constants[weights.input[1]].shape == shape[:1]  # a step per output channel
        assert node.input[2] in constants  # the bias is not quantized
    for node in graph.node:
        if node.op_type == "Add":
            kinds = {producers[name].op_type for name in node.input}
            assert kinds == {"DequantizeLinear"}
        if node.op_type == "Relu":
            assert producers[node.input[0]].op_type in ("Conv", "Add")
    assert producers["embedding"].op_type == "Gemm"


@pytest.mark.parametrize("named", [True, False])
def test_the_pair_before_a_relu_goes_and_every_other_stays(named: bool) -> None:
    """The names of nodes say nothing: a file may leave them all empty."""

    def pair(source: str, target: str) -> list[onnx.NodeProto]:
        middle = f"{target}_q"
        return [
            helper.make_node("QuantizeLinear", [source, "step", "zero"], [middle]),
            helper.make_node("DequantizeLinear", [middle, "step", "zero"], [target]),
        ]

    nodes = [
        *pair("input", "a"),
        helper.make_node("Neg", ["a"], ["b"]),
        *pair("b", "c"),
        helper.make_node("Relu", ["c"], ["d"]),
        *pair("d", "e"),
        helper.make_node("Neg", ["e"], ["f"]),
        *pair("f", "g"),
        helper.make_node("Relu", ["g"], ["h"]),  # here the value before it is used as well
        helper.make_node("Add", ["g", "h"], ["embedding"]),
    ]
    if named:
        for number, node in enumerate(nodes):
            node.name = f"node {number}"
    kind = onnx.TensorProto.FLOAT
    ends = [helper.make_tensor_value_info(name, kind, [2]) for name in ("input", "embedding")]
    constants = {"step": np.array(0.5, np.float32), "zero": np.array(0, np.int8)}
    graph = helper.make_graph(
        nodes,
        "g",
        ends[:1],
        ends[1:],
        [numpy_helper.from_array(v, k) for k, v in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    join_relu(model)
    onnx.checker.check_model(model, full_check=True)
    left = [(node.op_type, *node.output) for node in model.graph.node]
    assert left == [(n.op_type, *n.output) for n in nodes if n.output[0] not in ("c_q", "c")]
    first = next(node for node in model.graph.node if node.op_type == "Relu")
    assert list(first.input) == ["b"]


def test_card_and_size(int8: Path, fp32: Path) -> None:
    card, source = read_card(int8), read_card(fp32)
    assert (card.name, card.precision, card.format) == ("student-int8", "int8", "onnx")
    assert card.data_digest == source.data_digest
    small, large = load_recognizer(int8).model_bytes, load_recognizer(fp32).model_bytes
    assert small < 0.4 * large
    assert sorted(path.name for path in int8.iterdir()) == ["model.onnx", "recognizer.yaml"]


def test_same_input_same_bytes(int8: Path, fp32: Path, crops: Any, tmp_path: Path) -> None:
    batches = (crops.images[i : i + 16] for i in range(0, 48, 16))
    method = int8.name.removeprefix("int8-")
    again = quantize_onnx(fp32, tmp_path / "again", calibration=batches, method=method)
    assert again.weights_sha256 == read_card(int8).weights_sha256


def test_minmax_does_not_depend_on_the_batches(fp32: Path, crops: Any, tmp_path: Path) -> None:
    def ranges(size: int) -> list[float]:
        batches = [crops.images[i : i + size] for i in range(0, 48, size)]
        folder = tmp_path / str(size)
        quantize_onnx(fp32, folder, calibration=batches, method="minmax")
        graph = onnx.load(folder / "model.onnx").graph
        scales = [value for value in graph.initializer if value.name.endswith("_scale")]
        return [float(numpy_helper.to_array(value).max()) for value in scales]

    np.testing.assert_allclose(ranges(8), ranges(48), rtol=1e-5)


def test_nothing_on_standard_output(
    fp32: Path, crops: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    quantize_onnx(fp32, tmp_path / "int8", calibration=[crops.images], method="percentile")
    out, err = capfd.readouterr()
    assert out == ""
    assert "pre-processing" not in err


def test_wrong_input_is_refused(fp32: Path, torch_folder: Path, crops: Any, tmp_path: Path) -> None:
    output = tmp_path / "int8"
    with pytest.raises(EngineError, match="no crops to calibrate"):
        quantize_onnx(fp32, output, calibration=[], method="minmax")
    with pytest.raises(EngineError, match="choose one of minmax, percentile, entropy"):
        quantize_onnx(fp32, output, calibration=[crops.images], method="mean")
    with pytest.raises(EngineError, match="starts from FP32 ONNX"):
        quantize_onnx(torch_folder, output, calibration=[crops.images], method="minmax")


@pytest.mark.realdata
def test_parity_on_real_faces(fp32: Path, shared_data: Path, tmp_path: Path) -> None:
    faces = []
    with tarfile.open(shared_data / "lfw" / "lfw-deepfunneled.tgz") as archive:
        for member in archive:
            file = archive.extractfile(member) if member.name.endswith(".jpg") else None
            if file is not None:
                photo = Image.open(io.BytesIO(file.read())).convert("RGB")
                faces.append(np.asarray(photo.crop((69, 69, 181, 181))))
            if len(faces) == 96:
                break
    real = np.stack(faces)
    quantize_onnx(fp32, tmp_path / "int8", calibration=[real[:48]], method="percentile")
    apart = parity(load_recognizer(fp32), load_recognizer(tmp_path / "int8"), real[48:])
    assert apart["cosine_min"] >= 0.98
