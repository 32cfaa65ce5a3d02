"""A ledger that lost its end, or was replaced, is told to whoever saw it before."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from facewright.errors import RegistryError
from facewright.registry.audit import verify
from facewright.registry.ledger import read_ledger
from facewright.registry.ledger_keys import keys_folder
from facewright.registry.promotion import champion, promote, rollback
from facewright.registry.seen import keep_mark, read_mark
from facewright.registry.server import place
from facewright.registry.tracking import connect
from tests.unit.registry.runs import said
from tests.unit.registry.test_ledger import alter

MODEL = "facewright"

Add = Callable[..., int]


@pytest.fixture
def seen(store: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the marks of somebody whose key lies in a folder of its own."""
    monkeypatch.setenv("FACEWRIGHT_LEDGER_KEY", str(store / "home" / "my.key"))
    return store / "home" / "my.key.seen"


def test_entries_that_were_taken_away_from_the_end_are_missed(
    add: Add, store: Path, seen: Path
) -> None:
    add("one")
    promote(MODEL)
    add("two", against=1)
    promote(MODEL)
    (mark,) = seen.iterdir()
    noted = json.loads(mark.read_text())
    last = read_ledger(connect(), MODEL).entries[-1]
    assert (noted["number"], noted["hash"], noted["model"]) == (4, last.hash, MODEL)
    assert seen.stat().st_mode & 0o077 == 0
    alter(store, "delete from params where key = ?", "000004")
    connect().set_registered_model_alias(MODEL, "champion", "1")
    line = (
        rf"entry 4 that was seen here \({last.hash[:12]}…, of .*\) is gone or another: restore "
        rf"MLflow's database from a backup, or, .* remove {mark}"
    )
    for call in (
        lambda: champion(MODEL),
        lambda: promote(MODEL, 2),
        lambda: rollback(MODEL),
        lambda: add("three", against=1),
    ):
        with pytest.raises(RegistryError, match=line):
            call()
    assert len(verify(MODEL).faults) == 1
    # Nor does it help to write others in their place, not even for somebody with a trusted key.
    mark.rename(store / "aside")
    promote(MODEL, 2, reason="another one")
    (store / "aside").rename(mark)
    with pytest.raises(RegistryError, match="is gone or another"):
        champion(MODEL)
    mark.unlink()  # a person says that it is right so
    assert champion(MODEL).version == 2  # type: ignore[union-attr]
    assert json.loads(mark.read_text())["number"] == 4


def test_a_ledger_that_was_emptied_is_not_begun_anew(add: Add, store: Path, seen: Path) -> None:
    add("one")
    connect().delete_registered_model(MODEL)
    alter(store, "delete from params where key = ?", "000001")
    with pytest.raises(RegistryError, match="entry 1 that was seen here"):
        add("one")
    assert said() == []


def test_a_project_cloned_anew_where_one_lay_begins_anew(add: Add, store: Path, seen: Path) -> None:
    """What was removed with its keys is not missed; see the test before for where they stay."""
    add("one")
    promote(MODEL)
    shutil.rmtree(keys_folder())
    connect().delete_registered_model(MODEL)
    for number in ("000001", "000002"):
        alter(store, "delete from params where key = ?", number)
    assert add("one") == 1
    assert not verify(MODEL).faults
    assert [json.loads(mark.read_text())["number"] for mark in seen.iterdir()] == [1]


def test_a_mark_of_a_server_stays_though_nobody_is_trusted(
    add: Add, seen: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add("one")
    entry = read_ledger(connect(), MODEL).entries[0]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow.example.org")
    keep_mark(entry)
    shutil.rmtree(keys_folder())
    assert read_mark(MODEL) is not None


def test_the_mark_is_of_one_store_and_never_goes_back(
    add: Add, store: Path, seen: Path, migrated: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add("one")
    entry = read_ledger(connect(), MODEL).entries[0]
    promote(MODEL)
    keep_mark(entry)  # by a process that read the ledger earlier
    mark = read_mark(MODEL)
    assert mark is not None
    assert mark.number == 2
    (store / "other.db").write_bytes(migrated.read_bytes())
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{store}/other.db")
    assert read_mark(MODEL) is None
    assert read_mark("other") is None
    assert add("one") == 1  # a ledger of its own
    assert len(list(seen.iterdir())) == 2


def test_where_no_mark_can_be_kept_all_goes_on(add: Add, seen: Path) -> None:
    seen.parent.mkdir()
    seen.write_text("")  # in its place
    add("one")
    assert promote(MODEL).version == 1
    assert read_mark(MODEL) is None
    assert not verify(MODEL).faults


def test_a_mark_that_says_nothing_is_one_line(add: Add, seen: Path) -> None:
    add("one")
    (mark,) = seen.iterdir()
    for content in ("", "{}", "[1]", '{"number": "1"}', mark.read_text().replace(": 1", ": true")):
        mark.write_text(content)
        with pytest.raises(RegistryError, match=f"{mark} does not say what was seen last of the l"):
            champion(MODEL)


def test_a_store_has_one_name_however_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path)
    for same in (
        {"", "sqlite:///mlflow.db", f"sqlite:///{tmp_path}/mlflow.db", "sqlite:///link/mlflow.db"},
        {"http://mlflow:5000", "http://mlflow:5000/", "http://ada:secret@mlflow:5000"},
        {"postgresql://a:b@db/mlflow", "postgresql://db/mlflow?sslmode=require"},
    ):
        names = set()
        for uri in same:
            monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
            names.add(place())
        assert len(names) == 1, names
