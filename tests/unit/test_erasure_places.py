"""Where a person was left behind: outputs that DVC does not know, lists that git does not know."""

import contextlib
import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest
from dvc.repo import Repo

from facewright import erasure
from facewright.datasets.erasing import Person
from facewright.datasets.form import open_dataset
from facewright.datasets.outputs import find_outputs
from facewright.datasets.receipts import tell_if_erased
from facewright.erasure import erase
from facewright.errors import DatasetError
from facewright.registry.descent import Descendant

from .datasets.making import dataset, people, picture
from .datasets.validation.photos import GOOD, VERIFY, builder, photo, scenes, validate

ADA, BO = "Ada_Ünal", "Bo"
OTHERS = people("Gus Hal")


def git(repo: Path, *words: str) -> None:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run(["git", *identity, *words], cwd=repo, check=True, capture_output=True)


def project(root: Path, *, cache: Path | None = None, remote: Path | None = None) -> Path:
    """A git and DVC repository without data."""
    root.mkdir(parents=True)
    git(root, "init")
    with Repo.init(str(root)) as dvc, dvc.config.edit() as config:
        config["core"]["analytics"] = False
        if cache:
            config["cache"]["dir"] = str(cache)
        if remote:
            config["core"]["remote"] = "store"
            config["remote"]["store"] = {"url": str(remote)}
    return root


def add(root: Path, *, push: bool = False) -> None:
    with Repo(str(root)) as dvc:
        dvc.add(str(root / "data"))
        if push:
            dvc.push()


def commit(root: Path) -> None:
    git(root, "add", "-A")
    git(root, "commit", "-m", "change")


def replace(root: Path, photos: dict[str, bytes]) -> None:
    shutil.rmtree(root / "data" / "train" / "web", ignore_errors=True)
    dataset(root / "data" / "train" / "web", photos)


def not_reached(root: Path) -> list[str]:
    (path,) = (root / "docs" / "erasures").iterdir()
    found = json.loads(path.read_text())
    assert found["state"] == "done"
    return list(found["not_reached"])


def holding(needle: bytes, folder: Path) -> bool:
    return any(needle in path.read_bytes() for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "p").mkdir()
    monkeypatch.chdir(tmp_path / "p")
    return tmp_path


# --- lists of folders that nobody committed ------------------------------------------------------


def strangers(root: Path) -> list[str]:
    """The lists that the receipt names as perhaps another project's."""
    lines = [line for line in not_reached(root) if "another project's" in line]
    return [md5 for line in lines for md5 in line.rpartition(": ")[2].split(", ")]


def test_a_version_that_was_never_committed_leaves_a_cache_elsewhere_when_it_is_claimed(
    here: Path,
) -> None:
    """And another project's data in that cache stays, though it holds the person too."""
    cache = here / "cache"
    other = project(here / "other", cache=cache)
    dataset(other / "data" / "train" / "team", {"p/1.jpg": picture("apart")} | people(ADA))
    dataset(other / "data" / "train" / "more", people("Ivo Jo"))
    add(other)
    others = {path for path in cache.rglob("*") if path.is_file()}
    (theirs,) = cache.glob("files/md5/??/*.dir")

    root = project(here / "p" / "root", cache=cache)
    dataset(root / "data" / "train" / "other", OTHERS)
    replace(root, people(f"{ADA} {BO}") | {f"{ADA}/old.jpg": picture("old")})
    add(root)  # v1
    known = set(cache.glob("files/md5/??/*.dir"))
    (first,) = known - {theirs}
    replace(root, people(f"{ADA} {BO}"))
    add(root)
    commit(root)
    erase(ADA, data=root / "data", purge=True, yes=True)
    both = {f"{path.parent.name}{path.name}" for path in (theirs, first)}
    assert set(strangers(root)) == both
    assert holding(picture("old"), cache)
    ours = f"{first.parent.name}{first.stem}"  # with or without the suffix
    erase(ADA, data=root / "data", purge=True, yes=True, ours=[ours])
    assert not holding(picture("old"), cache)
    assert strangers(root) == [f"{theirs.parent.name}{theirs.name}"]
    assert all(path.exists() for path in others)
    with Repo(str(other)) as dvc:
        assert not dvc.status()


def test_a_project_with_the_same_dataset_on_the_same_remote_loses_nothing(here: Path) -> None:
    """Imports are deterministic: two teams have the very same verification set."""
    store = here / "store"
    other = project(here / "other", remote=store)
    dataset(other / "data" / "verify" / "lfw", people("Uma Vic"))
    dataset(other / "data" / "train" / "team", people(f"Ivo {ADA}", photos=2))
    add(other, push=True)
    pushed = {path for path in store.rglob("*") if path.is_file()}
    root = project(here / "p" / "root", remote=store)
    dataset(root / "data" / "verify" / "lfw", people("Uma Vic"))
    replace(root, people(f"{ADA} {BO}"))
    add(root, push=True)
    commit(root)
    erase(ADA, data=root / "data", purge=True, yes=True)
    assert all(path.exists() for path in pushed)
    assert len(strangers(root)) == 1
    assert not holding(picture(f"{BO}/0.jpg"), store)  # it shared a shard with the person


def test_a_list_that_is_nowhere_cannot_be_claimed(here: Path) -> None:
    root = project(here / "p" / "root")
    replace(root, people(f"{ADA} {BO}"))
    add(root)
    with pytest.raises(DatasetError, match=r"no list 00ff\.dir is in DVC's cache or remote"):
        erase(ADA, data=root / "data", ours=["00ff"])


@pytest.mark.parametrize("harm", ["no identity", "cut"])
def test_a_manifest_of_another_project_that_cannot_be_read_stops_nothing(
    here: Path, harm: str
) -> None:
    cache = here / "cache"
    other = project(here / "other", cache=cache)
    made = dataset(other / "data" / "train" / "team", people("Ivo Jo"))
    manifest = made.root / "manifest.parquet"
    if harm == "cut":
        manifest.write_bytes(manifest.read_bytes()[:-20])
    else:
        pd.DataFrame({"name": ["Ivo"]}).to_parquet(manifest)
    add(other)
    root = project(here / "p" / "root", cache=cache)
    replace(root, people(f"{ADA} {BO}"))
    add(root)
    commit(root)
    erase(ADA, data=root / "data", purge=True, yes=True)
    assert len(strangers(root)) == 1  # nobody can say whom it holds


def test_others_in_a_shared_cache_who_do_not_hold_them_are_not_told(here: Path) -> None:
    cache = here / "cache"
    other = project(here / "other", cache=cache)
    dataset(other / "data" / "train" / "team", people("Ivo Jo"))
    add(other)
    root = project(here / "p" / "root", cache=cache)
    replace(root, people(f"{ADA} {BO}"))
    add(root)
    commit(root)
    erase(ADA, data=root / "data", purge=True, yes=True)
    assert not any("another project's" in line for line in not_reached(root))


def test_a_version_that_was_pushed_and_never_committed_leaves_the_remote_when_it_is_claimed(
    here: Path,
) -> None:
    """Seen from a clone, whose cache knows nothing of it."""
    store = here / "store"
    root = project(here / "p" / "root", remote=store)
    dataset(root / "data" / "train" / "other", OTHERS)
    replace(root, people(f"{ADA} {BO}") | {f"{ADA}/old.jpg": picture("old")})
    add(root, push=True)
    replace(root, people(f"{ADA} {BO}"))
    add(root, push=True)
    commit(root)
    git(root.parent, "clone", "root", "clone")
    clone = root.parent / "clone"
    with Repo(str(clone)) as dvc:
        dvc.pull()
    erase(ADA, data=clone / "data", purge=True, yes=True)
    assert holding(picture("old"), store)
    erase(ADA, data=clone / "data", purge=True, yes=True, ours=strangers(clone))
    assert not holding(picture("old"), store)
    assert not holding(picture(f"{ADA}/0.jpg"), store)
    with Repo(str(clone)) as dvc:
        dvc.push()
    assert holding(picture(f"{BO}/0.jpg"), store)


# --- outputs of which dvc.lock says nothing ------------------------------------------------------


def validated(folder: Path) -> Path:
    """`data/` with one person in both halves, and what `facewright run validate` made of it."""
    folder.mkdir(exist_ok=True)
    data = builder(folder)(
        GOOD | {"yva/1.png": photo(96), "yva/2.png": photo(97)} | scenes("Ann", 3), verify=VERIFY
    )
    validate(data, thumbnails=4)
    (folder / "artifacts").mkdir(exist_ok=True)
    output = (folder / "validate").rename(folder / "artifacts" / "validate")
    assert (output / "overlap.txt").read_text() == "yva\n"
    assert "yva" in (output / "data_docs" / "trouble" / "identity_overlap.html").read_text()
    return output


@pytest.mark.parametrize("tracked", [True, False], ids=["with DVC", "without DVC"])
def test_what_validate_wrote_goes_though_dvc_did_not_run_it(here: Path, tracked: bool) -> None:
    root = here / "p" / "root"
    if tracked:
        project(root)
    output = validated(root)
    mine = root / "artifacts" / "mine"
    mine.mkdir()
    (mine / "list.txt").write_text("Yva\n")
    (root / "artifacts" / ".validate.partial").mkdir()
    (root / "artifacts" / "gate").mkdir()
    if tracked:
        (root / ".gitignore").write_text("/data\n/artifacts\n/train0\n/verify\n")
        add(root)
        commit(root)
    told = erase("Yva", data=root / "data")
    assert "made from them: artifacts/validate" in told
    assert output.exists()
    erase("Yva", data=root / "data", yes=True, purge=True)
    left = sorted(path.name for path in (root / "artifacts").iterdir())
    assert left == ["gate", "mine"]
    lines = not_reached(root)
    assert f"{mine}, which holds or names them: remove it by hand" in lines
    assert not [line for line in lines if "artifacts/validate" in line]


def test_dvcs_copies_of_an_output_that_names_them_go_whatever_it_was_made_from(here: Path) -> None:
    """Nothing in dvc.lock leads from the person to it."""
    root = project(here / "p" / "root")
    replace(root, people(f"{ADA} {BO}"))
    (root / "seed").write_text("Somebody\nAda Ünal\n")
    for name in ("listed", "tools"):
        command = f"mkdir -p artifacts/{name} && cp seed artifacts/{name}/{name}.txt"
        stage = {"cmd": command, "deps": ["seed"], "outs": [f"artifacts/{name}"]}
        stages = {name: stage}
        (root / "dvc.yaml").write_text(json.dumps({"stages": stages}))
        with contextlib.chdir(root), Repo() as dvc:
            dvc.reproduce()
        (root / "seed").write_text("Somebody\n")
    add(root)
    commit(root)
    assert holding("Ada Ünal".encode(), root / ".dvc" / "cache")
    erase(ADA, data=root / "data", yes=True, purge=True)
    assert not holding("Ada Ünal".encode(), root / ".dvc" / "cache")
    assert [path.name for path in (root / "artifacts").glob("*/")] == ["tools"]


def test_what_holds_others_only_stays(here: Path) -> None:
    root = here / "p"
    output = validated(root)
    shutil.rmtree(output)
    (root / "artifacts" / "validate").mkdir()
    (output / "overlap.txt").write_text("Ann Yva\nYvan\n")  # other people
    (output / "index.html").write_text("<p>In Yva we trust</p>")  # prose
    erase("Yva", data=root / "data", yes=True)
    assert output.exists()


def test_a_folder_with_a_stages_name_before_a_dot_is_a_persons_own(here: Path) -> None:
    root = here / "p"
    dataset(root / "data" / "train" / "web", people(f"{ADA} {BO}"))
    for name, text in (("train.bak", "Ada Ünal\n"), ("train", "Bo\n"), (".train.partial", "")):
        (root / "artifacts" / name).mkdir(parents=True)
        (root / "artifacts" / name / "notes.txt").write_text(text)
    erase(ADA, data=root / "data", yes=True)
    assert (root / "artifacts" / "train").exists()
    assert any("train.bak, which holds or names them" in line for line in not_reached(root))


def test_outputs_are_removed_where_they_are_found_though_data_is_a_link(here: Path) -> None:
    big, root = here / "big", here / "p"
    dataset(big / "data" / "train" / "web", people(f"{ADA} {BO}"))
    (root / "data").symlink_to(big / "data")
    for folder in (root, big):
        (folder / "artifacts" / "validate").mkdir(parents=True)
        text = "Ada Ünal\n" if folder == root else "Bo\n"
        (folder / "artifacts" / "validate" / "overlap.txt").write_text(text)
    erase(ADA, data=Path("data"), yes=True)
    assert not (root / "artifacts" / "validate").exists()
    assert (big / "artifacts" / "validate").exists()


def test_a_table_that_cannot_be_read_is_told_and_no_line_names_the_person(here: Path) -> None:
    root = here / "p"
    dataset(root / "data" / "train" / "web", people(f"{ADA} {BO}"))
    for folder in ("align", f"mine/{ADA}", ADA):
        (root / "artifacts" / folder).mkdir(parents=True)
    (root / "artifacts" / "align" / "t.parquet").write_bytes(b"PAR1 and no more")
    (root / "artifacts" / "mine" / ADA / "1.png").write_bytes(b"\0")
    (root / "artifacts" / ADA / "t.parquet").write_bytes(b"PAR1")
    erase(ADA, data=root / "data", yes=True)
    (path,) = (root / "docs" / "erasures").iterdir()
    lines = json.loads(path.read_text())["not_reached"]
    assert sum("cannot be read: make it anew" in line for line in lines) == 2
    assert any("artifacts/mine, which holds or names them" in line for line in lines)
    assert not any("Ada" in line for line in lines)
    assert (root / "artifacts" / "align").exists()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("overlap.txt", "Ann\nAda Unal \n"),
        ("proposals.csv", 'drop,web,"Ada_Ünal/0",x\n'),
        ("proposals.tsv", "drop\tweb/Ada_Ünal/0\n"),
        ("evaluation.json", '{"worst": [{"a": "web/Ada_\\u00dcnal/0"}]}'),
        ("page.html", "<figcaption>web/Ada_&#220;nal/0<br>x</figcaption>"),
        ("notes.txt", "web/0000045/1\n"),
        ("table.csv", "a,web/0000045,b\n"),
        ("digests.csv", f"1,{hashlib.sha256(b'a').hexdigest()}\n"),
    ],
)
def test_a_text_that_names_them_is_found(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / "stage").mkdir()
    (tmp_path / "stage" / name).write_text(text)
    person = Person(
        names=frozenset({"ada unal"}),
        labels=frozenset({("train/web", "0000045")}),
        photos=frozenset({hashlib.sha256(b"a").hexdigest()}),
    )
    assert find_outputs(tmp_path, person)[0] == {tmp_path / "stage"}
    nobody = Person(names=frozenset({"ada"}), labels=frozenset({("train/web", "45")}))
    assert find_outputs(tmp_path, nobody)[0] == set()


@pytest.mark.parametrize(
    "row",
    [
        {"id": "x/1", "sha256": hashlib.sha256(b"a").hexdigest()},
        {"id": "x/1", "photo_sha256": hashlib.sha256(b"a").hexdigest()},
        {"id": "x/1", "identity": "ADA ÜNAL"},
        {"a": "x/1", "b": "Ada_Ünal/1"},
    ],
)
@pytest.mark.parametrize("categories", [False, True])
def test_a_row_of_a_table_is_found(tmp_path: Path, row: dict[str, str], categories: bool) -> None:
    (tmp_path / "stage").mkdir()
    table = pd.DataFrame([{"id": "y/1"}, row])
    table.astype("category" if categories else "str").to_parquet(tmp_path / "stage" / "t.parquet")
    digest = hashlib.sha256(b"a").hexdigest()
    person = Person(names=frozenset({"ada unal"}), photos=frozenset({digest}))
    assert find_outputs(tmp_path, person)[0] == {tmp_path / "stage"}
    other = Person(names=frozenset({"ada"}), photos=frozenset({"0" * 64}))
    assert find_outputs(tmp_path, other)[0] == set()


def test_comparisons_of_templates_go_with_the_crops(tmp_path: Path) -> None:
    """Scores name templates, and the report shows a face without a name."""
    rows = [("000001/1", "17", "v"), ("000001/2", "18", "v"), ("000002/3", "19", "v")]
    photos = {f"{id}.jpg": picture(id) for id, _, _ in rows}
    pairs = [(0, 1, "17", "18"), (0, 0, "17", "19")]
    crops = dataset(tmp_path / "align" / "verify", photos, pairs=pairs, templates=rows)
    for stage in ("evaluate", ".evaluate.partial", "gate", "mine"):
        (tmp_path / stage).mkdir()
        (tmp_path / stage / "report.html").write_text('<img src="data:image/jpeg;base64,AA==">')
        table = pd.DataFrame({"a": ["17"], "b": ["18"], "person_a": [1], "person_b": [1]})
        table.to_parquet(tmp_path / stage / "scores.parquet")
    theirs = crops.manifest.loc[crops.manifest["identity"] == "000002", "sha256"]
    person = Person(names=frozenset(), photos=frozenset(theirs))
    made = {tmp_path / "evaluate", tmp_path / ".evaluate.partial"}
    assert find_outputs(tmp_path, person)[0] == {tmp_path / "align"} | made
    other = Person(names=frozenset(), photos=frozenset({"0" * 64}))
    assert find_outputs(tmp_path, other, in_data=True)[0] == set()
    shutil.rmtree(tmp_path / "align")
    assert find_outputs(tmp_path, person, in_data=True)[0] == made
    assert find_outputs(tmp_path, person)[0] == set()


def test_what_was_made_from_their_crops_goes_and_is_asked_for(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without DVC: a recognizer's card names the manifest of the crops; so does the registry."""
    root = here / "p"
    dataset(root / "data" / "train" / "web", people(f"{ADA} {BO}"))
    crops = dataset(root / "artifacts" / "align" / "train", people(f"{ADA} {BO}")).digest
    for stage, digest in (("train", crops), ("distill", "0" * 64)):
        (root / "artifacts" / stage / "r").mkdir(parents=True)
        card = root / "artifacts" / stage / "r" / "recognizer.yaml"
        card.write_text(f"data_digest: {digest}\n")
    asked: list[str] = []

    def made_from(*, data_md5: list[str], crops: list[str]) -> list[Descendant]:
        asked.extend(crops)
        return [Descendant("facewright", 3, ())] if crops else []

    monkeypatch.setattr(erasure, "store_exists", lambda: True)
    monkeypatch.setattr(erasure, "made_from", made_from)
    monkeypatch.setattr(erasure, "of_unknown_data", list)
    text = erase(ADA, data=root / "data", yes=True)
    assert asked == [crops]
    assert "registered: facewright version 3" in text
    assert [path.name for path in (root / "artifacts").iterdir()] == ["distill"]


# --- brought in again ----------------------------------------------------------------------------


def test_photos_that_were_erased_are_told_when_they_are_imported_again(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = here / "p"
    made = dataset(root / "data" / "train" / "web", people(f"{ADA} {BO}"))
    tell_if_erased(made)
    erase(ADA, data=root / "data", yes=True)
    tell_if_erased(open_dataset(made.root))
    assert "taken out on request" not in capsys.readouterr().err
    again = {f"Eve/{k}.jpg": picture(f"{ADA}/{k}.jpg") for k in range(2)}
    tell_if_erased(dataset(root / "data" / "train" / "again", again | OTHERS))
    (line,) = capsys.readouterr().err.splitlines()
    assert "data/train/again holds 2 photos that were taken out on request" in line
    assert "docs/erasures/" in line
    assert not any(word in line for word in ("Ada", "Ünal", "Eve"))


def test_a_file_that_is_no_receipt_is_told_and_the_others_are_read(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = here / "p"
    made = dataset(root / "data" / "train" / "web", people(f"{ADA} {BO}"))
    folder = root / "docs" / "erasures"
    folder.mkdir(parents=True)
    (folder / "0.json").write_text("{")
    (folder / "1.json").write_text('{"photos_sha256": null}')
    digest = made.manifest["sha256"].iat[0]
    (folder / "2.json").write_text(json.dumps({"photos_sha256": [digest]}))
    tell_if_erased(made)
    said = capsys.readouterr().err.splitlines()
    assert ["is no receipt" in line for line in said] == [True, True, False]
    assert "holds 1 photos that were taken out" in said[2]
