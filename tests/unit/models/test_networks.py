"""Embedding networks: their sizes, their output, and what they promise to quantizers and others."""

from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from facewright.errors import TrainingError
from facewright.models import NETWORKS, build_network


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(
    ("name", "size", "parameters"),
    [
        ("resnet_small", 256, 2_397_088),
        ("resnet_tiny", 256, 782_928),
        # The paper says 0.99 M without its BatchNorms; InsightFace's two have 24.03 M and 43.59 M.
        ("mobilefacenet", 128, 1_003_136),
        ("iresnet18", 512, 24_025_600),
        ("iresnet50", 512, 43_590_848),
    ],
)
def test_parameter_counts(name: str, size: int, parameters: int) -> None:
    with torch.device("meta"):
        assert count(build_network(name, embedding_size=size)) == parameters


@pytest.mark.parametrize("name", [n for n in NETWORKS if n != "iresnet50"])
def test_one_crop_has_one_embedding_whatever_its_neighbours(name: str) -> None:
    torch.manual_seed(1)
    network = build_network(name, embedding_size=32, dropout=0.4).eval()
    images = torch.rand(2, 3, 112, 112) * 2 - 1
    with torch.no_grad():
        together, alone = network(images), network(images[1:2])
        strided = network(images.contiguous(memory_format=torch.channels_last))
    assert together.shape == (2, 32)
    assert together.dtype == torch.float32
    torch.testing.assert_close(together[1:2], alone, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(together, strided, rtol=1e-3, atol=1e-4)
    assert not torch.allclose(together[0], together[1], atol=1e-3)


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
