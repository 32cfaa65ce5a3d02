"""The pipeline on this machine: what is refused before anything starts. Runs: tests/pipeline,
tests/containers."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from facewright.errors import PipelineError
from facewright.registry import ledger_keys
from pipelines import local
from pipelines.cluster import Cluster, load

ROOT = Path(__file__).parents[3]
PUBLISHED = ("--docker", "--repository", "git://example.org/x", "--revision", "main")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what the pipeline's arguments are read from, and no Docker."""
    for name in ("params.yaml", "mlflow/promotion.yaml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text((ROOT / name).read_text())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path / 'nobody.sock'}")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    return tmp_path


@pytest.mark.parametrize("module", ["local", "compile", "submit"])
def test_each_command_is_one(module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", f"pipelines.{module}", "--help"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"usage: pipelines.{module}")


@pytest.mark.parametrize("options", [PUBLISHED[:1], PUBLISHED[:3], PUBLISHED[1:], PUBLISHED[3:]])
def test_containers_need_a_repository_and_nothing_else_has_one(
    here: Path, options: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        local.main(options)
    assert ended.value.code == 2
    assert capsys.readouterr().err.endswith("--docker, --repository and --revision go together\n")
    assert not (here / "artifacts").exists()


@pytest.mark.parametrize(
    ("tracking", "told"),
    [
        ("sqlite:///mlflow.db", "containers need MLflow as a server: start one with"),
        ("http://127.0.0.1:9", "Docker does not answer: start it, or set DOCKER_HOST"),
    ],
)
def test_what_containers_need_is_told_in_one_line(
    here: Path,
    tracking: str,
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking)
    assert local.main(PUBLISHED) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"pipelines.local: {told}")


DIGEST = "registry.example.org/facewright@sha256:" + "0" * 64


@pytest.fixture
def images(here: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """What Docker would say of the images of this cluster, one of which has a digest and no tag."""
    import docker

    usual = load()
    there = [
        SimpleNamespace(tags=[usual.gpu_image, usual.engine_image], attrs={"RepoDigests": None}),
        SimpleNamespace(tags=[], attrs={"RepoDigests": [DIGEST]}),
    ]
    client = SimpleNamespace(images=SimpleNamespace(list=lambda: there))
    monkeypatch.setattr(docker, "from_env", lambda: client)
    monkeypatch.setenv(ledger_keys.KEY_VARIABLE, str(here / "ledger.key"))
    return replace(usual, image=DIGEST)


def test_an_image_may_be_named_by_its_digest(images: Cluster) -> None:
    local._containers(images)
    with pytest.raises(PipelineError, match="is not there: `make images`"):
        local._containers(replace(images, image=DIGEST.replace("0", "1")))


def test_containers_can_change_neither_key_nor_whom_the_ledger_trusts(images: Cluster) -> None:
    def mounts() -> list[dict[str, Any]]:
        return local._containers(images).container_run_args["mounts"]

    assert all(mount["ReadOnly"] for mount in mounts())
    sources = {mount["Target"]: Path(mount["Source"]) for mount in mounts()}
    assert sources["/etc/facewright/ledger/ledger.key"] == ledger_keys.key_file().resolve()
    assert sources["/etc/facewright/ledger-keys"] == ledger_keys.keys_folder().resolve()
    # Without a trusted key there could be no first entry.
    (before,) = ledger_keys.trusted_keys()
    assert before == ledger_keys.signer().id
    # Nobody who comes later is trusted without being asked.
    ledger_keys.key_file().unlink()
    mounts()
    assert set(ledger_keys.trusted_keys()) == {before} != {ledger_keys.signer().id}
