from collections.abc import Callable

import numpy as np
import pytest

from facewright.errors import EvaluationError
from facewright.evaluation import search as module
from facewright.evaluation.search import Found, search

Made = tuple[np.ndarray, list[str], np.ndarray, list[str]]


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="session")
def make() -> Callable[..., Made]:
    """A gallery with one to `most` entries a person, and probes, a third of them of strangers."""

    def made(*, seed: int = 0, people: int = 40, most: int = 3, probes: int = 90) -> Made:
        rng = np.random.default_rng(seed)
        centre = rng.normal(size=(people + 10, 8))
        owner = np.repeat(np.arange(people), rng.integers(1, most + 1, people))
        rng.shuffle(owner)
        shown = np.where(
            np.arange(probes) % 3 > 0,
            rng.integers(0, people, probes),
            rng.integers(people, people + 10, probes),
        )
        gallery, searched = (
            unit(centre[k] + 0.8 * rng.normal(size=(len(k), 8))) for k in (owner, shown)
        )
        return gallery, [f"p{k:02d}" for k in owner], searched, [f"p{k:02d}" for k in shown]

    return made


def slow(gallery: np.ndarray, people: list[str], probe: np.ndarray, person: str, among: list[str]):
    """Mate, rank and highest other of one probe among the people named, score by score."""
    best: dict[str, float] = {}
    for entry, name in zip(gallery, people, strict=True):
        score = sum(float(a) * float(b) for a, b in zip(entry, probe, strict=True))
        if name in among or name == person:
            best[name] = max(best.get(name, -9.0), score)
    mate = best.pop(person, None)
    other = max(best.values(), default=-np.inf)
    rank = 0 if mate is None else 1 + sum(score >= mate - 1e-6 for score in best.values())
    return mate, rank, other


def assert_same(found: Found, made: Made, order: list[str]) -> None:
    gallery, people, probes, shown = made
    for level, size in enumerate(found.sizes):
        for i, (probe, person) in enumerate(zip(probes, shown, strict=True)):
            others = [name for name in order if name != person]
            among = others[: size - (person in people)]
            mate, rank, other = slow(gallery, people, probe, person, among)
            assert found.mated[i] == (mate is not None)
            assert found.rank[level, i] == rank
            assert found.other[level, i] == pytest.approx(other, abs=1e-6)
            if mate is None:
                assert np.isnan(found.mate[i])
            else:
                assert found.mate[i] == pytest.approx(mate, abs=1e-6)


@pytest.mark.parametrize("most", [1, 3])
@pytest.mark.parametrize(("probes", "entries"), [(2048, 4096), (7, 5), (90, 1)])
def test_agrees_with_comparing_one_by_one(
    make: Callable, monkeypatch: pytest.MonkeyPatch, most: int, probes: int, entries: int
) -> None:
    monkeypatch.setattr(module, "PROBES", probes)
    monkeypatch.setattr(module, "ENTRIES", entries)
    made = make(most=most, seed=entries)
    found = search(*made)
    assert found.sizes == (40,)
    assert found.searched.all()
    assert_same(found, made, sorted(set(made[1])))
    assert len(set(found.rank[0])) > 5  # the mates are not all alike


def test_smaller_galleries_are_the_first_people_of_one_order(
    make: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ENTRIES", 11)
    made = make(seed=4)
    found = search(*made, sizes=[1, 2, 17, 400], seed=9)
    assert found.sizes == (1, 2, 17, 40)
    order = np.arange(40)
    np.random.default_rng(9).shuffle(order)
    assert_same(found, made, [sorted(set(made[1]))[k] for k in order])
    # Whoever is alone with the own entry is at rank 1, and more people never help.
    assert (found.rank[0, found.mated] == 1).all()
    assert (np.diff(found.rank[:, found.mated], axis=0) >= 0).all()
    assert (np.diff(found.other[1:], axis=0) >= 0).all()
    assert (found.rank[-1] == search(*made).rank[0]).all()


def test_the_order_of_the_gallery_does_not_matter(make: Callable) -> None:
    gallery, people, probes, shown = make(seed=2)
    turned = search(gallery[::-1], people[::-1], probes[::-1], shown[::-1], sizes=[9], seed=1)
    found = search(gallery, people, probes, shown, sizes=[9], seed=1)
    np.testing.assert_array_equal(turned.rank[:, ::-1], found.rank)
    np.testing.assert_allclose(turned.other[:, ::-1], found.other, atol=1e-6)


def test_an_equal_score_of_another_person_counts_against_us() -> None:
    rng = np.random.default_rng(0)
    twin = unit(rng.normal(size=(1, 512)))
    gallery = np.concatenate([unit(rng.normal(size=(500, 512))), twin, twin, twin])
    people = [*(f"{k}" for k in range(500)), "one", "two", "two"]
    probe = unit(twin + 0.3 * unit(rng.normal(size=(1, 512))))
    found = search(gallery, people, probe, ["one"])
    assert found.rank.tolist() == [[2]]  # two's two entries are one person
    assert found.other[0, 0] == pytest.approx(found.mate[0], abs=1e-6)


def test_a_mate_far_down_is_counted_exactly() -> None:
    angles = np.linspace(0, np.pi, 1000)
    gallery = unit(np.stack([np.cos(angles), np.sin(angles)], axis=1))
    found = search(gallery, [f"{k}" for k in range(1000)], gallery[:1], ["700"])
    assert found.rank.tolist() == [[701]]
    assert found.other[0, 0] == 1.0


def test_a_gallery_of_one(make: Callable) -> None:
    probe = np.eye(2, dtype=np.float32)
    found = search(probe[:1], ["a"], probe, ["a", "b"], sizes=[1])
    assert found.rank.tolist() == [[1, 0]]
    assert found.other.tolist() == [[-np.inf, 0.0]]


def test_refusals(make: Callable) -> None:
    gallery, people, probes, shown = make()
    with pytest.raises(EvaluationError, match="nobody is enrolled"):
        search(gallery[:0], [], probes, shown)
    with pytest.raises(EvaluationError, match="not one probe"):
        search(gallery, people, probes[:0], [])
    with pytest.raises(EvaluationError, match="have 8 values and the probes' 4"):
        search(gallery, people, unit(probes[:, :4]), shown)
    for value in (np.nan, 0.0, np.inf):
        broken = probes.copy()
        broken[5] = value
        with pytest.raises(
            EvaluationError, match=r"^1 of 90 embeddings .* first number 5 of the probes"
        ):
            search(gallery, people, broken, shown)
        with pytest.raises(EvaluationError, match="of the gallery with"):
            search(np.full_like(gallery, value), people, probes, shown)
    with pytest.raises(ValueError, match="identities for embeddings"):
        search(gallery, people[1:], probes, shown)
    with pytest.raises(ValueError, match="at least 1"):
        search(gallery, people, probes, shown, sizes=[0])
