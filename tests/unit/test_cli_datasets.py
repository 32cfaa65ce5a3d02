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


def test_faults_end_with_their_number(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for shard in (folder / "data/train/web/shards").iterdir():
        data = bytearray(shard.read_bytes())
        data[600] ^= 0xFF
        shard.write_bytes(data)
    assert cli.main(["dataset", "verify", "data/train/web"]) == 2
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 3
    assert "data/train/web: 3 faults, first: " in err.splitlines()[-1]
