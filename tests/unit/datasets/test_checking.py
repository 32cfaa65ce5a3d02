"""Show counts what is there; verify finds every byte, name and row that is not as it should be."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from facewright.datasets.checking import show_datasets, verify_datasets
from facewright.errors import DatasetError

from .making import dataset, people, picture

PNG = b"\x89PNG\r\n\x1a\n and no picture"
PHOTOS = people("Ada Bo Cleo Dan") | {"Ada/J.R._9.JPG": picture(9), "Bo/x.png": PNG}
PAIRS = [(0, 1, "Ada/0", "Ada/1"), (1, 0, "Ada/0", "Bo/1"), (1, 0, "Cleo/0", "Bo/1")]


@pytest.fixture
def made(tmp_path: Path) -> Path:
    return dataset(tmp_path / "data" / "verify" / "set", PHOTOS, pairs=PAIRS).root


def told(text: str) -> dict[str, str]:
    return {line[:18].rstrip(): line[18:].lstrip() for line in text.splitlines()}


def test_show_counts(made: Path) -> None:
    lines = told(show_datasets(made))
    assert lines["images"] == "14"
    assert lines["identities"] == "4"
    assert lines["per identity"] == "3 to 4, median 3.5"
    assert lines["formats"] == "JPEG 13, PNG 1"
    assert lines["width"] == "16 to 16 px, median 16"
    assert lines["pairs"] == "3 in 2 folds, 1 genuine and 2 impostor"
    shards = list((made / "shards").iterdir())
    size = sum(shard.stat().st_size for shard in shards) / 1e6
    assert lines["shards"] == f"{len(shards)}, {size:.1f} MB"
    assert len(shards) > 1


def test_show_lists_a_folder_of_datasets(made: Path, tmp_path: Path) -> None:
    dataset(tmp_path / "data" / "train" / "own", people("Eve Fay"))
    shutil.copytree(made, tmp_path / "data" / "train" / ".own.partial")
    lines = [line.split() for line in show_datasets(tmp_path / "data").splitlines()]
    assert [line[:4] for line in lines[1:]] == [
        ["train/own", "identities", "6", "2"],
        ["verify/set", "verification", "14", "4"],
    ]
    with pytest.raises(DatasetError, match="no dataset in"):
        show_datasets(tmp_path / "elsewhere")


def test_a_whole_dataset_has_no_faults(made: Path, tmp_path: Path) -> None:
    dataset(tmp_path / "data" / "train" / "own", {"Zoë_Ω 7/" + "é" * 120 + ".jpg": picture(1)})
    assert verify_datasets(made) == []
    assert verify_datasets(tmp_path / "data") == []


def test_processes_find_the_same(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flip(made, 40, row=0)
    flip(made, 40, row=9)
    alone = verify_datasets(made)
    monkeypatch.setattr("facewright.datasets.checking.ALONE", 0)
    assert verify_datasets(made) == alone
    assert len(alone) == 2


def flip(made: Path, offset: int, *, row: int = 5) -> None:
    """Change the byte `offset` bytes from the start of a picture."""
    rows = pd.read_parquet(made / "manifest.parquet").iloc[row]
    shard = made / rows["shard"]
    data = bytearray(shard.read_bytes())
    data[rows["offset"] + offset] ^= 0xFF
    shard.write_bytes(data)


def table(made: Path, change: Callable[[pd.DataFrame], pd.DataFrame], name: str) -> None:
    change(pd.read_parquet(made / name)).to_parquet(made / name, index=False)


def rows(made: Path, **values: object) -> None:
    """Change values of the manifest's sixth row."""

    def change(manifest: pd.DataFrame) -> pd.DataFrame:
        for name, value in values.items():
            manifest.loc[5, name] = value
        return manifest

    table(made, change, "manifest.parquet")


def append(made: Path) -> None:
    with (made / "shards" / "00000.tar").open("ab") as file:
        file.write(b"x")


def shorten(made: Path) -> None:
    shard = made / "shards" / "00001.tar"
    shard.write_bytes(shard.read_bytes()[:1300])


def owner(made: Path) -> None:
    """A name in the owner's field of a header, with the sum that belongs to it."""
    row = pd.read_parquet(made / "manifest.parquet").iloc[5]
    shard = made / row["shard"]
    data = bytearray(shard.read_bytes())
    header = data[row["offset"] - 512 : row["offset"]]
    header[265:270] = b"Louis"
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    data[row["offset"] - 512 : row["offset"]] = header
    shard.write_bytes(data)


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "a picture's byte": (lambda made: flip(made, 40), "'Bo/2' has not the digest of its row"),
    "a member's header": (lambda made: flip(made, -512), "not where its row|no shard that can be"),
    "another id": (lambda m: rows(m, id="Bo/7"), "'Bo/7' lies in a shard as 'Bo/2.jpg'"),
    "words in a header": (owner, "the header of 'Bo/2' is not as import writes it"),
    "bytes in the padding": (lambda made: flip(made, -513), "there are bytes behind 'Bo/1'"),
    "bytes behind the end": (append, "more than its images"),
    "a shard cut short": (shorten, "cut short|not where its row says|no shard that can be read"),
    "a shard is gone": (lambda m: (m / "shards/00001.tar").unlink(), "cannot be read"),
    "one more shard": (
        lambda m: shutil.copy(m / "shards/00000.tar", m / "shards/00009.tar"),
        r"shards/00009.tar is in no row",
    ),
    "a row less": (
        lambda m: table(m, lambda t: t.drop(index=5), "manifest.parquet"),
        "'Bo/2.jpg' is in no row of the manifest",
    ),
    "another person": (lambda m: rows(m, identity="Eve"), "the id 'Bo/2' is not one of 'Eve'"),
    "another length": (lambda m: rows(m, length=9), "bytes, and 9 in its row"),
    "another offset": (lambda m: rows(m, offset=99), "'Bo/2' is not where its row says"),
    "two rows at one place": (lambda m: rows(m, offset=512), "have another row's offset|not where"),
    "an id twice": (lambda m: rows(m, id="Bo/1"), "two rows have the id 'Bo/1'"),
    "a shard outside": (lambda m: rows(m, shard="../x.tar"), r"names a shard '../x.tar'"),
    "bytes without a shard": (lambda m: rows(m, shard=""), "'Bo/2' has bytes and no shard"),
    "an unknown pair": (
        lambda m: table(m, lambda t: t.replace("Cleo/0", "Cleo/7"), "pairs.parquet"),
        "a pair names 'Cleo/7'",
    ),
    "no pairs": (lambda m: (m / "pairs.parquet").unlink(), "without pairs"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_verify_finds(made: Path, kind: str) -> None:
    harm, said = DAMAGE[kind]
    harm(made)
    faults = verify_datasets(made)
    assert pd.Series(faults).str.contains(said).any(), faults
    assert all("\n" not in fault for fault in faults)


@pytest.mark.parametrize("column", ["sha256", "origin"])
def test_text_that_is_none_is_told(made: Path, column: str) -> None:
    """A flipped bit in a manifest: Parquet gives such bytes out as text."""
    manifest = pq.read_table(made / "manifest.parquet")
    values = [value.encode() for value in manifest[column].to_pylist()]
    values[3] = b"\xff" + values[3][1:]
    damaged = pa.array(values, pa.binary()).view(pa.string())
    place = manifest.column_names.index(column)
    pq.write_table(manifest.set_column(place, column, damaged), made / "manifest.parquet")
    with pytest.raises(DatasetError, match=f"column '{column}' is damaged .*import or pull"):
        verify_datasets(made)
