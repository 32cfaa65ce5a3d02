"""The triplet loss against three loops over the batch, in plain Python."""

from typing import Any

import pytest
import torch
from torch import Tensor

from facewright.errors import TrainingError
from facewright.models.heads import TripletHead, build_head


def make(margin: float = 0.2) -> TripletHead:
    head = build_head("triplet", embedding_size=6, identities=4, label_smoothing=0, margin=margin)
    assert isinstance(head, TripletHead)
    return head


def mined(embeddings: Tensor, labels: Tensor, margin: float) -> list[float]:
    """d(a, p) - d(a, n) + margin of every triplet, by loops."""
    x = torch.nn.functional.normalize(embeddings.double()).tolist()

    def squared(i: int, j: int) -> float:
        return sum((a - b) ** 2 for a, b in zip(x[i], x[j], strict=True))

    found = []
    for a in range(len(x)):
        for p in range(len(x)):
            if a == p or labels[a] != labels[p]:
                continue
            near = squared(a, p)
            far = [squared(a, n) for n in range(len(x)) if labels[n] != labels[a]]
            semi_hard = [d for d in far if near < d < near + margin]
            if semi_hard:
                found.append(near - min(semi_hard) + margin)
    return found


@pytest.mark.parametrize("margin", [0.05, 0.2, 1.0])
@pytest.mark.parametrize("seed", range(5))
def test_loss_is_the_mean_over_semi_hard_triplets(seed: int, margin: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    embeddings = 3 * torch.randn(24, 6, dtype=torch.float64, generator=generator)
    labels = torch.randint(5, (24,), generator=generator)
    losses = mined(embeddings, labels, margin)
    assert len(losses) > 5
    assert make(margin)(embeddings, labels).item() == pytest.approx(
        sum(losses) / len(losses), rel=1e-9
    )


def test_gradients_are_those_of_finite_differences() -> None:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(12, 4, dtype=torch.float64, generator=generator).requires_grad_()
    labels = torch.arange(12) % 3
    assert make(0.5)(x, labels) > 0
    assert torch.autograd.gradcheck(lambda x: make(0.5)(x, labels), (x,))


@pytest.mark.parametrize(
    ("labels", "why"),
    [
        ([0, 1, 2, 3], "no positives"),
        ([0, 0, 0, 0], "no negatives"),
        ([0, 0, 1, 1], "all negatives beyond the margin"),
    ],
)
def test_a_batch_without_triplets_has_zero_loss_and_zero_gradients(
    labels: list[int], why: str
) -> None:
    x = torch.tensor([[1.0, 0], [1, 0.01], [-1, 0], [-1, 0.01]], requires_grad=True)
    loss = make()(x, torch.tensor(labels))
    loss.backward()
    assert loss == 0, why
    assert x.grad is not None
    assert not x.grad.any()


def test_a_negative_as_far_as_the_positive_is_too_hard() -> None:
    """From (1, 0), both are at exactly 2; from (0, 1), the negative is at 4."""
    x = torch.tensor([[1.0, 0], [0, 1], [0, -1]])
    assert make()(x, torch.tensor([0, 0, 1])) == 0


def test_training_on_it_brings_an_identity_together() -> None:
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(16, 8, generator=generator).requires_grad_()
    labels = torch.arange(16) % 4
    same = (labels.unsqueeze(1) == labels) & ~torch.eye(16, dtype=torch.bool)
    other = labels.unsqueeze(1) != labels

    def gap() -> float:
        unit = torch.nn.functional.normalize(x.detach())
        cosine = unit @ unit.T
        return (cosine[same].mean() - cosine[other].mean()).item()

    assert gap() < 0.2
    for _ in range(200):
        (gradient,) = torch.autograd.grad(make()(x, labels), x)
        x = (x.detach() - 2.0 * gradient).requires_grad_()
    assert gap() > 0.6


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_autocast_copies_and_zeros_do_no_harm(dtype: torch.dtype) -> None:
    """Two equal crops (cosine 1), two opposite ones (cosine -1), and one of zeros."""
    generator = torch.Generator().manual_seed(4)
    x = torch.randn(12, 4, generator=generator).to(dtype)
    x[1], x[2], x[3] = x[0], -x[0], 0
    labels = torch.tensor([0, 0, 1, 1, 0, 1, 2, 2, 0, 1, 2, 2])
    x.requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        loss = make(0.5)(x, labels)
    loss.backward()
    exact = make(0.5)(x.detach().double(), labels)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(exact.item(), rel=1e-5)
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()
    assert not x.grad[3].any()


@pytest.mark.parametrize("rows", [[0], [5], slice(None)])
def test_embeddings_that_are_no_numbers_give_a_loss_that_is_none(rows: Any) -> None:
    x = torch.randn(12, 4, generator=torch.Generator().manual_seed(5))
    x[rows] = float("nan")
    assert torch.isnan(make(0.5)(x, torch.arange(12) % 3))


def test_it_has_no_parameters_and_refuses_what_it_cannot_use() -> None:
    assert not list(make().parameters())
    with pytest.raises(TrainingError, match=r"label_smoothing is 0\.1: head triplet"):
        build_head("triplet", embedding_size=6, identities=4, label_smoothing=0.1, margin=0.2)
