"""Cleaning: exactly what the file says is done; what it cannot mean is refused with its line."""

from pathlib import Path

import pandas as pd
import pytest

from facewright.datasets.decisions import COLUMNS
from facewright.datasets.validation.cleaning import Decisions, read_cleaning
from facewright.errors import DatasetError

HEAD = ",".join(COLUMNS)
TABLE = pd.DataFrame(
    {
        "dataset": ["one"] * 4 + ["two"] * 3,
        "own_id": ["Ann/0", "Ann/1", "Bea/0", "Cyd/0", "Ann/0", "Ann/9", "x"],
        "stated_identity": ["Ann", "Ann", "Bea", "Cyd", "Ann", "Ann", "007"],
        "identity": ["Ann", "Ann", "Bea", "Cyd", "Ann", "Ann", "two/007"],
    },
    dtype="str",
)


def decide(tmp_path: Path, *lines: str, head: str = HEAD) -> Decisions:
    path = tmp_path / "cleaning.csv"
    path.write_text("\n".join((head, *lines)) + "\n", encoding="utf-8")
    return read_cleaning(path, TABLE)


def test_no_file_decides_nothing(tmp_path: Path) -> None:
    decisions = read_cleaning(tmp_path / "cleaning.csv", TABLE)
    assert decisions.identity.tolist() == TABLE["identity"].tolist()
    for chosen in (decisions.dropped, decisions.kept, decisions.decided):
        assert not chosen.any()
    assert set(decisions.counts.values()) == {0}


def test_images(tmp_path: Path) -> None:
    """An id means the image of that dataset alone, though two datasets have it."""
    decisions = decide(
        tmp_path,
        "drop,two,Ann/0,Ann,,near_duplicate,0.9",
        "relabel,one,Ann/1,,Bea,label_conflict_near,1",
        'keep,two,x,"007",,,',
    )
    assert decisions.dropped.nonzero()[0].tolist() == [4]
    assert decisions.identity.tolist() == ["Ann", "Bea", "Bea", "Cyd", "Ann", "Ann", "two/007"]
    assert decisions.kept.nonzero()[0].tolist() == [6]
    assert decisions.decided.nonzero()[0].tolist() == [1, 4, 6]
    assert decisions.counts == {"drop": 1, "relabel": 1, "merge": 0, "keep": 1}


def test_identities(tmp_path: Path) -> None:
    """An identity is one person in all sets; merges are followed to their end."""
    decisions = decide(
        tmp_path,
        "merge,one,,Bea,Cyd,same_name,1",
        "merge,one,,Cyd,two/007,,",
        "drop,one,,Ann,,near_overlap_identity,2",
        "keep,two,,007,,,",
        "relabel,two,Ann/9,Ann,Bea,,",
        head="\ufeff" + HEAD,
    )
    assert decisions.dropped.nonzero()[0].tolist() == [0, 1, 4]  # Ann/9 is no longer Ann's
    people = ["Ann", "Ann", "two/007", "two/007", "Ann", "two/007", "two/007"]
    assert decisions.identity.tolist() == people
    assert decisions.decided_identities == {"two/007", "Ann"}
    assert decisions.kept.tolist() == [name == "two/007" for name in people]
    assert decisions.decided.tolist() == decisions.kept.tolist()


@pytest.mark.parametrize(
    ("other", "dropped"),
    [
        ("relabel,one,Bea/0,Bea,Ann,,", []),
        ("merge,one,,Ann,Bea,,", [0, 1, 2, 4, 5]),
        ("relabel,one,Ann/0,Ann,Bea,,", [0, 2]),
    ],
)
def test_drop_is_about_the_photos_of_an_identity_in_the_end(
    tmp_path: Path, other: str, dropped: list[int]
) -> None:
    for lines in (("drop,one,,Bea,,,", other), (other, "drop,one,,Bea,,,")):
        decisions = decide(tmp_path, *lines)
        assert decisions.dropped.nonzero()[0].tolist() == dropped


def test_keep_is_about_the_photos_of_an_identity_in_the_end(tmp_path: Path) -> None:
    """One of them that has a line of its own is dropped all the same."""
    decisions = decide(
        tmp_path,
        "keep,one,,Bea,,,",
        "merge,one,,Ann,Bea,,",
        "drop,one,Ann/1,,,,",
        "relabel,two,Ann/0,,Cyd,,",
    )
    assert decisions.kept.nonzero()[0].tolist() == [0, 2, 5]
    assert decisions.dropped.nonzero()[0].tolist() == [1]
    assert decisions.decided.nonzero()[0].tolist() == [0, 1, 2, 4, 5]
    assert decisions.kept_lines == {}  # hard rules reject them in silence


def test_to_is_the_sets_own_label_too(tmp_path: Path) -> None:
    decisions = decide(tmp_path, "relabel,two,Ann/9,Ann,007,,")
    assert decisions.identity.iloc[5] == "two/007"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("remove,one,Ann/0,,,,", "line 2: unknown action 'remove'"),
        ("drop,three,Ann/0,,,,", "line 2: no training dataset is named 'three': there is one, two"),
        ("drop,one,Ann/7,,,,", "line 2: one has no image 'Ann/7'"),
        ("drop,one,,Dot,,,", "line 2: one has no identity 'Dot'"),
        ("drop,one,Ann/0,Bea,,,", "line 2: 'Ann/0' is of 'Ann', not 'Bea'"),
        ("drop,one,,,,,", "line 2: names neither an image nor an identity"),
        ("drop,one,Ann/0,,Bea,,", "line 2: `to` means nothing beside drop"),
        ("relabel,one,Ann/0,,,,", "line 2: `to` names the identity to relabel to"),
        ("relabel,one,Ann/0,,Dot,,", "line 2: no training identity is named 'Dot'"),
        ("relabel,one,,Ann,Bea,,", "line 2: relabel is for an image"),
        ("merge,one,Ann/0,Ann,Bea,,", "line 2: merge is for an identity"),
        ("drop,one,Ann/0,,", "line 2: 5 values instead of 7"),
        ("drop,one,Ann/0,,,,\nkeep,one,Ann/0,,,,", "line 3: line 2 decides on the same image"),
        ("drop,one,,Ann,,,\nkeep,two,,Ann,,,", "line 3: line 2 decides on the same identity"),
        ("merge,one,,Ann,Bea,,\nmerge,one,,Bea,Ann,,", "lead back to their start"),
        ('drop,one,"Ann/0,,,,', "cannot be read as CSV"),
    ],
)
def test_what_it_cannot_mean_is_refused(tmp_path: Path, line: str, said: str) -> None:
    with pytest.raises(DatasetError) as caught:
        decide(tmp_path, line)
    assert said in str(caught.value)
    assert str(tmp_path / "cleaning.csv") in str(caught.value)


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="its first line must be action,dataset,id,"):
        decide(tmp_path, head="id,action")
    (tmp_path / "cleaning.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DatasetError, match="cannot be read as CSV in UTF-8"):
        read_cleaning(tmp_path / "cleaning.csv", TABLE)
