"""TensorRT and TensorRT-RTX: which of them is here, and running an engine on a GPU.

The two have the same Python interface under two names. TensorRT builds for the GPU it sees;
TensorRT-RTX builds ahead of time for GPUs that are elsewhere. Both need a GPU with its driver, and
a PyTorch that was built for CUDA (it holds the memory), to run an engine.
"""

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from facewright.engines.recognizer import BATCH, Recognizer
from facewright.errors import EngineError
from facewright.models.recognizer import WEIGHTS, RecognizerCard, read_card

# builder → module; the name of an extra of this package is the builder's
MODULES = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx_bindings"}


def import_builder(builder: str) -> Any | None:
    """The module of `builder`, or None where it is not installed or its libraries are missing."""
    try:
        module = importlib.import_module(MODULES[builder])
    except (ImportError, OSError, RuntimeError):
        return None
    return module if hasattr(module, "Builder") else None


def gpu_target() -> str | None:
    """Compute capability of the GPU that PyTorch sees, like `sm89`, or None without one."""
    import torch

    if not torch.cuda.is_available():
        return None
    major, minor = torch.cuda.get_device_capability()
    return f"sm{major}{minor}"


def collecting_logger(trt: Any) -> Any:
    """A TensorRT logger that keeps errors in `.errors` instead of printing them."""

    class Collecting(trt.ILogger):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR):
                self.errors.append(message)

    return Collecting()


def engine_status(folder: Path) -> str | None:
    """Why this machine cannot run the engine in `folder`, or None if it can.

    Raises:
        EngineError: `folder` holds no engine, or its weights are not the card's.
    """
    card = read_card(folder)
    if card.format != "engine":
        raise EngineError(f"{folder} holds a recognizer in {card.format} form, not an engine")
    return _status(card)


def _status(card: RecognizerCard) -> str | None:
    builder = str(card.engine.get("builder"))
    if builder not in MODULES:
        return f"its card names no builder out of {', '.join(MODULES)}"
    trt = import_builder(builder)
    if trt is None:
        return f"{builder} is not installed: `pip install -e '.[{builder}]'`"
    built, target = card.engine["builder_version"], card.engine["target"]
    if trt.__version__ != built:
        return (
            f"built with {builder} {built}, installed is {trt.__version__}: run the compile stage "
            "again"
        )
    here = gpu_target()
    if here is None:
        return "PyTorch sees no CUDA GPU on this machine"
    if here != target:
        return f"built for {target}, the GPU here is {here}: add {here} to the targets of compile"
    return None


class EngineRecognizer(Recognizer):
    """An engine on the current CUDA device; PyTorch's tensors hold its input and output."""

    def __init__(self, folder: Path, card: RecognizerCard):
        super().__init__(folder, card)
        reason = _status(card)
        if reason is not None:
            raise EngineError(f"{folder} cannot run here: {reason}")
        trt = import_builder(str(card.engine["builder"]))
        assert trt is not None
        self.batch = min(BATCH, int(card.engine["max_batch"]))
        self.logger = collecting_logger(trt)
        # The engine does not keep the runtime alive, nor the context the engine.
        self.runtime = trt.Runtime(self.logger)
        path = folder / WEIGHTS["engine"]
        self.engine = self.runtime.deserialize_cuda_engine(path.read_bytes())
        if self.engine is None:
            raise EngineError(f"{path} cannot be loaded: {' '.join(self.logger.errors)}")
        self.context = self.engine.create_execution_context()
        if self.context is None:
            raise EngineError(f"{path} cannot be run: {' '.join(self.logger.errors)}")
        names = [self.engine.get_tensor_name(i) for i in range(self.engine.num_io_tensors)]
        self.input, self.output = sorted(
            names, key=lambda name: self.engine.get_tensor_mode(name) != trt.TensorIOMode.INPUT
        )

    def run(self, images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        import torch

        inputs = torch.from_numpy(images).cuda()
        outputs = torch.empty(len(images), self.card.embedding_size, device=inputs.device)
        self.context.set_input_shape(self.input, tuple(inputs.shape))
        self.context.set_tensor_address(self.input, inputs.data_ptr())
        self.context.set_tensor_address(self.output, outputs.data_ptr())
        stream = torch.cuda.current_stream()
        if not self.context.execute_async_v3(stream.cuda_stream):
            raise EngineError(f"{self.card.name} failed: {' '.join(self.logger.errors)}")
        stream.synchronize()
        embeddings: npt.NDArray[np.float32] = outputs.cpu().numpy()
        return embeddings
