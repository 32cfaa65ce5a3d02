"""Export gives back what was imported, and writes nowhere else."""

from pathlib import Path

import pandas as pd
import pytest

from facewright.datasets.exporting import export_dataset
from facewright.datasets.form import DatasetWriter, open_dataset
from facewright.datasets.importing import import_dataset
from facewright.errors import DatasetError

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
    assert files == {*PHOTOS, "pairs.tsv", "card.yaml"}
    for name, data in PHOTOS.items():
        assert (out / name).read_bytes() == data
    again = import_dataset(out, tmp_path / "2", pairs=out / "pairs.tsv")
    assert contents(again) == contents(first)
    assert first.pairs is not None
    assert again.pairs is not None
    pd.testing.assert_frame_equal(again.pairs, first.pairs)


def test_a_picture_has_the_suffix_of_what_is_stored(tmp_path: Path) -> None:
    """The origin of a crop is a JPEG, and the crop a PNG."""
    (tmp_path / "set").mkdir()
    with DatasetWriter(tmp_path / "set") as writer:
        writer.add(id="A/1", identity="A", data=b"crop", suffix=".png", origin="A/1.JPG")
        writer.add(id="A/2", identity="A", data=None, origin="A/2.JPG")
        writer.add(id="set/A/3", identity="A", data=b"other", suffix="", origin=None)
        keys = ("name", "kind", "source", "source_digest", "licence", "consent")
        writer.finish(dict.fromkeys(keys, "-"))
    assert export_dataset(tmp_path / "set", tmp_path / "out") == 2
    files = {path.name for path in (tmp_path / "out" / "A").iterdir()}
    assert files == {"1.png", "set_A_3"}


@pytest.mark.parametrize(
    ("identity", "id"),
    [
        ("../A", "../A/1"),
        ("/tmp/A", "/tmp/A/1"),
        ("..", "../1"),
        (".", "./1"),
        ("", "/1"),
        ("A", "A/"),
        ("A\\B", "A\\B/1"),
        ("A\0B", "A\0B/1"),
        ("C:", "C:/1"),
        ("A" * 300, "A" * 300 + "/1"),
    ],
)
def test_nothing_is_written_outside(tmp_path: Path, identity: str, id: str) -> None:
    made = dataset(tmp_path / "in" / "set", people("A"))
    manifest = made.manifest
    # As the shard has it, so that nothing but the name is wrong.
    data = (made.root / "shards/00000.tar").read_bytes()
    manifest.loc[0, ["id", "identity"]] = [id, identity]
    manifest.to_parquet(made.root / "manifest.parquet", index=False)
    name = f"{id}.jpg".encode()
    if len(name) < 100 and b"\0" not in name:
        header = bytearray(data[:512])
        header[:100] = name.ljust(100, b"\0")
        header[148:156] = b" " * 8
        header[148:156] = b"%06o\0 " % sum(header)
        (made.root / "shards/00000.tar").write_bytes(header + data[512:])
    before = set(tmp_path.rglob("*"))
    with pytest.raises(DatasetError) as caught:
        export_dataset(made.root, tmp_path / "deep" / "out")
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
