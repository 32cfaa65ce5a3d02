"""Versions are found by the data in their tags, in every model."""

from pathlib import Path

import pytest

from facewright.registry.descent import Descendant, made_from
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


def test_no_store_is_made_by_asking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert made_from(data_md5=[DATA], crops=[]) == []
    assert not list(tmp_path.iterdir())
