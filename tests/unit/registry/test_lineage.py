"""Lineage names commit, data and parameters, and says `unknown` rather than guess."""

import subprocess
from pathlib import Path

import pytest

from facewright.errors import RegistryError
from facewright.registry.lineage import COMMIT_VARIABLE, Lineage, collect, params_digest


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=Test", "-c", "user.email=test@example.org"]
    done = subprocess.run(
        ["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    (root / "mlflow").mkdir(parents=True)
    (root / "params.yaml").write_text("train: {seed: 1} # a comment\n")
    (root / "mlflow" / "promotion.yaml").write_text("min_accuracy: 0.9\n")
    (root / "data.dvc").write_text("outs:\n- md5: 0123abcd.dir\n  path: data\n")
    return root


def test_collect_in_a_repository(project: Path) -> None:
    git(project, "init")
    git(project, "add", ".")
    git(project, "commit", "-m", "start")
    commit = git(project, "rev-parse", "HEAD")
    assert collect(project) == Lineage(
        data_md5="0123abcd.dir",
        git_commit=commit,
        params_digest=params_digest(params={"train": {"seed": 1}}, policy={"min_accuracy": 0.9}),
    )
    # The ledger's first entry writes its key there: no version is another one for that.
    (project / "mlflow" / "ledger-keys").mkdir()
    (project / "mlflow" / "ledger-keys" / "me.pub").write_text("key")
    assert collect(project).git_commit == commit
    (project / "params.yaml").write_text("train: {seed: 2}\n")
    assert collect(project).git_commit == f"{commit}-dirty"


@pytest.mark.parametrize("built_of", ["0123abcd", "unknown"])
def test_in_an_image_the_commit_is_the_images(
    project: Path, monkeypatch: pytest.MonkeyPatch, built_of: str
) -> None:
    """A checkout that is mounted there is not the code that runs."""
    git(project, "init")
    git(project, "add", ".")
    git(project, "commit", "-m", "start")
    monkeypatch.setenv(COMMIT_VARIABLE, built_of)
    assert collect(project).git_commit == built_of


def test_params_digest_follows_values_not_comments(project: Path) -> None:
    first = collect(project).params_digest
    (project / "params.yaml").write_text("# another\ntrain:\n  seed: 1\n")
    assert collect(project).params_digest == first
    (project / "mlflow" / "promotion.yaml").write_text("min_accuracy: 0.8\n")
    assert collect(project).params_digest != first


def test_unknown_outside_git_and_without_files(project: Path, tmp_path: Path) -> None:
    assert collect(project).git_commit == "unknown"
    empty = tmp_path / "empty"
    empty.mkdir()
    assert collect(empty) == Lineage("unknown", "unknown", "unknown")


def test_commit_of_a_repository_around_it_is_not_taken(project: Path, tmp_path: Path) -> None:
    (tmp_path / "other.txt").write_text("x")
    git(tmp_path, "init")
    git(tmp_path, "add", "other.txt")
    git(tmp_path, "commit", "-m", "other")
    assert collect(project).git_commit == "unknown"


def test_data_dvc_without_data_is_refused(project: Path) -> None:
    (project / "data.dvc").write_text("outs: []\n")
    with pytest.raises(RegistryError, match=r"data\.dvc"):
        collect(project)
