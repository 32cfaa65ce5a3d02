"""Versions are found by the data in their tags, in every model."""

from pathlib import Path

import pytest

from facewright.registry.descent import (
    Descendant,
    made_from,
    of_unknown_data,
    store_exists,
)
from facewright.registry.tracking import connect

DATA, OTHER, CROPS = "a" * 32 + ".dir", "b" * 32 + ".dir", "c" * 64


def test_versions_are_found_by_data_or_crops(store: Path) -> None:
    client = connect()
    for model, data, crops in (
        ("one", DATA, ""),
        ("one", OTHER, ""),
        ("one", OTHER, CROPS),
        ("two", DATA, CROPS),
    ):
        if not client.search_registered_models(f"name='{model}'"):
            client.create_registered_model(model)
        tags = {"facewright.data_md5": data, "facewright.data_digest": crops}
        client.create_model_version(model, source="file:///nowhere", tags=tags)
    client.set_registered_model_alias("one", "champion", "3")
    found = made_from(data_md5=[DATA], crops=[CROPS])
    assert found == [
        Descendant("one", 1, ()),
        Descendant("one", 3, ("champion",)),
        Descendant("two", 1, ()),
    ]
    assert made_from(data_md5=["d" * 32], crops=[]) == []


def test_versions_of_unknown_data_are_found(store: Path) -> None:
    client = connect()
    client.create_registered_model("one")
    for tags in ({"facewright.data_md5": DATA}, {"facewright.data_md5": "unknown"}, {}):
        client.create_model_version("one", source="file:///nowhere", tags=tags)
    assert of_unknown_data() == [Descendant("one", 2, ()), Descendant("one", 3, ())]


@pytest.mark.parametrize("uri", ["", "sqlite:///some/where.db"])
def test_no_store_is_said_and_none_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uri: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert not store_exists()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("uri", ["", "sqlite:///mlflow.db", "http://127.0.0.1:9"])
def test_a_store_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uri: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mlflow.db").touch()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert store_exists()
