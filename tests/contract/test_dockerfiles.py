"""The Dockerfiles keep the rules, and agree with what names them (building: tests/containers)."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from components.images import CUDA_IMAGE, IMAGE, TENSORRT_IMAGE
from facewright.registry.lineage import COMMIT_VARIABLE, UNKNOWN, collect
from tests.containers.test_images import MLFLOW_IMAGE
from tests.shell import GIT

ROOT = Path(__file__).parents[2]
FILES = ("components/Dockerfile", "mlflow/Dockerfile")
TEXT = (ROOT / "components" / "Dockerfile").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
K8S, MLFLOW = ROOT / "k8s", ROOT / "mlflow"
NAMED = r"facewright-mlflow:[\w.-]*\d"  # the image with a tag
TARGETS = {"cpu": IMAGE, "cuda": CUDA_IMAGE, "tensorrt": TENSORRT_IMAGE}


def make_images(folder: Path, *words: str) -> str:
    """The commands of `make images` there, which are not run."""
    command = ["make", "--dry-run", "images", *words]
    # Not the settings of a make that runs this test.
    own = {key: value for key, value in os.environ.items() if key not in ("MAKEFLAGS", "TAG")}
    done = subprocess.run(command, cwd=folder, env=own, capture_output=True, text=True, check=True)
    return done.stdout


def built(folder: Path, *words: str) -> dict[str, str]:
    """The name that each target of the components gets."""
    said = make_images(folder, *words)
    return dict(re.findall(r"-f components/Dockerfile --target (\S+) -t (\S+)", said))


@pytest.mark.parametrize("file", FILES)
def test_hadolint_finds_nothing(file: str) -> None:
    program = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which(
        "hadolint"
    )
    if program is None:
        pytest.skip("no hadolint: make .venv/dev")
    done = subprocess.run([program, ROOT / file], capture_output=True, text=True, check=False)
    assert done.stdout + done.stderr == ""
    assert done.returncode == 0


def test_makefile_gives_each_target_the_name_that_components_run_in() -> None:
    assert built(ROOT) == TARGETS
    tagged = {target: f"{name.partition(':')[0]}:abc" for target, name in TARGETS.items()}
    assert built(ROOT, "TAG=abc") == tagged
    shown = dict(re.findall(r"^# .*--target (\S+) -t (\S+)", TEXT, re.M))
    assert shown == TARGETS
    assert {name.partition(":")[2] for name in TARGETS.values()} == {PROJECT["version"]}


def test_make_gives_the_commit_and_says_where_the_tree_is_another(tmp_path: Path) -> None:
    """As a version's lineage does: what changes nothing in what is made is passed over."""

    def told() -> set[str]:
        found = re.findall(r"--build-arg GIT_COMMIT=(\S+)", make_images(tmp_path))
        assert len(found) == len(TARGETS) + 1
        assert set(found) == {collect(tmp_path).git_commit}
        return set(found)

    for name in ("Makefile", "constraints.txt", "params.yaml", "mlflow/promotion.yaml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text((ROOT / name).read_text())
    assert told() == {UNKNOWN}
    for command in (["init", "-q"], ["add", "."], [*GIT[1:], "commit", "-qm", "one"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    (commit,) = told()
    (tmp_path / "dvc.lock").touch()
    assert told() == {commit}
    (tmp_path / "new.py").touch()
    assert told() == {f"{commit}-dirty"}


def test_mlflows_image_is_named_after_the_version_that_is_pinned() -> None:
    """Wherever it is named: by make, the tests of the images, the manifests and mlflow/."""
    (pin,) = re.findall(r"^mlflow==(\S+)$", (ROOT / "constraints.txt").read_text(), re.M)
    name = f"facewright-mlflow:{pin}"
    assert re.findall(r"-f mlflow/Dockerfile -t (\S+)", make_images(ROOT)) == [name]
    assert name == MLFLOW_IMAGE
    files = [each for each in (*K8S.rglob("*"), *MLFLOW.rglob("*")) if each.is_file()]
    named = {
        each.relative_to(ROOT).as_posix(): set(re.findall(NAMED, each.read_text()))
        for each in files
    }
    named = {file: names for file, names in named.items() if names}
    assert named.keys() >= {
        "k8s/README.md",
        "k8s/base/mlflow/backup.yaml",
        "k8s/base/mlflow/server.yaml",
        "mlflow/Dockerfile",
        "mlflow/compose.yaml",
    }
    for file, names in named.items():
        assert names == {name}, file


def test_both_files_have_the_same_base_to_the_patch() -> None:
    bases = {re.search(r"^FROM (python:\S+)", (ROOT / file).read_text(), re.M)[1] for file in FILES}  # type: ignore[index]
    (base,) = bases
    assert re.fullmatch(r"python:3\.11\.\d+-slim-bookworm", base)


@pytest.mark.parametrize("target", TARGETS)
def test_code_comes_last_and_nobody_is_root(target: str) -> None:
    stage = TEXT.partition(f" AS {target}\n")[2].partition("\nFROM")[0]
    steps = re.findall(r"^([A-Z]+) (.+)$", stage, re.M)
    kinds = [kind for kind, _ in steps]
    code = max(at for at, (kind, what) in enumerate(steps) if what.startswith("src/"))
    # A step after it would be made anew with each change of code.
    assert set(kinds[code + 1 :]) <= {"ARG", "ENV", "LABEL", "USER"}
    # The commit is there to be recorded, even by a build that was not told it.
    assert ("ENV", f"{COMMIT_VARIABLE}=${{GIT_COMMIT:-{UNKNOWN}}}") in steps[code + 1 :]
    (user,) = [what for kind, what in steps if kind == "USER"]
    assert int(user) > 0


def test_only_what_is_copied_goes_to_the_builder() -> None:
    copied = {
        source
        for sources in re.findall(r"^COPY (?!--from)(.+) \S+$", TEXT, re.M)
        for source in sources.split()
    }
    ignored = (ROOT / "components" / "Dockerfile.dockerignore").read_text().split()
    assert ignored[0] == "*"
    let_in = {line.removeprefix("!") for line in ignored if line.startswith("!")}
    assert let_in == {name.partition("/")[0] for name in copied}


def test_pytorch_is_the_one_that_the_project_asks_for() -> None:
    (asked,) = [name for name in PROJECT["dependencies"] if name.startswith("torch==")]
    assert f" {asked}\n" in TEXT
