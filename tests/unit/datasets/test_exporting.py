"""Export gives back what was imported, and writes nowhere else."""

import hashlib
import io
import tarfile
from dataclasses import asdict
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from facewright.datasets.card import DatasetCard
from facewright.datasets.exporting import export_dataset
from facewright.datasets.form import DatasetWriter, open_dataset
from facewright.datasets.importing import import_dataset
from facewright.errors import DatasetError
from facewright.files import write_yaml

from .making import contents, dataset, people, picture
from .test_importing import PHOTOS, archive, folder

PAIRS = """fold\tlabel\tpath\tpath
0\t1\tx/Zoë_Ω 7/a.jpg\tx/Zoë_Ω 7/b.jpg
3\t0\t陳/写真.jpg\tZoë_Ω 7/a.jpg
"""


@pytest.mark.parametrize("kind", ["folder", "a.tar", "a.tgz", "a.zip"])
def test_import_and_export_are_each_other_s_inverse(tmp_path: Path, kind: str) -> None:
    source = folder(tmp_path / "in") if kind == "folder" else archive(tmp_path / kind, top="faces/")
    (tmp_path / "pairs.txt").write_text(PAIRS, encoding="utf-8")
    first = import_dataset(source, tmp_path / "1", pairs=tmp_path / "pairs.txt")
    out = tmp_path / "out"
    assert export_dataset(first.root, out) == len(PHOTOS)
    files = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert files == {*PHOTOS, "pairs.tsv", "card.yaml", "list.parquet"}
    for name, data in PHOTOS.items():
        assert (out / name).read_bytes() == data
    for number, exported in enumerate((out, out / "list.parquet"), start=2):
        again = import_dataset(exported, tmp_path / str(number), pairs=out / "pairs.tsv")
        assert contents(again) == contents(first)
        assert first.pairs is not None
        assert again.pairs is not None
        pd.testing.assert_frame_equal(again.pairs, first.pairs)


def test_the_list_brings_back_every_column_of_the_source(tmp_path: Path) -> None:
    more: dict[str, dict[str, object]] = {
        "A/0": {"person": "Ada", "landmarks": [k + 0.5 for k in range(10)], "age": 2**53 + 1},
        "A/2": {"aligned": True, "source": "film, “1”", "path": "of the source"},
        "B/1": {"aligned": False, "weight": 0.1, "path": "another"},
    }
    first = dataset(tmp_path / "1", people("A B"), columns=more)
    export_dataset(first.root, tmp_path / "out")
    again = import_dataset(tmp_path / "out" / "list.parquet", tmp_path / "2")
    assert contents(again) == contents(first)
    brought = ["id", "person", "landmarks", "age", "aligned", "source", "weight"]
    before, after = (
        pq.read_table(found.root / "manifest.parquet", columns=brought).to_pydict()
        for found in (first, again)
    )
    assert after == before


def test_crops_are_listed_without_the_landmarks_of_their_photos(tmp_path: Path) -> None:
    more = {"landmarks": [9.0] * 10, "photo_sha256": "0" * 64, "status": "ok", "person": "Ada"}
    made = dataset(tmp_path / "set", people("A", photos=1), columns={"A/0": more})
    export_dataset(made.root, tmp_path / "out")
    listed = pq.read_table(tmp_path / "out" / "list.parquet")
    assert listed.to_pylist() == [{"path": "A/0.jpg", "identity": "A", "person": "Ada"}]


def origin(name: str | None) -> dict[str, str | None]:
    return {"origin": name}


def test_a_picture_has_the_suffix_of_what_is_stored(tmp_path: Path) -> None:
    """The origin of a crop is a JPEG, and the crop a PNG."""
    (tmp_path / "set").mkdir()
    with DatasetWriter(tmp_path / "set") as writer:
        writer.add(id="A/1", identity="A", data=b"crop", suffix=".png", columns=origin("A/1.JPG"))
        writer.add(id="A/2", identity="A", data=None, columns=origin("A/2.JPG"))
        writer.add(id="set/A/3", identity="A", data=b"other", columns=origin(None))
        keys = ("name", "kind", "source", "source_digest", "licence", "consent")
        writer.finish(dict.fromkeys(keys, "-"))
    assert export_dataset(tmp_path / "set", tmp_path / "out") == 2
    files = {path.name for path in (tmp_path / "out" / "A").iterdir()}
    assert files == {"1.png", "set_A_3"}


@pytest.mark.parametrize(
    ("identity", "id", "said"),
    [
        ("../A", "../A/1", "leads outside"),
        ("/tmp/A", "/tmp/A/1", "leads outside"),
        ("..", "../1", "leads outside"),
        (".", "./1", "'./1' of '.' cannot be a file"),
        ("", "/1", "leads outside|'/1' of '' cannot be a file"),
        ("A", "A/", "'A/' of 'A' cannot be a file"),
        ("A\\B", "A\\B/1", "has a backslash"),
        ("A\0B", "A\0B/1", "or a zero in its path"),
        ("C:", "C:/1", "a drive's letter"),
        ("A" * 300, "A" * 300 + "/1", "is too long to be the name of a file"),
    ],
)
def test_nothing_is_written_outside(tmp_path: Path, identity: str, id: str, said: str) -> None:
    # As a shard may have it, so that nothing but the name is wrong.
    root = tmp_path / "in" / "set"
    (root / "shards").mkdir(parents=True)
    with tarfile.open(root / "shards/00000.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        member = tarfile.TarInfo("x.jpg" if "\0" in id else f"{id}.jpg")
        if "\0" in id:
            member.pax_headers["path"] = f"{id}.jpg"
        member.size = 3
        tar.addfile(member, io.BytesIO(b"jpg"))
        offset = tar.offset - tarfile.BLOCKSIZE
    row = {"id": id, "identity": identity, "shard": "shards/00000.tar", "offset": offset}
    row |= {"length": 3, "sha256": hashlib.sha256(b"jpg").hexdigest()}
    pd.DataFrame([row]).to_parquet(root / "manifest.parquet", index=False)
    write_yaml(root / "dataset.yaml", asdict(DatasetCard(*"nksdlc")))
    before = set(tmp_path.rglob("*"))
    with pytest.raises(DatasetError, match=said) as caught:
        export_dataset(root, tmp_path / "deep" / "out")
    assert set(tmp_path.rglob("*")) - before <= {tmp_path / "deep"}
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_there_stays(tmp_path: Path) -> None:
    made = dataset(tmp_path / "set", people("A"))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("years")
    for output in (tmp_path / "out", made.root / "out"):
        with pytest.raises(DatasetError):
            export_dataset(made.root, output)
    assert (tmp_path / "out" / "thesis.txt").read_text() == "years"


def test_damage_is_not_exported(tmp_path: Path) -> None:
    made = dataset(tmp_path / "set", people("A"))
    shard = made.root / "shards" / "00000.tar"
    data = bytearray(shard.read_bytes())
    data[600] ^= 0xFF
    shard.write_bytes(data)
    with pytest.raises(DatasetError, match="'A/0' is not the image that the manifest says"):
        export_dataset(made.root, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_pairs_that_fit_into_no_line_are_refused(tmp_path: Path) -> None:
    pairs = [(0, 1, "A\tB/0", "A\tB/1")]
    photos = {"A\tB/0.jpg": picture(0), "A\tB/1.jpg": picture(1)}
    made = dataset(tmp_path / "set", photos, pairs=pairs)
    with pytest.raises(DatasetError, match="fits into no line"):
        export_dataset(made.root, tmp_path / "out")
    assert open_dataset(made.root).pairs is not None
