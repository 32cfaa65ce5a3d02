"""Run a recognizer, whatever is inside its folder, and build engines for GPUs.

    load_recognizer(folder).embed(crops)    PyTorch, ONNX Runtime, OpenVINO, TensorRT, TensorRT-RTX
    compile.build_engines(folder, output)   TensorRT engines from an ONNX recognizer
    engine_status(folder)                   why an engine cannot run on this machine

Every backend prepares crops and finishes embeddings in the same few lines, in `recognizer.py`.
"""

from facewright.engines.load import RUNTIMES, load_recognizer
from facewright.engines.recognizer import Recognizer, embed_all, latency
from facewright.engines.tensorrt_backend import engine_status

__all__ = ["RUNTIMES", "Recognizer", "embed_all", "engine_status", "latency", "load_recognizer"]
