"""An ONNX recognizer in ONNX Runtime, on the CPU."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import numpy_helper

from facewright.engines.recognizer import Recognizer
from facewright.errors import EngineError
from facewright.models.recognizer import WEIGHTS, RecognizerCard

SHIFT = 128  # between a signed and an unsigned byte


class OnnxRuntimeRecognizer(Recognizer):
    """One session; INT8 files are read with unsigned activations (see `unsigned_activations`)."""

    def __init__(self, folder: Path, card: RecognizerCard, *, threads: int):
        super().__init__(folder, card)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Without VNNI, u8 × s8 products saturate at 16 bits; this takes the exact way there.
        options.add_session_config_entry("session.x64quantprecision", "1")
        path = folder / WEIGHTS["onnx"]
        try:
            model: bytes | str = str(path)
            if card.precision == "int8":
                model = unsigned_activations(onnx.load(path)).SerializeToString()
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
            rectified = before is not None and before.op_type == "Relu"
            zero_points[node.output[0]] = 0 if rectified else SHIFT
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
