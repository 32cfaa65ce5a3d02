"""Each family of networks as an ONNX file, cut down to one block of a kind to be quick."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from facewright.compression.onnx_export import export_onnx
from facewright.engines import load_recognizer
from facewright.models import build_network
from facewright.models.recognizer import read_card
from facewright.models.weights import save_network

EMBEDDING = 16


def few_blocks(name: str) -> nn.Module:
    """The network without blocks that repeat what stands before them."""
    network = build_network(name, embedding_size=EMBEDDING, dropout=0.4)
    match name:
        case "vit_t":
            network.blocks = network.blocks[:1]
        case "inception_resnet_v1":
            for repeat in ("repeat_1", "repeat_2", "repeat_3"):
                setattr(network, repeat, getattr(network, repeat)[:1])
        case "ghostfacenet_s2":
            # A block that changes the width or the side has a shortcut with weights.
            blocks = enumerate(network.bottlenecks)
            kept = [b for n, b in blocks if n == 0 or not isinstance(b.shortcut, nn.Identity)]
            network.bottlenecks = nn.Sequential(*kept)
        case "edgeface_xs":
            kinds = [type(module) for module in network.stages]
            kept = [m for n, m in enumerate(network.stages) if n == 0 or kinds[n - 1] != kinds[n]]
            network.stages = nn.Sequential(*kept)
    return network


@pytest.mark.parametrize("name", ["vit_t", "inception_resnet_v1", "ghostfacenet_s2", "edgeface_xs"])
def test_the_file_computes_what_pytorch_computes(name: str, tmp_path: Path) -> None:
    torch.manual_seed(6)
    network = few_blocks(name).train()
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = None  # the statistics of the one batch below
    with torch.no_grad():
        network(torch.rand(8, 3, 112, 112) * 2 - 1)
    network.eval()
    about = {"name": "student", "network": name, "embedding_size": EMBEDDING}
    save_network(tmp_path / "torch", network, **about, data_digest="", code_digest="")
    export_onnx(network, tmp_path / "onnx", source=read_card(tmp_path / "torch"))
    crops = np.random.default_rng(0).integers(0, 256, (3, 112, 112, 3), dtype=np.uint8)
    with torch.no_grad():
        inputs = torch.from_numpy(crops).permute(0, 3, 1, 2) / 127.5 - 1
        expected = nn.functional.normalize(network(inputs)).numpy()
    for runtime in ("onnxruntime", "openvino"):
        recognizer = load_recognizer(tmp_path / "onnx", runtime=runtime)
        for count in (1, 3):  # the batch is dynamic, through every reshape
            found = recognizer.embed(crops[:count])
            found = found / np.linalg.norm(found, axis=1, keepdims=True)
            np.testing.assert_allclose(found, expected[:count], atol=1e-3)
