"""Which reader a source gets is told by looking at it; files it cannot be are refused by name."""

import pickle
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.fuzz_files import record_set
from facewright import cli
from facewright.datasets.exporting import export_dataset
from facewright.datasets.form import open_dataset
from facewright.datasets.importing import import_dataset

from .making import archive, contents, folder, jpeg, picture, refused
from .test_insightface import written

PEOPLE = [[jpeg(1), jpeg(2)], [jpeg(3)], [jpeg(4), jpeg(5), jpeg(6)]]


def test_a_folder_with_records_is_insightfaces(tmp_path: Path) -> None:
    source = written(tmp_path / "faces_emore", record_set(PEOPLE))
    (source / "lfw.bin").write_bytes(b"another set")
    (tmp_path / "names").write_text("0000002 Ann_Lee\n")
    dataset = import_dataset(source, tmp_path / "out", names=tmp_path / "names")
    assert list(contents(dataset).values()) == [image for person in PEOPLE for image in person]
    assert dataset.manifest["identity"].tolist() == ["0000000"] * 2 + ["0000001"] + ["0000002"] * 3
    assert dataset.manifest["person"].fillna("").tolist() == [""] * 3 + ["Ann_Lee"] * 3
    again = import_dataset(source / "train.rec", tmp_path / "again")
    assert again.manifest["id"].tolist() == dataset.manifest["id"].tolist()


def test_a_bin_brings_its_pairs_whatever_they_say(tmp_path: Path) -> None:
    # The second pair is called genuine and the third, of the same photos, impostor.
    images = [picture(1), picture(2), picture(2), picture(3), picture(1), picture(3)]
    source = tmp_path / "test.bin"
    source.write_bytes(pickle.dumps((images, [True, True, False]), protocol=2))
    dataset = import_dataset(source, tmp_path / "out")
    assert dataset.card.kind == "verification"
    assert dataset.pairs is not None
    assert dataset.pairs["label"].tolist() == [1, 1, 0]
    assert len(dataset.manifest) == 3
    assert dataset.manifest["identity"].nunique() == 1


def test_a_folder_with_folders_beside_tars_is_none_of_shards(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = folder(tmp_path / "in", {"A/1.jpg": jpeg(1)})
    archive(source / "more.tar")
    assert import_dataset(source, tmp_path / "out").manifest["id"].tolist() == ["A/1"]
    assert "first more.tar" in capsys.readouterr().err


def test_the_command_takes_the_files_beside_a_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    folder(tmp_path / "in", {"007/1.jpg": jpeg(1), "007/2.jpg": jpeg(2), "008/1.jpg": jpeg(3)})
    Path("images").write_text("007/1.jpg\n008/1.jpg\n")
    Path("names").write_text("007 Bo\n")
    Path("points").write_text("008/1.jpg\t" + "\t".join("0123456789") + "\n")
    files = ["--images", "images", "--names", "names", "--landmarks", "points"]
    assert cli.main(["dataset", "import", "in", "data/train/set", *files]) == 0
    assert "2 images of 2 identities" in capsys.readouterr().out
    manifest = open_dataset(Path("data/train/set")).manifest
    assert manifest["id"].tolist() == ["007/1", "008/1"]
    assert manifest["person"].fillna("").tolist() == ["Bo", ""]
    assert [p is None for p in manifest["landmarks"]] == [True, False]
    assert cli.main(["dataset", "import", "in", "data/train/set", "--images", "gone"]) == 2
    assert "gone cannot be read as text" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["a.csv", "a.parquet", "a.tar", "a.zip", "a.bin", "a.rec", "a"])
def test_empty_files_are_refused_whatever_their_name(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"")
    assert name in refused(tmp_path / name, tmp_path / "out")


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    assert "does not exist" in refused(tmp_path / "gone.bin", tmp_path / "out")
    (tmp_path / "loop.tar").symlink_to("loop.tar")
    assert "does not exist" in refused(tmp_path / "loop.tar", tmp_path / "out")


@pytest.mark.parametrize("name", ["007/frontal-01", "frontal/01.jpg", "top/007/frontal/01.jpg"])
def test_a_list_may_name_photos_by_id_folder_or_path(tmp_path: Path, name: str) -> None:
    photos = {
        "other/x.jpg": jpeg(0),  # where no identity can be told; nobody asks for it
        "top/007/frontal/01.jpg": jpeg(1),
        "top/007/profile/01.jpg": jpeg(2),
    }
    source = archive(tmp_path / "a.tar", photos)
    (tmp_path / "images").write_text(f"{name}\n")
    (tmp_path / "points").write_text(f"{name}\t" + "\t".join("0123456789") + "\n")
    files = {"images": tmp_path / "images", "landmarks": tmp_path / "points"}
    manifest = import_dataset(source, tmp_path / "out", **files).manifest
    assert manifest["id"].tolist() == ["007/frontal-01"]
    assert list(manifest["landmarks"][0]) == list(range(10))


def test_a_list_may_name_photos_by_what_stands_beside_them(tmp_path: Path) -> None:
    archive(tmp_path / "a.tar", {"0.jpg": jpeg(0), "0.cls": b"Bo", "1.jpg": jpeg(1), "1.cls": b"C"})
    (tmp_path / "images").write_text("C/1\n")
    files = {"images": tmp_path / "images"}
    manifest = import_dataset(tmp_path / "a.tar", tmp_path / "out", **files).manifest
    assert manifest["id"].tolist() == ["C/1"]


@pytest.mark.parametrize("option", ["people", "images"])
def test_lists_that_leave_out_photos_of_the_pairs_are_told(tmp_path: Path, option: str) -> None:
    source = tmp_path / "test.bin"
    images = [picture(k) for k in (1, 2, 3, 4)]
    source.write_bytes(pickle.dumps((images, [True, False]), protocol=2))
    (tmp_path / "list").write_text("000000\n000000/000000\n")
    line = refused(source, tmp_path / "out", **{option: tmp_path / "list"})
    assert "test.bin: the pairs name" in line
    assert "--people and --images leave out what they do not name" in line


META = "Class_ID, Name, Sample_Num, Flag, Gender\n007, Bo,1,0, m\nn000007, Bo,1,0, m\n"
POINTS = 'NAME_ID,P1X\n"{}/1",' + ",".join("0123456789") + "\n"


@pytest.mark.parametrize(("name", "identity", "taken"), [
    ("mine", "007", False), ("mine", "n000007", True), ("VGGFace2-mine", "007", True),
    ("mine", "xn000007", False),
])  # fmt: skip
def test_vggfaces2_files_are_not_looked_for_elsewhere(
    tmp_path: Path, name: str, identity: str, taken: bool
) -> None:
    source = folder(tmp_path / name, {"notes.txt": b"", f"{identity}/1.jpg": jpeg(1)})
    (tmp_path / "identity_meta.csv").write_text(META)
    (tmp_path / "bb_landmark").mkdir()
    (tmp_path / "bb_landmark" / "loose_landmark_train.csv").write_text(POINTS.format(identity))
    manifest = import_dataset(source, tmp_path / "data" / "out").manifest
    assert ("person" in manifest, "landmarks" in manifest) == (taken, taken)


def test_found_files_do_not_override_what_a_row_states(tmp_path: Path) -> None:
    folder(tmp_path, {"1.jpg": jpeg(1), "2.jpg": jpeg(2)})
    own = " ".join("9876543210")
    rows = f"1.jpg,n000007,Ada,{own}\n2.jpg,n000007,,\n"
    (tmp_path / "list.csv").write_text(f"path,identity,person,landmarks\n{rows}")
    (tmp_path / "identity_meta.csv").write_text(META)
    (tmp_path / "bb_landmark").mkdir()
    (tmp_path / "bb_landmark" / "loose_landmark_test.csv").write_text(POINTS.format("n000007"))
    manifest = import_dataset(tmp_path / "list.csv", tmp_path / "out").manifest
    assert manifest["person"].tolist() == ["Ada", "Bo"]
    assert manifest["gender"].tolist() == ["m", "m"]
    assert list(manifest["landmarks"][0]) == [9.0 - k for k in range(10)]
    (tmp_path / "names").write_text("n000007 Cy\n")
    asked = import_dataset(tmp_path / "list.csv", tmp_path / "out", names=tmp_path / "names")
    assert asked.manifest["person"].tolist() == ["Cy", "Cy"]


def test_archives_in_place_of_photos_are_told(tmp_path: Path) -> None:
    source = folder(tmp_path / "in", {"parts/readme": b""})
    archive(source / "parts" / "a.tar")
    line = refused(source, tmp_path / "out")
    assert "in holds no image, and 1 files such as parts/a.tar: name one of them" in line


def records(folder: Path) -> tuple[Path, list[bytes]]:
    written(folder, record_set(PEOPLE))
    return folder, [image for person in PEOPLE for image in person]


def pickled(folder: Path) -> tuple[Path, list[bytes]]:
    images = [picture(k) for k in (1, 2, 3, 4)]
    (folder / "a.bin").write_bytes(pickle.dumps((images, [True, False]), protocol=2))
    return folder / "a.bin", images


def listed(folder: Path) -> tuple[Path, list[bytes]]:
    photos = {f"{k}.jpg": picture(k) for k in range(3)}
    for name, data in photos.items():
        (folder / name).write_bytes(data)
    (folder / "a.csv").write_text("path,identity\n0.jpg,A\n1.jpg,J.R.\n2.jpg,A\n")
    return folder / "a.csv", list(photos.values())


def sampled(folder: Path) -> tuple[Path, list[bytes]]:
    for k in range(2):
        archive(folder / f"{k}.tar", {"x.cls": b"J.R.", "x.jpg": picture(k), f"B/{k}.PNG": jpeg(k)})
    return folder, [picture(0), jpeg(0), picture(1), jpeg(1)]


@pytest.mark.parametrize("source", [records, pickled, listed, sampled])
def test_export_gives_the_bytes_of_the_source(
    tmp_path: Path, source: Callable[[Path], tuple[Path, list[bytes]]]
) -> None:
    (tmp_path / "in").mkdir()
    path, images = source(tmp_path / "in")
    made = import_dataset(path, tmp_path / "made")
    assert sorted(contents(made).values()) == sorted(images)
    assert export_dataset(made.root, tmp_path / "back") == len(images)
    files = {path for path in (tmp_path / "back").rglob("*") if path.suffix in (".jpg", ".PNG")}
    assert sorted(path.read_bytes() for path in files) == sorted(images)
    pairs = tmp_path / "back" / "pairs.tsv"
    again = import_dataset(
        tmp_path / "back", tmp_path / "again", pairs=pairs if pairs.exists() else None
    )
    assert contents(again) == contents(made)
    assert (again.pairs is None) == (made.pairs is None)
    if again.pairs is not None and made.pairs is not None:
        assert again.pairs.equals(made.pairs)
