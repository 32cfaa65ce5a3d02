import json
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from facewright.errors import EvaluationError
from facewright.evaluation.identification import (
    by_gallery_size,
    cmc,
    identification_metrics,
    search_split,
    split_gallery,
    without_shared,
)
from facewright.evaluation.intervals import wilson
from facewright.evaluation.search import MISSED, Found

TARGETS = {"fpir_targets": (0.1, 0.01)}


def found_of(
    mated: list[tuple[int, float]], strangers: list[float | None], *, people: int = 100
) -> Found:
    """From (rank, score) of mates, rank 0 for a miss, and top scores, None for no face."""
    count, other = len(mated), np.array([np.nan if s is None else s for s in strangers])
    rank = [rank or MISSED for rank, _ in mated]
    return Found(
        sizes=(people,),
        mated=np.arange(count + len(other)) < count,
        searched=np.concatenate([np.array(rank) != MISSED, ~np.isnan(other)]),
        mate=np.array([score for _, score in mated] + [np.nan] * len(other)),
        rank=np.array([rank + [0] * len(other)]),
        other=np.concatenate([np.full(count, 0.5), np.nan_to_num(other, nan=-np.inf)])[None],
    )


def test_ranks_by_hand() -> None:
    found = found_of([(1, 0.9), (1, 0.8), (2, 0.5), (6, 0.4), (0, -np.inf)], [])
    metrics = identification_metrics(found, **TARGETS)
    assert (metrics["rank_1"], metrics["rank_5"]) == (0.4, 0.6)
    assert (metrics["rank_1_low"], metrics["rank_1_high"]) == wilson(0.4, 5)
    assert metrics["failures_mated"] == 1
    assert metrics["fpir_bound"] == 1.0  # nobody who is not enrolled was searched
    assert not [name for name in metrics if "fnir" in name]
    curve = cmc(found, ranks=8)
    assert curve["rate"].tolist() == [0.4, 0.6, 0.6, 0.6, 0.6, 0.8, 0.8, 0.8]
    assert ((curve["low"] < curve["rate"]) & (curve["rate"] < curve["high"])).all()
    assert len(cmc(found_of([(1, 0.9)], [], people=3))) == 3


def test_open_set_by_hand() -> None:
    # 100 strangers with top scores 0.00 … 0.99; at FPIR 0.1 ten may pass: 0.90 … 0.99 do.
    strangers = [k / 100 for k in range(100)]
    mates = [(1, 0.995), (1, 0.90), (1, 0.89), (2, 0.95), (0, -np.inf)]
    metrics = identification_metrics(found_of(mates, strangers), **TARGETS)
    assert metrics["threshold_at_fpir_0.1"] == np.nextafter(0.89, 1)
    assert metrics["fnir_at_fpir_0.1"] == 0.6  # 0.89 is below, one is second, one is missed
    assert metrics["fnir_at_fpir_0.1_high"] == wilson(0.6, 5)[1]
    assert "fnir_at_fpir_0.01" not in metrics  # one positive is expected
    assert metrics["fnir_at_fpir_bound"] == 0.8
    assert metrics["threshold_at_fpir_bound"] == np.nextafter(0.99, 1)
    assert (1 - metrics["fpir_bound"]) ** 100 == pytest.approx(0.05)
    json.dumps(metrics, allow_nan=False)


def test_strangers_without_a_face_support_nothing_and_lower_nothing() -> None:
    strangers = [k / 100 for k in range(100)]
    mates = [(1, 0.995), (1, 0.90), (1, 0.89)]
    some = identification_metrics(found_of(mates, strangers), **TARGETS)
    more = identification_metrics(found_of(mates, [*strangers, *[None] * 900]), **TARGETS)
    assert more.pop("failures_unenrolled") == 900
    assert more.pop("probes_unenrolled") == 1000
    assert {name: some[name] for name in more} == more


@pytest.mark.parametrize("decimals", [1, 6])
def test_fnir_is_the_least_that_any_threshold_gives(decimals: int) -> None:
    rng = np.random.default_rng(decimals)
    strangers = rng.normal(0.3, 0.1, 200).round(decimals).tolist()
    mates = [
        (int(rank), float(score.round(decimals)))
        for rank, score in zip(rng.integers(1, 3, 80), rng.normal(0.45, 0.15, 80), strict=True)
    ]
    metrics = identification_metrics(found_of(mates, strangers), fpir_targets=[0.05, 0.29])
    for target in (0.05, 0.29):
        rates = []
        for threshold in [*strangers, *(score for _, score in mates), 9.0]:
            fpir = sum(s >= threshold for s in strangers) / 200
            fnir = sum(not (rank == 1 and s >= threshold) for rank, s in mates) / 80
            rates += [fnir] if fpir <= target else []
        assert metrics[f"fnir_at_fpir_{target:g}"] == min(rates)
        threshold = metrics[f"threshold_at_fpir_{target:g}"]
        assert sum(s >= threshold for s in strangers) / 200 <= target
    assert metrics["fnir_at_fpir_0.29"] <= metrics["fnir_at_fpir_0.05"]


@pytest.fixture(scope="session")
def made() -> tuple[dict[str, str], list[str], np.ndarray]:
    """Identities of photos, and embeddings in which people lie near their centres."""
    rng = np.random.default_rng(3)
    identities = {f"p{k:02d}/{n}": f"p{k:02d}" for k in range(60) for n in range(k % 4 + 1)}
    ids = list(rng.permutation(list(identities)))
    centres = {name: rng.normal(size=16) for name in sorted(set(identities.values()))}
    vectors = np.stack([centres[identities[id]] + 0.9 * rng.normal(size=16) for id in ids])
    return identities, ids, (vectors / np.linalg.norm(vectors, axis=1)[:, None]).astype(np.float32)


def test_a_split_enrols_the_first_photo_of_those_with_two(made: tuple) -> None:
    identities, _, _ = made
    split = split_gallery(identities, unenrolled_share=0.2, seed=1)
    assert sorted(split["id"]) == sorted(identities)
    roles = split.groupby("identity")["role"].agg(list)
    alone = [roles[f"p{k:02d}"] for k in range(0, 60, 4)]
    assert all(role == ["unenrolled"] for role in alone)
    several = [roles[f"p{k:02d}"] for k in range(60) if k % 4]
    away = [role for role in several if "unenrolled" in role]
    assert len(away) == 9  # a fifth of 45
    assert all(set(role) == {"unenrolled"} for role in away)
    kept = [role for role in several if "unenrolled" not in role]
    assert all(role == ["gallery", *["mated"] * (len(role) - 1)] for role in kept)


def test_a_split_depends_on_the_seed_and_not_on_the_order(made: tuple) -> None:
    identities, ids, _ = made
    split = split_gallery(identities, unenrolled_share=0.5, seed=1)
    turned = split_gallery({id: identities[id] for id in ids}, unenrolled_share=0.5, seed=1)
    pd.testing.assert_frame_equal(split, turned)
    other = split_gallery(identities, unenrolled_share=0.5, seed=2)
    assert not split["role"].equals(other["role"])


def test_probes_that_hold_a_photo_of_their_entry_are_dropped() -> None:
    rows = [("a1", "a", "gallery"), ("a2", "a", "mated"), ("a3", "a", "mated")]
    rows += [("b1", "b", "gallery"), ("b2", "b", "mated"), ("c1", "c", "unenrolled")]
    split = pd.DataFrame(rows, columns=["id", "identity", "role"])
    held = {"a1": "pq", "a2": "xq", "a3": "xy", "b1": "r", "b2": "p", "c1": "r"}
    photos = pd.DataFrame([(id, p) for id, named in held.items() for p in named])
    left = without_shared(split, photos=photos.set_axis(["id", "photo"], axis=1))
    assert left["id"].tolist() == ["a1", "a3", "b1", "b2", "c1"]


def test_a_split_that_enrols_nobody_is_refused() -> None:
    with pytest.raises(EvaluationError, match="of 2 people 0 have two photos"):
        split_gallery({"a/1": "a", "b/1": "b"}, unenrolled_share=0.0, seed=0)
    with pytest.raises(EvaluationError, match="of 1 people 1 have two photos"):
        split_gallery({"a/1": "a", "a/2": "a"}, unenrolled_share=0.9, seed=0)
    with pytest.raises(EvaluationError, match="of 0 people"):
        split_gallery({}, unenrolled_share=0.0, seed=0)
    with pytest.raises(ValueError, match=r"in \[0, 1\)"):
        split_gallery({"a/1": "a"}, unenrolled_share=1.0, seed=0)


def test_faces_not_found_are_misses_and_are_counted(made: tuple) -> None:
    identities, ids, embeddings = made
    split = split_gallery(identities, unenrolled_share=0.2, seed=1)
    whole = identification_metrics(search_split(split, ids=ids, embeddings=embeddings), **TARGETS)
    roles = dict(zip(split["id"], split["role"], strict=True))
    owner = next(id for id in sorted(ids) if roles[id] == "gallery" and id < "p30")
    lost = {owner}  # and with it its probes, of which none is lost itself
    lost |= {next(id for id in sorted(ids) if roles[id] == "mated" and id > "p30")}
    lost |= set([id for id in ids if roles[id] == "unenrolled"][:3])
    keep = [k for k, id in enumerate(ids) if id not in lost]
    found = search_split(split, ids=[ids[k] for k in keep], embeddings=embeddings[keep])
    metrics = identification_metrics(found, **TARGETS)
    probes = sum(roles[id] == "mated" and identities[id] == identities[owner] for id in ids)
    assert probes > 0
    assert metrics["failures_gallery"] == 1
    assert metrics["failures_mated"] == probes + 1
    assert metrics["failures_unenrolled"] == 3
    assert metrics["people"] == whole["people"] - 1
    for same in ("probes_mated", "probes_unenrolled"):
        assert metrics[same] == whole[same]
    # A probe whose enrolled photo was lost says nothing about people who are not enrolled.
    assert (~found.mated & found.searched).sum() == whole["probes_unenrolled"] - 3
    missed = found.rank[0] == MISSED
    assert (found.mate[missed] == -np.inf).all()
    assert identification_metrics(found, ranks=[10**6], **TARGETS)[f"rank_{10**6}"] < 1


def test_the_order_of_embeddings_does_not_matter(made: tuple) -> None:
    identities, ids, embeddings = made
    split = split_gallery(identities, unenrolled_share=0.2, seed=1)
    one = search_split(split, ids=ids, embeddings=embeddings)
    two = search_split(split, ids=ids[::-1], embeddings=embeddings[::-1])
    np.testing.assert_array_equal(one.rank, two.rank)
    assert 0.2 < identification_metrics(one, **TARGETS)["rank_1"] < 0.95


def test_a_larger_gallery_never_finds_better(made: tuple) -> None:
    identities, ids, embeddings = made
    split = split_gallery(identities, unenrolled_share=0.2, seed=1)
    found = search_split(split, ids=ids, embeddings=embeddings, sizes=[1, 5, 20], seed=3)
    table = by_gallery_size(found, fpir_targets=[0.3])
    assert table["people"].tolist() == [1, 5, 20, 36]
    assert table["probes_mated"].nunique() == 1
    assert table["rank_1"].is_monotonic_decreasing
    assert table["rank_1"][0] == 1 > table["rank_1"][3]
    assert table["fnir_at_fpir_0.3"].is_monotonic_increasing
    assert table.iloc[-1].to_dict() == identification_metrics(found, fpir_targets=[0.3])


def test_refusals(made: tuple) -> None:
    identities, ids, embeddings = made
    split = split_gallery(identities, unenrolled_share=0.2, seed=1)

    def refused(match: str, changed: pd.DataFrame, keep: Callable = lambda role: True) -> None:
        kept = [k for k, id in enumerate(ids) if keep(changed.set_index("id")["role"][id])]
        with pytest.raises(EvaluationError, match=match):
            search_split(changed, ids=[ids[k] for k in kept], embeddings=embeddings[kept])

    refused("no face was found in any of .* probes", split, lambda role: role == "gallery")
    refused("nobody is enrolled", split, lambda role: role != "gallery")
    refused("a role is 'probe'", split.assign(role="probe"))
    refused("called mated and the gallery has no", split.replace({"role": {"unenrolled": "mated"}}))
    refused("called unenrolled and the gallery has an", split.replace("mated", "unenrolled"))
    with pytest.raises(EvaluationError, match="two embeddings for"):
        search_split(split, ids=[ids[0], *ids[:-1]], embeddings=embeddings)
    with pytest.raises(EvaluationError, match="none of 2 probes shows somebody who is enrolled"):
        identification_metrics(found_of([], [0.1, 0.2]), **TARGETS)
    with pytest.raises(EvaluationError, match="none of 2 probes"):
        cmc(found_of([], [0.1, 0.2]))
    with pytest.raises(ValueError, match="must be in"):
        identification_metrics(found_of([(1, 0.5)], []), fpir_targets=[1.0])
