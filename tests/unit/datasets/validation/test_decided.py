"""What people decide, and who is whom: cleaning, proposals, names and labels, end to end."""

import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest

from facewright.datasets.importing import import_dataset
from facewright.errors import DatasetError
from tests.unit.datasets.validation.photos import (
    GOOD,
    PAIRS,
    VERIFY,
    Build,
    photo,
    reasons,
    scene,
    scenes,
    validate,
    write_photos,
)


def test_equal_labels_of_two_sets_are_two_people(build: Build) -> None:
    """Labels have no names: they are compared with nothing, and kept apart."""
    one = {f"{who:04d}/{k}.png": photo(10 * who + k) for who in (1, 2) for k in range(2)}
    two = {f"{who:04d}/{k}.png": photo(50 + 10 * who + k) for who in (2, 3) for k in range(2)}
    verify = {name.replace("Xia", "0003").replace("Yva", "0004"): b for name, b in VERIFY.items()}
    pairs = tuple(line.replace("Xia", "0003").replace("Yva", "0004") for line in PAIRS)
    metrics, train, _ = validate(build(one, two, GOOD, verify=verify, pairs=pairs))
    assert set(train["identity"]) == {
        "0001",
        "set0/0002",
        "set1/0002",
        "0003",
        "Ann",
        "Bea",
        "Cyd",
    }
    assert metrics["identities_in_several_datasets"] == 0
    assert metrics["identities_dropped_for_overlap"] == 0
    assert set(train["stated_identity"]) >= {"0001", "0002", "0003", "Ann"}


def named(data: Path, dataset: str, people: dict[str, str]) -> None:
    """State the names of people in the column `person`."""
    path = data / "train" / dataset / "manifest.parquet"
    manifest = pd.read_parquet(path)
    manifest.assign(person=manifest["identity"].map(people)).to_parquet(path)


def test_a_part_beside_its_whole_loses_no_photo(
    build: Build, capsys: pytest.CaptureFixture[str]
) -> None:
    """As after `subset` or `merge` into data/train: a second copy goes, and no person does."""
    whole = {f"n00{who}/{k}.png": photo(10 * who + k) for who in (1, 2, 3) for k in range(3)}
    part = {name: data for name, data in whole.items() if name < "n003"}
    renamed = {name.replace("n002", "set0-n002"): data for name, data in part.items()}
    data = build(whole, renamed)
    people = {"n001": "Ann Lee", "n002": "Bo", "set0-n002": "bo", "n003": "Cy"}
    named(data, "set0", people)
    named(data, "set1", people)
    metrics, train, _ = validate(data)
    assert reasons(train) == {
        f"{id}/{k}": "duplicate" for id in ("set1/n001", "set1/set0-n002") for k in range(3)
    }
    assert metrics["train.ok"] == len(whole)
    said = capsys.readouterr().err
    assert "6 of 6 photos of train/set1 are in train/set0 too, byte for byte: keep one" in said
    assert "6 of 9 photos of train/set0 are in train/set1 too" in said


def test_a_copy_under_labels_of_two_names_is_a_conflict(
    build: Build, capsys: pytest.CaptureFixture[str]
) -> None:
    one = {f"0001/{k}.png": photo(30 + k) for k in range(3)}
    data = build(one | GOOD, {"0001/9.png": photo(30), "0001/8.png": photo(88)})
    named(data, "set0", {"0001": "Ann Lee"})
    named(data, "set1", {"0001": "Anna Lee"})
    _, train, _ = validate(data)
    conflicts = train.loc[train["reason"] == "label_conflict", "id"]
    assert set(conflicts) == {"0001/0", "0001/9"}
    assert "byte for byte" not in capsys.readouterr().err  # half of set1 is not most of it


def test_the_name_of_a_label_is_what_is_compared(build: Build) -> None:
    """And after a person relabelled a photo, the name that it was given."""
    labels = {f"n00{who}/{k}.png": photo(10 * who + k) for who in (1, 2, 3) for k in range(3)}
    data = build(labels)
    path = data / "train" / "set0" / "manifest.parquet"
    manifest = pd.read_parquet(path)
    people = {"n001": "xia", "n002": "Zoe Quince"}
    manifest.assign(person=manifest["identity"].map(people)).to_parquet(path)
    (data / "cleaning.csv").write_text(
        "action,dataset,id,identity,to\nrelabel,set0,n001/0,n001,n002\n"
        "relabel,set0,n002/0,n002,n001\n"
    )
    metrics, train, _ = validate(data)
    assert set(reasons(train)) == {"n001/1", "n001/2", "n002/0"}
    assert metrics["train.rejected.identity_overlap"] == 3
    assert train["person"].dropna().nunique() == 2


def test_what_a_person_decided_is_done_and_nothing_else(build: Build) -> None:
    faults = {"Ann/dark.png": photo(93, low=0, high=30), "Dot/0.png": photo(98)}
    data = build(GOOD | faults)
    (data / "cleaning.csv").write_text(
        "action,dataset,id,identity,to,reason,score\n"
        "drop,set0,Ann/0,Ann,,ugly,\n"
        "relabel,set0,Ann/1,Ann,Bea,,\n"
        "keep,set0,Ann/dark,,,,\n"
        "keep,set0,,Dot,,,\n"
    )
    metrics, train, _ = validate(data)
    assert reasons(train) == {"Ann/0": "cleaning"}
    row = train[train["id"] == "Ann/1"].iloc[0]
    assert (row["identity"], row["stated_identity"]) == ("Bea", "Ann")
    assert metrics["cleaning.keep"] == 2
    assert metrics["train.rejected.cleaning"] == metrics["cleaning.drop"] == 1
    assert len(train) == len(GOOD | faults)


def test_a_merge_resolves_a_label_conflict(build: Build) -> None:
    data = build(GOOD | {"Dot/0.png": GOOD["Ann/0.png"], "Dot/1.png": photo(77)})
    assert {"Dot/0", "Ann/0", "Dot/1"} == set(reasons(validate(data)[1]))
    (data / "cleaning.csv").write_text("action,dataset,id,identity,to\nmerge,set0,,Dot,Ann\n")
    _, train, _ = validate(data)
    assert reasons(train) == {"Dot/0": "duplicate"}


@pytest.mark.parametrize(
    ("kept", "reason"),
    [("Ann/text", "undecodable"), ("Cyd/leaked", "content_overlap"), ("Yva/1", "identity_overlap")],
)
def test_hard_rules_cannot_be_lifted(build: Build, kept: str, reason: str) -> None:
    faults = {
        "Ann/text.jpg": b"a text file",
        "Cyd/leaked.png": VERIFY["Xia/0.png"],
        "Yva/1.png": photo(96),
    }
    data = build(GOOD | faults)
    (data / "cleaning.csv").write_text(f"action,dataset,id,identity,to\nkeep,set0,{kept},,\n")
    with pytest.raises(DatasetError, match=rf"cleaning\.csv, line 2: .* rejected as {reason}"):
        validate(data)


def test_proposals_are_written_and_do_nothing(build: Build) -> None:
    near = scenes("Dot", 1, side=64) | {"Dot/b.jpg": scene(1, side=90), "Dot/c.jpg": scene(9)}
    data = build(GOOD | near | {f"dot/{k}.png": photo(40 + k) for k in range(2)})
    metrics, train, _ = validate(data, near_distance=40)
    proposals = pd.read_csv(data.parent / "validate" / "proposals.csv", keep_default_na=False)
    rows = [tuple(row) for row in proposals[["action", "id", "identity", "to", "reason"]].values]
    assert rows == [
        ("drop", "Dot/1", "Dot", "", "near_duplicate"),
        ("merge", "", "dot", "Dot", "same_name"),
    ]
    assert proposals["score"].between(0.8, 1).all()
    assert metrics["proposals"] == 2
    assert metrics["proposed.same_name"] == metrics["proposed.near_duplicate"] == 1
    assert reasons(train) == {}
    # As it stands the file is a person's decision; the next run does it and proposes nothing.
    shutil.copy(data.parent / "validate" / "proposals.csv", data / "cleaning.csv")
    metrics, train, _ = validate(data, near_distance=40)
    assert reasons(train) == {"Dot/1": "cleaning"}
    assert set(train["identity"]) == {"Ann", "Bea", "Cyd", "Dot"}
    assert metrics["proposals"] == 0


def _append(data: Path) -> None:
    """The commands of the guide."""
    guide = (Path(__file__).parents[4] / "docs" / "guides" / "cleaning.md").read_text()
    commands = [line for line in guide.splitlines() if line.strip().startswith(("test -e", "tail"))]
    assert len(commands) == 2
    for command in commands:
        words = command.replace("artifacts/validate/", "validate/")
        subprocess.run(["bash", "-c", words], cwd=data.parent, check=True)


def test_a_second_round_is_added_to_the_first(build: Build) -> None:
    near = scenes("Dot", 1, side=64) | {"Dot/b.jpg": scene(1, side=90), "Dot/c.jpg": scene(9)}
    data = build(GOOD | near)
    validate(data, near_distance=40)
    _append(data)
    more = {"dot/0.png": photo(40)} | scenes("dot", 9, side=90)
    import_dataset(write_photos(data.parent / "more", more), data / "train" / "set1")
    metrics, train, _ = validate(data, near_distance=40)
    assert metrics["proposed.same_name"] == metrics["proposals"] == 1
    _append(data)
    metrics, train, _ = validate(data, near_distance=40)
    assert set(train["identity"]) == {"Ann", "Bea", "Cyd", "Dot"}
    assert train.loc[train["reason"] == "cleaning", "id"].tolist() == ["Dot/1"]
    assert metrics["proposed.near_duplicate"] == metrics["proposals"] == 1
    _append(data)
    metrics, train, _ = validate(data, near_distance=40)
    assert train.loc[train["reason"] == "cleaning", "id"].tolist() == ["Dot/1", "Dot/c"]
    assert metrics["proposals"] == 0


@pytest.mark.parametrize(("one", "other"), [("Xia", "Ann"), ("Ann", "Xia"), ("Xia", "0001")])
def test_a_merge_does_not_bring_people_of_verification_back(
    build: Build, one: str, other: str
) -> None:
    """A merge says that two names are one person's, whichever of them stays."""
    more = {
        f"{who}/{k}.png": photo(60 + 10 * i + k)
        for i, who in enumerate(("Xia", "0001"))
        for k in (7, 8)
    }
    data = build(GOOD | more)
    (data / "cleaning.csv").write_text(
        f"action,dataset,id,identity,to\nmerge,set0,,{one},{other}\n"
    )
    metrics, train, _ = validate(data)
    theirs = train["stated_identity"].isin([one, other])
    assert set(train.loc[theirs, "identity"]) == {other}
    assert set(train.loc[theirs, "reason"]) == {"identity_overlap"}
    assert set(train.loc[~theirs, "reason"]) == {""}
    assert metrics["identities_dropped_for_overlap"] == 1
    assert (data.parent / "validate" / "overlap.txt").read_text() == f"{other}\n"


def test_a_merge_counts_though_every_photo_went_elsewhere(build: Build) -> None:
    """What was said of two people holds; the photo that was relabelled is another's."""
    data = build(GOOD | {"Xia/7.png": photo(67)})
    (data / "cleaning.csv").write_text(
        "action,dataset,id,identity,to\nmerge,set0,,Xia,Ann\nrelabel,set0,Xia/7,,Bea\n"
    )
    _, train, _ = validate(data)
    assert reasons(train) == {f"Ann/{k}": "identity_overlap" for k in range(3)}
    assert train.set_index("id").loc["Xia/7", "identity"] == "Bea"


def test_a_kept_identity_is_rejected_by_hard_rules_alone(build: Build) -> None:
    faults = {
        "Dot/dark.png": photo(93, low=0, high=30),
        "Dot/text.jpg": b"a text file",
        "Dot/leaked.png": VERIFY["Xia/0.png"],
    }
    faults |= {"Ann/3.png": photo(60), "Bea/3.png": photo(61)}
    data = build(GOOD | faults | scenes("Dot", 1) | {"Dot/b.jpg": scene(1, side=90)})
    assert validate(data, near_distance=40)[0]["proposals"] == 1
    (data / "cleaning.csv").write_text("action,dataset,id,identity,to\nkeep,set0,,Dot,\n")
    metrics, train, _ = validate(data, near_distance=40, min_images_per_identity=4)
    dots = {id: why for id, why in reasons(train).items() if id.startswith("Dot")}
    assert dots == {"Dot/text": "undecodable", "Dot/leaked": "content_overlap"}
    assert metrics["proposals"] == 0


def test_labels_and_names_of_one_set_are_told_apart(build: Build) -> None:
    """One name among the labels makes no names of them."""
    one = {
        f"{who}/{k}.png": photo(60 + 10 * i + k)
        for i, who in enumerate(("0001", "0002"))
        for k in range(2)
    }
    two = {f"0002/{k}.png": photo(90 + k) for k in range(2)}
    metrics, train, _ = validate(build(GOOD | one, two))
    assert set(train["identity"]) == {"Ann", "Bea", "Cyd", "0001", "set0/0002", "set1/0002"}
    assert metrics["identities_in_several_datasets"] == 0
    assert metrics["labels_in_both_halves"] == 0


def test_labels_of_both_halves_are_counted_and_said(
    build: Build, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = {f"000{who}/{k}.png": photo(60 + 10 * who + k) for who in (1, 2) for k in range(2)}
    verify = {name.replace("Xia", "0001").replace("Yva", "0002"): b for name, b in VERIFY.items()}
    pairs = tuple(line.replace("Xia", "0001").replace("Yva", "0002") for line in PAIRS)
    data = build(GOOD | labels, verify=verify, pairs=pairs)
    metrics, train, _ = validate(data)
    assert reasons(train) == {}
    assert metrics["labels_in_both_halves"] == 2
    assert capsys.readouterr().err.count("2 labels stand in both training and verification") == 1
    path = data / "train" / "set0" / "manifest.parquet"
    manifest = pd.read_parquet(path)
    manifest.assign(person=manifest["identity"].map({"0001": "Zoe Quince"})).to_parquet(path)
    assert validate(data)[0]["labels_in_both_halves"] == 1
