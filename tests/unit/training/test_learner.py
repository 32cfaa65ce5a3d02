"""Which layers make the embedding, in every network, and what is frozen with them."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from facewright.models import NETWORKS, build_network
from facewright.training.learner import Learner, embedding_layers, freeze

# The linear layers between the features and the embedding, where it is not one.
LINEAR = {
    "vit_t": 2,  # from all tokens to the width of one, and from there
    "vit_s": 2,
    "vit_b": 2,
    "edgeface_xs": 2,  # a product of two thin ones
    "edgeface_s": 2,
}


def without_numbers(name: str) -> nn.Module:
    """The network with shapes alone: large ones take no memory and no time."""
    with torch.device("meta"):
        return build_network(name, embedding_size=8).eval()


@pytest.mark.parametrize("name", NETWORKS)
def test_the_embedding_layers_turn_features_into_the_embedding(name: str) -> None:
    network = without_numbers(name)
    layers = embedding_layers(network)
    linear = [
        module for layer in layers for module in layer.modules() if isinstance(module, nn.Linear)
    ]
    assert len(linear) == LINEAR.get(name, 1)
    assert not any(isinstance(module, nn.Conv2d) for layer in layers for module in layer.modules())

    # What goes into each of them is what came out of the one before, and the last is the end.
    passed: list[tuple[Tensor, Tensor]] = []
    for layer in layers:
        layer.register_forward_hook(lambda _, inputs, output: passed.append((inputs[0], output)))
    with torch.no_grad():
        embedding = network(torch.empty(2, 3, 112, 112, device="meta"))
    assert len(passed) == len(layers)
    for (_, before), (after, _) in pairwise(passed):
        assert after is before
    assert passed[-1][1] is embedding
    assert passed[0][0].ndim == 2


@pytest.mark.parametrize("name", NETWORKS)
def test_freezing_leaves_them_alone_to_be_trained(name: str) -> None:
    network = without_numbers(name)
    before = {key for key, value in network.named_parameters() if value.requires_grad}
    layers = embedding_layers(network)
    own = {id(parameter) for layer in layers for parameter in layer.parameters()}
    freeze(network)
    learns = {key for key, value in network.named_parameters() if value.requires_grad}
    assert learns == {
        key for key, value in network.named_parameters() if id(value) in own and key in before
    }
    assert len(learns) >= 1
    everything = sum(value.numel() for value in network.parameters())
    trained = sum(value.numel() for value in network.parameters() if value.requires_grad)
    assert trained < everything


@pytest.mark.parametrize("name", NETWORKS)
def test_of_what_is_frozen_dropout_alone_acts(name: str) -> None:
    network = without_numbers(name)
    learner = Learner(network, nn.Identity(), None, None, "fp32", 1.0)  # type: ignore[arg-type]
    learner.training_mode(frozen=True)
    made = {id(each) for layer in embedding_layers(network) for each in layer.modules()}
    active = [each for each in network.modules() if each.training and id(each) not in made]
    assert [type(each) for each in active] == [nn.Dropout]


def test_a_gain_that_is_never_trained_is_not_when_the_rest_is_frozen() -> None:
    network = without_numbers("iresnet18")
    freeze(network)
    learns = {key for key, value in network.named_parameters() if value.requires_grad}
    assert learns == {"fc.weight", "fc.bias", "features.bias"}
