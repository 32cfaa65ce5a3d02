"""Heads against their papers' formulas in float64, and at the ends of the cosine's range."""

import math

import pytest
import torch
from torch import Tensor

from facewright.errors import TrainingError
from facewright.models.heads import HEADS, build_head

from .papers import ANGULAR, CLASSIFIERS, OPTIONS, logits_of, loss_of, make

ONES = torch.tensor([[1.0, 0.0], [0.0, 1.0]])


def batch() -> tuple[Tensor, Tensor]:
    """40 crops of 5 identities in float64, of norms 1 to 9."""
    generator = torch.Generator().manual_seed(3)
    directions = torch.randn(40, 6, dtype=torch.float64, generator=generator)
    norms = torch.linspace(1, 9, 40, dtype=torch.float64)[torch.randperm(40, generator=generator)]
    labels = torch.arange(40) % 5
    return norms.unsqueeze(1) * torch.nn.functional.normalize(directions), labels


def test_every_head_has_a_formula_here() -> None:
    assert set(HEADS) == {*CLASSIFIERS, "triplet"}
    for name, options in OPTIONS.items():
        assert HEADS[name] == tuple(options)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_loss_is_the_papers_formula(name: str, smoothing: float) -> None:
    head = make(name, smoothing=smoothing).double()
    embeddings, labels = batch()
    # Some rows close to their centre and some close to its opposite, at their own norms.
    rows = torch.nn.functional.normalize(head.weight.detach()[:, :6])
    own = rows[labels * (len(rows) // 5)]
    norms = embeddings.norm(dim=1, keepdim=True)
    embeddings[:10] = own[:10] * norms[:10] + 0.01 * embeddings[:10]
    embeddings[10:20] = -own[10:20] * norms[10:20] + 0.01 * embeddings[10:20]
    head.observe(embeddings)
    expected = loss_of(name, embeddings.tolist(), head.weight.tolist(), labels.tolist(), smoothing)
    assert head(embeddings, labels).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_logits_are_the_papers_formula_with_and_without_the_identity(name: str) -> None:
    head = make(name).double()
    embeddings, labels = batch()
    labels[::3] = -1
    head.observe(embeddings)
    norms = embeddings.norm(dim=1).tolist()
    expected = [
        logits_of(name, row, head.weight.tolist(), label, norms)
        for row, label in zip(embeddings.tolist(), labels.tolist(), strict=True)
    ]
    torch.testing.assert_close(
        head.logits(embeddings, labels), torch.tensor(expected, dtype=torch.float64)
    )


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_gradients_are_those_of_finite_differences(name: str) -> None:
    """Of directions and of rows, and of norms where the margin lets a gradient through them."""
    head = make(name, smoothing=0.1).double()
    embeddings, labels = batch()
    head.observe(embeddings)
    head.eval()  # so that nothing is counted from one difference to the next
    embeddings, labels = embeddings[:7], labels[:7]
    # Two stand nearly opposite to their centre, and to all of its sub-centres: past θ = π - m.
    rows = head.weight.data.unflatten(0, (5, -1))[:2, :, :6]
    rows[:, 1:] = rows[:, :1] + 0.1 * rows[:, 1:]
    rows = torch.nn.functional.normalize(rows, dim=2)
    embeddings[:2] = 0.1 * embeddings[:2] / embeddings[:2].norm(dim=1, keepdim=True) - rows[:, 0]
    assert (torch.cosine_similarity(embeddings[:2, None], rows, dim=2) < -math.cos(0.4)).all()
    embeddings[:2] *= 4
    norms = embeddings.norm(dim=1, keepdim=True)

    def loss(x: Tensor, weight: Tensor) -> Tensor:
        if name == "adaface":
            x = x / x.norm(dim=1, keepdim=True) * norms
        value = torch.func.functional_call(head, {"weight": weight}, (x, labels))
        assert isinstance(value, Tensor)
        return value

    weight = head.weight.detach().clone().requires_grad_()
    assert torch.autograd.gradcheck(loss, (embeddings.clone().requires_grad_(), weight))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_cosine_plus_and_minus_one(name: str, sign: float, dtype: torch.dtype) -> None:
    """Embeddings on the centre, or opposite: value as in float64, gradients finite."""
    head = make(name)
    head.weight.data = head.weight.detach().bfloat16().float()  # exact in both
    labels = torch.arange(5)
    rows = head.weight.detach()[:: len(head.weight) // 5, :6]
    embeddings = (sign * rows * 128).to(dtype).requires_grad_()
    loss = head(embeddings, labels)
    loss.backward()
    twin = make(name).double()
    twin.weight.data = head.weight.detach().double()
    exact = twin(embeddings.detach().double(), labels)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(exact.item(), rel=1e-5, abs=1e-6)
    assert embeddings.grad is not None
    assert head.weight.grad is not None
    assert torch.isfinite(embeddings.grad).all()
    assert torch.isfinite(head.weight.grad).all()
    if name in ANGULAR:  # nothing explodes: a step on the sphere is at most s·m long or so
        assert (embeddings.grad * embeddings.detach()).norm(dim=1).max() < 200


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_an_embedding_of_zeros_does_no_harm(name: str) -> None:
    head = make(name)
    embeddings, labels = batch()
    embeddings = embeddings.float()
    embeddings[3] = 0
    embeddings.requires_grad_()
    loss = head(embeddings, labels)
    loss.backward()
    assert embeddings.grad is not None
    assert head.weight.grad is not None
    assert torch.isfinite(loss)
    assert torch.isfinite(head.weight.grad).all()
    assert embeddings.grad.abs().max() < 100
    if name in ANGULAR:
        assert not embeddings.grad[3].any()


@pytest.mark.parametrize("name", ["arcface", "subcentre", "magface", "adaface", "combined"])
def test_margins_are_added_to_tiny_angles_in_float32(name: str) -> None:
    """√(1 - cos²) would lose an angle of 0.0001 altogether: its cosine rounds to one."""
    # AdaFace's margin of angle at z = 1 is -0.5.
    options = {
        "arcface": {"margin": 0.5},
        "subcentre": {"margin": 0.5, "sub_centres": 1},
        "magface": {"l_m": 0.5, "u_m": 0.5},
        "adaface": {"margin": -0.5, "h": 1e9},
        "combined": {"m1": 1.0, "m2": 0.5, "m3": 0.0},
    }
    head = make(name, size=2, identities=2, **({"scale": 1.0} | options[name]))
    head.weight.data = ONES.clone()
    if name == "adaface":
        head.norm_deviation.fill_(1.0)
    for angle in (0.0, 1e-4, 1e-2, 0.3, 2.0, 2.6):
        x = torch.tensor([[math.cos(angle), math.sin(angle)]])
        logit = head.logits(x, torch.tensor([0]))[0, 0].item()
        constant = 1.0 if name == "adaface" else 0.0  # m + m·z = -1
        assert logit - constant == pytest.approx(math.cos(angle + 0.5), abs=4e-7)


@pytest.mark.parametrize("name", ANGULAR)
def test_the_true_logit_falls_with_the_angle_everywhere(name: str) -> None:
    eased = {"lambda_base": 0.0, "lambda_min": 0.0} if name == "sphereface" else {}
    head = make(name, size=2, identities=1, **eased).double().eval()
    head.weight.data = torch.tensor([[1.0, 0.0]] * len(head.weight), dtype=torch.float64)
    angles = torch.linspace(0, math.pi, 500, dtype=torch.float64)
    x = 3 * torch.stack((angles.cos(), angles.sin()), dim=1)
    for z_mean in (0.0, 3.0, 6.0):  # AdaFace: norms above, on and below the mean
        if name == "adaface":
            head.norm_mean.fill_(z_mean)
            head.norm_deviation.fill_(1.0)
        falls = head.logits(x, torch.zeros(500, dtype=torch.int64))[:, 0].diff()
        # AdaFace cuts its angle to [0, π] and is level there.
        assert (falls <= 1e-12 if name == "adaface" else falls < 0).all()


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_autocast_changes_nothing(name: str) -> None:
    head, twin = make(name), make(name)
    embeddings, labels = torch.randn(9, 6), torch.arange(9) % 5
    with torch.autocast("cpu", torch.bfloat16):
        inside = head(embeddings, labels)
    assert inside.dtype == torch.float32
    assert torch.equal(inside, twin(embeddings, labels))


@pytest.mark.parametrize("name", [name for name in ANGULAR if name != "normface"])
def test_a_margin_makes_it_harder_and_only_for_the_own_identity(name: str) -> None:
    head, (embeddings, labels) = make(name).double(), batch()
    head.observe(embeddings)
    own = torch.nn.functional.one_hot(labels, 5).bool()
    without, with_margin = (
        head.logits(embeddings, torch.full_like(labels, -1)),
        head.logits(embeddings, labels),
    )
    torch.testing.assert_close(without[~own], with_margin[~own])
    assert (with_margin[own] < without[own]).all()


@pytest.mark.parametrize("name", ["normface", "cosface", "arcface", "combined", "subcentre"])
def test_length_of_embeddings_does_not_matter(name: str) -> None:
    head, embeddings, labels = make(name), torch.randn(9, 6), torch.arange(9) % 5
    near = head(embeddings * 100, labels)
    torch.testing.assert_close(near, head(embeddings, labels))


def test_combined_holds_the_other_margins() -> None:
    embeddings, labels = batch()

    def logits(name: str, **options: float) -> Tensor:
        return make(name, **options).double().eval().logits(embeddings, labels)

    def combined(m1: float, m2: float, m3: float, **options: float) -> Tensor:
        return logits("combined", m1=m1, m2=m2, m3=m3, **options)

    torch.testing.assert_close(combined(1, 0, 0), logits("normface"))
    torch.testing.assert_close(combined(1, 0, 0.35), logits("cosface"))
    # As far as θ = π - m: cos θ > -cos m.
    plain = combined(1, 0, 0, scale=1).gather(1, labels.unsqueeze(1))[:, 0]
    within = plain > -math.cos(0.5)
    assert within.sum() > 30
    torch.testing.assert_close(combined(1, 0.5, 0)[within], logits("arcface")[within])
    sphere = logits("sphereface", lambda_base=0.0, lambda_min=0.0)
    torch.testing.assert_close(
        combined(4, 0, 0, scale=1), sphere / embeddings.norm(dim=1, keepdim=True)
    )


def test_only_the_nearest_sub_centre_of_an_identity_is_pulled() -> None:
    head, (embeddings, _) = make("subcentre").double(), batch()
    head.logits(embeddings[:1], torch.tensor([2]))[0, 2].backward()
    assert head.weight.grad is not None
    rows = head.weight.detach()[6:9]  # of identity 2, next to each other
    nearest = 6 + int(torch.nn.functional.cosine_similarity(rows, embeddings[:1]).argmax())
    assert head.weight.grad.any(dim=1).nonzero().flatten().tolist() == [nearest]


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_parts_of_a_classifier_have_the_logits_of_the_whole(name: str) -> None:
    """As over two processes: each has some rows, and -1 for labels of the other's."""
    head, (embeddings, labels) = make(name).double(), batch()
    head.observe(embeddings)
    whole = head.logits(embeddings, labels)
    cut = 2 * (len(head.weight) // 5)
    first = head.logits(embeddings, labels.where(labels < 2, -1), head.weight[:cut])
    second = head.logits(embeddings, (labels - 2).clamp(min=-1), head.weight[cut:])
    torch.testing.assert_close(torch.cat((first, second), dim=1), whole)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_sampled_rows_are_as_good_as_a_head_that_has_no_others(name: str) -> None:
    head, small = make(name).double(), make(name, identities=3).double()
    embeddings, _ = batch()
    for each in (head, small):
        each.observe(embeddings)
    sampled = torch.tensor([4, 0, 3])
    rows = head.weight.detach().unflatten(0, (5, -1))[sampled].flatten(0, 1)
    small.weight.data = rows.clone()
    rows.requires_grad_()
    labels = torch.arange(40) % 4 - 1
    one, other = head.logits(embeddings, labels, rows), small.logits(embeddings, labels)
    assert torch.equal(one, other)
    one.square().sum().backward()
    other.square().sum().backward()
    assert rows.grad is not None
    assert torch.equal(rows.grad, small.weight.grad)
    assert head.weight.grad is None


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_loss_is_made_of_the_parts_that_a_wrapper_calls(name: str) -> None:
    head, twin = make(name, smoothing=0.1), make(name, smoothing=0.1)
    embeddings, labels = torch.randn(9, 6), torch.arange(9) % 5
    parts = torch.nn.functional.cross_entropy(
        twin.logits(embeddings, labels), labels, label_smoothing=twin.label_smoothing
    ) + twin.regularizer(embeddings)
    assert torch.equal(head(embeddings, labels), parts)
    twin.observe(embeddings)
    for one, other in zip(head.buffers(), twin.buffers(), strict=True):
        assert torch.equal(one, other)
    if name != "magface":
        assert twin.regularizer(embeddings) == 0


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        ({"u_a": 2.0}, r"u_a is 2\.0: must be above l_a, 2\.0"),
        ({"u_a": 1.0}, r"u_a is 1\.0: must be above l_a, 2\.0"),
        ({"u_m": 0.4}, r"u_m is 0\.4: must not be below l_m, 0\.45"),
    ],
)
def test_magface_refuses_bounds_without_room(bounds: dict[str, float], message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        make("magface", **bounds)
    assert make("magface", l_m=0.8)  # one margin for all


def test_an_unknown_head_is_refused_with_the_known_ones() -> None:
    with pytest.raises(TrainingError, match=r"unknown head 'arcfase'.*arcface"):
        build_head("arcfase", embedding_size=4, identities=2, label_smoothing=0, scale=1)


def test_missing_and_foreign_options_are_refused_by_name() -> None:
    with pytest.raises(
        TrainingError, match="cosface takes scale, margin: margin is missing, m1 is none of them"
    ):
        build_head("cosface", embedding_size=4, identities=2, label_smoothing=0, scale=1, m1=1)
    with pytest.raises(TrainingError, match="softmax takes no options: scale is none of them"):
        build_head("softmax", embedding_size=4, identities=2, label_smoothing=0, scale=1)
