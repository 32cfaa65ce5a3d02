"""`facewright dataset …` on datasets that are there: what is printed, and what is refused."""

from pathlib import Path

import pytest

from facewright import cli
from facewright.datasets.form import open_dataset

from .datasets.making import dataset, people


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    dataset(tmp_path / "data" / "train" / "web", people("Ada Bo Cy"))
    return tmp_path


def test_each_action_does_what_it_says(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset(folder / "more", people("Dan"))
    for arguments, said in (
        (["show", "data/train/web"], "identities          3"),
        (["show", "data"], "train/web"),
        (["verify", "data"], "data: every byte is as the manifest says"),
        (["export", "data/train/web", "out"], "out: 9 images"),
        (["merge", "all", "data/train/web", "more"], "all: 12 images of 4 identities"),
        (["subset", "all", "few", "--identities", "2"], "few: 6 images of 2 identities"),
        (["erase", "--identity", "BO"], "nothing was changed: add --yes"),
        (["erase", "--identity", "bo", "--yes"], "receipt: docs/erasures/"),
    ):
        assert cli.main(["dataset", *arguments]) == 0
        assert said in capsys.readouterr().out
    assert set(open_dataset(folder / "data/train/web").manifest["identity"]) == {"Ada", "Cy"}


@pytest.mark.parametrize("output", [".", "", "..", "data/train/web/dataset.yaml/x", "A" * 300])
def test_an_output_that_cannot_be_is_one_line(
    folder: Path, output: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(folder.rglob("*"))
    dataset(folder.parent / f"{folder.name}-more", people("Dan"))
    more = f"../{folder.name}-more"
    for arguments in (
        ["export", "data/train/web", output],
        ["merge", output, "data/train/web", more],
        ["subset", "data/train/web", output, "--identities", "1"],
        ["import", "sample:verify", output],
    ):
        assert cli.main(["dataset", *arguments]) == 2, arguments
        lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("face")]
        assert len(lines) == 1, arguments
    assert sorted(folder.rglob("*")) == before


def test_an_export_comes_back_by_its_list(folder: Path) -> None:
    web = open_dataset(folder / "data/train/web").manifest
    for arguments in (
        ["export", "data/train/web", "out"],
        ["import", "out/list.parquet", "again"],
    ):
        assert cli.main(["dataset", *arguments]) == 0
    again = open_dataset(folder / "again").manifest
    assert again[["id", "sha256"]].equals(web[["id", "sha256"]])


def test_faults_end_with_their_number(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for shard in (folder / "data/train/web/shards").iterdir():
        data = bytearray(shard.read_bytes())
        data[600] ^= 0xFF
        shard.write_bytes(data)
    assert cli.main(["dataset", "verify", "data/train/web"]) == 2
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 3
    assert "data/train/web: 3 faults, first: " in err.splitlines()[-1]
    # A fault may say by itself how it is mended.
    for shard in (folder / "data/train/web/shards").iterdir():
        shard.write_bytes(shard.read_bytes()[:700])
    assert cli.main(["dataset", "verify", "data/train/web"]) == 2
    assert capsys.readouterr().err.count("import or pull it again") == 1
