"""Which reader a source gets is told by looking at it; files it cannot be are refused by name."""

import pickle
from pathlib import Path

import pytest

from benchmarks.fuzz_readers import record_set
from facewright import cli
from facewright.datasets.form import open_dataset
from facewright.datasets.importing import import_dataset

from .making import contents, picture
from .test_importing import archive, folder, jpeg, refused
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
