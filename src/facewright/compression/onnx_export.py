"""PyTorch networks as ONNX files."""

import copy
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx
import torch
from torch import nn

from facewright.files import code_digest, storage_errors
from facewright.models.recognizer import WEIGHTS, RecognizerCard, derive_card

OPSET = 18  # the lowest that the exporter writes by itself, so that most runtimes can read it
INPUT, OUTPUT = "input", "embedding"
ROOMS = ("models", "training", "compression")  # whose code makes the weights


def export_onnx(network: nn.Module, folder: Path, *, source: RecognizerCard) -> RecognizerCard:
    """Write `network` as an FP32 ONNX recognizer into `folder`.

    One file, with a dynamic batch: `input (batch, 3, S, S) float32` → `embedding (batch, E)
    float32`, not normalized. BatchNorms that follow a convolution or a linear layer are folded
    into it. Names and metadata that depend on the machine are left out: the same weights give the
    same bytes.

    Args:
        network: on the CPU, as `models.weights.load_network` gives it.
        source: card of the PyTorch recognizer; all but form and code digest is taken over.
    """
    model = _to_onnx(copy.deepcopy(network).eval(), source.input_size)
    scrub(model)
    onnx.checker.check_model(model, full_check=True)
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / WEIGHTS["onnx"]).write_bytes(model.SerializeToString(deterministic=True))
        return derive_card(
            folder, source, format="onnx", precision="fp32", code_digest=code_digest(*ROOMS)
        )


def scrub(model: onnx.ModelProto) -> None:
    """Take out what says where and how a file was made: stack traces with paths, comments."""
    graph = model.graph
    messages = [model, graph, *graph.node, *graph.initializer, *graph.value_info]
    for message in [*messages, *graph.input, *graph.output]:
        message.doc_string = ""
        del message.metadata_props[:]


def _to_onnx(network: nn.Module, size: int) -> onnx.ModelProto:
    example = torch.zeros(2, 3, size, size)  # a batch of one would be taken for a constant
    batch = torch.export.Dim("batch")
    with _quiet():
        program = torch.onnx.export(
            network,
            (example,),
            dynamic_shapes=({0: batch},),
            input_names=[INPUT],
            output_names=[OUTPUT],
            opset_version=OPSET,
            verbose=False,
        )
    assert program is not None
    model: onnx.ModelProto = program.model_proto
    return model


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's remarks on packages that nobody here needs."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)
