"""An ONNX recognizer in ONNX Runtime, on the CPU."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import helper, numpy_helper

from facewright.engines.recognizer import Recognizer
from facewright.errors import EngineError
from facewright.models.recognizer import WEIGHTS, RecognizerCard

SHIFT = 128  # between a signed and an unsigned byte
PASSING = ("Reshape", "Flatten", "Transpose")  # give out the values that came in


class OnnxRuntimeRecognizer(Recognizer):
    """One session. INT8 files, stored as TensorRT wants them, are put into ONNX Runtime's form."""

    def __init__(self, folder: Path, card: RecognizerCard, *, threads: int):
        super().__init__(folder, card)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        if not _has_vnni():
            # There sums of u8 × s8 products saturate at 16 bits; this takes the exact way.
            options.add_session_config_entry("session.x64quantprecision", "1")
        path = folder / WEIGHTS["onnx"]
        try:
            model: bytes | str = str(path)
            if card.precision == "int8":
                quantized = integer_biases(unsigned_activations(onnx.load(path)))
                model = quantized.SerializeToString()
            self.session = onnxruntime.InferenceSession(
                model, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # ONNX Runtime and protobuf have a class for each kind of fault
            raise EngineError(f"{path}: ONNX Runtime cannot open it: {error}") from error
        self.input = self.session.get_inputs()[0].name

    def run(self, images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        embeddings: npt.NDArray[np.float32] = self.session.run(None, {self.input: images})[0]
        return embeddings


def unsigned_activations(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same quantized network with uint8 activations, changed in place and returned.

    Recognizers are stored with int8 activations and zero point 0, the only form that TensorRT
    reads. ONNX Runtime has fast integer kernels (VNNI, AMX) on x86 for uint8 activations alone,
    and converts a residual network only in part, so that much of it falls back to float32 and
    INT8 ends up slower than FP32. Adding 128 to values and zero points changes no number. What
    comes out of a ReLU is never negative and gets zero point 0 with the same step: there the
    quantizer is the ReLU, which disappears, and values above the calibrated range are kept
    instead of clipped.
    """
    graph = model.graph
    producers = {output: node for node in graph.node for output in node.output}
    zero_points: dict[str, int] = {}  # quantized tensor → its new zero point
    for node in graph.node:
        if node.op_type == "QuantizeLinear":
            before = producers.get(node.input[0])
            kind = before.op_type if before is not None else "input"
            zero_point = 0 if kind == "Relu" else SHIFT
            if before is not None and kind in PASSING and before.input[0] in producers:
                quantized = producers[before.input[0]].input[0]
                zero_point = zero_points.get(quantized, zero_point)
            zero_points[node.output[0]] = zero_point
    for node in graph.node:
        tensor = node.output[0] if node.op_type == "QuantizeLinear" else node.input[0]
        if node.op_type in ("QuantizeLinear", "DequantizeLinear") and tensor in zero_points:
            node.input[2] = f"zero_point_{zero_points[tensor]}"
    used = {name for node in graph.node for name in node.input}
    kept = [value for value in graph.initializer if value.name in used]
    kept += [
        numpy_helper.from_array(np.array(value, np.uint8), f"zero_point_{value}")
        for value in (0, SHIFT)
        if f"zero_point_{value}" in used
    ]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    del graph.value_info[:]  # holds the old types; the runtime infers them again
    return model


def integer_biases(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same quantized network with int32 biases in its Gemms, changed in place and returned.

    TensorRT refuses quantized biases, ONNX Runtime's integer Gemm needs them: without, it
    unpacks all weights at every call. (For convolutions ONNX Runtime does this by itself.) The
    step of a bias is that of the products it is added to, so that nothing measurable is lost.
    """
    graph = model.graph
    producers = {output: node for node in graph.node for output in node.output}
    constants = {value.name: value for value in graph.initializer}
    nodes = []
    for node in graph.node:
        inputs = [producers[name] for name in node.input[:2] if name in producers]
        quantized = [before for before in inputs if before.op_type == "DequantizeLinear"]
        if node.op_type == "Gemm" and len(node.input) == 3 and len(quantized) == 2:
            bias = numpy_helper.to_array(constants[node.input[2]]).astype(np.float64)
            steps = [numpy_helper.to_array(constants[before.input[1]]) for before in quantized]
            step = np.broadcast_to(steps[0].astype(np.float64) * steps[1], bias.shape)
            name = f"{node.input[2]}_int32"
            for suffix, values in (
                ("", np.round(bias / step).clip(-(2**31), 2**31 - 1).astype(np.int32)),
                ("_step", step.astype(np.float32)),
                ("_zero", np.zeros(bias.shape, np.int32)),
            ):
                graph.initializer.append(numpy_helper.from_array(values, name + suffix))
            parts = [name, f"{name}_step", f"{name}_zero"]
            nodes.append(helper.make_node("DequantizeLinear", parts, [f"{name}_real"], axis=0))
            node.input[2] = f"{name}_real"
        nodes.append(node)
    ordered = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(ordered)
    return model


def _has_vnni() -> bool:
    """Whether the CPU multiplies u8 by s8 into 32 bits; unknown counts as no."""
    try:
        return "vnni" in Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
