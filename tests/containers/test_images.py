"""The images: who they run as, what is in them, and what a change of code makes anew."""

import hashlib
import json
from importlib.metadata import version
from pathlib import Path

import pytest

from components.images import CUDA_IMAGE, IMAGE, TENSORRT_IMAGE
from facewright.registry.lineage import collect
from tests.containers.images import Images
from tests.shell import ROOT, copy_project

pytestmark = pytest.mark.containers
LINES = (ROOT / "constraints.txt").read_text().splitlines()
PINS = {
    name.lower().replace("_", "-"): number
    for name, number in (line.split("==") for line in LINES if "==" in line)
}
MLFLOW_IMAGE = f"facewright-mlflow:{PINS['mlflow']}"
OURS = (IMAGE, CUDA_IMAGE, TENSORRT_IMAGE)
# As a cluster runs them: nothing can be written but below /tmp.
STRICT = ("--rm", "--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--network", "none")


def inspected(images: Images, name: str) -> dict:
    (found,) = json.loads(images.docker.run("image", "inspect", name).stdout)
    return found


def run(images: Images, image: str, *command: object) -> str:
    return images.docker.run("run", *STRICT, image, *command, timeout=300).stdout


@pytest.mark.parametrize("name", [*OURS, MLFLOW_IMAGE])
def test_labels_say_which_commit_it_was_built_of(images: Images, name: str) -> None:
    commit = collect(ROOT).git_commit
    labels = inspected(images, name)["Config"]["Labels"]
    assert labels["org.opencontainers.image.revision"] == commit
    assert labels["org.opencontainers.image.title"] == name.partition(":")[0]
    if name in OURS:  # and so does the lineage of a version that is registered in it
        asked = "from facewright.registry.lineage import code_commit; print(code_commit('else'))"
        assert run(images, name, "python3", "-c", asked) == f"{commit}\n"


@pytest.mark.parametrize("name", [*OURS, MLFLOW_IMAGE])
def test_it_does_not_run_as_root(images: Images, name: str) -> None:
    assert run(images, name, "python3", "-c", "import os; print(os.getuid())") == "10001\n"


@pytest.mark.parametrize("name", [*OURS, MLFLOW_IMAGE])
def test_no_compiler(images: Images, name: str) -> None:
    looked = 'for p in cc gcc g++ clang make ld; do command -v "$p"; done; echo looked'
    assert run(images, name, "sh", "-c", looked) == "looked\n"


@pytest.mark.parametrize("name", OURS)
def test_no_pip_beside_the_packages(images: Images, name: str) -> None:
    found = run(images, name, "ls", "/opt/facewright/bin").split()
    assert "facewright" in found
    assert not {"pip", "pip3"} & set(found)


def packages(images: Images, name: str, root: str) -> dict[str, str]:
    """The versions of what was installed below a folder."""
    listing = (
        "import importlib.metadata as m, json, sys\n"
        f"path = [each for each in sys.path if each.startswith({root!r})]\n"
        "print(json.dumps({d.name.lower().replace('_', '-'): d.version"
        " for d in m.distributions(path=path)}))"
    )
    return json.loads(run(images, name, "python3", "-c", listing))


def unpinned(there: dict[str, str]) -> list[str]:
    return [name for name in there if PINS.get(name) != there[name].partition("+")[0]]


@pytest.mark.parametrize("name", OURS)
def test_packages_are_the_pinned_ones(images: Images, name: str) -> None:
    there = packages(images, name, "/opt/facewright/")
    assert there.pop("facewright") == version("facewright")
    # What CUDA's build of PyTorch brings is pinned by PyTorch.
    loose = unpinned(there)
    assert [n for n in loose if not n.startswith(("nvidia-", "cuda-", "triton"))] == []
    assert {"torch", "mlflow", "kfp", "dvc", "onnxruntime"} <= there.keys()
    assert any(n.startswith("tensorrt") for n in there) == (name == TENSORRT_IMAGE)


def test_mlflows_packages_are_the_pinned_ones(images: Images) -> None:
    """They lie beside what the base image brings, which is pinned by its tag."""
    there = packages(images, MLFLOW_IMAGE, "/usr/local/")
    assert set(unpinned(there)) <= {"pip", "setuptools", "wheel"}
    assert {"mlflow", "psycopg2-binary", "boto3"} <= there.keys()
    assert not {"facewright", "torch"} & there.keys()


@pytest.mark.parametrize("name", OURS)
def test_the_code_is_that_of_this_checkout(images: Images, name: str) -> None:
    """All of it, and nothing else: digests of every file."""
    script = (
        "import facewright, hashlib, json, pathlib\n"
        "root = pathlib.Path(facewright.__file__).parent\n"
        "print(json.dumps({str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest()"
        " for p in root.rglob('*.py')}))"
    )
    inside = json.loads(run(images, name, "python3", "-c", script))
    assert len(inside) > 100
    here = ROOT / "src" / "facewright"
    kept = {str(file.relative_to(here)) for file in here.rglob("*.py")}
    assert inside.keys() == kept
    for path, digest in inside.items():
        assert digest == _sha256(here / path), path


def test_it_works_where_nothing_can_be_written(images: Images) -> None:
    """The command, and a stage's worth of imports, with a root file system that is read-only."""
    assert "validate" in run(images, IMAGE, "facewright", "run", "--help")
    script = (
        "import torch, onnxruntime, mlflow, dvc.api, great_expectations, kfp, cv2, openvino\n"
        "from facewright.stages import align, evaluate, gate, train, validate\n"
        "print(torch.ones(2).sum().item())"
    )
    assert run(images, IMAGE, "python3", "-c", script).splitlines()[-1] == "2.0"


def test_a_change_of_code_makes_only_the_last_layer_anew(images: Images, tmp_path: Path) -> None:
    copy = copy_project(tmp_path / "project")
    before = {name: inspected(images, name)["RootFS"]["Layers"] for name in OURS}
    with (copy / "src" / "facewright" / "errors.py").open("a") as file:
        file.write("# changed\n")
    try:
        images.build(root=copy)
        for name in OURS:
            after = inspected(images, name)["RootFS"]["Layers"]
            assert after[:-1] == before[name][:-1]
            assert after[-1] != before[name][-1]
    finally:
        images.build()


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
