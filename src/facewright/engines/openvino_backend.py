"""An ONNX recognizer in OpenVINO, on the CPU."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from facewright.engines.recognizer import Recognizer
from facewright.errors import EngineError
from facewright.models.recognizer import WEIGHTS, RecognizerCard


@cache
def _core() -> Any:
    """OpenVINO, for the life of the process.

    Its CPU plugin gives the thread that makes it a stack for signals, and frees that stack when the
    last model is dropped, on whichever thread. On another than the maker's (a pool's, the garbage
    collector's) nobody takes the stack back, and the next Ctrl-C or SIGTERM that Python handles is
    a segmentation fault without a word.
    """
    import openvino

    return openvino.Core()


class OpenVinoRecognizer(Recognizer):
    """One compiled model with one inference stream."""

    def __init__(self, folder: Path, card: RecognizerCard, *, threads: int):
        super().__init__(folder, card)
        try:
            core = _core()
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
            self.model = core.compile_model(str(path), "CPU", settings)
        except RuntimeError as error:
            raise EngineError(f"{path}: OpenVINO cannot open it: {error}") from error

    def run(self, images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        # The result lives in the model's own buffer, which the next call writes over.
        return np.array(self.model(images)[0])
