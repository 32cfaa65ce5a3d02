"""Holding people out, embedding them, and counting the matches that a threshold finds."""

import math
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn

from facewright.errors import TrainingError
from facewright.training import validation
from facewright.training.validation import FMR, embed, hold_out, true_match_rate

from .faces import ToyCrops, without_batchnorm


class Uneven(ToyCrops):
    """Eight people; 0 and 5 have one crop, the others two to seven, in no order."""

    def __init__(self) -> None:
        super().__init__(people=8, photos=7)
        counts = np.array([1, 2, 3, 7, 4, 1, 5, 6])
        kept = np.flatnonzero(np.arange(len(self)) % 7 < counts.repeat(7))
        kept = np.random.default_rng(3).permutation(kept)
        self.images, self.labels = self.images[kept], self.labels[kept]
        self.ids = [self.ids[index] for index in kept]


def whose(identifier: str) -> str:
    return identifier.partition("/")[0]


def test_people_held_out_are_not_trained_on_and_nothing_is_lost() -> None:
    crops = Uneven()
    rest, held = hold_out(crops, identities=3, seed=1)
    assert held is not None
    assert len(held.identities) == 3
    assert sorted([*rest.identities, *held.identities]) == crops.identities
    assert sorted([*rest.ids, *held.ids]) == sorted(crops.ids)
    pictures = dict(zip(crops.ids, crops.images, strict=True))
    for part in (rest, held):
        assert len(part) == len(part.ids) == len(part.labels)
        # Labels count among the part's own identities, and all of these occur.
        assert sorted(set(part.labels.tolist())) == list(range(len(part.identities)))
        names = [part.identities[label] for label in part.labels]
        assert names == [whose(one) for one in part.ids]
        chosen = np.array([len(part) - 1, 0, 2])
        expected = np.stack([pictures[part.ids[index]] for index in chosen])
        assert np.array_equal(part.batch(chosen), expected)


def test_the_choice_is_the_seeds_and_falls_on_people_with_two_crops() -> None:
    def names(seed: int) -> list[str]:
        _, held = hold_out(Uneven(), identities=2, seed=seed)
        assert held is not None
        return list(held.identities)

    assert names(1) == names(1)
    chosen = [names(seed) for seed in range(40)]
    assert {name for one in chosen for name in one} == {f"person-{n}" for n in (1, 2, 3, 4, 6, 7)}


def test_none_held_out_leaves_all() -> None:
    crops = ToyCrops()
    assert hold_out(crops, identities=0, seed=1) == (crops, None)


@pytest.mark.parametrize(
    ("crops", "identities", "message"),
    [
        (ToyCrops(people=5), 1, "is 1: 2 to 3 of the 5 identities"),
        (ToyCrops(people=5), 4, "is 4: 2 to 3 of the 5 identities"),
        (Uneven(), 7, "is 7: 2 to 6 of the 8 identities"),
        (ToyCrops(people=3), 2, "is 2: none of the 3 identities"),
        (ToyCrops(people=9, photos=1), 2, "is 2: none of the 9 identities"),
    ],
)
def test_too_many_or_too_few_are_refused(crops: Any, identities: int, message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        hold_out(crops, identities=identities, seed=1)


def test_most_that_can_be_held_out_are() -> None:
    rest, held = hold_out(Uneven(), identities=6, seed=1)
    assert held is not None
    assert len(held.identities) == 6
    assert list(rest.identities) == ["person-0", "person-5"]


def test_embeddings_have_length_one_and_come_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    crops = ToyCrops(people=3, photos=5)
    network = without_batchnorm("", embedding_size=8, dropout=0.0)
    pixels = torch.from_numpy(crops.images).permute(0, 3, 1, 2).float()
    with torch.no_grad():
        expected = network((pixels - 127.5) / 127.5)
    expected = expected / expected.norm(dim=1, keepdim=True)
    for batch in (4, 128):
        monkeypatch.setattr(validation, "BATCH", batch)
        made = embed(network, crops, device=torch.device("cpu"), precision=torch.float32, readers=2)
        assert not made.requires_grad
        torch.testing.assert_close(made.norm(dim=1), torch.ones(15))
        torch.testing.assert_close(made, expected)
    half = embed(network, crops, device=torch.device("cpu"), precision=torch.bfloat16, readers=1)
    assert half.dtype == torch.float32
    assert not torch.equal(half, expected)
    torch.testing.assert_close(half, expected, atol=0.03, rtol=0)


def test_a_network_that_makes_nothing_of_some_crops_is_no_error() -> None:
    """A zero has no direction."""
    made = embed(
        nn.Sequential(nn.Flatten(), nn.Linear(112 * 112 * 3, 2), nn.Threshold(9e9, 0.0)),
        ToyCrops(people=2, photos=2),
        device=torch.device("cpu"),
        precision=torch.float32,
        readers=2,
    )
    assert torch.equal(made, torch.zeros(4, 2))


def slow_true_match_rate(embeddings: npt.NDArray[np.float64], labels: list[int]) -> float:
    """Pair by pair; between two impostors the threshold lies where a straight line would."""
    genuine, impostors = [], []
    for one, other in combinations(range(len(labels)), 2):
        similarity = float(embeddings[one] @ embeddings[other])
        (genuine if labels[one] == labels[other] else impostors).append(similarity)
    impostors.sort()
    place = (1 - FMR) * (len(impostors) - 1)
    low = math.floor(place)
    upper = impostors[min(low + 1, len(impostors) - 1)]
    threshold = impostors[low] + (place - low) * (upper - impostors[low])
    assert sum(value > threshold for value in impostors) <= FMR * len(impostors) + 1
    return sum(value > threshold for value in genuine) / len(genuine)


def people_around(spread: float, *, people: int, crops: int) -> tuple[torch.Tensor, Any]:
    random = np.random.default_rng(5)
    labels = random.permutation(np.arange(people).repeat(crops))
    rows = random.normal(size=(people, 6))[labels] + spread * random.normal(size=(len(labels), 6))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return torch.from_numpy(rows).float(), labels


@pytest.mark.parametrize("spread", [0.1, 0.4, 0.8, 3.0])
def test_the_rate_is_that_of_counting_pairs(spread: float) -> None:
    embeddings, labels = people_around(spread, people=7, crops=6)
    expected = slow_true_match_rate(embeddings.double().numpy(), labels.tolist())
    assert true_match_rate(embeddings, labels) == pytest.approx(expected)


def test_the_rate_goes_from_one_to_nearly_nothing() -> None:
    rates = [
        true_match_rate(*people_around(spread, people=7, crops=6)) for spread in (0.01, 0.4, 1, 50)
    ]
    assert rates == sorted(rates, reverse=True)
    assert rates[0] == 1
    assert rates[-1] < 0.1
    # A network that says the same of everybody recognizes nobody.
    assert true_match_rate(torch.ones(8, 1), np.arange(8) // 2) == 0


@pytest.mark.parametrize(("identities", "each"), [(10, [2] * 10), (4, [5] * 4), (3, [6, 7, 7])])
def test_only_so_many_crops_are_held_and_dealt_to_all_people(
    monkeypatch: pytest.MonkeyPatch, identities: int, each: list[int]
) -> None:
    crops = ToyCrops(people=12, photos=9)
    rest, all_held = hold_out(crops, identities=identities, seed=1)
    monkeypatch.setattr(validation, "MOST", 20)
    trained, held = hold_out(crops, identities=identities, seed=1)
    assert all_held is not None
    assert held is not None
    assert trained.ids == rest.ids  # those that do not take part are not trained on
    assert len(all_held) == 9 * identities
    assert sorted(np.bincount(held.labels, minlength=identities)) == each
    assert held.identities == all_held.identities
    # In the order of the set, and the same ones each time.
    assert held.ids == [one for one in all_held.ids if one in set(held.ids)]
    _, again = hold_out(crops, identities=identities, seed=1)
    assert again is not None
    assert again.ids == held.ids
    assert [held.identities[label] for label in held.labels] == [whose(one) for one in held.ids]


def test_who_has_few_crops_leaves_room_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validation, "MOST", 17)
    _, held = hold_out(Uneven(), identities=6, seed=1)  # of 2, 3, 7, 4, 5 and 6 crops
    assert held is not None
    counts = dict(zip(held.identities, np.bincount(held.labels), strict=True))
    assert (counts["person-1"], counts["person-2"]) == (2, 3)
    assert sorted(counts.values()) == [2, 3, 3, 3, 3, 3]


def test_more_people_than_can_take_part_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validation, "MOST", 20)
    with pytest.raises(TrainingError, match=r"is 11: 2 to 10 of the 14 .* at most 20 crops"):
        hold_out(ToyCrops(people=14), identities=11, seed=1)


def test_names_of_crops_are_looked_up_once() -> None:
    """They are asked for crop by crop, of sets of millions."""
    _, held = hold_out(ToyCrops(), identities=2, seed=1)
    assert held is not None
    assert held.ids is held.ids
