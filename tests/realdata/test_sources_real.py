"""Real sources: landmarks of every photo of LFW, and one archive as shards and as folders."""

import tarfile
from pathlib import Path

import numpy as np
import pytest

from facewright.datasets.importing import import_dataset

pytestmark = pytest.mark.realdata


def test_every_photo_of_lfw_gets_its_landmarks(shared_data: Path, tmp_path: Path) -> None:
    lfw = shared_data / "lfw"
    manifest = import_dataset(
        lfw / "lfw-deepfunneled.tgz", tmp_path / "lfw", landmarks=lfw / "landmarks5.txt"
    ).manifest
    lines = (lfw / "landmarks5.txt").read_text().splitlines()
    expected = {
        name.removesuffix(".jpg"): np.array(points, np.float32)
        for name, *points in (line.split("\t") for line in lines)
    }
    assert len(expected) == len(manifest) == 13233
    found = np.stack(manifest["landmarks"].to_list())
    assert np.array_equal(found, np.stack([expected[id] for id in manifest["id"]]))


def test_shards_of_a_dataset_are_a_source(shared_data: Path, tmp_path: Path) -> None:
    first = import_dataset(shared_data / "ytf" / "ytf347.tar", tmp_path / "ytf").manifest
    again = import_dataset(tmp_path / "ytf" / "shards", tmp_path / "again").manifest
    assert again[["id", "sha256"]].equals(first[["id", "sha256"]])
    folder = tmp_path / "folders"
    with tarfile.open(shared_data / "ytf" / "ytf347.tar") as packed:
        packed.extractall(folder, filter="data")
    unpacked = import_dataset(folder, tmp_path / "unpacked").manifest
    assert dict(zip(unpacked["id"], unpacked["sha256"], strict=True)) == dict(
        zip(first["id"], first["sha256"], strict=True)
    )
