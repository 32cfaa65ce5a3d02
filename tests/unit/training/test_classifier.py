"""The classifier over one, two and three processes, whole and sampled, against the head alone."""

from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from facewright.models.heads import HEADS, Head, build_head
from facewright.training import classifier as module
from facewright.training.batches import Pass
from facewright.training.classifier import Classifier, _CrossEntropy, draw_with
from facewright.training.distributed import Processes, process_group
from facewright.training.schedule import build_optimizer

from ..models import papers
from .processes import belongs, run_together

ALONE = Processes(0, 1, torch.device("cpu"))
IDENTITIES, SIZE, CROPS = 11, 6, 10
SIZES = {1: (10,), 2: (3, 7), 3: (5, 2, 3)}  # crops of each process
OPTIONS = papers.OPTIONS | {"triplet": {"margin": 0.5}}
SAMPLED = ("softmax", "cosface", "magface", "subcentre")
SHARE = 0.3  # of 11 identities: 2 of 5 or 6, and 1 of 3 or 4


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of centres whose edges are those of no process."""
    monkeypatch.setattr(module, "BLOCK", 4)


def build(name: str, identities: int) -> nn.Module:
    smoothing = 0.0 if name == "triplet" else 0.1
    return build_head(
        name,
        embedding_size=SIZE,
        identities=identities,
        label_smoothing=smoothing,
        **OPTIONS[name],
    )


def all_centres(name: str) -> Tensor:
    """Centres of all lengths, as in mid-training."""
    each = OPTIONS[name].get("sub_centres", 1)
    draw = torch.Generator().manual_seed(1)
    return torch.randn(each * IDENTITIES, SIZE + (name == "softmax"), generator=draw)


def make(name: str, group: Processes = ALONE, *, sampled: float = 1.0) -> Classifier:
    made = Classifier(
        lambda count: build(name, count),
        identities=IDENTITIES,
        sampled=sampled,
        seed=5,
        group=group,
    )
    if isinstance(made.head, Head):
        with torch.no_grad():
            made.head.weight.copy_(all_centres(name)[made.rows])
    return made


def batch(step: int) -> tuple[Tensor, Tensor]:
    """Crops of the first identities: the last process has none of them."""
    draw = torch.Generator().manual_seed(100 + step)
    embeddings = 2 * torch.randn(CROPS, SIZE, generator=draw)
    return embeddings, torch.randint(0, 7, (CROPS,), generator=draw)


def centres_of(made: Classifier) -> Tensor:
    """Those that this process has."""
    return made.own_centres().flatten(0, 1).clone()


def one_pass(count: int) -> Pass:
    edges = accumulate(SIZES[count], initial=0)
    return Pass(slice(0, CROPS), tuple(slice(*edge) for edge in pairwise(edges)))


def loss_and_gradients(made: Classifier, group: Processes, step: int) -> dict[str, Any]:
    """Of a pass over the batch of a step, as this process sees them."""
    one = one_pass(group.count)
    embeddings, labels = batch(step)
    own = embeddings[one.parts[group.rank]].clone().requires_grad_()
    loss = made(own, labels, one)
    loss.backward()
    made.observe()
    return {
        "loss": loss.detach(),
        "embeddings": own.grad,
        "centres": [weight.grad for weight in made.trained],
        "buffers": {name: value.clone() for name, value in made.head.named_buffers()},
    }


def second_pass(name: str, group: Processes) -> dict[str, Any]:
    """The first one fills what a head counts."""
    made = make(name, group)
    loss_and_gradients(made, group, 0)
    made.zero_grad()
    return loss_and_gradients(made, group, 1)


def sampled_step(name: str, group: Processes) -> dict[str, Any]:
    """Loss, gradients, and all centres after a step of SGD in which the chosen ones decay too."""
    made = make(name, group, sampled=SHARE)
    optimizer = build_optimizer(made.trained, name="sgd", learning_rate=0.1, weight_decay=0.5)
    made.sample(batch(0)[1], 0, optimizer)
    seen = loss_and_gradients(made, group, 0)
    optimizer.step()
    made.keep(optimizer)
    return seen | {"after": centres_of(made)}


def work(folder: str) -> None:
    """All that the tests ask of several processes; each writes down what it saw."""
    torch.set_num_threads(1)
    module.BLOCK = 4
    for turn, count in enumerate((3, 2)):
        if not belongs(group=turn, processes=count):
            continue
        with process_group() as group:
            untouched = {
                name: Classifier(
                    lambda rows, name=name: build(name, rows),
                    identities=IDENTITIES,
                    sampled=1.0,
                    seed=5,
                    group=group,
                )
                for name in ("cosface", "subcentre", "softmax")
            }
            seen = {
                "whole": {name: second_pass(name, group) for name in HEADS},
                "sampled": {name: sampled_step(name, group) for name in SAMPLED},
                "initial": {name: centres_of(made) for name, made in untouched.items()},
            }
            torch.save(seen, Path(folder) / f"{group.rank}-of-{count}.pt")


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[int, list[dict[str, Any]]]:
    """What each of two and of three processes saw."""
    folder = tmp_path_factory.mktemp("seen")
    run_together(work, str(folder), processes=3, groups=2)
    return {
        count: [torch.load(folder / f"{rank}-of-{count}.pt") for rank in range(count)]
        for count in (2, 3)
    }


def close(one: Tensor, other: Tensor) -> None:
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("name", HEADS)
def test_any_number_of_processes_has_the_loss_and_gradients_of_one(
    seen: dict[int, list[dict[str, Any]]], name: str, count: int
) -> None:
    one = second_pass(name, ALONE)
    assert one["embeddings"].abs().max() > 1e-3
    parts = [process["whole"][name] for process in seen[count]]
    for part in parts:
        close(part["loss"], one["loss"])
    # Averaging over the processes, as DDP does, is to give the sum.
    close(torch.cat([part["embeddings"] for part in parts]) / count, one["embeddings"])
    if name == "triplet":
        assert not any(part["centres"] for part in parts)
    else:
        close(torch.cat([part["centres"][0] for part in parts]), one["centres"][0])
    assert one["buffers"].keys() == (
        {"adaface": {"steps", "norm_mean", "norm_deviation"}, "sphereface": {"steps"}}
    ).get(name, set())
    for key, value in one["buffers"].items():
        close(parts[0]["buffers"][key], value)
        assert all(torch.equal(part["buffers"][key], parts[0]["buffers"][key]) for part in parts)


@pytest.mark.parametrize("name", ["cosface", "subcentre", "softmax"])
def test_an_identity_starts_from_the_same_centres_wherever_it_lies(
    seen: dict[int, list[dict[str, Any]]], name: str
) -> None:
    torch.manual_seed(8)  # not what they are drawn from
    made = Classifier(
        lambda rows: build(name, rows), identities=IDENTITIES, sampled=1.0, seed=5, group=ALONE
    )
    centres = centres_of(made)
    assert len(centres) == IDENTITIES * OPTIONS[name].get("sub_centres", 1)
    assert len(centres.unique(dim=0)) == len(centres)
    assert 0.007 < centres[:, :SIZE].std() < 0.013
    for processes in seen.values():
        spread = torch.cat([process["initial"][name] for process in processes])
        assert torch.equal(spread, centres)


# --- sampling ------------------------------------------------------------------------------------


def rows_of(name: str, identities: Tensor) -> Tensor:
    each = OPTIONS[name].get("sub_centres", 1)
    return (identities[:, None] * each + torch.arange(each)).flatten()


def moved(before: Tensor, after: Tensor, name: str) -> Tensor:
    """The identities whose centres changed; all sub-centres of one do, or none."""
    each = OPTIONS[name].get("sub_centres", 1)
    rows = (before != after).any(dim=1).view(-1, each)
    assert torch.equal(rows.all(dim=1), rows.any(dim=1))
    return rows.all(dim=1).nonzero().flatten()


def among(
    name: str, centres: Tensor, chosen: Tensor, embeddings: Tensor, labels: Tensor
) -> dict[str, Any]:
    """Loss and gradients of the head of only these identities, those of the others being zero."""
    embeddings = embeddings.clone().requires_grad_()
    head = build(name, len(chosen))
    rows = rows_of(name, chosen)
    with torch.no_grad():
        head.weight.copy_(centres[rows])
    loss = head(embeddings, torch.searchsorted(chosen, labels))
    loss.backward()
    gradient = torch.zeros_like(centres)
    gradient[rows] = head.weight.grad
    return {"loss": loss.detach(), "embeddings": embeddings.grad, "centres": gradient, "rows": rows}


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("name", SAMPLED)
def test_a_sampled_step_is_that_of_a_head_of_the_chosen_identities_alone(
    seen: dict[int, list[dict[str, Any]]], name: str, count: int
) -> None:
    if count == 1:
        parts = [sampled_step(name, ALONE)]
    else:
        parts = [process["sampled"][name] for process in seen[count]]
    before, after = all_centres(name), torch.cat([part["after"] for part in parts])
    chosen = moved(before, after, name)
    labels = batch(0)[1]
    assert set(labels.tolist()) <= set(chosen.tolist())
    # Of each process's identities as many as asked for, or those of the batch where these are more.
    edges = [round(IDENTITIES * rank / count) for rank in range(count + 1)]
    for first, last in pairwise(edges):
        own = labels[(labels >= first) & (labels < last)].unique()
        here = ((chosen >= first) & (chosen < last)).sum()
        assert here == max(round(SHARE * (last - first)), len(own))
    assert len(chosen) < IDENTITIES

    one = among(name, before, chosen, *batch(0))
    for part in parts:
        close(part["loss"], one["loss"])
    close(torch.cat([part["embeddings"] for part in parts]) / count, one["embeddings"])
    close(torch.cat([part["centres"][0] for part in parts]), one["centres"][one["rows"]])
    slope = one["centres"] + 0.5 * before
    expected = before - 0.1 * 1.9 * slope  # Nesterov's first step: slope + 0.9 · slope
    close(after[one["rows"]], expected[one["rows"]])


@pytest.mark.parametrize("name", SAMPLED)
def test_a_sample_of_all_is_no_sample(name: str) -> None:
    made = make(name, sampled=0.999)
    optimizer = build_optimizer(made.trained, name="sgd", learning_rate=0.1, weight_decay=0.0)
    made.sample(batch(1)[1], 1, optimizer)
    one = loss_and_gradients(made, ALONE, 1)
    whole = loss_and_gradients(make(name), ALONE, 1)
    close(one["loss"], whole["loss"])
    close(one["embeddings"], whole["embeddings"])
    close(one["centres"][0], whole["centres"][0])


class Sgd:
    """Nesterov's momentum 0.9 of rows that may rest: a resting row's momentum waits for it."""

    def __init__(self, centres: Tensor):
        self.momentum = torch.zeros_like(centres)

    def step(self, centres: Tensor, slope: Tensor, rows: Tensor, rate: float, decay: float) -> None:
        slope = slope[rows] + decay * centres[rows]
        self.momentum[rows] = 0.9 * self.momentum[rows] + slope
        centres[rows] -= rate * (slope + 0.9 * self.momentum[rows])


class AdamW:
    """Loshchilov and Hutter's, of rows that may rest; steps are counted for all together."""

    def __init__(self, centres: Tensor):
        self.mean, self.square = torch.zeros_like(centres), torch.zeros_like(centres)
        self.count = 0

    def step(self, centres: Tensor, slope: Tensor, rows: Tensor, rate: float, decay: float) -> None:
        self.count += 1
        centres[rows] *= 1 - rate * decay
        self.mean[rows] = 0.9 * self.mean[rows] + 0.1 * slope[rows]
        self.square[rows] = 0.999 * self.square[rows] + 0.001 * slope[rows] ** 2
        mean = self.mean[rows] / (1 - 0.9**self.count)
        square = self.square[rows] / (1 - 0.999**self.count)
        centres[rows] -= rate * mean / (square.sqrt() + 1e-8)


@pytest.mark.parametrize("kind", [Sgd, AdamW])
@pytest.mark.parametrize("name", ["cosface", "subcentre"])
def test_momentum_stays_with_its_identity_from_step_to_step(name: str, kind: Any) -> None:
    """Through choices that change, against formulas on all rows; a restart in the middle too."""
    rate, decay = 0.01, 0.1
    optimize = {"name": kind.__name__.lower(), "learning_rate": rate, "weight_decay": decay}
    made = make(name, sampled=SHARE)
    optimizer = build_optimizer(made.trained, **optimize)
    expected = all_centres(name)
    reference = kind(expected)
    choices = set()
    for step in range(8):
        if step == 4:
            state = made.state(optimizer)
            made = make(name, sampled=SHARE)
            optimizer = build_optimizer(made.trained, **optimize)
            made.restore({key: value.clone() for key, value in state.items()}, optimizer)
        embeddings, labels = batch(step)
        labels = (labels % 2 + 3 * step) % IDENTITIES  # two, and one more is drawn
        before = centres_of(made)
        made.sample(labels, step, optimizer)
        made(embeddings, labels, one_pass(1)).backward()
        optimizer.step()
        made.keep(optimizer)
        optimizer.zero_grad()
        after = centres_of(made)
        chosen = moved(before, after, name)
        choices.add(tuple(chosen.tolist()))
        one = among(name, before, chosen, embeddings, labels)
        reference.step(expected, one["centres"], one["rows"], rate, decay)
        close(after, expected)
    assert len(choices) > 5


def test_the_choice_is_that_of_its_step() -> None:
    def chosen(*steps: int) -> Tensor:
        """The rows that the last of `steps` compares with."""
        made = make("cosface", sampled=0.5)
        optimizer = build_optimizer(made.trained, name="sgd", learning_rate=0.1, weight_decay=0.0)
        for step in steps:
            made.sample(torch.tensor([2]), step, optimizer)
        assert made.active is not None
        return made.active.detach()

    assert torch.equal(chosen(7), chosen(3, 5, 7))
    assert not torch.equal(chosen(7), chosen(8))
    assert len(chosen(7)) == 6  # round(0.5 · 11)


@pytest.mark.parametrize("own", [[], [0], [9], [0, 1, 2], [3, 4, 8], list(range(7))])
def test_every_choice_of_the_others_is_as_likely(own: list[int]) -> None:
    """Seven of ten: of those that are not `own` each comes as often, and each pair together."""
    times = np.zeros((10, 10))
    draws = 2000
    for seed in range(draws):
        chosen = draw_with(np.array(own, dtype=np.int64), among=10, count=7, seed=seed)
        assert len(chosen) == 7
        assert (np.diff(chosen) > 0).all()
        assert 0 <= chosen[0] <= chosen[-1] < 10
        times[np.ix_(chosen, chosen)] += 1
    rest = [number for number in range(10) if number not in own]
    assert (times[own][:, own] == draws).all()
    left, n = 7 - len(own), len(rest)
    inner = times[np.ix_(rest, rest)] / draws
    within = 5 * (0.25 / draws) ** 0.5
    assert np.diag(inner) == pytest.approx(left / n, abs=within)
    apart = inner[~np.eye(n, dtype=bool)]
    assert apart == pytest.approx(left * (left - 1) / (n * (n - 1)), abs=within)


# --- cross-entropy -------------------------------------------------------------------------------


def entropy(logits: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    loss: Tensor = _CrossEntropy.apply(logits, labels, smoothing, logits.shape[1], ALONE)
    return loss


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("size", [1.0, 64.0, 1e4])
def test_cross_entropy_is_pytorchs(size: float, smoothing: float) -> None:
    draw = torch.Generator().manual_seed(3)
    logits = size * torch.randn(6, 9, generator=draw, dtype=torch.float64)
    labels = torch.randint(0, 9, (6,), generator=draw)
    one, other = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    ours = entropy(one, labels, smoothing)
    theirs = F.cross_entropy(other, labels, label_smoothing=smoothing)
    (3 * ours).backward()
    (3 * theirs).backward()
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(one.grad, other.grad)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_cross_entropys_slope_is_its_slope(smoothing: float) -> None:
    logits = torch.randn(4, 5, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([0, 4, 2, 2])
    assert torch.autograd.gradcheck(lambda z: 2.5 * entropy(z, labels, smoothing), logits)
