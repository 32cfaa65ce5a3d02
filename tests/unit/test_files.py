import errno
import hashlib
from pathlib import Path

import pytest

from facewright import files
from facewright.errors import FacewrightError, StorageError
from facewright.files import (
    directory_digest,
    file_digest,
    storage_errors,
    values_digest,
    whole_directory,
    write_json,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_directory_appears_only_when_it_is_whole(tmp_path: Path) -> None:
    output = tmp_path / "output"
    with whole_directory(output) as folder:
        (folder / "a").write_text("1")
        assert not output.exists()
    assert names(tmp_path) == ["output"]
    assert (output / "a").read_text() == "1"


def test_a_failure_leaves_what_was_there_before(tmp_path: Path) -> None:
    output = tmp_path / "output"
    with whole_directory(output) as folder:
        (folder / "a").write_text("old")
    with pytest.raises(IsADirectoryError), whole_directory(output) as folder:
        folder.read_text()
    assert names(tmp_path) == ["output"]
    assert (output / "a").read_text() == "old"


def test_a_kill_between_the_renames_loses_nothing(tmp_path: Path) -> None:
    replaced = tmp_path / ".output.replaced"
    replaced.mkdir()
    (replaced / "a").write_text("old")
    with pytest.raises(IsADirectoryError), whole_directory(tmp_path / "output") as folder:
        folder.read_text()
    assert (tmp_path / "output" / "a").read_text() == "old"
    assert names(tmp_path) == ["output"]


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    stale = tmp_path / ".output.partial"
    stale.mkdir()
    (stale / "half").write_text("x")
    with whole_directory(tmp_path / "output") as folder:
        assert names(folder) == []
    assert names(tmp_path) == ["output"]


@pytest.mark.parametrize("lasting", [True, False])
def test_what_lasts_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lasting: bool
) -> None:
    done: list[str] = []
    renamed = Path.rename
    monkeypatch.setattr(files, "sync_to_disk", lambda path: done.append(path.name))
    monkeypatch.setattr(Path, "rename", lambda a, b: (done.append("renamed"), renamed(a, b)))
    with whole_directory(tmp_path / "output", lasting=lasting) as folder:
        (folder / "teacher").mkdir()
        (folder / "teacher" / "weights").write_text("1")
    turn = done.index("renamed")
    assert set(done[:turn]) == ({"weights", "teacher", ".output.partial"} if lasting else set())
    assert done[turn + 1 :] == ([tmp_path.name] if lasting else [])


def test_a_full_disk_is_one_line_and_nothing_stays(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")

    def write(folder: Path) -> None:
        (folder / "weights").symlink_to("/dev/full")
        (folder / "weights").write_bytes(bytes(1 << 20))

    output = tmp_path / "output"
    with (
        pytest.raises(StorageError, match=r"disk is full.*output"),
        whole_directory(output) as half,
    ):
        write(half)
    assert names(tmp_path) == []


def test_a_full_disk_is_known_by_its_words_too() -> None:
    with pytest.raises(StorageError, match="free some space"), storage_errors(Path("x")):
        raise RuntimeError("I/O error: No space left on device (os error 28)")
    with pytest.raises(StorageError, match="permissions"), storage_errors(Path("x")):
        raise PermissionError(errno.EACCES, "denied", "x/y")
    with pytest.raises(OSError, match="other"), storage_errors(Path("x")):
        raise OSError(errno.EIO, "other")


def test_a_path_that_cannot_be_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for output in (
        tmp_path / "file" / "set",
        tmp_path / "file" / "a" / "b",
        tmp_path / ("A" * 300),
    ):
        with pytest.raises(StorageError, match=r"cannot be written .*: name another folder"):
            fill(output)
    with pytest.raises(StorageError, match="File exists"), storage_errors(Path("x")):
        raise FileExistsError(errno.EEXIST, "there", "x")
    assert names(tmp_path) == ["file"]


def fill(output: Path) -> None:
    with whole_directory(output) as folder:
        (folder / "a").write_text("1")


def test_the_folder_that_one_is_in_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for output in ("", ".", "..", "/", "../here", str(tmp_path)):
        with pytest.raises(StorageError, match="the folder that you are in, or holds it"):
            fill(Path(output))
    fill(Path("set"))
    fill(Path("../other"))
    fill(Path("../other/deep/.."))
    assert names(tmp_path) == ["here", "other"]
    assert names(tmp_path / "here") == ["set"]


def test_json_refuses_what_is_no_number_and_keeps_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "metrics.json"
    write_json(file, {"b": 1, "a": 2})
    assert file.read_text() == '{\n  "a": 2,\n  "b": 1\n}\n'
    with pytest.raises(ValueError, match="JSON"):
        write_json(file, {"a": float("nan")})
    assert '"a": 2' in file.read_text()


def test_digests_follow_content_and_names(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    assert file_digest(tmp_path / "a") == hashlib.sha256(b"x").hexdigest()
    first = directory_digest(tmp_path)
    (tmp_path / "a").rename(tmp_path / "b")
    assert directory_digest(tmp_path) != first
    assert values_digest({"a": 1, "b": [2]}) == values_digest({"b": [2], "a": 1})
    assert values_digest({"a": 1}) != values_digest({"a": 1.5})


def test_a_message_is_one_line() -> None:
    assert str(FacewrightError("two\nlines  here")) == "two lines here"
