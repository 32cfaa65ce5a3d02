"""Copies of the project, and commands in them."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]
GIT = ("git", "-c", "user.name=t", "-c", "user.email=t@example.org")
KEYS = "mlflow/ledger-keys/"  # a copy has a ledger, and so a first key, of its own


def shell(
    folder: Path, *command: str | Path, environment: Mapping[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run a command there, with this Python's programs first; `environment` is added to ours."""
    bin_folder = Path(sys.executable).parent
    own = os.environ | {"PATH": f"{bin_folder}:{os.environ['PATH']}"}
    own.pop("MLFLOW_TRACKING_URI", None)
    done = subprocess.run(
        command, cwd=folder, env={**own, **(environment or {})},
        capture_output=True, text=True, timeout=1500, check=False,
    )  # fmt: skip
    print(done.stdout, done.stderr)
    return done


def copy_project(folder: Path) -> Path:
    """The working tree as git sees it, in a new repository, without data and outputs; returns
    `folder`."""
    files = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"],
        cwd=ROOT, capture_output=True, check=True, text=True,
    ).stdout.split("\0")  # fmt: skip
    for name in filter(None, files):
        if name != "dvc.lock" and not name.startswith(KEYS) and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    for command in (("git", "init", "-q"), ("git", "add", "-A"), (*GIT, "commit", "-qm", "copy")):
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder
