"""Folders on the shared volume: crops once, one step at a time, nothing left but for retries."""

import errno
import fcntl
import threading
import time
from pathlib import Path

import pytest

from facewright.cluster import volume
from facewright.cluster.volume import appears, move_entries, training_folder
from facewright.errors import StorageError


@pytest.fixture
def crops(tmp_path: Path) -> Path:
    folder = tmp_path / "align" / "train"
    (folder / "shards").mkdir(parents=True)
    (folder / "manifest.parquet").write_bytes(b"manifest")
    (folder / "shards" / "00000.tar").write_bytes(b"crops")
    return folder


@pytest.fixture
def work(tmp_path: Path) -> Path:
    (tmp_path / "work").mkdir()
    return tmp_path / "work"


def everything(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def test_crops_are_copied_whole_and_all_is_gone_at_the_end(crops: Path, work: Path) -> None:
    with training_folder(work, crops, digest="d", key="k") as folder:
        copy = folder.parents[1] / "train"
        assert everything(copy) == everything(crops)
        assert (copy / "shards" / "00000.tar").read_bytes() == b"crops"
        assert folder.parents[1] == work / "crops" / "d"
    assert everything(work) == {"crops", "locks"}


def test_after_an_error_it_stays_and_crops_are_not_copied_again(
    crops: Path, work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = work / "crops" / "d" / "trainings" / "k"

    def cut_off() -> None:
        with training_folder(work, crops, digest="d", key="k") as folder:
            (folder / "checkpoint").touch()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cut_off()
    assert f"{folder} stays" in capsys.readouterr().err
    (crops / "manifest.parquet").unlink()  # would be missing in a second copy
    with training_folder(work, crops, digest="d", key="k") as again:
        assert again == folder
        assert (again / "checkpoint").exists()
        assert (again.parents[1] / "train" / "manifest.parquet").exists()
    assert everything(work) == {"crops", "locks"}


def test_a_copy_that_broke_off_is_made_anew(crops: Path, work: Path) -> None:
    half = work / "crops" / "d" / ".train.partial"
    half.mkdir(parents=True)
    (half / "stale").touch()
    with training_folder(work, crops, digest="d", key="k") as folder:
        assert everything(folder.parents[1] / "train") == everything(crops)


def test_crops_stay_until_the_last_training_of_them_ends(crops: Path, work: Path) -> None:
    with training_folder(work, crops, digest="d", key="one") as one:
        with training_folder(work, crops, digest="d", key="two") as two:
            assert one != two
        assert not two.exists()
        assert everything(one.parents[1] / "train") == everything(crops)
    assert everything(work) == {"crops", "locks"}


def test_the_same_training_is_waited_for_and_others_are_not(crops: Path, work: Path) -> None:
    order: list[str] = []

    def second() -> None:
        with training_folder(work, crops, digest="d", key="k"):
            order.append("second")

    with training_folder(work, crops, digest="d", key="k"):
        thread = threading.Thread(target=second)
        thread.start()
        with training_folder(work, crops, digest="d", key="other"):
            order.append("other")
        time.sleep(0.3)
        order.append("first")
    thread.join(30)
    assert order == ["other", "first", "second"]
    assert everything(work) == {"crops", "locks"}


def test_many_at_once_never_miss_their_crops(crops: Path, work: Path) -> None:
    """Folders come and go; each finds crops while it has one."""
    wrong: list[set[str]] = []

    def trainings(key: str) -> None:
        for _ in range(12):
            with training_folder(work, crops, digest="d", key=key) as folder:
                found = everything(folder.parents[1] / "train")
                if found != everything(crops):
                    wrong.append(found)

    threads = [threading.Thread(target=trainings, args=(key,)) for key in ("a", "b", "b", "c")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert wrong == []
    assert everything(work) == {"crops", "locks"}


def test_a_volume_that_is_not_there_is_told(crops: Path, tmp_path: Path) -> None:
    with (
        pytest.raises(StorageError, match="mount the volume that all nodes see there"),
        training_folder(tmp_path / "none", crops, digest="d", key="k"),
    ):
        pass


def test_a_volume_without_locks_is_told(
    crops: Path, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(lock: int, how: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    with (
        pytest.raises(StorageError, match="No locks available"),
        training_folder(work, crops, digest="d", key="k"),
    ):
        pass


def test_a_folder_of_another_machine_may_come_late(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(volume, "APPEARS", 0.0)
    assert not appears(tmp_path / "late")
    monkeypatch.setattr(volume, "APPEARS", 60.0)
    threading.Timer(0.3, (tmp_path / "late").mkdir).start()
    assert appears(tmp_path / "late")


def test_entries_are_moved_beside_those_that_are_there(tmp_path: Path) -> None:
    assert move_entries(tmp_path / "none", tmp_path / "target") == 0
    assert not (tmp_path / "target").exists()
    for folder in ("source/new", "target/old"):
        (tmp_path / folder).mkdir(parents=True)
    assert move_entries(tmp_path / "source", tmp_path / "target") == 1
    assert everything(tmp_path / "target") == {"new", "old"}
