"""INT8 recognizers: quantizers and dequantizers (Q/DQ) in the ONNX file, set on real crops."""

import contextlib
import io
import logging
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    create_calibrator,
    quantize_static,
    save_tensors_data,
)

from facewright.compression.onnx_export import INPUT, ROOMS, scrub
from facewright.engines import Recognizer
from facewright.errors import EngineError
from facewright.files import code_digest, storage_errors
from facewright.models.recognizer import (
    WEIGHTS,
    RecognizerCard,
    derive_card,
    read_card,
    to_input,
)

METHODS = {
    "minmax": CalibrationMethod.MinMax,
    "percentile": CalibrationMethod.Percentile,
    "entropy": CalibrationMethod.Entropy,
}
# Symmetric without zero points, and biases left in float32: what TensorRT's parser accepts. The
# embedding itself is not quantized: it leaves the network once, in full precision.
OPTIONS = {
    "ActivationSymmetric": True,
    "WeightSymmetric": True,
    "QuantizeBias": False,
    "OpTypesToExcludeOutputQuantization": ["Gemm", "MatMul"],
}


def quantize_onnx(
    fp32_folder: Path,
    int8_folder: Path,
    *,
    calibration: Iterable[npt.NDArray[np.uint8]],
    method: str,
) -> RecognizerCard:
    """Write the INT8 form of an FP32 ONNX recognizer; its name ends in `-int8`.

    Weights are quantized per output channel, activations per tensor (Nagel et al., 2021,
    arXiv:2106.08295), residual sums included, so that a network of convolutions, ReLUs and sums
    runs in integers between its first convolution and its embedding. The first one stays in
    float32: three channels fill no integer kernel, and the pixels keep their precision. So do
    PReLU and a BatchNorm that leads. The same file, crops and method give the same bytes.

    Args:
        calibration: batches of crops, `(n, S, S, 3) uint8 RGB`, read once; memory holds one
            batch's activations at a time.
        method: how the range of an activation comes from those seen: `minmax`, `percentile`
            (99.999 % of them), `entropy` (least Kullback–Leibler divergence).

    Raises:
        EngineError: `fp32_folder` holds no FP32 ONNX recognizer, the method is unknown, or there
            are no crops.
    """
    source = read_card(fp32_folder)
    if source.format != "onnx" or source.precision != "fp32":
        raise EngineError(
            f"{fp32_folder} holds a recognizer in {source.precision} {source.format} form: "
            "quantization starts from FP32 ONNX"
        )
    if method not in METHODS:
        raise EngineError(f"unknown method {method!r}: choose one of {', '.join(METHODS)}")
    with storage_errors(int8_folder):
        int8_folder.mkdir(parents=True, exist_ok=True)
        path = int8_folder / WEIGHTS["onnx"]
        with tempfile.TemporaryDirectory() as scratch, _quiet():
            ranges = Path(scratch) / "ranges.json"
            _calibrate(fp32_folder, source, calibration, METHODS[method], ranges)
            quantize_static(
                fp32_folder / WEIGHTS["onnx"],
                path,
                None,
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                activation_type=QuantType.QInt8,
                weight_type=QuantType.QInt8,
                calibrate_method=METHODS[method],
                nodes_to_exclude=_first_convolution(fp32_folder / WEIGHTS["onnx"]),
                calibration_cache_path=ranges,
                extra_options=OPTIONS,
            )
        model = onnx.load(path)
        join_relu(model)
        scrub(model)
        onnx.checker.check_model(model, full_check=True)
        path.write_bytes(model.SerializeToString(deterministic=True))
        return derive_card(
            int8_folder,
            source,
            name=f"{source.name}-int8",
            precision="int8",
            code_digest=code_digest(*ROOMS),
        )


def join_relu(model: onnx.ModelProto) -> None:
    """Take out the Q/DQ pair in front of each ReLU, in place.

    ONNX Runtime's quantizer puts one there whenever activations are symmetric. Without it a
    convolution (or sum), its ReLU and the quantizer behind them become one integer kernel, and
    the value is rounded once instead of twice.
    """
    graph = model.graph
    producers = {output: node for node in graph.node for output in node.output}
    uses: dict[str, int] = {value.name: 1 for value in graph.output}
    for node in graph.node:
        for name in node.input:
            uses[name] = uses.get(name, 0) + 1
    dropped = set()
    for node in graph.node:
        last = producers.get(node.input[0]) if node.op_type == "Relu" else None
        if last is None or last.op_type != "DequantizeLinear":
            continue
        first = producers[last.input[0]]
        if uses[last.output[0]] == uses[first.output[0]] == 1:
            node.input[0] = first.input[0]
            dropped |= {first.output[0], last.output[0]}
    nodes = [node for node in graph.node if node.output[0] not in dropped]
    used = {name for node in nodes for name in node.input}
    initializers = [value for value in graph.initializer if value.name in used]
    for field, values in ((graph.node, nodes), (graph.initializer, initializers)):
        del field[:]
        field.extend(values)
    del graph.value_info[:]  # some are gone; whoever reads the file infers them


def parity(
    reference: Recognizer, other: Recognizer, crops: npt.NDArray[np.uint8]
) -> dict[str, float]:
    """Cosine between the embeddings that two recognizers give the same crops.

    Args:
        crops: `(N, S, S, 3) uint8 RGB`, N ≥ 1, real ones: noise says little about faces.

    Returns:
        `cosine_min`, `cosine_p01` (1st percentile), `cosine_mean`, and `max_difference`, the
        largest absolute difference between values of the normalized embeddings.
    """
    a, b = reference.embed(crops), other.embed(crops)
    cosine = np.sum(a * b, axis=1, dtype=np.float64)
    return {
        "cosine_min": float(cosine.min()),
        "cosine_p01": float(np.percentile(cosine, 1)),
        "cosine_mean": float(cosine.mean()),
        "max_difference": float(np.abs(a - b).max()),
    }


def _first_convolution(path: Path) -> list[str]:
    return [node.name for node in onnx.load(path).graph.node if node.op_type == "Conv"][:1]


class _Batch(CalibrationDataReader):  # type: ignore[misc]
    """A single batch, in the form that the calibrator reads."""

    def __init__(self, images: npt.NDArray[np.float32]):
        self.waiting: dict[str, Any] | None = {INPUT: images}

    def get_next(self) -> dict[str, Any] | None:
        batch, self.waiting = self.waiting, None
        return batch


def _calibrate(
    folder: Path,
    card: RecognizerCard,
    calibration: Iterable[npt.NDArray[np.uint8]],
    method: CalibrationMethod,
    ranges: Path,
) -> None:
    """Run the crops through the FP32 network and write each activation's range."""
    calibrator = create_calibrator(
        folder / WEIGHTS["onnx"],
        augmented_model_path=str(ranges.with_name("augmented.onnx")),
        calibrate_method=method,
        extra_options={"symmetric": True},
    )
    empty = True
    for crops in calibration:
        if len(crops):
            # Handed over one by one: the calibrator keeps every activation of what it is given.
            calibrator.collect_data(_Batch(to_input(crops, card)))
            empty = False
    if empty:
        raise EngineError(f"no crops to calibrate {card.name} on: give it some training crops")
    save_tensors_data(calibrator.compute_data(), ranges)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without ONNX Runtime's progress on standard output and its advice on pre-processing.

    The export has done that already: shapes are inferred and BatchNorms folded.
    """
    before = logging.root.level
    logging.root.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.root.setLevel(before)
