"""The real archives: every byte of LFW, its protocols, and the overlap with YouTube Faces."""

import json
from pathlib import Path

import pandas as pd
import pytest
import yaml

from facewright.datasets.form import Dataset
from facewright.datasets.importing import import_dataset
from facewright.datasets.readers.lfw import read_pairs, read_people
from facewright.params import PARAMS, Validate, check
from facewright.stages.validate import run

pytestmark = pytest.mark.realdata
ROOT = Path(__file__).parents[2]


def validate(data: Path, output: Path) -> dict[str, float]:
    """Metrics, with the limits of params.yaml; near copies are not looked for."""
    values = yaml.safe_load((ROOT / PARAMS).read_text(encoding="utf-8"))["validate"]
    values |= {"near_distance": None, "thumbnails": 0}
    run(data=data, output=output, params=check(Validate, values, where=str(PARAMS)))
    metrics: dict[str, float] = json.loads((output / "metrics.json").read_text())
    return metrics


@pytest.fixture(scope="module")
def data(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`data/`: YTF for training, LFW DevTest with its pairs for verification."""
    data = tmp_path_factory.mktemp("real") / "data"
    lfw = shared_data / "lfw"
    import_dataset(shared_data / "ytf" / "ytf347.tar", data / "train" / "ytf")
    import_dataset(
        lfw / "lfw-deepfunneled.tgz",
        data / "verify" / "lfw",
        people=lfw / "peopleDevTest.txt",
        pairs=lfw / "pairsDevTest.txt",
    )
    return data


def test_every_photo_of_lfw_keeps_its_bytes(shared_data: Path, tmp_path: Path) -> None:
    lfw = shared_data / "lfw"
    dataset: Dataset = import_dataset(lfw / "lfw-deepfunneled.tgz", tmp_path / "lfw")
    lines = (lfw / "sha256_lfw_deepfunneled250.txt").read_text().splitlines()
    expected = {name.removesuffix(".jpg"): digest for digest, name in map(str.split, lines)}
    assert len(expected) == 13233
    assert dict(zip(dataset.manifest["id"], dataset.manifest["sha256"], strict=True)) == expected
    assert set(dataset.manifest["width"]) == set(dataset.manifest["height"]) == {250}
    known = set(dataset.manifest["id"])
    for name, pairs in (("pairs.txt", 6000), ("pairsDevTest.txt", 1000)):
        table = read_pairs(lfw / name)
        assert len(table) == pairs
        assert set(table["a"]) | set(table["b"]) <= known
        assert table.groupby(["fold", "label"]).size().nunique() == 1


def test_people_lists_count_as_their_readme_says(shared_data: Path) -> None:
    train = read_people(shared_data / "lfw" / "peopleDevTrain.txt")
    test = read_people(shared_data / "lfw" / "peopleDevTest.txt")
    assert (len(train), len(test)) == (4038, 1711)
    assert not set(train) & set(test)
    assert len(read_people(shared_data / "lfw" / "people.txt")) == 5749


def test_people_of_devtest_are_dropped_from_ytf(data: Path, tmp_path: Path) -> None:
    metrics = validate(data, tmp_path / "out")
    assert metrics["identities_dropped_for_overlap"] == 105
    dropped = set((tmp_path / "out" / "overlap.txt").read_text().splitlines())
    train, verify = (
        pd.read_parquet(tmp_path / "out" / f"{half}.parquet") for half in ("train", "verify")
    )
    assert dropped == set(train["identity"]) & set(verify["identity"])
    accepted = train[train["status"] == "ok"]
    assert not dropped & set(accepted["identity"])
    assert metrics["train.ok_identities"] == 347 - 105
    assert metrics["verify.images"] == metrics["verify.ok"] == 3708


def test_lfw_devtrain_and_ytf_train_together(data: Path, shared_data: Path, tmp_path: Path) -> None:
    lfw = shared_data / "lfw"
    root = tmp_path / "data"
    (root / "train").mkdir(parents=True)
    (root / "train" / "ytf").symlink_to(data / "train" / "ytf")
    (root / "verify").symlink_to(data / "verify")
    import_dataset(
        lfw / "lfw-deepfunneled.tgz", root / "train" / "lfw", people=lfw / "peopleDevTrain.txt"
    )
    metrics = validate(root, tmp_path / "out")
    assert metrics["identities_dropped_for_overlap"] == 105
    assert metrics["identities_in_several_datasets"] == 241
    assert metrics["train.images"] == 9525 + 3462
    train = pd.read_parquet(tmp_path / "out" / "train.parquet")
    accepted = train[train["status"] == "ok"]
    assert accepted["identity"].value_counts().min() >= 2
    assert set(accepted["dataset"]) == {"lfw", "ytf"}
