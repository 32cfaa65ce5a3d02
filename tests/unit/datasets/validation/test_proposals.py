"""Proposals: each kind on a table made for it, one per image or identity, and none twice."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from facewright.datasets.decisions import COLUMNS
from facewright.datasets.validation import proposals
from facewright.datasets.validation.cleaning import apply_decisions, read_cleaning
from facewright.datasets.validation.copies import BITS, Copies
from facewright.datasets.validation.proposals import propose

NEAR = 8  # bits between near copies below


def table(*rows: str) -> pd.DataFrame:
    """`IDENTITY ID SIDE [REASON]` per row, one dataset."""
    parts = [row.split() for row in rows]
    identity = pd.Series([part[0] for part in parts], dtype="str")
    reason = pd.Series([part[3] if len(part) > 3 else "" for part in parts], dtype="str")
    return pd.DataFrame(
        {
            "dataset": "set",
            "own_id": pd.Series([part[1] for part in parts], dtype="str"),
            "stated_identity": identity,
            "identity": identity,
            "person_name": identity.str.casefold(),
            "side": [float(part[2]) for part in parts],
            "sharpness": 10.0,
            "status": np.where(reason == "", "ok", "rejected"),
            "reason": reason,
            "near_in_verify": (reason == "near_overlap").astype(int),
            "content_in_verify": 0,
        }
    )


def copies(code: list[int], *pairs: tuple[int, int]) -> Copies:
    near = np.array(pairs, np.int64).reshape(-1, 2)
    return Copies(np.array(code, np.int64), near, np.full(len(near), NEAR))


def lines(
    train: pd.DataFrame, near: Copies, *, tmp_path: Path, decided: str = ""
) -> list[tuple[Any, ...]]:
    path = tmp_path / "cleaning.csv"
    path.write_text(f"{','.join(COLUMNS)}\n{decided}\n")
    proposed = propose(train, near, read_cleaning(path, train)).table
    assert tuple(proposed.columns) == COLUMNS
    assert (proposed["dataset"] == "set").all()
    columns = ["action", "id", "identity", "to", "reason", "score"]
    return list(proposed[columns].itertuples(index=False, name=None))


def similarity(distance: int) -> float:
    return round(1 - distance / BITS, 4)


def test_all_but_the_best_of_near_copies(tmp_path: Path) -> None:
    """Largest first; b and d are near each other's only through the largest and all go."""
    train = table("Ann a 50", "Ann b 60", "Ann c 90", "Ann d 60", "Ann e 70")
    near = copies([0, 1, 2, 1, 4], (0, 1), (1, 2))
    assert lines(train, near, tmp_path=tmp_path) == [
        ("drop", "b", "Ann", "", "near_duplicate", similarity(NEAR)),
        ("drop", "d", "Ann", "", "near_duplicate", similarity(NEAR)),
    ]  # a is near b, which goes, and near nothing that stays


def test_copies_with_one_hash(tmp_path: Path) -> None:
    train = table("Ann a 50", "Ann b 60", "Bea c 50")
    found = lines(train, copies([0, 0, 2]), tmp_path=tmp_path)
    assert found == [("drop", "a", "Ann", "", "near_duplicate", 1.0)]


def test_the_majority_names_near_copies(tmp_path: Path) -> None:
    train = table("Ann a 50", "Ann b 60", "Bea c 90")
    found = lines(train, copies([0, 0, 2], (0, 2)), tmp_path=tmp_path)
    assert found == [
        ("relabel", "c", "Bea", "Ann", "label_conflict_near", similarity(NEAR)),
        ("drop", "a", "Ann", "", "near_duplicate", 1.0),
    ]


def test_a_copy_that_is_no_better_than_the_majoritys_is_dropped(tmp_path: Path) -> None:
    train = table("Ann a 50", "Ann b 60", "Bea c 60")
    found = lines(train, copies([0, 1, 2], (0, 2), (1, 2)), tmp_path=tmp_path)
    assert found == [("drop", "c", "Bea", "", "label_conflict_near", similarity(NEAR))]


def test_no_majority_drops_all_that_conflict(tmp_path: Path) -> None:
    """A photo that is near only its own identity's is left out of the dispute."""
    train = table("Ann a 50", "Bea b 60", "Bea c 70")
    found = lines(train, copies([0, 1, 2], (0, 1), (1, 2)), tmp_path=tmp_path)
    assert found == [
        ("drop", "a", "Ann", "", "label_conflict_near", similarity(NEAR)),
        ("drop", "b", "Bea", "", "label_conflict_near", similarity(NEAR)),
    ]


def test_what_is_rejected_needs_no_drop_but_may_be_relabelled(tmp_path: Path) -> None:
    """Same bytes under two names are rejected already; a majority can bring them back."""
    two = table("Ann a 50 label_conflict", "Bea b 50 label_conflict", "Cyd c 9 blurred")
    assert lines(two, copies([0, 0, 0]), tmp_path=tmp_path) == []
    three = table("Ann a 50 label_conflict", "Bea b 50 label_conflict", "Ann c 50 label_conflict")
    found = lines(three, copies([0, 0, 0]), tmp_path=tmp_path)
    assert found == [("relabel", "b", "Bea", "Ann", "label_conflict_near", 1.0)]


def test_spellings_of_one_name_merge_into_the_larger(tmp_path: Path) -> None:
    train = table("ann a 50", "Ann b 50", "Ann c 50", "ANN d 50", "Bea e 50")
    found = lines(train, copies([-1] * 5), tmp_path=tmp_path)
    assert found == [
        ("merge", "", "ANN", "Ann", "same_name", 1.0),
        ("merge", "", "ann", "Ann", "same_name", 1.0),
    ]


def test_three_shared_groups_merge_and_two_do_not(tmp_path: Path) -> None:
    rows = [f"{who} {who}{k} 50" for k in range(3) for who in ("Ann", "Bea")]
    code = [0, 0, 2, 2, 4, 4]
    train = table(*rows, "Ann more 50")
    found = lines(train, copies([*code, 6]), tmp_path=tmp_path)
    assert found == [("merge", "", "Bea", "Ann", "shared_photos", 3.0)]
    train = table(*rows[:4], "Ann more 50")
    found = lines(train, copies([*code[:4], 4]), tmp_path=tmp_path)
    assert [line[:2] for line in found] == [
        ("drop", "Ann0"),
        ("drop", "Ann1"),
        ("drop", "Bea0"),
        ("drop", "Bea1"),
    ]


def test_an_identity_with_copies_of_verification_photos(tmp_path: Path) -> None:
    """It is dropped whole, and nothing else is proposed for it."""
    train = table(
        "Ann a 50 near_overlap", "Ann b 50 near_overlap", "Ann c 50", "Ann d 50", "Bea e 5"
    )
    found = lines(train, copies([0, 1, 2, 2, 4]), tmp_path=tmp_path)
    assert found == [("drop", "", "Ann", "", "near_overlap_identity", 2.0)]


def test_what_is_decided_is_not_proposed_again(tmp_path: Path) -> None:
    train = table("Ann a 50", "Ann b 60", "Bea c 90", "Bea d 80", "bea e 9")
    near = copies([0, 0, 2, 2, 4])
    free = lines(train, near, tmp_path=tmp_path)
    assert [line[:2] for line in free] == [("drop", "a"), ("drop", "d"), ("merge", "")]
    kept = "keep,set,a,Ann,,,\nkeep,set,,bea,,,"
    assert [line[:2] for line in lines(train, near, tmp_path=tmp_path, decided=kept)] == [
        ("drop", "b"),
        ("drop", "d"),
    ]  # the photo that is kept is the best of its group


def crowd(seed: int) -> tuple[pd.DataFrame, Copies]:
    """60 photos of 8 identities, two of one name, with near copies all over and one overlap."""
    random = np.random.default_rng(seed)
    names = ["Idax", "Idbx", "Idcx", "Iddx", "Idex", "Idfx", "Idgx", "idgx"]
    who = random.integers(0, len(names), 60)
    rows = [f"{names[w]} p{k} {50 + k % 7}" for k, w in enumerate(who)]
    overlapping = int(random.choice(60))
    rows[overlapping] += " near_overlap"
    code = np.arange(60)
    code[random.choice(60, 20, replace=False)] = random.integers(0, 5, 20)
    code = code[code]
    firsts = np.unique(code)
    pairs = {tuple(sorted(random.choice(firsts, 2, replace=False).tolist())) for _ in range(25)}
    return table(*rows), copies(code.tolist(), *sorted(pairs))


@pytest.mark.parametrize("seed", range(12))
def test_rounds_of_proposals_come_to_an_end(tmp_path: Path, seed: int) -> None:
    """Each round is done as it stands and the next one's lines are added: none comes twice."""
    train, near = crowd(seed)
    path = tmp_path / "cleaning.csv"
    path.write_text(",".join(COLUMNS) + "\n")
    rounds = []
    for _ in range(20):
        decisions = read_cleaning(path, train)  # refuses what is decided twice, or in a circle
        done = train.copy()
        apply_decisions(done, decisions)
        done.loc[decisions.dropped, ["status", "reason"]] = ["rejected", "cleaning"]
        proposed = propose(done, near, decisions).table
        assert proposed.equals(propose(done, near, decisions).table)
        if proposed.empty:
            break
        rounds.append(proposed)
        with path.open("a", encoding="utf-8") as file:
            proposed.to_csv(file, index=False, header=False, lineterminator="\n")
    else:
        raise AssertionError("there is always something more to propose")
    every = pd.concat(rounds)
    assert set(every["reason"]) >= {"near_overlap_identity", "near_duplicate"}
    assert not every[every["id"] != ""].duplicated(["dataset", "id"]).any()
    assert not every[every["id"] == ""].duplicated(["dataset", "identity"]).any()


def test_photos_kept_in_a_dropped_identity_do_not_drop_it_again(tmp_path: Path) -> None:
    train = table("Ann a 50 near_overlap", "Ann b 50", "Bea c 50")
    train.loc[0, ["near_in_verify"]] = 1
    decided = "drop,set,,Ann,,,\nkeep,set,b,Ann,,,"
    assert lines(train, copies([0, 1, 2]), tmp_path=tmp_path, decided=decided) == []


def test_near_copies_in_an_identity_are_those_of_comparing_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever identities hold the hashes, and in however many blocks they are looked at."""
    train, near = crowd(3)
    whole = propose(train, near, read_cleaning(tmp_path / "none.csv", train)).table
    monkeypatch.setattr(proposals, "BLOCK", 4)
    blocks = propose(train, near, read_cleaning(tmp_path / "none.csv", train)).table
    assert whole.equals(blocks)
    proposer = proposals._Proposer(train, near, read_cleaning(tmp_path / "none.csv", train))
    keys = np.unique(proposer.code * len(proposer.names) + proposer.who)
    starts, others, apart = proposer._near_cells(keys)
    found = {
        (k, int(other)) for k in range(len(keys)) for other in others[starts[k] : starts[k + 1]]
    }
    code, who = np.divmod(keys, len(proposer.names))
    joined = {frozenset(pair) for pair in near.pairs.tolist()}
    expected = {
        (a, b)
        for a in range(len(keys))
        for b in range(len(keys))
        if who[a] == who[b] and frozenset((code[a], code[b])) in joined and a != b
    }
    assert found == expected != set()
    assert len(others) == len(found)
    assert (apart == NEAR).all()
