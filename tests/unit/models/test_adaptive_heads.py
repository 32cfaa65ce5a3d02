"""What AdaFace, MagFace and SphereFace keep from step to step, and take from norms."""

import math
import statistics
from typing import Any

import pytest
import torch
from torch import Tensor

from .papers import make


def crops(norms: list[float], *, seed: int = 5) -> Tensor:
    """Rows of these norms in float64."""
    generator = torch.Generator().manual_seed(seed)
    directions = torch.randn(len(norms), 6, dtype=torch.float64, generator=generator)
    lengths = torch.tensor(norms, dtype=torch.float64).unsqueeze(1)
    return lengths * torch.nn.functional.normalize(directions)


LABELS = torch.arange(4)


def adaface_at(z: float, **options: Any) -> Tensor:
    """The logits of crops whose norm gives this z."""
    head = make("adaface", **options).double().eval()
    head.norm_mean.fill_(10.0)
    head.norm_deviation.fill_(1.0)
    return head.logits(crops([10 + z * 1.001 / 0.333] * 4), LABELS)


def test_adaface_goes_from_arcface_over_cosface_to_its_opposite() -> None:
    x = crops([1.0] * 4)
    arc = make("arcface", margin=0.4).double().logits(x, LABELS)
    cos = make("cosface", margin=0.4).double().logits(x, LABELS)
    opposite = make("normface").double().logits(x, LABELS)
    angle = (opposite.diagonal() / 32).acos()
    assert angle.min() > 0.4  # so that nothing is cut
    opposite.diagonal().copy_(32 * (torch.cos(angle - 0.4) - 0.8))
    torch.testing.assert_close(adaface_at(-1), arc)
    torch.testing.assert_close(adaface_at(0), cos)
    torch.testing.assert_close(adaface_at(1), opposite)
    torch.testing.assert_close(adaface_at(-3), arc)  # z is cut to [-1, 1]
    torch.testing.assert_close(adaface_at(40), opposite)


def test_adaface_has_nothing_to_compare_the_first_step_with() -> None:
    """Its norms do not matter, and are what the second step's are compared with."""
    head, cos = make("adaface").double(), make("cosface", margin=0.4).double()
    x = crops([1.0, 9.0, 30.0, 200.0])
    torch.testing.assert_close(head(x, LABELS), cos(x, LABELS), rtol=1e-12, atol=0)
    assert not torch.isclose(head.loss(x, LABELS), cos(x, LABELS))
    assert head.norm_mean.item() == pytest.approx(60)


def test_adaface_gives_no_gradient_along_the_norm() -> None:
    head = make("adaface").double()
    x = crops([8.0, 9.5, 10.0, 12.0]).requires_grad_()
    head(x, LABELS).backward()
    assert x.grad is not None
    assert x.grad.norm(dim=1).min() > 1e-3
    along = (x.grad * x.detach()).sum(dim=1)
    torch.testing.assert_close(along, torch.zeros(4, dtype=torch.float64), atol=1e-12, rtol=0)


def test_adaface_keeps_running_statistics_of_norms() -> None:
    head = make("adaface", t_alpha=0.25).double()
    batches = [[8.0, 9.0, 11.0, 15.0], [3.0, 3.5, 4.0, 7.0], [20.0, 21.0, 25.0, 22.0]]
    mean = deviation = 0.0
    for step, norms in enumerate(batches):
        head(crops(norms), LABELS)
        share = 0.25 if step else 1.0
        mean = share * statistics.mean(norms) + (1 - share) * mean
        deviation = share * statistics.stdev(norms) + (1 - share) * deviation
    assert head.norm_mean.item() == pytest.approx(mean, rel=1e-12)
    assert head.norm_deviation.item() == pytest.approx(deviation, rel=1e-12)

    before = {key: value.clone() for key, value in head.state_dict().items()}
    head.eval()(crops([1.0, 2.0, 3.0, 4.0]), LABELS)
    assert all(torch.equal(before[key], value) for key, value in head.state_dict().items())
    again = make("adaface", t_alpha=0.25).double()
    again.load_state_dict(before)
    x = crops([9.0, 10.0, 11.0, 12.0])
    assert torch.equal(again.train()(x, LABELS), head.train()(x, LABELS))


def test_adaface_takes_statistics_in_float32_from_bfloat16() -> None:
    head = make("adaface")
    x = crops([8.0, 9.0, 11.0, 15.0]).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        head(x, LABELS)
    norms = x.double().norm(dim=1).tolist()
    assert head.norm_mean.item() == pytest.approx(statistics.mean(norms), rel=1e-6)
    assert head.norm_deviation.item() == pytest.approx(statistics.stdev(norms), rel=1e-6)


def test_adaface_bears_a_batch_of_one_and_of_equal_norms() -> None:
    for norms in ([7.0], [7.0] * 4):
        head = make("adaface")
        assert torch.isfinite(head(crops(norms).float(), LABELS[: len(norms)]))
        assert head.norm_deviation.item() == pytest.approx(0, abs=1e-5)


def test_sphereface_lets_go_of_the_easy_loss_step_by_step() -> None:
    """λ worked out of the true logit, against the authors' schedule."""
    head = make("sphereface", identities=1, size=2).double()
    head.weight.data = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    theta, norm = 1.0, 3.0  # ψ = -cos 4 - 2, since 1 lies in [π/4, π/2]
    x = norm * torch.tensor([[math.cos(theta), math.sin(theta)]], dtype=torch.float64)
    cosine, psi = math.cos(theta), -math.cos(4 * theta) - 2
    for step in (1, 2, 3):
        value = head.logits(x, torch.tensor([0])).item() / norm
        easing = (value - psi) / (cosine - value)
        assert easing == pytest.approx(1000 / (1 + 0.12 * step), rel=1e-6)
        head(x, torch.tensor([0]))
    head.steps.fill_(100_000)
    value = head.logits(x, torch.tensor([0])).item() / norm
    assert value == pytest.approx((5 * cosine + psi) / 6, rel=1e-12)


def test_sphereface_counts_training_steps_only_and_in_its_checkpoint() -> None:
    head, x = make("sphereface").double(), crops([1.0, 2.0, 3.0, 4.0])
    head(x, LABELS)
    head(x, LABELS)
    head.eval()(x, LABELS)
    assert head.state_dict()["steps"] == 2
    again = make("sphereface").double()
    again.load_state_dict(head.state_dict())
    assert torch.equal(again.train()(x, LABELS), head.train()(x, LABELS))


def test_magface_regularizer_lengthens_and_its_margin_shortens() -> None:
    head = make("magface").double()  # norms cut to [2, 8]
    norms = [1.0, 3.0, 7.0, 9.0]
    x = crops(norms).requires_grad_()
    value = head.regularizer(x)
    expected = [35 * (1 / a + a / 64) for a in (2.0, 3.0, 7.0, 8.0)]
    assert value.item() == pytest.approx(statistics.mean(expected), rel=1e-12)
    (gradient,) = torch.autograd.grad(value, x)
    along = (gradient * x.detach()).sum(dim=1)
    assert not gradient[0].any()  # beyond the cuts: nothing
    assert not gradient[3].any()
    assert (along[1:3] < 0).all()  # going down the gradient makes these longer
    for row, a in ((1, 3.0), (2, 7.0)):
        assert along[row].item() == pytest.approx(35 / 4 * a * (1 / 64 - 1 / a**2), rel=1e-9)

    own = head.logits(x, LABELS).gather(1, LABELS.unsqueeze(1)).sum()
    (gradient,) = torch.autograd.grad(own, x)
    along = (gradient * x.detach()).sum(dim=1)
    assert (along[1:3] < 0).all()  # a longer norm, a larger margin, a smaller true logit
    torch.testing.assert_close(along[[0, 3]], torch.zeros(2, dtype=torch.float64))


def test_magface_lengthens_easy_crops_and_shortens_hard_ones() -> None:
    head = make("magface", identities=2, size=2, lambda_g=1.0).double()
    head.weight.data = torch.eye(2, dtype=torch.float64)
    angles = torch.tensor([0.0, 1.5], dtype=torch.float64)
    x = (5 * torch.stack((angles.cos(), angles.sin()), dim=1)).requires_grad_()
    head(x, torch.tensor([0, 0])).backward()
    assert x.grad is not None
    easy, hard = (x.grad * x.detach()).sum(dim=1).tolist()
    assert easy < 0 < hard
