"""A person is taken out of a real DVC project: data, cache, remote, outputs; the rest is whole."""

import contextlib
import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from dvc.repo import Repo

from facewright import erasure
from facewright.datasets.checking import verify_datasets
from facewright.datasets.form import open_dataset
from facewright.erasure import erase
from facewright.errors import DatasetError
from facewright.files import directory_digest, file_digest
from facewright.registry.descent import Descendant

from .datasets.making import contents, dataset, people, picture

NAME = "Ada_Ünal"
PHOTOS = people(f"{NAME} Bo Cy Dan")
EARLIER = {f"{NAME}/old.jpg": picture("old"), "Bo/old.jpg": picture("Bo old")}
PAIRS = [(0, 1, "ada unal/0", "ada unal/1"), (0, 0, "Eve/0", "Fay/0"), (1, 1, "Eve/0", "Eve/1")]
SPELT = {f"ada unal/{k}.jpg": picture(("spelt", k)) for k in range(3)}
THEIRS = [d for name, d in (PHOTOS | EARLIER | SPELT).items() if name.startswith((NAME, "ada"))]
CONFIG = """[core]
    remote = store
    analytics = false
['remote "store"']
    url = ../../store
['remote "spare"']
    url = ../../spare
"""
CROP = b"their crop, as align made it" * 20


def git(repo: Path, *words: str) -> None:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=m"]
    subprocess.run(["git", *identity, *words], cwd=repo, check=True, capture_output=True)


def dvc_add(repo: Path, *paths: str) -> None:
    with Repo(str(repo)) as dvc:
        dvc.add([str(repo / path) for path in paths])
        dvc.push()


def git_text(repo: Path, *words: str) -> str:
    return subprocess.run(
        ["git", *words], cwd=repo, check=True, capture_output=True, text=True
    ).stdout


def commit(repo: Path, message: str) -> None:
    git(repo, "add", "-A")
    git(repo, "commit", "-m", message)


def md5_of(repo: Path, name: str) -> str:
    return str(yaml.safe_load((repo / f"{name}.dvc").read_text())["outs"][0]["md5"])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two committed versions of `data/`, and what stages made from the second; all pushed."""
    root = tmp_path_factory.mktemp("erasure")
    repo = root / "repo"
    repo.mkdir()
    git(repo, "init")
    Repo.init(str(repo)).close()
    (repo / ".dvc" / "config").write_text(CONFIG)
    (repo / ".gitignore").write_text("/data\n/artifacts\n/ready\n")
    data = repo / "data"
    dataset(data / "train" / "web", {**PHOTOS, **EARLIER})
    dataset(data / "train" / "other", people("Gus Hal"))
    photos = people("Eve Fay") | SPELT
    dataset(data / "verify" / "test", photos, pairs=PAIRS)
    dvc_add(repo, "data")
    commit(repo, "one")
    shutil.rmtree(data / "train" / "web")
    dataset(data / "train" / "web", PHOTOS)
    (data / "cleaning.csv").write_text(
        f"action,dataset,id,identity,to\ndrop,web,,{NAME},\ndrop,web,,Bo,\n"
    )
    dvc_add(repo, "data")
    outputs(repo)
    commit(repo, "two")
    return root


def outputs(repo: Path) -> None:
    """align made from data/, train from align, tools from neither: `dvc repro` records it."""
    ready = repo / "ready"
    dataset(ready / "align" / "train", {"x/1.png": CROP, "Bo/1.png": b"Bo's"})
    for name, data in (("train", b"weights that have seen them"), ("tools", b"of no data")):
        (ready / name).mkdir()
        (ready / name / "file").write_bytes(data)
    (repo / "seed").write_text("1")
    deps = {"align": "data", "train": "artifacts/align", "tools": "seed"}
    stages = {
        name: {
            "cmd": f"mkdir -p artifacts && cp -r ready/{name} artifacts/{name}",
            "deps": [dep],
            "outs": [f"artifacts/{name}"],
        }
        for name, dep in deps.items()
    }
    (repo / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    with contextlib.chdir(repo), Repo() as dvc:
        dvc.reproduce()
        dvc.push()
    shutil.rmtree(ready)
    checkpoints = repo / "artifacts" / ".train.checkpoints"
    checkpoints.mkdir()
    (checkpoints / "1").write_bytes(b"half way")


@pytest.fixture
def repo(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(made, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy" / "repo")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path / "copy" / "repo"


def files(*folders: Path) -> Iterator[Path]:
    for folder in folders:
        yield from (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def holding(needles: list[bytes], *folders: Path) -> list[Path]:
    return [
        path for path in files(*folders) if any(needle in path.read_bytes() for needle in needles)
    ]


def receipt(repo: Path) -> dict[str, object]:
    (path,) = (repo / "docs" / "erasures").iterdir()
    found: dict[str, object] = json.loads(path.read_text())
    return found


def clean(repo: Path) -> bool:
    with Repo(str(repo)) as dvc:
        return not dvc.status(targets=["data.dvc"])


def test_without_yes_nothing_changes(repo: Path) -> None:
    before = directory_digest(repo)
    text = erase("ada  UNAL", data=Path("data"))
    assert directory_digest(repo) == before
    assert "data/train/web: 3 images as Ada_Ünal (3)" in text
    assert "data/verify/test: 3 images as ada unal (3)" in text
    assert "2 of 3 pairs" not in text
    assert "1 of 3 pairs" in text
    assert "data/cleaning.csv: 1 rows" in text
    assert "made from them: artifacts/align, artifacts/train" in text
    assert "not reached: DVC remote 'spare'" in text
    assert text.endswith("add --yes to do it, and --purge to remove DVC's copies too")


def test_a_leftover_is_not_put_back_without_yes(repo: Path) -> None:
    web = repo / "data" / "train" / "web"
    web.rename(web.with_name(".web.replaced"))
    before = directory_digest(repo)
    with pytest.raises(DatasetError, match=r"\.web\.replaced holds"):
        erase(NAME)
    assert directory_digest(repo) == before
    erase(NAME, yes=True)
    assert holding(THEIRS, repo / "data") == []
    assert verify_datasets(web) == []


def test_the_fixture_holds_them_everywhere(repo: Path) -> None:
    for folder in (repo / "data", repo / ".dvc" / "cache", repo.parent / "store"):
        assert holding(THEIRS[:1], folder)
    assert holding([CROP], repo.parent / "store")


def test_erase_and_purge_leave_none_of_their_bytes(repo: Path) -> None:
    others = directory_digest(repo / "data" / "train" / "other")
    before = contents(open_dataset(repo / "data" / "train" / "web"))
    old = md5_of(repo, "data")
    text = erase(NAME, purge=True, yes=True)
    everywhere = (repo / "data", repo / ".dvc", repo.parent / "store", repo / "artifacts")
    assert holding([*THEIRS, CROP, b"half way", b"have seen them"], *everywhere) == []
    assert holding([NAME.encode()], *everywhere) == []
    # What is left is whole.
    assert verify_datasets(repo / "data") == []
    assert directory_digest(repo / "data" / "train" / "other") == others
    web = contents(open_dataset(repo / "data" / "train" / "web"))
    assert web == {id: data for id, data in before.items() if not id.startswith(NAME)}
    pairs = open_dataset(repo / "data" / "verify" / "test").pairs
    assert pairs is not None
    assert pairs.to_numpy().tolist() == [list(pair) for pair in PAIRS[1:]]
    assert (repo / "data" / "cleaning.csv").read_text().splitlines()[1:] == ["drop,web,,Bo,"]
    assert clean(repo)
    assert (repo / "artifacts" / "tools" / "file").exists()
    assert not (repo / "artifacts" / "align").exists()
    # The receipt says what was done, and no name.
    found = receipt(repo)
    assert found["state"] == "done"
    digests = sorted(hashlib.sha256(data).hexdigest() for data in set(THEIRS))
    assert found["photos_sha256"] == digests
    assert found["data_md5"]["before"] == old  # type: ignore[index]
    assert found["data_md5"]["after"] == md5_of(repo, "data")  # type: ignore[index]
    assert len(found["data_md5"]["holding"]) >= 2  # type: ignore[index,arg-type]
    assert found["datasets"]["train/web"]["images"] == 3  # type: ignore[index]
    assert found["stage_outputs"] == ["artifacts/align", "artifacts/train"]
    assert found["removed"]["remote"]["objects"] > 5  # type: ignore[index]
    assert any("'spare'" in line for line in found["not_reached"])  # type: ignore[attr-defined]
    words = json.dumps(found, ensure_ascii=False).casefold()
    assert all(part not in words for part in ("ada", "ünal", "unal"))
    assert "receipt: docs/erasures/" in text


def test_what_is_left_can_be_pulled(repo: Path) -> None:
    erase(NAME, purge=True, yes=True)
    expected = directory_digest(repo / "data")
    with Repo(str(repo)) as dvc:
        dvc.push(targets=["data.dvc"])
    shutil.rmtree(repo / "data")
    shutil.rmtree(repo / ".dvc" / "cache")
    with Repo(str(repo)) as dvc:
        dvc.pull(targets=["data.dvc"])
    assert directory_digest(repo / "data") == expected
    assert holding(THEIRS, repo, repo.parent / "store") == []


def test_purge_can_follow_later(repo: Path) -> None:
    text = erase(NAME, yes=True)
    assert "with --purge removes them" in text
    # What stages made of them went at once, with checkpoints; `dvc repro` makes it anew.
    outputs = repo / "artifacts"
    assert sorted(path.name for path in outputs.iterdir()) == ["tools"]
    assert holding([*THEIRS, CROP, b"half way", b"have seen them"], repo / "data", outputs) == []
    assert holding(THEIRS[:1], repo / ".dvc" / "cache", repo.parent / "store")
    commit(repo, "three")
    shutil.rmtree(repo / ".dvc" / "cache")  # as in a clone: only the remote has the old versions
    erase("ada unal", purge=True, yes=True)
    assert holding([*THEIRS, CROP], repo, repo.parent / "store") == []
    found = receipt(repo)
    assert found["datasets"]["train/web"]["images"] == 3  # type: ignore[index]
    assert found["removed"]["remote"]["objects"] > 5  # type: ignore[index]
    assert verify_datasets(repo / "data") == []
    assert clean(repo)


@pytest.mark.parametrize(
    ("step", "after"),
    [
        ("rewrite_cleaning", True),
        ("rewrite_dataset", True),
        ("add", False),
        ("remove", True),
    ],
)
def test_what_was_killed_is_completed(
    repo: Path, monkeypatch: pytest.MonkeyPatch, step: str, after: bool
) -> None:
    """Stopped before or after the first call of each step; the same command finishes."""
    place = erasure if step.startswith("rewrite") else erasure.Project
    real = getattr(place, step)

    def killed(*arguments: object, **options: object) -> None:
        if after:
            real(*arguments, **options)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(place, step, killed)
        with pytest.raises(KeyboardInterrupt):
            erase(NAME, purge=True, yes=True)
    assert receipt(repo)["state"] == "begun"
    erase(NAME, purge=True, yes=True)
    assert holding([*THEIRS, CROP], repo, repo.parent / "store") == []
    assert verify_datasets(repo / "data") == []
    assert clean(repo)
    found = receipt(repo)
    assert found["state"] == "done"
    assert {name: one["images"] for name, one in found["datasets"].items()} == {  # type: ignore[attr-defined]
        "train/web": 3,
        "verify/test": 3,
    }
    assert found["cleaning_rows"] == 1


def test_a_purge_killed_among_the_objects_is_completed(
    repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lists of old versions are gone, and what was made from these is still there."""
    pinned = [path.name for path in (repo / ".dvc" / "cache" / "files" / "md5").glob("??/*.dir")]
    assert len(pinned) > 1
    real = erasure.Project.remove

    def killed(project: erasure.Project, odb: object, oids: set[str]) -> dict[str, int]:
        if odb is not project.local:
            return real(project, odb, oids)
        versions = set(project.folders()) & set(oids)
        outputs = {oid for run in project.stages().values() for oid in run.outs.values()}
        assert versions - outputs
        real(project, odb, versions - outputs)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(erasure.Project, "remove", killed)
        with pytest.raises(KeyboardInterrupt):
            erase(NAME, purge=True, yes=True)
    before = receipt(repo)
    erase(NAME, purge=True, yes=True)
    found = receipt(repo)
    assert found["state"] == "done"
    assert set(found["objects"]) >= set(before["objects"])  # type: ignore[call-overload]
    assert found["stage_outputs"] == before["stage_outputs"]
    assert found["stage_outputs_of_unread"] == []
    assert holding([*THEIRS, CROP], repo, repo.parent / "store") == []
    for oid in found["objects"]:  # type: ignore[attr-defined]
        assert not (repo / ".dvc" / "cache" / "files" / "md5" / oid[:2] / oid[2:]).exists()


@pytest.mark.parametrize("kind", ["hardlink", "symlink"])
def test_links_into_the_cache_are_not_written_through(repo: Path, kind: str) -> None:
    with Repo(str(repo)) as dvc, dvc.config.edit() as config:
        config["cache"] = {"type": kind}
    with Repo(str(repo)) as dvc:
        dvc.checkout(targets=["data.dvc"], relink=True, force=True)
    web = repo / "data" / "train" / "web" / "manifest.parquet"
    assert web.is_symlink() if kind == "symlink" else web.stat().st_nlink > 1
    erase(NAME, yes=True)
    for path in (repo / ".dvc" / "cache" / "files" / "md5").glob("??/*"):
        digest = hashlib.md5(path.read_bytes()).hexdigest()
        assert path.parent.name + path.name.removesuffix(".dir") == digest
    assert verify_datasets(repo / "data") == []
    assert clean(repo)


def test_models_made_from_them_are_told(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, list[str]] = {}

    def made_from(**digests: list[str]) -> list[Descendant]:
        if not any(digests.values()):  # no version is unread
            return []
        asked.update(digests)
        return [Descendant("facewright", 3, ("champion",))]

    crops = file_digest(repo / "artifacts" / "align" / "train" / "manifest.parquet")
    monkeypatch.setattr(erasure, "store_exists", lambda: True)
    monkeypatch.setattr(erasure, "made_from", made_from)
    monkeypatch.setattr(erasure, "of_unknown_data", lambda: [Descendant("other", 1, ())])
    text = erase(NAME, yes=True)
    assert "registered: facewright version 3 (champion)" in text
    found = receipt(repo)
    assert asked["crops"] == [crops] == found["crops_sha256"]
    assert set(asked["data_md5"]) >= {found["data_md5"]["before"]}  # type: ignore[index]
    assert found["retrain"] == ["facewright version 3", "the graph of stages: dvc repro"]
    assert "other version 1: its data is unknown" in found["not_reached"]  # type: ignore[operator]
    monkeypatch.undo()
    monkeypatch.chdir(repo)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    erase(NAME, yes=True)
    again = receipt(repo)
    assert "MLflow could not be asked; the same command asks it again" in again["not_reached"]  # type: ignore[operator]
    assert again["models"] == found["models"]


def test_without_a_store_models_are_not_said_to_be_none(
    repo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    erase(NAME, yes=True)
    found = receipt(repo)
    assert found["models"] is None
    assert erasure.NO_STORE in found["not_reached"]  # type: ignore[operator]
    assert erasure.NO_STORE in capsys.readouterr().err


def test_unread(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`dvc gc` took away a version's list: nobody can say that they were not in it."""
    first = git_text(repo, "show", "HEAD~1:data.dvc")
    old = str(yaml.safe_load(first)["outs"][0]["md5"])
    for folder in (repo / ".dvc" / "cache", repo.parent / "store"):
        (folder / "files" / "md5" / old[:2] / old[2:]).unlink()

    def made_from(data_md5: list[str], crops: list[str]) -> list[Descendant]:
        return [Descendant("early", 1, ())] if old in data_md5 else []

    monkeypatch.setattr(erasure, "store_exists", lambda: True)
    monkeypatch.setattr(erasure, "made_from", made_from)
    monkeypatch.setattr(erasure, "of_unknown_data", list)
    text = erase(NAME, purge=True, yes=True)
    assert f"early version 1, {erasure.ASSUMED}" in text
    found = receipt(repo)
    assert found["data_md5"]["unread"] == [old]  # type: ignore[index]
    assert old not in found["data_md5"]["holding"]  # type: ignore[index]
    assert found["models"] == []
    assert [one["model"] for one in found["models_of_unread"]] == ["early"]  # type: ignore[attr-defined]
    assert f"early version 1, {erasure.ASSUMED}" in found["retrain"]  # type: ignore[operator]
    assert any(
        line.startswith("earlier versions of data of which") for line in found["not_reached"]
    )  # type: ignore[attr-defined]


def test_outputs_of_unread_versions_are_told(repo: Path) -> None:
    """The version that align was run on is nowhere, and the present one lacks the person."""
    text = (repo / "dvc.lock").read_text()
    gone = "f" * 32 + ".dir"
    (repo / "dvc.lock").write_text(text.replace(md5_of(repo, "data"), gone))
    shutil.rmtree(repo / ".dvc" / "cache" / "runs", ignore_errors=True)
    commit(repo, "locked")
    git(repo, "checkout", "--orphan", "alone")
    commit(repo, "alone")
    git(repo, "branch", "-D", "m")
    git(repo, "reflog", "expire", "--expire=now", "--all")
    found = json.loads(json.dumps(erase(NAME)))
    for output in ("artifacts/align", "artifacts/train"):
        assert f"not reached: {output}, {erasure.ASSUMED}" in found
    erase(NAME, yes=True)
    assert receipt(repo)["stage_outputs_of_unread"] == ["artifacts/align", "artifacts/train"]
    assert (repo / "artifacts" / "align").exists()


def test_other_places_are_told(repo: Path) -> None:
    data = repo / "data"
    (data / "expectations").mkdir()
    (data / "expectations" / "train.json").write_text(json.dumps({"not": ["Ada_Ünal"]}))
    (data / "expectations" / "verify.json").write_text(json.dumps({"not": ["Bo"]}))
    (data / "notes.txt").write_text("We spoke\nto ADA UNAL herself.\n")
    (data / "Ada_Ünal.txt").write_text("asked")
    (data / "train" / "web" / "eyes.csv").write_text("1,2\n")
    (data / "train" / "other" / "eyes.csv").write_text("1,2\n")
    (data / "loose").mkdir()
    (data / "loose" / "1.jpg").write_bytes(picture("loose"))
    (repo / "raw").mkdir()
    (repo / "raw" / "1.jpg").write_bytes(THEIRS[0])
    (repo / ".gitignore").write_text("/data\n/artifacts\n/ready\n/raw\n")
    dvc_add(repo, "raw", "data")
    erase(NAME, yes=True)
    found = receipt(repo)["not_reached"]
    assert isinstance(found, list)
    start = len(erasure.ALWAYS_OUT_OF_REACH) + 1  # and the store
    assert found[start : start + 5] == [
        "data (a file that is named after them), which names them: correct it by hand",
        "data/expectations/train.json, which names them: correct it by hand",
        "data/notes.txt, which names them: correct it by hand",
        "data/train/web/eyes.csv, which is no part of the dataset: look whether it is about them",
        "files in data/loose that are no text: 1",
    ]
    assert "raw.dvc: what DVC tracks there was not searched" in found


def test_nobody_of_that_name_is_said_with_who_is_near(repo: Path) -> None:
    with pytest.raises(DatasetError, match="there is 'Ada_Ünal'"):
        erase("Ada_Ünel", yes=True)
    assert not (repo / "docs" / "erasures").exists()


def test_a_project_without_dvc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    dataset(Path("data/train/web"), PHOTOS)
    (tmp_path / "artifacts" / "align").mkdir(parents=True)
    text = erase(NAME, yes=True, purge=True)
    assert "data is not tracked by DVC" in text
    line = "artifacts/align: without DVC nobody can tell from what it was made"
    assert f"not reached: {line}" in text
    assert line in receipt(tmp_path)["not_reached"]  # type: ignore[operator]
    assert holding(THEIRS, tmp_path) == []
    assert receipt(tmp_path)["state"] == "done"
    assert not (tmp_path / "mlflow.db").exists()


KILLED = """
import os
from facewright.datasets import rewriting
from facewright.erasure import erase

def killed(source, target, **options):
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(source.read_bytes()[:-1])
    os._exit(9)

rewriting._cut = killed
erase("Ada_Ünal", yes=True)
"""


def test_a_process_killed_in_a_shard_leaves_the_set_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    dataset(Path("data/train/web"), PHOTOS)
    before = directory_digest(Path("data/train/web"))
    assert subprocess.run([sys.executable, "-c", KILLED]).returncode == 9
    assert directory_digest(Path("data/train/web")) == before
    assert holding(THEIRS, Path("data/train/.web.partial"))
    erase(NAME, yes=True)
    assert holding(THEIRS, tmp_path) == []
    assert verify_datasets(Path("data")) == []


def test_a_set_that_would_be_empty_is_refused_before_anything_changes(repo: Path) -> None:
    dataset(repo / "data" / "train" / "alone", people(NAME))
    before = directory_digest(repo)
    with pytest.raises(DatasetError, match="train/alone would have no image left"):
        erase(NAME, yes=True, purge=True)
    assert directory_digest(repo) == before


def test_crops_that_name_them_go_whole(repo: Path) -> None:
    """Of crops all objects are made from the person, not only the shards that hold them."""
    folder = repo / "crops"
    dataset(folder / "train", people(f"{NAME} Bo Cy Dan Ivo"))
    stage = {"cmd": "cp -r crops artifacts/crops", "deps": ["seed"], "outs": ["artifacts/crops"]}
    stages = yaml.safe_load((repo / "dvc.yaml").read_text())["stages"]
    (repo / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages | {"crops": stage}}))
    with Repo() as dvc:
        dvc.reproduce()
    manifest = file_digest(folder / "train" / "manifest.parquet")
    shutil.rmtree(folder)
    erase(NAME, yes=True, purge=True)
    assert manifest in receipt(repo)["crops_sha256"]  # type: ignore[operator]
    assert not (repo / "artifacts" / "crops").exists()
    assert holding([picture("Ivo/0.jpg")], repo / ".dvc" / "cache") == []
