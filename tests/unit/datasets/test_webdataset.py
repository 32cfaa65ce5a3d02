"""WebDataset shards: identities beside the photos or in their folders, one sample at a time."""

import io
import json
import tarfile
import tracemalloc
from pathlib import Path

import pytest

from facewright.datasets.importing import import_dataset
from facewright.datasets.readers import Entry
from facewright.datasets.readers.webdataset import _plain, read_samples, read_shards
from facewright.datasets.tars import member_name
from facewright.errors import DatasetError

from .making import PHOTOS, archive, contents, dataset, folder, people, picture, refused


def shard(path: Path, *members: tuple[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as packed:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            packed.addfile(member, io.BytesIO(data))
    return path


def test_identities_beside_the_photos(tmp_path: Path) -> None:
    points = [float(k) for k in range(10)]
    said = {"identity": "Ann Lee", "person": "Ann", "landmarks": points, "source": "film", "x": [1]}
    source = shard(
        tmp_path / "set.tar",
        ("000.cls", b"17\n"),
        ("000.jpg", picture(0)),
        ("001.jpg", picture(1)),
        ("001.json", json.dumps(said).encode()),
        ("001.txt", b"a caption"),
        ("002.jpg", picture(2)),
        ("002.json", b'{"label": 3}'),
        ("003.cls", b"Bo"),
        ("003.json", b'{"cls": 4, "source": "site"}'),
        ("003.png", picture(3)),
    )
    manifest = import_dataset(source, tmp_path / "out").manifest
    assert manifest["id"].tolist() == ["17/000", "Ann Lee/001", "3/002", "Bo/003"]
    assert manifest["identity"].tolist() == ["17", "Ann Lee", "3", "Bo"]
    assert manifest["origin"].tolist() == ["000.jpg", "001.jpg", "002.jpg", "003.png"]
    assert manifest["source"].fillna("").tolist() == ["", "film", "", "site"]
    assert manifest["person"].fillna("").tolist() == ["", "Ann", "", ""]
    assert list(manifest["landmarks"][1]) == points
    assert "x" not in manifest


def test_a_folder_of_shards_may_use_a_key_twice(tmp_path: Path) -> None:
    for k in (0, 1):
        shard(tmp_path / "in" / f"s-{k}.tar", ("00.jpg", picture(k)), ("00.cls", b"7"))
    (tmp_path / "in" / "sizes.json").write_text("{}")
    manifest = import_dataset(tmp_path / "in", tmp_path / "out").manifest
    assert manifest["id"].tolist() == ["7/s-0-00", "7/s-1-00"]
    assert manifest["origin"].tolist() == ["s-0/00.jpg", "s-1/00.jpg"]


def test_shards_of_a_dataset_give_the_same_dataset(tmp_path: Path) -> None:
    photos = PHOTOS | {"A/50%.jpg": picture(1), "A/100%2E.x.jpg": picture(2)}
    first = import_dataset(folder(tmp_path / "in", photos), tmp_path / "first")
    again = import_dataset(tmp_path / "first" / "shards", tmp_path / "again")
    columns = ["id", "identity", "sha256", "width", "height", "shard", "offset"]
    assert again.manifest[columns].equals(first.manifest[columns])
    assert contents(again) == contents(first)
    line = refused(tmp_path / "first", tmp_path / "out")
    assert f"is a dataset already: use it as it is, or import its folder {first.root}" in line


@pytest.mark.parametrize("stem", ["J.R._1", "50%", "%2E", "%252E", "%", "a b"])
def test_names_in_shards_are_undone(stem: str) -> None:
    assert _plain(member_name(f"a.b%/{stem}", ".jpg")) == f"a.b%/{stem}.jpg"


def test_photos_with_dots_in_their_names_are_samples_of_their_own(tmp_path: Path) -> None:
    source = shard(tmp_path / "a.tar", ("A/J.R._1.jpg", picture(1)), ("A/J.R._2.jpg", picture(2)))
    manifest = import_dataset(source, tmp_path / "out").manifest
    assert manifest["id"].tolist() == ["A/J.R._1", "A/J.R._2"]


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("0.json", b"{", "'0.json' is no JSON"),
        ("0.json", b"[" * 100_000, "'0.json' is no JSON"),
        ("0.json", b'{"identity": [1]}', "neither a name nor a number"),
        ("0.json", b'{"label": 1, "landmarks": [1, 2]}', "ten numbers"),
        ("0.cls", b"\xff\xfe", "'0.cls' is no text"),
        ("0.cls", b"../x", "can be no identity"),
        ("0.cls", b"a\tb", "can be no identity"),
        ("0.cls", b"", "can be no identity"),
        ("0.cls", b"..", "can be no identity"),
        ("0.json", b"{}", "lies in no identity's folder"),
        ("0.txt", b"7", "lies in no identity's folder"),
    ],
)
def test_what_stands_beside_a_photo_must_make_sense(
    tmp_path: Path, name: str, data: bytes, said: str
) -> None:
    source = shard(tmp_path / "a.tar", ("0.jpg", picture(1)), (name, data))
    assert said in refused(source, tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "data"),
    [("A/0.json", b"{"), ("A/0.cls", b"\xff\xfe"), ("A/0.json", b" " * 2**20 + b"{}")],
)
def test_in_a_folder_of_identities_what_cannot_be_read_is_left_out_aloud(
    tmp_path: Path, name: str, data: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    """As it is from a folder on disk."""
    files = {"A/0.jpg": picture(1), name: data, "A/1.jpg": picture(2)}
    packed = import_dataset(shard(tmp_path / "a.tar", *files.items()), tmp_path / "out").manifest
    said = capsys.readouterr().err
    assert f"1 files that are no images left out, first {name}" in said
    plain = import_dataset(folder(tmp_path / "a", files), tmp_path / "out").manifest
    assert packed[["id", "identity", "sha256"]].equals(plain[["id", "identity", "sha256"]])


def test_what_stands_beside_a_photo_has_a_largest_size() -> None:
    entry = Entry("0.json", 10**9, bytes)
    with pytest.raises(DatasetError, match="claims 1000 MB"):
        list(read_samples([entry], source="a.tar"))


def test_one_sample_is_held_at_a_time(tmp_path: Path) -> None:
    size = 1 << 20
    members = [(f"A/same.{k}.jpg", bytes(size)) for k in range(20)]
    source = shard(tmp_path / "a.tar", *members, ("A/same.0.cls", b"7"))
    tracemalloc.start()
    try:
        assert (
            sum(len(entry.read()) for entry in read_shards([source], source="a")) == 20 * size + 1
        )
        assert tracemalloc.get_traced_memory()[1] < 6 * size
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("suffix", [".tar", ".tgz"])
def test_identities_may_go_on_in_the_next_shard(tmp_path: Path, suffix: str) -> None:
    (tmp_path / "in").mkdir()
    for k in range(3):
        photos = {f"top/Ada/{k}.jpg": picture(k), f"top/Bo/{k}.jpg": picture(k + 3)}
        archive(tmp_path / "in" / f"s{k}{suffix}", photos)
    manifest = import_dataset(tmp_path / "in", tmp_path / "out").manifest
    assert manifest["id"].tolist() == [f"{name}/{k}" for k in range(3) for name in ("Ada", "Bo")]
    assert manifest["origin"][3] == "s1/top/Bo/1.jpg"
    archive(tmp_path / "in" / f"s3{suffix}", {"Cy/1.jpg": picture(9)})
    assert "/Cy/1.jpg' does not lie like 's0" in refused(tmp_path / "in", tmp_path / "none")


def test_many_shards_of_a_dataset_give_its_ids_and_bytes(tmp_path: Path) -> None:
    first = dataset(tmp_path / "first", people("Ada Bo J.R. Zoë", photos=9), shard_bytes=4000)
    assert first.manifest["shard"].nunique() > 3
    again = import_dataset(first.root / "shards", tmp_path / "again")
    assert again.manifest["id"].tolist() == first.manifest["id"].tolist()
    assert contents(again) == contents(first)
    ids = tmp_path / "ids"
    ids.write_text("Bo/3\nJ.R./8\n")
    some = import_dataset(first.root / "shards", tmp_path / "some", images=ids)
    assert some.manifest["id"].tolist() == ["Bo/3", "J.R./8"]


def test_labels_in_json_do_not_outvote_folders(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = shard(
        tmp_path / "a.tar",
        ("Ada/0.jpg", picture(0)),
        ("Ada/0.json", b'{"label": 1, "source": "film"}'),
        ("Ada/1.jpg", picture(1)),
        ("Ada/1.json", b'{"cls": 7}'),
        ("Ada/2.jpg", picture(2)),
        ("Ada/2.json", b'{"identity": "Bo", "label": 1}'),
        ("Ada/3.cls", b"Cy"),
        ("Ada/3.jpg", picture(3)),
        ("Ada/3.json", b'{"label": 1}'),
        ("Ada/4.jpg", picture(4)),
        ("Ada/4.json", b'{"identity": "Ada"}'),
    )
    manifest = import_dataset(source, tmp_path / "out").manifest
    assert manifest["id"].tolist() == ["Ada/0", "Ada/1", "Bo/Ada-2", "Cy/Ada-3", "Ada/4"]
    assert manifest["source"].fillna("").tolist() == ["film", "", "", "", ""]
    said = capsys.readouterr().err
    assert "2 labels in JSON are not taken, first that of 'Ada/0.jpg'" in said
    assert "2 images have another identity than their folder" in said
    assert "first Ada/2.jpg" in said
