"""Lists of photos: every column arrives as it stands, and every wrong row is named."""

import csv
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from facewright.datasets.form import RESERVED
from facewright.datasets.importing import import_dataset
from facewright.datasets.readers.listing import REQUIRED, read_list
from facewright.errors import DatasetError

from .making import contents, folder, picture, refused

PHOTOS = {
    "Ann Lee/1.jpg": picture(1),
    "deep/er/Ann Lee/2.jpg": picture(2),
    "loose.jpg": picture(3),
    "写真/a b.jpg": picture(4),
}
POINTS = " ".join(str(k / 2) for k in range(10))
ROWS = {
    "path": list(PHOTOS),
    "identity": ["Ann Lee", "Ann Lee", "0007", "0007"],
    "person": [None, None, "Bo", "Bo"],
    "landmarks": [POINTS, None, None, None],
    "aligned": ["true", "false", None, None],
    "camera": ["front, left", 'a "b"', None, "x"],
}


def written(path: Path, rows: dict[str, list[object]]) -> Path:
    table = pd.DataFrame(rows)
    if path.suffix == ".parquet":
        table.to_parquet(path)
    else:
        table.to_csv(path, index=False, sep="\t" if path.suffix == ".tsv" else ",")
    return path


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet"])
def test_rows_become_rows_of_the_manifest(tmp_path: Path, suffix: str) -> None:
    folder(tmp_path / "in", PHOTOS)
    dataset = import_dataset(written(tmp_path / "in" / f"list{suffix}", ROWS), tmp_path / "out")
    manifest = dataset.manifest
    assert contents(dataset) == {
        "Ann Lee/1": picture(1),
        "Ann Lee/2": picture(2),
        "0007/loose": picture(3),
        "0007/写真-a b": picture(4),
    }
    assert manifest["identity"].tolist() == ROWS["identity"]
    assert manifest["origin"].tolist() == ROWS["path"]
    assert manifest["person"].fillna("").tolist() == ["", "", "Bo", "Bo"]
    assert list(manifest["landmarks"][0]) == [k / 2 for k in range(10)]
    assert manifest["landmarks"][1:].isna().all()
    assert manifest["aligned"].tolist() == [True, False, None, None]
    assert manifest["camera"].fillna("").tolist() == ["front, left", 'a "b"', "", "x"]


def test_paths_may_lead_anywhere_on_this_machine(tmp_path: Path) -> None:
    """Their ids are made of names alone."""
    there = folder(tmp_path / "photos", {"Ann/1.jpg": picture(1), "x/2.jpg": picture(2)})
    (tmp_path / "lists").mkdir()
    rows = f"{there}/Ann/1.jpg,Ann\n../photos/x/2.jpg,Ann\n./../photos//x/2.jpg,Bo\n"
    (tmp_path / "lists" / "list.csv").write_text(f"path,identity\n{rows}")
    dataset = import_dataset(tmp_path / "lists" / "list.csv", tmp_path / "out")
    assert contents(dataset) == {
        "Ann/1": picture(1),
        "Ann/photos-x-2": picture(2),
        "Bo/photos-x-2": picture(2),
    }
    assert dataset.manifest["origin"].tolist() == [
        f"{there}/Ann/1.jpg",
        "photos/x/2.jpg",
        "photos/x/2.jpg",
    ]


def test_parquet_keeps_types(tmp_path: Path) -> None:
    folder(tmp_path, PHOTOS)
    table = pa.table(
        {
            "path": ["Ann Lee/1.jpg", "loose.jpg"],
            "identity": pa.array([5, 7]),
            "landmarks": [[float(k) for k in range(10)], None],
            "age": pa.array([41, 7], pa.int16()),
            "weight": [0.25, -1.0],
            "site": pa.array(["a", "b"]).dictionary_encode(),
        }
    )
    pq.write_table(table, tmp_path / "list.parquet")
    manifest = import_dataset(tmp_path / "list.parquet", tmp_path / "out" / "x").manifest
    assert manifest["identity"].tolist() == ["5", "7"]
    assert manifest["age"].tolist() == [41, 7]
    assert manifest["weight"].tolist() == [0.25, -1.0]
    assert manifest["site"].tolist() == ["a", "b"]
    assert list(manifest["landmarks"][0]) == [float(k) for k in range(10)]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("loose.jpg,A\ngone.jpg,A", "list.csv, line 3: 'gone.jpg' is not there"),
        ("loose.jpg,A\n\nloose.jpg", "line 4 has 1 cells, and there are 2 columns"),
        ("loose.jpg,", "line 2: its identity is None"),
        (",A", "line 2: its path is None"),
        ("../loose.jpg,A", "line 2: '../loose.jpg' is not there: paths are absolute or start from"),
        ("/no/loose.jpg,A", "line 2: '/no/loose.jpg' is not there"),
        ("Ann Lee\\1.jpg,A", "has a backslash, a drive's letter"),
        ("C:/1.jpg,A", "has a backslash, a drive's letter"),
        ("loose.jpg,A/B", "'A/B' can be no identity"),
        ("loose.jpg,A\nloose.jpg,A", "two images are named 'A/loose'"),
        ('loose.jpg,"A', "cannot be read as CSV"),
        ("deep,A", "'deep' is not there"),
        ("", "no image was found"),
    ],
)
def test_wrong_rows_are_named(tmp_path: Path, rows: str, said: str) -> None:
    source = folder(tmp_path / "in", PHOTOS) / "list.csv"
    source.write_text(f"path,identity\n{rows}\n")
    assert said in refused(source, tmp_path / "out")


def test_wrong_rows_of_parquet_are_named(tmp_path: Path) -> None:
    folder(tmp_path / "in", PHOTOS)
    for rows, said in (
        ({"path": ["loose.jpg", "x.jpg"], "identity": ["A", "A"]}, "row 2: 'x.jpg' is not there"),
        ({"path": ["loose.jpg"], "identity": [1.5]}, "row 1: its identity is 1.5"),
        ({"path": ["loose.jpg"], "identity": ["A"], "landmarks": [[1.0]]}, "row 1: landmarks"),
        ({"path": ["loose.jpg"], "identity": ["A"], "area": [[1.0]]}, "column 'area' is list"),
        ({"path": ["loose.jpg"], "identity": ["A"], "at": [b"x"]}, "column 'at' is binary"),
    ):
        source = written(tmp_path / "in" / "list.parquet", rows)
        assert said in refused(source, tmp_path / "out")
    text = pa.array([b"loose.jpg", b"\xff.jpg"]).view(pa.string())  # not UTF-8
    pq.write_table(pa.table({"path": text, "identity": ["A", "A"]}), source)
    assert "cannot be read as a list" in refused(source, tmp_path / "out")
    source.write_bytes(b"PAR1 and no more")
    assert "cannot be read as a list" in refused(source, tmp_path / "out")


@pytest.mark.parametrize("name", sorted(RESERVED.difference(REQUIRED)))
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_columns_of_the_manifest_are_refused_by_name(
    tmp_path: Path, name: str, suffix: str
) -> None:
    source = written(tmp_path / f"a{suffix}", {"path": ["x"], "identity": ["A"], name: [1]})
    with pytest.raises(DatasetError, match=f"a column '{name}' of its own"):
        list(read_list(source))


@pytest.mark.parametrize(
    ("head", "said"),
    [
        ("file,identity", "lacks the column path"),
        ("", "lacks the column path and identity"),
        ("path;identity", "it has path;identity"),
        ("path,identity,x,x", "two columns 'x'"),
        ("path,identity,", "one without a name"),
    ],
)
def test_columns_that_make_no_sense_are_refused(tmp_path: Path, head: str, said: str) -> None:
    (tmp_path / "list.csv").write_text(f"{head}\n")
    with pytest.raises(DatasetError) as caught:
        list(read_list(tmp_path / "list.csv"))
    assert said in str(caught.value)


def test_values_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    folder(tmp_path, PHOTOS)
    for column, value in (("landmarks", "1 2 3"), ("landmarks", "x " * 10), ("aligned", "perhaps")):
        (tmp_path / "list.csv").write_text(f"path,identity,{column}\nloose.jpg,A,{value}\n")
        with pytest.raises(DatasetError, match=r"list\.csv, line 2"):
            list(read_list(tmp_path / "list.csv"))


def test_missing_and_unreadable_lists_are_refused(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_bytes(b"path,identity\n\xff,A\n")
    (tmp_path / "folder.csv").mkdir()
    for name in ("list.csv", "gone.csv", "gone.parquet", "folder.csv"):
        with pytest.raises(DatasetError, match=r"cannot be read as (a list|CSV)"):
            list(read_list(tmp_path / name))


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\r\0"), min_size=1, max_size=9)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(st.tuples(TEXT.filter(str.strip), TEXT), max_size=5), st.sampled_from(["csv", "tsv"])
)
def test_any_text_comes_back_from_a_list(
    tmp_path: Path, rows: list[tuple[str, str]], kind: str
) -> None:
    (tmp_path / "photo.jpg").write_bytes(picture(1))
    path = tmp_path / f"list.{kind}"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter="\t" if kind == "tsv" else ",")
        writer.writerow(["path", "identity", "note"])
        writer.writerows(["photo.jpg", *row] for row in rows)
    found = [(entry.identity, entry.columns["note"]) for entry in read_list(path)]
    assert found == rows  # blanks around a name are part of it
