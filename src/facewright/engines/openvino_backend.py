"""An ONNX recognizer in OpenVINO, on the CPU."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from facewright.engines.recognizer import Recognizer
from facewright.errors import EngineError
from facewright.models.recognizer import WEIGHTS, RecognizerCard


class OpenVinoRecognizer(Recognizer):
    """One compiled model with one inference stream."""

    def __init__(self, folder: Path, card: RecognizerCard, *, threads: int):
        super().__init__(folder, card)
        try:
            import openvino
        except (ImportError, OSError) as error:
            raise EngineError(
                "OpenVINO is not installed: `pip install openvino`, or set runtime to onnxruntime"
            ) from error
        path = folder / WEIGHTS["onnx"]
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
            "INFERENCE_NUM_THREADS": threads,
            # On CPUs with AMX the default is bfloat16: faster, but not what the card says.
            "INFERENCE_PRECISION_HINT": "f32",
        }
        try:
            self.model = openvino.Core().compile_model(str(path), "CPU", settings)
        except RuntimeError as error:
            raise EngineError(f"{path}: OpenVINO cannot open it: {error}") from error

    def run(self, images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        # The result lives in the model's own buffer, which the next call writes over.
        return np.array(self.model(images)[0])
