"""Who is found in the datasets, and that nothing but them goes."""

import csv
import os
import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from facewright.datasets import erasing
from facewright.datasets.checking import verify_datasets
from facewright.datasets.erasing import (
    Decisions,
    Found,
    Person,
    check_rest,
    cleaning_lines,
    dataset_path,
    rewrite_cleaning,
)
from facewright.datasets.form import all_datasets, open_dataset
from facewright.datasets.rewriting import (
    check_whole,
    recover,
    remove_leftovers,
    rewrite_dataset,
)
from facewright.errors import DatasetError
from facewright.files import directory_digest

from .making import contents, dataset, people, picture


def parse_person(identity: str, data: Path = Path("data")) -> Person:
    known = {dataset_path(data, d) for d in all_datasets(data)} if data.exists() else set()
    return erasing.parse_person(identity, data=data, known=known)


def read_decisions(data: Path) -> Decisions:
    return erasing.read_decisions(data, datasets=all_datasets(data))


def find_person(data: Path, person: Person) -> Person:
    datasets = all_datasets(data)
    return erasing.find_person(data, person, datasets=datasets, decisions=read_decisions(data))


def find_rows(data: Path, person: Person) -> list[Found]:
    return erasing.find_rows(data, person, datasets=all_datasets(data))


def found_ids(data: Path, identity: str) -> dict[str, set[str]]:
    person = find_person(data, parse_person(identity, data))
    return {
        one.name: set(one.dataset.manifest.loc[one.gone, "id"]) for one in find_rows(data, person)
    }


@pytest.fixture
def data(tmp_path: Path) -> Path:
    data = tmp_path / "data"
    dataset(data / "train" / "web", people("Ada_Ünal Bo 0001 0002"))
    numbered = {f"0001/{k}": {"person": "ada unal"} for k in range(3)}
    dataset(
        data / "train" / "numbers",
        {f"0001/{k}.jpg": picture(k) for k in range(3)} | people("0002"),
        columns=numbered,
    )
    pairs = [
        (0, 1, "ADA-UNAL/0", "ADA-UNAL/1"),
        (0, 0, "ADA-UNAL/0", "Cy/0"),
        (1, 1, "Cy/0", "Cy/1"),
    ]
    dataset(data / "verify" / "test", people("ADA-UNAL Cy"), pairs=pairs)
    return data


ALL = {
    "train/numbers": {"0001/0", "0001/1", "0001/2"},
    "train/web": {f"Ada_Ünal/{k}" for k in range(3)},
    "verify/test": {f"ADA-UNAL/{k}" for k in range(3)},
}


@pytest.mark.parametrize(
    "name", ["Ada_Ünal", "ada unal", "ADA  UNAL", "numbers/0001", "train/numbers/0001"]
)
def test_every_spelling_and_number_is_found(data: Path, name: str) -> None:
    assert found_ids(data, name) == ALL


def test_a_number_is_one_person_of_one_dataset(data: Path) -> None:
    assert found_ids(data, "web/0001") == {"train/web": {"0001/0", "0001/1", "0001/2"}}
    with pytest.raises(DatasetError, match=r"--identity DATASET/0001"):
        parse_person("0001", data)


def test_datasets_of_one_name_are_told_apart(data: Path) -> None:
    dataset(data / "verify" / "web", people("0001 0009"), pairs=[(0, 1, "0009/0", "0009/1")])
    with pytest.raises(DatasetError, match=r"train/web or verify/web.*--identity train/web/0001"):
        parse_person("web/0001", data)
    ids = {"0001/0", "0001/1", "0001/2"}
    assert found_ids(data, "train/web/0001") == {"train/web": ids}
    # The same names gave the same pictures; by their ids alone nothing is found.
    person = find_person(data, parse_person("verify/web/0001", data))
    assert [one.name for one in find_rows(data, person)] == ["verify/web"]


def test_a_dataset_that_lies_alone_is_known_by_its_folder(tmp_path: Path) -> None:
    data = tmp_path / "data"
    dataset(data, people("0001 0002"))
    assert found_ids(data, "data/0001") == {"": {"0001/0", "0001/1", "0001/2"}}


def test_decisions_are_about_training_alone(data: Path) -> None:
    dataset(data / "verify" / "web", people("Bo Cy Eve"), pairs=[(0, 0, "Bo/1", "Cy/1")])
    lines = ["relabel,web,Bo/1,Bo,Ada_Ünal", "drop,web,,0002,"]
    (data / "cleaning.csv").write_text("\n".join(["action,dataset,id,identity,to", *lines]))
    assert found_ids(data, "ada unal") == ALL | {"train/web": ALL["train/web"] | {"Bo/1"}}


def test_targets_are_resolved_as_validation_does(tmp_path: Path) -> None:
    """0001 of two sets of labels are two people: the table calls them a/0001 and b/0001."""
    data = tmp_path / "data"
    for name in ("a", "b"):
        photos = {
            f"{who}/{k}.jpg": picture((name, who, k)) for who in ("0001", "0002") for k in (0,)
        }
        dataset(data / "train" / name, photos)
    (data / "cleaning.csv").write_text(
        "action,dataset,id,identity,to\nmerge,a,,0002,b/0001\nrelabel,b,0002/0,,0001\n"
    )
    assert found_ids(data, "b/0001") == {"train/a": {"0002/0"}, "train/b": {"0001/0", "0002/0"}}
    assert found_ids(data, "a/0001") == {"train/a": {"0001/0"}}


def test_earlier_decisions_that_name_a_label_are_found(data: Path) -> None:
    decisions = read_decisions(data)
    person = Person(labels=frozenset({("train/casia", "0000045")}))
    head = "action,dataset,id,identity,to\n"

    def named(line: str, head: str = head) -> bool:
        return decisions.text_names(head + line, person, images=set())

    assert named("drop,casia,,0000045,")
    assert named("drop,casia,0000045/7,,")
    assert named("merge,web,,Bo,casia/0000045")
    assert not named("drop,web,,0000045,")
    assert not named("drop,casia,,0000046,")
    # What is no such table is compared cell by cell.
    assert named("drop,casia,0000045", head="what,where,who\n")
    assert named("casia/0000045", head="")
    assert not named("drop,web,0000045", head="what,where,who\n")


def test_a_number_of_two_sets_with_one_person_is_that_person_in_decisions(tmp_path: Path) -> None:
    """Where `person` agrees, validation keeps the number as it is; a line may name it so."""
    for name in ("a", "b"):
        photos = people("0007 0008")
        columns = {f"0007/{k}": {"person": "ann lee"} for k in range(3)}
        dataset(tmp_path / "train" / name, photos, columns=columns)
    decisions = read_decisions(tmp_path)
    person = Person(labels=frozenset({("train/b", "0007")}))
    head = "action,dataset,id,identity,to\n"
    assert decisions.text_names(head + "merge,a,,0008,0007", person, images=set())
    other = Person(labels=frozenset({("train/b", "0008")}))
    assert decisions.text_names(head + "merge,a,,0007,b/0008", other, images=set())
    assert not decisions.text_names(head + "merge,a,,0007,a/0008", other, images=set())


def test_decisions_in_a_wrong_form_are_named_by_line(data: Path) -> None:
    (data / "cleaning.csv").write_text("action,dataset,id,identity,to\ndrop,web,,Bo,\ndrop,web\n")
    with pytest.raises(DatasetError, match=r"cleaning.csv, line 3: 2 values instead of 5"):
        read_decisions(data)


def test_copies_under_other_names_are_theirs_too(data: Path) -> None:
    own = picture("Ada_Ünal/1.jpg")
    dataset(data / "train" / "more", people("Eve") | {"Eve/x.jpg": own, "Eve/empty.jpg": b""})
    person = find_person(data, parse_person("Ada Unal", data))
    photos = {digest for one in find_rows(data, person) for digest in one.photos}
    whole = Person(person.names, person.labels, person.images, frozenset(photos))
    found = {one.name: one.identities for one in find_rows(data, whole)}
    assert found["train/more"] == {"Eve": 1}


def rows(data: Path) -> list[dict[str, str]]:
    with (data / "cleaning.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_decisions_lead_to_photos_and_go(data: Path) -> None:
    dataset(data / "train" / "more", people("Eve Fay Gus Hal"))
    lines = [
        "action,dataset,id,identity,to,reason,score",
        "relabel,more,Eve/1,Eve,Ada_Ünal,,0.9",
        "merge,more,,Fay,Ada_Ünal,,",
        "merge,web,,Ada_Ünal,numbers/0001,,",
        "drop,web,Ada_Ünal/2,Ada_Ünal,,,",
        "relabel,more,Hal/0,Hal,Gus,,",
        'drop,web,Bo/0,,,"blurred, dark",',
        "drop,numbers,,0002,,,",
        "drop,web,,0001,,,",
    ]
    (data / "cleaning.csv").write_text("\n".join(lines) + "\n")
    person = find_person(data, parse_person("Ada Unal"))
    found = find_rows(data, person)
    ids = {one.name: set(one.dataset.manifest.loc[one.gone, "id"]) for one in found}
    assert ids == ALL | {"train/more": {"Eve/1", "Fay/0", "Fay/1", "Fay/2"}}
    decisions = read_decisions(data)
    rewrite_cleaning(decisions, gone := cleaning_lines(decisions, person, found))
    assert gone == {2, 3, 4, 5}
    assert [(row["id"], row["identity"]) for row in rows(data)] == [
        ("Hal/0", "Hal"),
        ("Bo/0", ""),
        ("", "0002"),
        ("", "0001"),
    ]
    assert rows(data)[1]["reason"] == "blurred, dark"


def test_a_rewritten_dataset_lacks_them_and_nothing_else(data: Path) -> None:
    long = {f"{'ü' * 60}/{k}.jpg": picture(("long", k)) for k in range(3)}
    more = {f"Ada/{k}": {"landmarks": [float(k)] * 10} for k in range(3)}
    made = dataset(data / "train" / "mixed", people("Ada Bo") | long | people("Cy"), columns=more)
    (made.root / "NOTICE.txt").write_text("by their makers")
    before, inodes = contents(made), {}
    for shard in (made.root / "shards").iterdir():
        inodes[shard.name] = shard.stat().st_ino
    gone = made.manifest["id"].isin(["Ada/1", "Bo/0", f"{'ü' * 60}/1"])
    one = Found(dataset=made, name="train/mixed", gone=gone, gone_pairs=pd.Series(dtype=bool))
    rewrite_dataset(one)
    after = open_dataset(made.root)
    assert contents(after) == {
        id: d for id, d in before.items() if id not in set(made.manifest.loc[gone, "id"])
    }
    assert verify_datasets(made.root) == []
    kept = made.manifest[~gone].reset_index(drop=True)
    pd.testing.assert_frame_equal(
        after.manifest.drop(columns="offset"), kept.drop(columns="offset")
    )
    touched = {shard.rpartition("/")[2] for shard in one.shards}
    for shard in (made.root / "shards").iterdir():
        assert (shard.stat().st_ino == inodes[shard.name]) == (shard.name not in touched)
    assert len(touched) < len(inodes)
    assert (made.root / "NOTICE.txt").read_text() == "by their makers"


def test_a_shard_of_theirs_alone_vanishes(tmp_path: Path) -> None:
    made = dataset(
        tmp_path / "data" / "train" / "x", people("Ada Bo Cy", photos=4), shard_bytes=7000
    )
    person = find_person(tmp_path / "data", parse_person("Bo"))
    (one,) = find_rows(tmp_path / "data", person)
    rewrite_dataset(one)
    left = {shard.name for shard in (made.root / "shards").iterdir()}
    named = {name.rpartition("/")[2] for name in open_dataset(made.root).manifest["shard"]}
    assert left == named
    assert verify_datasets(made.root) == []


def test_rewriting_gives_the_same_bytes_again(tmp_path: Path) -> None:
    digests = set()
    for name in ("a", "b"):
        made = dataset(tmp_path / name / "data" / "train" / "x", people("Ada Bo Cy"))
        data = tmp_path / name / "data"
        rewrite_dataset(find_rows(data, find_person(data, parse_person("Bo")))[0])
        digests.add(directory_digest(made.root))
    assert len(digests) == 1


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    """DVC may put links to its cache into `data/`."""
    data, cache = tmp_path / "data", tmp_path / "cache"
    made = dataset(data / "train" / "x", people("Ada Bo Cy"))
    cache.mkdir()
    for number, file in enumerate(sorted(made.root.rglob("*.*"))):
        kept = cache / str(number)
        file.rename(kept)
        kept.chmod(0o444)
        if number % 2:
            file.symlink_to(kept)
        else:
            os.link(kept, file)
    before = directory_digest(cache)
    rewrite_dataset(find_rows(data, find_person(data, parse_person("Bo")))[0])
    assert directory_digest(cache) == before
    assert verify_datasets(made.root) == []


def test_a_linked_dataset_is_refused(tmp_path: Path) -> None:
    made = dataset(tmp_path / "elsewhere" / "x", people("Ada Bo"))
    (tmp_path / "data" / "train").mkdir(parents=True)
    (tmp_path / "data" / "train" / "x").symlink_to(made.root)
    with pytest.raises(DatasetError, match="is a link to"):
        find_rows(tmp_path / "data", parse_person("Ada"))


def test_a_dataset_is_never_left_empty(tmp_path: Path) -> None:
    data = tmp_path / "data"
    dataset(data / "train" / "x", people("Ada"))
    with pytest.raises(DatasetError, match=r"train/x would have no image left: delete the whole"):
        check_rest(find_rows(data, parse_person("Ada")))
    pairs = [(0, 1, "Bo/0", "Bo/1")]
    dataset(data / "verify" / "y", people("Bo Cy"), pairs=pairs)
    with pytest.raises(DatasetError, match="no pair left"):
        check_rest(find_rows(data, parse_person("Bo")))
    check_rest(find_rows(data, parse_person("Cy")))


def test_a_damaged_shard_is_not_rewritten(tmp_path: Path) -> None:
    data = tmp_path / "data"
    made = dataset(data / "train" / "x", people("Ada Bo"), shard_bytes=10**6)
    shard = made.root / "shards" / "00000.tar"
    whole = shard.read_bytes()
    shard.write_bytes(whole[: made.manifest["offset"].iloc[-1] - 512] + bytes(1024))
    with pytest.raises(DatasetError, match="lacks 1 images"):
        rewrite_dataset(find_rows(data, parse_person("Ada"))[0])
    assert len(open_dataset(made.root).manifest) == 6


def test_leftovers_of_killed_runs_are_recovered_and_removed(tmp_path: Path) -> None:
    data = tmp_path / "data"
    made = dataset(data / "train" / "x", people("Ada Bo"))
    made.root.rename(data / "train" / ".x.replaced")
    (data / "train" / ".y.partial").mkdir()
    with pytest.raises(DatasetError, match=r"\.x\.replaced holds .*: rename it to x"):
        check_whole(data)
    assert not (data / "train" / "x").exists()
    recover(data)
    check_whole(data)
    assert len(open_dataset(data / "train" / "x").manifest) == 6
    assert (data / "train" / ".y.partial").exists()
    remove_leftovers(data)
    assert not (data / "train" / ".y.partial").exists()


def test_tar_readers_read_a_rewritten_shard(tmp_path: Path) -> None:
    data = tmp_path / "data"
    made = dataset(data / "train" / "x", people("Ada Bo Cy"), shard_bytes=10**6)
    rewrite_dataset(find_rows(data, parse_person("Bo"))[0])
    shard = made.root / "shards" / "00000.tar"
    with tarfile.open(shard) as tar:
        names = [member.name for member in tar.getmembers()]
    assert names == [f"{name}/{k}.jpg" for name in ("Ada", "Cy") for k in range(3)]
    assert shard.stat().st_size % tarfile.RECORDSIZE == 0
    assert np.array_equal(
        made.manifest["offset"].iloc[:3], open_dataset(made.root).manifest["offset"].iloc[:3]
    )


def test_a_training_set_without_rows_stops_nothing(tmp_path: Path) -> None:
    dataset(tmp_path / "train" / "web", people("Ada Bo"))
    empty = dataset(tmp_path / "train" / "none", people("Eve"))
    manifest = empty.root / "manifest.parquet"
    empty.manifest.iloc[:0].to_parquet(manifest)
    decisions = read_decisions(tmp_path)
    assert set(decisions.places) == {"Ada", "Bo"}
