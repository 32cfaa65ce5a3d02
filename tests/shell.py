"""Commands in a copy of the project."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path


def shell(
    folder: Path, *command: str | Path, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
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
