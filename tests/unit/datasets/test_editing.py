"""Merge loses and invents nothing; subset keeps what it is told to, and keeps it as sets grow."""

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from facewright.datasets.checking import verify_datasets
from facewright.datasets.editing import merge_datasets, subset_dataset
from facewright.datasets.form import Dataset
from facewright.errors import DatasetError
from facewright.files import directory_digest

from .making import contents, dataset, people, picture


def rename(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(["dataset,from,to", *lines]) + "\n")
    return path


@pytest.fixture
def one(tmp_path: Path) -> Dataset:
    more = {"Ada/0": {"person": "Ada", "landmarks": [float(k) for k in range(10)]}}
    return dataset(tmp_path / "one", people("Ada Bo 0007"), columns=more, licence="CC0")


@pytest.fixture
def two(tmp_path: Path) -> Dataset:
    photos = {f"{name}/{k}.jpg": picture((name, k, 2)) for name in ("Ada", "0007") for k in (2, 3)}
    return dataset(tmp_path / "two", photos, licence="research only", consent="")


def test_merge_joins_people_of_one_name(tmp_path: Path, one: Dataset, two: Dataset) -> None:
    merged = merge_datasets(tmp_path / "out", [one.root, two.root])
    new = {"Ada/2": "Ada/two-2", "Ada/3": "Ada/3"} | {f"0007/{k}": f"two-0007/{k}" for k in (2, 3)}
    expected = {id.replace("0007/", "one-0007/"): data for id, data in contents(one).items()}
    expected |= {new[id]: data for id, data in contents(two).items()}
    assert contents(merged) == expected
    rows = merged.manifest.set_index("id")
    assert list(rows.loc[["Ada/0", "Ada/two-2"], "identity"]) == ["Ada", "Ada"]
    assert list(rows.loc[["Ada/0", "Ada/two-2"], "merged_from"]) == ["one", "two"]
    assert (rows["identity"] == rows.index.str.split("/").str[0]).all()
    assert rows.loc["Ada/0", "landmarks"].tolist() == list(range(10))
    assert rows["person"].notna().sum() == 1
    assert merged.card.licence == "CC0; research only"
    assert merged.card.consent == "asked; none stated for two"
    assert merged.card.source == "one.tar+two.tar"
    assert verify_datasets(merged.root) == []


def test_merge_gives_the_same_bytes_again(tmp_path: Path, one: Dataset, two: Dataset) -> None:
    for name in ("a", "b"):
        merge_datasets(tmp_path / name / "out", [one.root, two.root])
    assert directory_digest(tmp_path / "a") == directory_digest(tmp_path / "b")


def test_merge_renames(tmp_path: Path, one: Dataset, two: Dataset) -> None:
    file = rename(tmp_path / "r.csv", "two,Ada,Ada Ünal", '"one",Bo,Ada', "two,0007,0008")
    merged = merge_datasets(tmp_path / "out", [one.root, two.root], rename=file)
    found, before, other = contents(merged), contents(one), contents(two)
    assert found["Ada Ünal/2"] == other["Ada/2"]
    assert found["0008/3"] == other["0007/3"]
    # Two people of one dataset become one: ids that meet say where they come from.
    assert found["Ada/0"] == before["Ada/0"]
    assert found["Ada/one-Bo-0"] == before["Bo/0"]
    assert sorted(merged.manifest["identity"].unique()) == ["0008", "Ada", "Ada Ünal", "one-0007"]


def test_a_number_to_rename_to_is_that_of_the_lines_dataset(tmp_path: Path, one: Dataset) -> None:
    """`0007` of `two` becomes two-0007: whoever is renamed to 0007 there is that person."""
    two = dataset(tmp_path / "two", people("0007 0008 0009", photos=1))
    file = rename(tmp_path / "r.csv", "two,0008,0007")
    merged = merge_datasets(tmp_path / "out", [one.root, two.root], rename=file)
    sizes = merged.manifest.groupby("identity").size().to_dict()
    assert sizes == {"Ada": 3, "Bo": 3, "one-0007": 3, "two-0007": 2, "0009": 1}
    # A number that has a line of its own is free.
    file = rename(tmp_path / "r.csv", "two,0008,0007", "two,0007,0010")
    merged = merge_datasets(tmp_path / "swap", [one.root, two.root], rename=file)
    sizes = merged.manifest.groupby("identity").size().to_dict()
    assert sizes == {"Ada": 3, "Bo": 3, "one-0007": 3, "0007": 1, "0010": 1, "0009": 1}
    # Whose number it is cannot be told for a dataset that has it not.
    three = dataset(tmp_path / "three", people("Cy"))
    file = rename(tmp_path / "r.csv", "three,Cy,0007")
    roots = [one.root, two.root, three.root]
    with pytest.raises(DatasetError, match=r"line 2: '0007' is a number .* one-0007, two-0007"):
        merge_datasets(tmp_path / "no", roots, rename=file)


def test_a_number_with_one_name_is_one_person(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    roots = []
    for name, persons in (("a", "Ann_Lee"), ("b", "ann lee"), ("c", "Bo Yu")):
        columns = {f"0007/{k}": {"person": persons} for k in range(2)} | {"0008/0": {"person": ""}}
        photos = {
            f"{who}/{k}.jpg": picture((name, who, k)) for who in ("0007", "0008") for k in (0, 1)
        }
        roots.append(dataset(tmp_path / name, photos, columns=columns).root)
    both = merge_datasets(tmp_path / "both", roots[:2])
    assert both.manifest.groupby("identity").size().to_dict() == {
        "0007": 4, "a-0008": 2, "b-0008": 2
    }  # fmt: skip
    assert "1 identities are numbers in several datasets" in capsys.readouterr().err
    every = merge_datasets(tmp_path / "every", roots)
    sizes = every.manifest.groupby("identity").size().to_dict()
    assert {who: n for who, n in sizes.items() if "0007" in who} == {"a-0007": 4, "c-0007": 2}


def test_labels_that_contradict_from_the_start_are_kept(tmp_path: Path) -> None:
    """As a `.bin` may bring them; a renaming that makes a new contradiction is refused still."""
    a = dataset(tmp_path / "a", people("Ada Bo"), pairs=[(0, 1, "Ada/0", "Bo/1")])
    b = dataset(tmp_path / "b", people("Cy Di"), pairs=[(0, 0, "Cy/0", "Di/1")])
    merged = merge_datasets(tmp_path / "out", [a.root, b.root])
    assert merged.pairs is not None
    assert merged.pairs["label"].tolist() == [1, 0]
    file = rename(tmp_path / "r.csv", "a,Ada,Bo")  # mends it
    assert merge_datasets(tmp_path / "mended", [a.root, b.root], rename=file).pairs is not None
    file = rename(tmp_path / "r.csv", "b,Cy,Di")
    with pytest.raises(DatasetError, match=r"r\.csv: 'Di/b-Cy-0' and .*\(1 such pairs\)"):
        merge_datasets(tmp_path / "no", [a.root, b.root], rename=file)


def test_merge_keeps_pairs_and_folds(tmp_path: Path) -> None:
    a = dataset(
        tmp_path / "a",
        people("Ada Bo"),
        pairs=[(0, 1, "Ada/0", "Ada/1"), (1, 0, "Ada/0", "Bo/0")],
    )
    b = dataset(tmp_path / "b", people("Bo Ada"), pairs=[(7, 0, "Bo/0", "Ada/2")])
    merged = merge_datasets(tmp_path / "out", [a.root, b.root])
    assert merged.pairs is not None
    assert merged.pairs.to_numpy().tolist() == [
        [0, 1, "Ada/0", "Ada/1"],
        [1, 0, "Ada/0", "Bo/0"],
        [7, 0, "Bo/b-0", "Ada/b-2"],
    ]
    file = rename(tmp_path / "r.csv", "b,Bo,Ada")
    with pytest.raises(DatasetError, match="the identities say otherwise"):
        merge_datasets(tmp_path / "no", [a.root, b.root], rename=file)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["one,Ada,Eve", "three,Ada,Eve"], r"line 3: 'three' is none of one, two"),
        (["one,Ada,Eve", "two,Bo,Eve"], r"line 3: two has no identity 'Bo'"),
        (["one,Ada,Eve", "one,Ada,Eva"], "line 3: 'Ada' is renamed twice"),
        (["one,Ada,"], "line 2"),
        (["one,Ada"], "line 2"),
        (["one,Ada,../Eve"], "line 2: '../Eve' can be no identity"),
        (["one,Ada,a/b"], "line 2: 'a/b' can be no identity"),
        (["one,Ada,.."], "line 2: '..' can be no identity"),
        (['one,Ada,"a\nb"'], "can be no identity"),
    ],
)
def test_wrong_renamings_are_named_by_line(
    tmp_path: Path, one: Dataset, two: Dataset, lines: list[str], said: str
) -> None:
    file = rename(tmp_path / "r.csv", *lines)
    with pytest.raises(DatasetError, match=said):
        merge_datasets(tmp_path / "out", [one.root, two.root], rename=file)
    assert not (tmp_path / "out").exists()


def test_merge_refuses_what_does_not_fit(tmp_path: Path, one: Dataset) -> None:
    verify = dataset(tmp_path / "v", people("Ada"), pairs=[(0, 1, "Ada/0", "Ada/1")])
    same = dataset(tmp_path / "other" / "one", people("Ada"))
    with pytest.raises(DatasetError, match="of one kind"):
        merge_datasets(tmp_path / "out", [one.root, verify.root])
    with pytest.raises(DatasetError, match="named alike"):
        merge_datasets(tmp_path / "out", [one.root, same.root])
    with pytest.raises(DatasetError, match="two or more"):
        merge_datasets(tmp_path / "out", [one.root])
    with pytest.raises(DatasetError, match="lie in one another"):
        merge_datasets(one.root, [one.root, verify.root])
    assert len(contents(one)) == 9


NAMES = " ".join(f"P{k:02d}" for k in range(30))


def test_subset_by_number_is_stable_as_the_set_grows(tmp_path: Path) -> None:
    photos = people(NAMES, photos=2)
    small = {name: data for name, data in photos.items() if name < "P20"}
    full = dataset(tmp_path / "full", photos)
    part = dataset(tmp_path / "part", small)
    chosen = [
        set(subset_dataset(made.root, tmp_path / f"{n}", identities=10).manifest["identity"])
        for n, made in enumerate((part, full))
    ]
    assert [len(names) for names in chosen] == [10, 10]
    # Whoever was chosen before stays, unless a newcomer has a smaller sha256.
    assert chosen[1] - chosen[0] <= {f"P{k:02d}" for k in range(20, 30)}
    more = subset_dataset(full.root, tmp_path / "more", identities=15)
    assert chosen[1] < set(more.manifest["identity"])


def test_subset_conditions_hold_together(tmp_path: Path) -> None:
    photos = people("Ada", photos=5) | people("Bo Cleo", photos=3) | people("Dan", photos=2)
    made = dataset(tmp_path / "set", photos)
    (tmp_path / "people.txt").write_text("Ada\nBo\nDan\nNobody\n")
    part = subset_dataset(
        made.root,
        tmp_path / "out",
        people=tmp_path / "people.txt",
        min_images=3,
        per_identity=2,
    )
    assert part.manifest.groupby("identity").size().to_dict() == {"Ada": 2, "Bo": 2}
    whole = contents(made)
    assert all(whole[id] == data for id, data in contents(part).items())
    assert verify_datasets(part.root) == []
    assert part.card.licence == made.card.licence
    wider = subset_dataset(made.root, tmp_path / "wider", per_identity=3)
    assert set(part.manifest["id"]) < set(wider.manifest["id"])


def test_subset_by_ids(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs = [(0, 1, "Ada/0", "Ada/1"), (1, 0, "Ada/0", "Bo/0"), (2, 0, "Ada/2", "Bo/0")]
    made = dataset(tmp_path / "set", people("Ada Bo"), pairs=pairs)
    ids = tmp_path / "ids.txt"
    ids.write_text("Ada/0\r\nBo/0\nAda/1\n")
    part = subset_dataset(made.root, tmp_path / "out", images=ids)
    assert part.manifest["id"].tolist() == ["Ada/0", "Ada/1", "Bo/0"]
    assert part.pairs is not None
    assert part.pairs.to_numpy().tolist() == [list(pair) for pair in pairs[:2]]
    assert "1 of 3 pairs lost an image" in capsys.readouterr().err
    ids.write_text("Ada/9\n")
    with pytest.raises(DatasetError, match=r"none of the 1 images on the list .*ids.txt is there"):
        subset_dataset(made.root, tmp_path / "no", images=ids)
    ids.write_text("Ada/0\n")
    with pytest.raises(DatasetError, match="leave no pair"):
        subset_dataset(made.root, tmp_path / "no", images=ids)
    with pytest.raises(DatasetError, match="leave no image"):
        subset_dataset(made.root, tmp_path / "no", min_images=4)
    for wrong in ({}, {"identities": 0}):
        with pytest.raises(DatasetError):
            subset_dataset(made.root, tmp_path / "no", **wrong)
    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize("form", ["{id}", "{id}.jpg", "top/{id}.jpg", "./top/{id}"])
def test_subset_takes_the_lists_of_images_that_import_takes(
    tmp_path: Path, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    made = dataset(tmp_path / "set", people("Ada Bo"))
    names = [form.format(id=id) for id in ("Ada/1", "Bo/0", "Bo/9")]
    (tmp_path / "list.txt").write_text("\n".join(names) + "\n")
    part = subset_dataset(made.root, tmp_path / "out", images=tmp_path / "list.txt")
    assert part.manifest["id"].tolist() == ["Ada/1", "Bo/0"]
    assert "2 of the 3 images on the list" in capsys.readouterr().err


def test_a_list_of_people_tells_how_many_are_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = dataset(tmp_path / "set", people("Ada Bo"))
    file = tmp_path / "people.txt"
    file.write_text("Ada\nNobody\nNo One\n")
    subset_dataset(made.root, tmp_path / "out", people=file)
    assert "1 of the 3 people on the list" in capsys.readouterr().err
    file.write_text("Nobody\n")
    with pytest.raises(DatasetError, match=r"none of the 1 people on the list .* is there"):
        subset_dataset(made.root, tmp_path / "no", people=file)
    assert not (tmp_path / "no").exists()


def test_whole_numbers_with_gaps_stay_whole(tmp_path: Path) -> None:
    large = 2**53 + 1  # no fraction of 64 bits holds it
    made = dataset(tmp_path / "set", people("Ada Bo"), columns={"Ada/1": {"age": large}})
    other = dataset(tmp_path / "other", people("Cy"))
    part = subset_dataset(made.root, tmp_path / "part", per_identity=3)
    both = merge_datasets(tmp_path / "both", [made.root, other.root])
    for found in (part, both):
        column = pq.read_table(found.root / "manifest.parquet")["age"]
        assert pa.types.is_integer(column.type)
        assert [value for value in column.to_pylist() if value is not None] == [large]


def test_columns_of_any_name_are_kept(tmp_path: Path) -> None:
    """Those of the writer's own arguments too."""
    more = {"Ada/1": {"data": "raw", "suffix": "Jr.", "columns": 3, "self": 1}}
    made = dataset(tmp_path / "set", people("Ada"), columns=more)
    part = subset_dataset(made.root, tmp_path / "out", per_identity=3)
    assert part.manifest.loc[1, ["data", "suffix", "columns", "self"]].tolist() == [
        "raw",
        "Jr.",
        3,
        1,
    ]


def test_merge_refuses_one_column_of_two_kinds(tmp_path: Path) -> None:
    ages = {"one": 30, "two": "thirty"}
    roots = [
        dataset(tmp_path / name, people(name), columns={f"{name}/0": {"age": age}}).root
        for name, age in ages.items()
    ]
    with pytest.raises(DatasetError, match="column 'age' holds numbers and text: give it one kind"):
        merge_datasets(tmp_path / "out", roots)
    assert not (tmp_path / "out").exists()


def test_subset_keeps_columns(tmp_path: Path) -> None:
    more = {"Ada/0": {"person": "Ada", "landmarks": [0.5] * 10, "aligned": True}}
    made = dataset(tmp_path / "set", people("Ada"), columns=more)
    part = subset_dataset(made.root, tmp_path / "out", per_identity=3)
    pd.testing.assert_frame_equal(part.manifest, made.manifest)
