"""One way to open any recognizer."""

from pathlib import Path

from facewright.engines.recognizer import Recognizer
from facewright.errors import EngineError
from facewright.models.recognizer import read_card

RUNTIMES = ("onnxruntime", "openvino")


def load_recognizer(folder: Path, *, runtime: str = "onnxruntime", threads: int = 1) -> Recognizer:
    """Open the recognizer in `folder`; its card says which backend runs it.

    Args:
        runtime: what runs an ONNX recognizer, one of `RUNTIMES`; no matter for the other forms.
        threads: CPU threads that one call may use; an engine runs on the GPU.

    Raises:
        EngineError: no recognizer is there, its weights are not the card's, the runtime is
            unknown or not installed, or this machine cannot run the engine.
    """
    card = read_card(folder)
    if threads < 1:
        raise EngineError(f"threads is {threads}: at least one is needed")
    if card.format == "torch":
        from facewright.engines.torch_backend import TorchRecognizer

        return TorchRecognizer(folder, card, threads=threads)
    if card.format == "engine":
        from facewright.engines.tensorrt_backend import EngineRecognizer

        return EngineRecognizer(folder, card)
    if runtime == "onnxruntime":
        from facewright.engines.onnxruntime_backend import OnnxRuntimeRecognizer

        return OnnxRuntimeRecognizer(folder, card, threads=threads)
    if runtime == "openvino":
        from facewright.engines.openvino_backend import OpenVinoRecognizer

        return OpenVinoRecognizer(folder, card, threads=threads)
    raise EngineError(f"unknown runtime {runtime!r}: choose one of {', '.join(RUNTIMES)}")
