"""Fetch brings exactly what data.dvc pins at a revision, or nothing."""

import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from facewright.datasets.fetch import directory_md5, fetch, pinned
from facewright.errors import DatasetError

FILES = {"train/a/shards/0.tar": b"bytes\r\n", "train/a/dataset.yaml": b"", "é x.txt": b"1"}


def git(repo: Path, *words: str) -> None:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=m"]
    subprocess.run(["git", *identity, *words], cwd=repo, check=True, capture_output=True)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A DVC repository with two committed versions, tagged one and two, all on its remote."""
    from dvc.repo import Repo

    root = tmp_path_factory.mktemp("fetch")
    repo = root / "repo"
    repo.mkdir()
    git(repo, "init")
    dvc = Repo.init(str(repo))
    with dvc.config.edit() as config:
        config["remote"] = {"store": {"url": str(root / "store")}}
        config["core"] = {"remote": "store", "analytics": False}
    hashes = {}
    for tag in ("one", "two"):
        for name, data in FILES.items():
            path = repo / "data" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data + tag.encode())
        dvc = Repo(str(repo))
        dvc.add(str(repo / "data"))
        dvc.push()
        git(repo, "add", ".")
        git(repo, "commit", "-m", tag)
        git(repo, "tag", tag)
        hashes[tag] = yaml.safe_load((repo / "data.dvc").read_text())["outs"][0]["md5"]
    return repo, hashes


@pytest.fixture
def repo(made: tuple[Path, dict[str, str]], tmp_path: Path) -> str:
    """A copy of the repository without its cache and working data: only the remote has them."""
    shutil.copytree(made[0], tmp_path / "repo", ignore=shutil.ignore_patterns("cache", "data"))
    return str(tmp_path / "repo")


@pytest.mark.parametrize("tag", ["one", "two"])
def test_a_revision_arrives_whole(
    made: tuple[Path, dict[str, str]], repo: str, tmp_path: Path, tag: str
) -> None:
    pinned = made[1][tag]
    for expected in (pinned, pinned.removesuffix(".dir"), None):
        got = fetch(repo, tmp_path / "data", revision=tag, expected_md5=expected)
        assert got == pinned.removesuffix(".dir") == directory_md5(tmp_path / "data")
        for name, data in FILES.items():
            assert (tmp_path / "data" / name).read_bytes() == data + tag.encode()


def test_another_hash_than_expected_is_refused(
    made: tuple[Path, dict[str, str]], repo: str, tmp_path: Path
) -> None:
    with pytest.raises(DatasetError, match="was asked for"):
        fetch(repo, tmp_path / "data", revision="two", expected_md5=made[1]["one"])
    assert not (tmp_path / "data").exists()


def test_changed_working_data_is_refused(made: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    shutil.copytree(made[0], tmp_path / "repo")
    (tmp_path / "repo" / "data" / "é x.txt").write_bytes(b"changed")
    with pytest.raises(DatasetError, match=r"data\.dvc says"):
        fetch(str(tmp_path / "repo"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_is_not_there_is_refused_in_one_line(repo: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for source, revision in ((repo, "nowhere"), (str(tmp_path / "empty"), None)):
        with pytest.raises(DatasetError, match="cannot be fetched") as caught:
            fetch(source, tmp_path / "out", revision=revision)
        assert "\n" not in str(caught.value)
    config = Path(repo) / ".dvc" / "config"
    config.write_text(config.read_text().replace("/store", "/lost"))
    git(Path(repo), "commit", "-am", "a remote that is gone")
    with pytest.raises(DatasetError, match="cannot be fetched"):
        fetch(repo, tmp_path / "out", revision="HEAD")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("damage", [b"other bytes", None])
def test_a_file_that_the_remote_damaged_or_lost_is_named(
    made: tuple[Path, dict[str, str]], repo: str, tmp_path: Path, damage: bytes | None
) -> None:
    shutil.copytree(made[0].parent / "store", tmp_path / "store")
    config = Path(repo) / ".dvc" / "config"
    config.write_text(config.read_text().replace(str(made[0].parent), str(tmp_path)))
    git(Path(repo), "commit", "-am", "another store")
    name = "train/a/shards/0.tar"
    md5 = hashlib.md5(FILES[name] + b"two").hexdigest()
    stored = tmp_path / "store" / "files" / "md5" / md5[:2] / md5[2:]
    stored.chmod(0o644)
    stored.write_bytes(damage) if damage else stored.unlink()
    with pytest.raises(DatasetError) as caught:
        fetch(repo, tmp_path / "out", revision="HEAD")
    said = "is not what data.dvc says" if damage else "is neither in the cache there nor in"
    assert f"data/{name} {said}" in str(caught.value)
    assert str(tmp_path / "store") in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_the_hash_of_a_revision_is_known_without_its_data(
    made: tuple[Path, dict[str, str]], repo: str
) -> None:
    """As data.dvc writes it; a branch is looked up anew."""
    hashes = made[1]
    assert pinned(repo, revision="one") == hashes["one"]
    assert pinned(repo, revision="m") == pinned(repo) == hashes["two"]
    assert pinned(repo, revision="one", expected_md5=hashes["one"]) == hashes["one"]
    with pytest.raises(DatasetError, match=r"says md5 \w+, and \w+.dir was asked for"):
        pinned(repo, revision="m", expected_md5=hashes["one"])
    with pytest.raises(DatasetError, match="at v9: data/ cannot be fetched"):
        pinned(repo, revision="v9")
