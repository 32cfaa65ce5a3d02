"""Margin heads against their papers' formulas in float64, and at the ends of the cosine's range."""

import math

import pytest
import torch

from facewright.errors import TrainingError
from facewright.models.heads import HEADS, Head, build_head

SCALE = 32.0
MARGINS = {"arcface": 0.5, "cosface": 0.35, "softmax": 0.0}


def make(name: str, *, smoothing: float = 0.0, identities: int = 5, size: int = 6) -> Head:
    torch.manual_seed(0)
    return build_head(
        name,
        embedding_size=size,
        identities=identities,
        scale=SCALE,
        margin=MARGINS[name],
        label_smoothing=smoothing,
    )


def reference(
    name: str, embedding: list[float], centres: list[list[float]], label: int, smoothing: float
) -> float:
    """One crop's loss from the papers, with plain Python floats (64 bits) and acos."""
    length = math.hypot(*embedding)
    logits = []
    for index, centre in enumerate(centres):
        dot = sum(a * b for a, b in zip(embedding, centre, strict=True))
        theta = math.acos(max(-1.0, min(1.0, dot / length / math.hypot(*centre))))
        cosine = math.cos(theta)
        if index == label and name == "cosface":
            cosine = math.cos(theta) - 0.35
        if index == label and name == "arcface":
            within = theta < math.pi - 0.5
            cosine = math.cos(theta + 0.5) if within else math.cos(theta) - 0.5 * math.sin(0.5)
        logits.append(SCALE * cosine)
    top = max(logits)
    log_sum = top + math.log(sum(math.exp(value - top) for value in logits))
    uniform = sum(log_sum - value for value in logits) / len(logits)
    return (1 - smoothing) * (log_sum - logits[label]) + smoothing * uniform


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("name", HEADS)
def test_loss_is_the_papers_formula(name: str, smoothing: float) -> None:
    head = make(name, smoothing=smoothing).double()
    embeddings = torch.randn(40, 6, dtype=torch.float64) * 3
    labels = torch.arange(40) % 5
    # some rows past π - m, where ArcFace falls back
    embeddings[:5] = -head.weight.detach()[labels[:5]] + 0.001 * embeddings[:5]
    expected = [
        reference(name, row, head.weight.tolist(), label, smoothing)
        for row, label in zip(embeddings.tolist(), labels.tolist(), strict=True)
    ]
    assert head(embeddings, labels).item() == pytest.approx(sum(expected) / 40, rel=1e-9)


@pytest.mark.parametrize("name", HEADS)
def test_gradients_are_those_of_finite_differences(name: str) -> None:
    head = make(name, smoothing=0.1).double()
    embeddings = torch.randn(7, 6, dtype=torch.float64, requires_grad=True)
    labels = torch.arange(7) % 5
    assert torch.autograd.gradcheck(lambda x: head(x, labels), (embeddings,))


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("name", HEADS)
def test_float32_at_cosine_plus_and_minus_one(name: str, sign: float) -> None:
    """Embeddings on the centre, or opposite: value as in float64, gradients finite."""
    head = make(name)
    labels = torch.arange(5)
    embeddings = (sign * head.weight.detach() * 50).requires_grad_()
    loss = head(embeddings, labels)
    loss.backward()
    exact = make(name).double()(embeddings.detach().double(), labels)
    assert loss.item() == pytest.approx(exact.item(), rel=1e-5, abs=1e-6)
    assert embeddings.grad is not None
    assert head.weight.grad is not None
    assert torch.isfinite(embeddings.grad).all()
    assert torch.isfinite(head.weight.grad).all()


def test_arcface_adds_its_margin_to_tiny_angles_in_float32() -> None:
    """√(1 - cos²) would lose an angle of 0.0001 altogether: its cosine rounds to one."""
    head = build_head(
        "arcface", embedding_size=2, identities=2, scale=1.0, margin=0.5, label_smoothing=0.0
    )
    head.weight.data = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    for angle in (1e-4, 1e-2, 0.3, 2.0, 2.6):
        x = torch.tensor([[math.cos(angle), math.sin(angle)]])
        logit = head.logits(x, torch.tensor([0]))[0, 0].item()
        assert logit == pytest.approx(math.cos(angle + 0.5), abs=3e-7)


def test_arcface_falls_with_the_angle_everywhere() -> None:
    head = build_head(
        "arcface", embedding_size=2, identities=2, scale=1.0, margin=0.5, label_smoothing=0.0
    ).double()
    head.weight.data = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    angles = torch.linspace(0, math.pi, 500, dtype=torch.float64)
    x = torch.stack((angles.cos(), angles.sin()), dim=1)
    logits = head.logits(x, torch.zeros(500, dtype=torch.int64))[:, 0]
    assert (logits.diff() < 0).all()


@pytest.mark.parametrize("name", HEADS)
def test_autocast_changes_nothing(name: str) -> None:
    head = make(name)
    embeddings, labels = torch.randn(9, 6), torch.arange(9) % 5
    with torch.autocast("cpu", torch.bfloat16):
        inside = head(embeddings, labels)
    assert inside.dtype == torch.float32
    assert torch.equal(inside, head(embeddings, labels))


@pytest.mark.parametrize("name", ["arcface", "cosface"])
def test_a_margin_makes_it_harder_and_only_for_the_own_identity(name: str) -> None:
    embeddings, labels = torch.randn(30, 6), torch.arange(30) % 5
    plain, strict = make("softmax"), make(name)
    assert strict(embeddings, labels) > plain(embeddings, labels)
    own = torch.nn.functional.one_hot(labels, 5).bool()
    without, with_margin = plain.logits(embeddings, labels), strict.logits(embeddings, labels)
    assert torch.equal(without[~own], with_margin[~own])
    assert (with_margin[own] < without[own]).all()


def test_length_of_embeddings_does_not_matter() -> None:
    head, embeddings, labels = make("arcface"), torch.randn(9, 6), torch.arange(9) % 5
    near = head(embeddings * 100, labels)
    torch.testing.assert_close(near, head(embeddings, labels))


def test_an_unknown_head_is_refused_with_the_known_ones() -> None:
    with pytest.raises(TrainingError, match=r"unknown head 'arcfase'.*arcface"):
        build_head("arcfase", embedding_size=4, identities=2, scale=1, margin=0, label_smoothing=0)
