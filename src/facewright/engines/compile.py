"""TensorRT engines from ONNX recognizers."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from facewright.engines.tensorrt_backend import (
    MODULES,
    collecting_logger,
    gpu_target,
    import_builder,
)
from facewright.errors import EngineError
from facewright.files import storage_errors
from facewright.models.recognizer import WEIGHTS, RecognizerCard, derive_card, read_card

USUAL_BATCH = 8  # the batch an engine is tuned for: the faces of one picture


def build_engines(
    onnx_folder: Path,
    output: Path,
    *,
    builder: str,
    targets: Sequence[str],
    max_batch: int,
) -> list[RecognizerCard]:
    """Build an engine of the ONNX recognizer in `onnx_folder` for each target.

    Each becomes a recognizer folder `output/NAME-TARGET/`, whose card carries the fingerprint:
    digest of the ONNX file, builder and version, target, precision, largest batch. An INT8 file is
    built as its quantizers say. The builder picks its kernels by itself, so that two builds of one
    file need not have the same bytes.

    Args:
        builder: `tensorrt` (for the GPU of this machine; `targets` are not asked), `tensorrt-rtx`
            (ahead of time, on the CPU, for `targets`), `auto` (the first where it is installed
            and a GPU is there, else the second), or `off` (builds nothing).
        targets: compute capabilities, like `sm89`.
        max_batch: crops per call that the engines accept.

    Raises:
        EngineError: the builder is unknown or not installed, there is no GPU for `tensorrt`, a
            target is unknown to the builder, or the builder refuses the network.
    """
    if builder == "off":
        return []
    builder, trt = _choose(builder)
    if builder == "tensorrt":
        here = gpu_target()
        if here is None:
            raise EngineError(
                "tensorrt builds on the GPU it builds for, and PyTorch sees none here: set "
                "compile.builder to tensorrt-rtx"
            )
        targets = [here]
    else:
        known = known_targets(trt)
        unknown = [target for target in targets if target not in known]
        if unknown:
            raise EngineError(
                f"compile.targets: {builder} {trt.__version__} knows no {unknown[0]}: "
                f"choose from {', '.join(known)}"
            )
    source = read_card(onnx_folder)
    if source.format != "onnx":
        raise EngineError(f"{onnx_folder} holds a recognizer in {source.format} form, not ONNX")
    model = (onnx_folder / WEIGHTS["onnx"]).read_bytes()
    cards = []
    for target in targets:
        engine = _build(trt, model, source, builder=builder, target=target, max_batch=max_batch)
        folder = output / f"{source.name}-{target}"
        with storage_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / WEIGHTS["engine"]).write_bytes(engine)
            fingerprint = {
                "onnx_sha256": source.weights_sha256,
                "builder": builder,
                "builder_version": str(trt.__version__),
                "target": target,
                "precision": source.precision,
                "max_batch": max_batch,
            }
            card = derive_card(
                folder, source, name=folder.name, format="engine", engine=fingerprint
            )
            cards.append(card)
    return cards


def known_targets(trt: Any) -> list[str]:
    """Targets that this TensorRT-RTX can build for, like `sm89`."""
    names = [name for name in trt.ComputeCapability.__members__ if name.startswith("SM")]
    return sorted((name.lower() for name in names), key=lambda name: int(name[2:]))


def _choose(builder: str) -> tuple[str, Any]:
    """The builder to use and its module."""
    if builder not in ("auto", *MODULES):
        raise EngineError(
            f"unknown builder {builder!r}: choose one of auto, {', '.join(MODULES)}, off"
        )
    if builder == "auto":
        trt = import_builder("tensorrt") if gpu_target() else None
        builder = "tensorrt" if trt is not None else "tensorrt-rtx"
    trt = import_builder(builder)
    if trt is None:
        raise EngineError(
            f"{builder} is not installed: `pip install -e '.[{builder}]'` (on Linux; "
            "tensorrt-rtx on x86-64), or set compile.builder to off"
        )
    return builder, trt


def _build(
    trt: Any,
    model: bytes,
    source: RecognizerCard,
    *,
    builder: str,
    target: str,
    max_batch: int,
) -> bytes:
    logger = collecting_logger(trt)
    trt_builder = trt.Builder(logger)
    # Strongly typed: every type is the one in the file, and INT8 is where its quantizers stand.
    strongly_typed = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network = trt_builder.create_network(strongly_typed)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(model):
        reasons = [parser.get_error(i).desc() for i in range(parser.num_errors)]
        raise EngineError(f"{builder} cannot read {source.name}: {reasons[0]}")
    config = trt_builder.create_builder_config()
    if builder == "tensorrt-rtx":
        config.num_compute_capabilities = 1
        config.set_compute_capability(getattr(trt.ComputeCapability, target.upper()), 0)
    profile = trt_builder.create_optimization_profile()
    shape = (3, source.input_size, source.input_size)
    batches = (1, min(USUAL_BATCH, max_batch), max_batch)
    profile.set_shape(network.get_input(0).name, *((batch, *shape) for batch in batches))
    config.add_optimization_profile(profile)
    engine = trt_builder.build_serialized_network(network, config)
    if engine is None:
        reason = logger.errors[0] if logger.errors else "no reason given"
        raise EngineError(f"{builder} cannot build {source.name} for {target}: {reason}")
    return bytes(engine)
