"""The Dockerfiles keep the rules, and agree with what names them (building: tests/containers)."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from components.images import CUDA_IMAGE, IMAGE, TENSORRT_IMAGE

ROOT = Path(__file__).parents[2]
FILES = ("components/Dockerfile", "mlflow/Dockerfile")
TEXT = (ROOT / "components" / "Dockerfile").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
TARGETS = {"cpu": IMAGE, "cuda": CUDA_IMAGE, "tensorrt": TENSORRT_IMAGE}


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
    makefile = (ROOT / "Makefile").read_text()
    built = dict(re.findall(r"-f components/Dockerfile --target (\S+) -t (\S+)", makefile))
    assert built == TARGETS
    shown = dict(re.findall(r"^# .*--target (\S+) -t (\S+)", TEXT, re.M))
    assert shown == TARGETS
    assert {name.partition(":")[2] for name in TARGETS.values()} == {PROJECT["version"]}


@pytest.mark.parametrize("target", TARGETS)
def test_code_comes_last_and_nobody_is_root(target: str) -> None:
    stage = TEXT.partition(f" AS {target}\n")[2].partition("\nFROM")[0]
    steps = re.findall(r"^([A-Z]+) (.+)$", stage, re.M)
    kinds = [kind for kind, _ in steps]
    code = max(at for at, (kind, what) in enumerate(steps) if what.startswith("src/"))
    # A step after it would be made anew with each change of code.
    assert set(kinds[code + 1 :]) <= {"ARG", "LABEL", "USER"}
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
