"""Any backend: the same crops give the same unit embeddings, and what cannot be run is refused."""

import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
import torch

from facewright.engines import Recognizer, latency, load_recognizer
from facewright.engines.onnxruntime_backend import integer_biases, unsigned_activations
from facewright.errors import EngineError
from facewright.models import build_network
from facewright.models.recognizer import read_card, to_input
from facewright.models.weights import save_network

Crops = npt.NDArray[np.uint8]


class Linear(Recognizer):
    """A backend that multiplies the pixels with fixed weights, and counts its calls."""

    batch = 3

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, read_card(folder))
        shape = (3 * 112 * 112, self.card.embedding_size)
        self.weights = np.random.default_rng(2).normal(size=shape).astype(np.float32)
        self.calls: list[int] = []

    def run(self, images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        self.calls.append(len(images))
        return images.reshape(len(images), -1) @ self.weights


@pytest.fixture(scope="session")
def torch_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("torch") / "teacher"
    torch.manual_seed(0)
    network = build_network("resnet_tiny", embedding_size=16).eval()
    digests = {"data_digest": "d" * 64, "code_digest": "c" * 64}
    save_network(
        folder, network, name="teacher", network="resnet_tiny", embedding_size=16, **digests
    )
    return folder


@pytest.fixture(params=["torch", "onnxruntime", "openvino", "int8"])
def recognizer(request: pytest.FixtureRequest, torch_folder: Path, fp32: Path) -> Recognizer:
    match request.param:
        case "torch":
            return load_recognizer(torch_folder)
        case "int8":
            return load_recognizer(request.getfixturevalue("int8"))
        case runtime:
            return load_recognizer(fp32, runtime=runtime)


def test_embeddings_have_length_one_and_do_not_depend_on_the_batch(
    recognizer: Recognizer, crops: Crops
) -> None:
    together = recognizer.embed(crops)
    assert together.shape == (len(crops), recognizer.card.embedding_size)
    assert together.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-6)
    apart = np.concatenate([recognizer.embed(crops[i : i + 1]) for i in range(len(crops))])
    np.testing.assert_allclose(together, apart, atol=1e-5)
    # Different faces are told apart at all: else the comparisons above would prove nothing.
    assert np.abs(together[0] - together[1]).max() > 1e-3


def test_flip_averages_with_the_mirror_image(recognizer: Recognizer, crops: Crops) -> None:
    flipped = recognizer.embed(crops, flip=True)
    raw = recognizer.run(to_input(crops, recognizer.card))
    mirror = recognizer.run(to_input(np.ascontiguousarray(crops[:, :, ::-1]), recognizer.card))
    manual = (raw + mirror) / 2
    manual /= np.linalg.norm(manual, axis=1, keepdims=True)
    np.testing.assert_allclose(flipped, manual, atol=1e-5)
    # A crop and its mirror image become the same.
    swapped = recognizer.embed(np.ascontiguousarray(crops[:, :, ::-1]), flip=True)
    np.testing.assert_allclose(flipped, swapped, atol=1e-5)
    assert np.abs(flipped - recognizer.embed(crops)).max() > 1e-3


def test_results_are_not_overwritten_by_the_next_call(recognizer: Recognizer, crops: Crops) -> None:
    first = recognizer.run(to_input(crops[:2], recognizer.card))
    copy = first.copy()
    recognizer.run(to_input(crops[2:4], recognizer.card))
    np.testing.assert_array_equal(first, copy)


def test_large_input_is_cut_into_batches(fp32: Path, crops: Crops) -> None:
    recognizer = Linear(fp32)
    whole = recognizer.embed(crops)
    assert recognizer.calls == [3, 3, 1]
    recognizer.batch = 100
    np.testing.assert_allclose(recognizer.embed(crops), whole, atol=1e-6)
    assert recognizer.embed(crops[:0]).shape == (0, recognizer.card.embedding_size)


def test_an_embedding_of_zeros_stays_zero(fp32: Path, crops: Crops) -> None:
    recognizer = Linear(fp32)
    recognizer.weights[:] = 0
    embeddings = recognizer.embed(crops, flip=True)
    assert not embeddings.any()
    assert not np.isnan(embeddings).any()


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((1, 112, 112, 3), np.float32),
        np.zeros((1, 3, 112, 112), np.uint8),
        np.zeros((112, 112, 3), np.uint8),
    ],
)
def test_crops_of_another_form_are_refused(fp32: Path, wrong: Any) -> None:
    with pytest.raises(ValueError, match=r"\(N, 112, 112, 3\) uint8"):
        Linear(fp32).embed(wrong)


def test_backends_agree(fp32: Path, int8: Path, crops: Crops) -> None:
    reference = load_recognizer(fp32).embed(crops)
    np.testing.assert_allclose(
        load_recognizer(fp32, runtime="openvino").embed(crops), reference, atol=1e-5
    )
    for runtime in ("onnxruntime", "openvino"):
        quantized = load_recognizer(int8, runtime=runtime).embed(crops)
        assert (quantized * reference).sum(axis=1).min() > 0.99


def test_unsigned_activations_change_no_number(int8: Path, crops: Crops) -> None:
    """The range was calibrated on these crops, so that nothing is clipped in either form."""
    path = int8 / "model.onnx"
    images = to_input(crops, read_card(int8))
    before = _plain(onnx.load(path)).run(None, {"input": images})[0]
    shifted = unsigned_activations(onnx.load(path))
    after = _plain(shifted).run(None, {"input": images})[0]
    np.testing.assert_allclose(after, before, rtol=1e-5, atol=1e-5)
    rounded = integer_biases(shifted)
    onnx.checker.check_model(rounded, full_check=True)
    step = np.abs(before).max() / 127
    assert np.abs(_plain(rounded).run(None, {"input": images})[0] - before).max() < step / 10


def test_onnx_runtime_runs_the_quantized_network_in_integers(int8: Path, tmp_path: Path) -> None:
    """Else INT8 is slower than FP32: no ReLU, sum or weight may be left in floating point."""
    model = integer_biases(unsigned_activations(onnx.load(int8 / "model.onnx")))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    onnxruntime.InferenceSession(model.SerializeToString(), options)
    kinds = [node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node]
    assert kinds.count("QLinearConv") == 2  # all but the first
    assert kinds.count("QLinearAdd") == 1
    assert kinds.count("QGemm") == 1
    assert "DequantizeLinear" not in kinds


def test_threads_are_honoured(fp32: Path, torch_folder: Path, crops: Crops) -> None:
    session: Any = load_recognizer(fp32, threads=2)
    assert session.session.get_session_options().intra_op_num_threads == 2
    openvino: Any = load_recognizer(fp32, runtime="openvino", threads=2)
    assert openvino.model.get_property("INFERENCE_NUM_THREADS") == 2
    network: Any = load_recognizer(torch_folder, threads=2)
    seen: list[int] = []
    network.network.register_forward_hook(lambda *_: seen.append(torch.get_num_threads()))
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        network.embed(crops)
        assert seen == [2]
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_model_bytes_are_those_of_the_weights(recognizer: Recognizer, fp32: Path) -> None:
    assert load_recognizer(fp32).model_bytes == (fp32 / "model.onnx").stat().st_size
    assert recognizer.model_bytes > 0


def test_latency_times_single_crops(fp32: Path, crops: Crops) -> None:
    recognizer = Linear(fp32)
    assert latency(recognizer, crops[0], calls=20, flip=False) > 0
    assert set(recognizer.calls) == {1}
    single = len(recognizer.calls)
    assert single > 20  # a warm-up came first
    # With the mirror image, the network works twice, and both are in the time.
    latency(recognizer, crops[0], calls=20, flip=True)
    assert len(recognizer.calls) == single + 2 * single


def test_latency_is_the_median_in_milliseconds(
    fp32: Path, crops: Crops, monkeypatch: pytest.MonkeyPatch
) -> None:
    recognizer = Linear(fp32)
    clock = iter([0.0, 0.004, 1.0, 1.005, 2.0, 2.9, 3.0, 3.001, 4.0, 4.007])
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    assert latency(recognizer, crops[0], calls=5, flip=False) == pytest.approx(5.0)


def test_changed_weights_are_refused(fp32: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(fp32, tmp_path / "student")
    with (folder / "model.onnx").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(EngineError, match="digest"):
        load_recognizer(folder)


def test_what_is_no_recognizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="not a recognizer"):
        load_recognizer(tmp_path / "nowhere")


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_file_that_is_no_onnx_is_refused(tmp_path: Path, runtime: str, precision: str) -> None:
    from facewright.models.recognizer import write_card

    (tmp_path / "model.onnx").write_bytes(b"this is no network")
    write_card(
        tmp_path,
        name="student",
        format="onnx",
        network="by_hand",
        embedding_size=16,
        precision=precision,
        data_digest="",
        code_digest="",
    )
    with pytest.raises(EngineError, match=r"model\.onnx: .* cannot open it") as caught:
        load_recognizer(tmp_path, runtime=runtime)
    assert "\n" not in str(caught.value)


def test_unknown_runtime_and_thread_count_are_refused(fp32: Path) -> None:
    with pytest.raises(EngineError, match="onnxruntime, openvino"):
        load_recognizer(fp32, runtime="onnx")
    with pytest.raises(EngineError, match="threads is 0"):
        load_recognizer(fp32, threads=0)


def _plain(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    """A session that runs the graph node by node, without fusing anything."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options)


DROPPED_ELSEWHERE = """
import signal, sys, threading
from pathlib import Path
from facewright.engines import load_recognizer

held = [load_recognizer(Path(sys.argv[1]), runtime=sys.argv[2])]
thread = threading.Thread(target=held.clear)
thread.start()
thread.join()
signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(7))
signal.raise_signal(signal.SIGTERM)
"""


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_signals_work_after_a_recognizer_is_dropped_on_another_thread(
    fp32: Path, runtime: str
) -> None:
    command = [sys.executable, "-c", DROPPED_ELSEWHERE, str(fp32), runtime]
    assert subprocess.run(command, check=False).returncode == 7
