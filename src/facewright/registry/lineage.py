"""What a version was made from: the data, the code and the parameters, as digests."""

import os
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from facewright.errors import RegistryError
from facewright.files import values_digest

UNKNOWN = "unknown"
COMMIT_VARIABLE = "FACEWRIGHT_COMMIT"  # components/Dockerfile sets it: what an image was built of
OUTSIDE = (":!dvc.lock", ":!mlflow/ledger-keys")  # what changes nothing in what is made


@dataclass(frozen=True)
class Lineage:
    """Where a version comes from; a part that cannot be told is `unknown`."""

    data_md5: str  # DVC's hash of data/, as in data.dvc
    git_commit: str  # 40 hex digits; then `-dirty` if a file but OUTSIDE is changed or new
    params_digest: str  # sha256 of params.yaml and the promotion policy, comments left out

    def tags(self) -> dict[str, str]:
        """As MLflow tags."""
        return {f"facewright.{key}": value for key, value in asdict(self).items()}


def collect(root: Path) -> Lineage:
    """The lineage of the project in `root`; in an image the commit is the image's.

    Raises:
        RegistryError: data.dvc, params.yaml or the policy is there but cannot be read.
    """
    params, policy = root / "params.yaml", root / "mlflow" / "promotion.yaml"
    digest = UNKNOWN
    if params.exists() and policy.exists():
        digest = params_digest(params=_read(params), policy=_read(policy))
    return Lineage(
        data_md5=_data_md5(root), git_commit=code_commit(_git_commit(root)), params_digest=digest
    )


def code_commit(checkout: str) -> str:
    """The commit of the code that runs: what its image says, `unknown` too; else `checkout`."""
    return os.environ.get(COMMIT_VARIABLE, checkout)


def params_digest(*, params: Mapping[str, Any], policy: Mapping[str, Any]) -> str:
    """sha256 of all parameters, for a caller that got them without the files."""
    return values_digest({"params": params, "policy": policy})


def _data_md5(root: Path) -> str:
    path = root / "data.dvc"
    if not path.exists():
        return UNKNOWN
    try:
        return str(_read(path)["outs"][0]["md5"])
    except (KeyError, IndexError, TypeError) as error:
        raise RegistryError(f"{path} names no data: write it with `dvc add data`") from error


def _git_commit(root: Path) -> str:
    # A folder inside somebody else's repository is not described by that repository's commit.
    if _git(root, "ls-files", "--error-unmatch", "params.yaml") is None:
        return UNKNOWN
    commit = _git(root, "rev-parse", "HEAD")
    if commit is None:
        return UNKNOWN
    return f"{commit}-dirty" if _git(root, "status", "--porcelain", "--", ".", *OUTSIDE) else commit


def _git(root: Path, *arguments: str) -> str | None:
    """What git prints, or None where git, the repository or the thing asked for is missing."""
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=root, capture_output=True, text=True, timeout=60
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _read(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise RegistryError(f"{path} is not YAML: {error}") from error
    if not isinstance(values, dict):
        raise RegistryError(f"{path}: must hold keys with values")
    return values
