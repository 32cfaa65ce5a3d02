"""Embedding networks: their sizes, their output, and what they promise to quantizers and others."""

import json
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import backbones
from facewright.errors import TrainingError
from facewright.models import NETWORKS, build_network
from facewright.models.cost import network_cost
from facewright.models.recognizer import WEIGHTS
from facewright.models.weights import save_network

# The same classes as others in the list, only with more or wider blocks.
LARGE = {"iresnet34", "iresnet50", "iresnet100", "vit_s", "vit_b", "ghostfacenet", "edgeface_s"}
TRIED = [name for name in NETWORKS if name not in LARGE]
DOCS = Path(__file__).parents[3] / "docs"
GUIDE = DOCS / "guides" / "networks.md"
MEASURED = DOCS / "results" / "2026-11-backbones.json"


def settled(name: str, *, embedding_size: int = 32) -> nn.Module:
    """A network in evaluation mode whose BatchNorms have the statistics of some images."""
    torch.manual_seed(1)
    network = build_network(name, embedding_size=embedding_size, dropout=0.4).train()
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = None  # the plain mean over all batches
    with torch.no_grad():
        network(torch.rand(8, 3, 112, 112) * 2 - 1)
    return network.eval()


@pytest.mark.parametrize(
    ("name", "size", "parameters"),
    [
        ("resnet_small", 256, 2_397_088),
        ("resnet_tiny", 256, 782_928),
        # The paper says 0.99 M without its BatchNorms.
        ("mobilefacenet", 128, 1_003_136),
        # A Keras port counts 22,779,312 trained; it has no gains in its BatchNorms, 14,416 here.
        ("inception_resnet_v1", 128, 22_779_312 + 14_416),
    ],
)
def test_parameter_counts(name: str, size: int, parameters: int) -> None:
    assert network_cost(name, embedding_size=size).parameters == parameters


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("iresnet18", 24.03),  # InsightFace's, as others report them
        ("iresnet34", 34.14),
        ("iresnet50", 43.59),
        ("iresnet100", 65.16),
        ("inception_resnet_v1", 23.48),  # OpenVINO's model zoo: 23.469, BatchNorms folded
        ("ghostfacenet", 4.06),  # 4.1 in comparisons that cite the paper
        ("edgeface_xs", 1.77),  # George et al., table 2
        ("edgeface_s", 3.65),
    ],
)
def test_parameters_are_as_published_for_512_values(name: str, millions: float) -> None:
    parameters = network_cost(name, embedding_size=512).parameters
    assert round(parameters / 1e6, 2) == millions


def test_the_guide_lists_what_the_code_counts() -> None:
    table, _, _ = GUIDE.read_text(encoding="utf-8").partition("\n## ")
    lines = [line.split("|") for line in table.splitlines() if line.startswith("| `")]
    listed = {cells[1].strip(" `"): [cell.strip() for cell in cells[2:5]] for cells in lines}
    counted = {name: network_cost(name, embedding_size=512) for name in NETWORKS}
    assert listed == {
        name: [
            f"{cost.parameters / 1e6:.2f}",
            f"{cost.multiply_adds / 1e9:.2f}",
            f"{file_size(name) / 1e6:.1f}",
        ]
        for name, cost in counted.items()
    }


def file_size(name: str) -> int:
    """Bytes of the safetensors file: eight, a header in JSON padded to eight, and the tensors."""
    with torch.device("meta"):
        state = build_network(name, embedding_size=512).state_dict()
    header, end = {}, 0
    for key, value in state.items():
        begin, end = end, end + value.numel() * value.element_size()
        kind = {torch.float32: "F32", torch.int64: "I64"}[value.dtype]
        header[key] = {"dtype": kind, "shape": list(value.shape), "data_offsets": [begin, end]}
    return 8 + -(-len(json.dumps(header, separators=(",", ":"))) // 8) * 8 + end


def test_the_file_is_as_large_as_is_counted(tmp_path: Path) -> None:
    network = build_network("resnet_tiny", embedding_size=512)
    about = {"network": "resnet_tiny", "embedding_size": 512, "data_digest": "", "code_digest": ""}
    save_network(tmp_path, network, name="size", **about)
    size = (tmp_path / WEIGHTS["torch"]).stat().st_size
    assert size == pytest.approx(file_size("resnet_tiny"), abs=1000)


def test_the_guide_has_the_table_that_the_benchmark_printed() -> None:
    measured = json.loads(MEASURED.read_text(encoding="utf-8"))["result"]["networks"]
    assert backbones.table(measured) in GUIDE.read_text(encoding="utf-8")
    assert list(measured) == list(NETWORKS)
    head, _, cells = backbones.table({"resnet_tiny": measured["resnet_tiny"]}).splitlines()
    assert head.count("images/s") == len(backbones.PRECISIONS)
    low, high = (
        round(measured["resnet_tiny"]["images_per_s_bf16"][end]) for end in ("low", "high")
    )
    assert cells.endswith(f" ({low}–{high}) |")


@pytest.mark.parametrize("name", TRIED)
def test_one_crop_has_one_embedding_whatever_its_neighbours(name: str) -> None:
    network = settled(name)
    images = torch.rand(2, 3, 112, 112) * 2 - 1
    with torch.no_grad():
        together, alone = network(images), network(images[1:2])
        strided = network(images.contiguous(memory_format=torch.channels_last))
        with torch.autocast("cpu", torch.bfloat16):
            rough = network(images).float()
    assert together.shape == (2, 32)
    assert together.dtype == torch.float32
    torch.testing.assert_close(together[1:2], alone, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(together, strided, rtol=1e-3, atol=1e-4)
    assert not torch.allclose(together[0], together[1], atol=1e-3)
    assert torch.cosine_similarity(together, rough).min() > 0.995


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", TRIED)
def test_every_weight_learns_in_one_step(name: str, precision: str) -> None:
    """As the loop trains: channels last, and in bfloat16 where asked. No weight is left out."""
    torch.manual_seed(4)
    network = build_network(name, embedding_size=16, dropout=0.2).train()
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    images = (torch.rand(4, 3, 112, 112) * 2 - 1).contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        embeddings = network(images)
    # A loss that BatchNorm cannot make constant: each value weighs differently.
    (embeddings.float() * torch.randn(4, 16)).sum().backward()
    for key, parameter in network.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, key
            assert torch.isfinite(parameter.grad).all(), key
            assert parameter.grad.abs().max() > 0, key


@pytest.mark.parametrize("name", TRIED)
def test_dropout_acts_while_training_only(name: str) -> None:
    torch.manual_seed(5)
    with_it, without = (
        build_network(name, embedding_size=8, dropout=rate).eval() for rate in (0.9, 0.0)
    )
    without.load_state_dict(with_it.state_dict())
    images = torch.rand(2, 3, 112, 112) * 2 - 1
    with torch.no_grad():
        torch.testing.assert_close(with_it(images), without(images))
        (dropout,) = [module for module in with_it.modules() if isinstance(module, nn.Dropout)]
        assert dropout.p == 0.9
        dropout.train()  # alone, so that nothing else can make the difference
        assert not torch.allclose(with_it(images), without(images), rtol=0.1)


def test_student_costs_a_fifth_of_the_teacher() -> None:
    def operations(name: str) -> int:
        network = build_network(name, embedding_size=256).eval()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network(torch.zeros(1, 3, 112, 112))
        return counter.get_total_flops()

    assert 4 <= operations("resnet_small") / operations("resnet_tiny") <= 6


@pytest.mark.parametrize("name", ["resnet_small", "resnet_tiny"])
def test_every_batchnorm_of_the_default_networks_folds(name: str) -> None:
    """In eval mode BatchNorm after convolution is one affine map: fusing must change nothing."""
    torch.manual_seed(2)
    network = build_network(name, embedding_size=16)
    network.train()(torch.randn(2, 3, 112, 112))  # statistics that are not 0 and 1
    network.eval()
    images = torch.randn(2, 3, 112, 112)
    with torch.no_grad():
        expected = network(images)
        for module in network.modules():
            if not isinstance(module, nn.Sequential):
                continue
            for first, second in pairwise(module):
                if isinstance(first, nn.Conv2d):
                    assert isinstance(second, nn.BatchNorm2d)
                    fused = nn.utils.fuse_conv_bn_eval(first, second)
                    first.weight, first.bias = fused.weight, fused.bias
                    second.reset_running_stats()
                    second.eps = 0.0
        left = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
        assert all(bool((m.running_var == 1).all()) for m in left)
        torch.testing.assert_close(network(images), expected, rtol=1e-3, atol=1e-3)


def test_iresnet_has_the_parameter_names_of_arcface_torch() -> None:
    with torch.device("meta"):
        state = build_network("iresnet18", embedding_size=512).state_dict()
    shapes = {
        "conv1.weight": (64, 3, 3, 3),
        "bn1.running_var": (64,),
        "prelu.weight": (64,),
        "layer1.0.bn1.weight": (64,),
        "layer1.0.downsample.0.weight": (64, 64, 1, 1),
        "layer1.0.downsample.1.running_mean": (64,),
        "layer2.0.conv1.weight": (128, 64, 3, 3),
        "layer2.0.bn2.weight": (128,),
        "layer2.0.prelu.weight": (128,),
        "layer2.0.conv2.weight": (128, 128, 3, 3),
        "layer2.1.bn3.bias": (128,),
        "layer4.1.conv2.weight": (512, 512, 3, 3),
        "bn2.weight": (512,),
        "fc.weight": (512, 25088),
        "fc.bias": (512,),
        "features.weight": (512,),
        "features.num_batches_tracked": (),
    }
    assert {key: tuple(state[key].shape) for key in shapes} == shapes
    # 6 stem, 8 blocks (3 BN × 5 + 2 conv + 1 PReLU), 4 downsamples (1 + 5), bn2, fc, features
    assert len(state) == 1 + 5 + 1 + 8 * 18 + 4 * 6 + 5 + 2 + 5


def test_an_unknown_network_is_refused_with_the_known_ones() -> None:
    with pytest.raises(TrainingError, match=r"unknown network 'resnet'.*resnet_small"):
        build_network("resnet", embedding_size=8)
