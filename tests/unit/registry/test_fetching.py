"""A registered recognizer comes back as it went in, or one line says what there is instead."""

from collections.abc import Callable
from pathlib import Path

import pytest

from facewright.errors import EngineError, RegistryError
from facewright.models.recognizer import read_card
from facewright.registry.fetching import fetch_recognizer
from facewright.registry.lineage import Lineage
from facewright.registry.promotion import promote, register
from tests.unit.registry.decisions import decided, evaluation_files

Folders = Callable[..., dict[str, Path]]


@pytest.fixture
def two_versions(store: Path, folders: Folders) -> Folders:
    """Versions 1 and 2 of `facewright`; the first is champion."""
    files = evaluation_files(store / "evaluation")
    for seed in ("one", "two"):
        register(
            model="facewright",
            folders=folders(seed),
            metrics={},
            evaluation_files=files,
            decision=decided("promote", "student", None, folders=folders(seed), files=files),
            lineage=Lineage(data_md5="m5", git_commit="c", params_digest="p"),
        )
        if seed == "one":
            promote("facewright")
    return folders


@pytest.mark.parametrize(
    ("reference", "seed"),
    [
        ("models:/facewright@champion", "one"),
        ("models:/facewright@challenger", "two"),
        ("models:/facewright/1", "one"),
        ("models:/facewright/2", "two"),
    ],
)
def test_the_bytes_come_back(
    two_versions: Folders, tmp_path: Path, reference: str, seed: str
) -> None:
    got = fetch_recognizer(reference, tmp_path / "base", name="teacher")
    assert got == tmp_path / "base" / "teacher"
    source = two_versions(seed)["teacher"]
    assert {f.name: f.read_bytes() for f in got.iterdir()} == {
        f.name: f.read_bytes() for f in source.iterdir()
    }
    assert read_card(got) == read_card(source)
    assert [path.name for path in got.parent.iterdir()] == ["teacher"]


def test_another_version_replaces_what_was_fetched(two_versions: Folders, tmp_path: Path) -> None:
    fetch_recognizer("models:/facewright/1", tmp_path, name="teacher")
    got = fetch_recognizer("models:/facewright/2", tmp_path, name="teacher")
    assert read_card(got) == read_card(two_versions("two")["teacher"])


@pytest.mark.parametrize(
    ("reference", "name", "line"),
    [
        ("models:/other/1", "teacher", "no registered model 'other': there are facewright"),
        ("models:/facewright/7", "teacher", "facewright has no version 7: there are 1, 2"),
        (
            "models:/facewright@best",
            "teacher",
            "no alias 'best': there are challenger, champion",
        ),
        (
            "models:/facewright/1",
            "pupil",
            "no recognizer 'pupil': there are student, student-int8, teacher",
        ),
        ("models:/facewright/1", "student", "'student' of facewright version 1 is no PyTorch"),
        ("models:/facewright/Production", "teacher", "names no registered version"),
        ("models:/facewright", "teacher", "names no registered version"),
        ("runs:/abc/model", "teacher", "names no registered version"),
        ("models:/a' or name='b/1", "teacher", "names no registered version"),
    ],
)
def test_what_is_not_there_is_one_line(
    two_versions: Folders, tmp_path: Path, reference: str, name: str, line: str
) -> None:
    with pytest.raises(RegistryError, match=line):
        fetch_recognizer(reference, tmp_path / "base", name=name)
    assert not (tmp_path / "base").exists()


def test_an_unreachable_server_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(RegistryError, match="no MLflow server answers"):
        fetch_recognizer("models:/facewright/1", tmp_path, name="teacher")


def test_a_damaged_store_gives_nothing(two_versions: Folders, store: Path, tmp_path: Path) -> None:
    for weights in (store / "mlartifacts").rglob("teacher/model.safetensors"):
        weights.write_bytes(b"other")
    with pytest.raises(EngineError, match="digest"):
        fetch_recognizer("models:/facewright/1", tmp_path / "base", name="teacher")
    assert not (tmp_path / "base" / "teacher").exists()
