"""Commands in a copy of the project."""

import os
import subprocess
import sys
from pathlib import Path


def shell(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    bin_folder = Path(sys.executable).parent
    environment = os.environ | {"PATH": f"{bin_folder}:{os.environ['PATH']}"}
    environment.pop("MLFLOW_TRACKING_URI", None)
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=1500
    )
    print(done.stdout, done.stderr)
    return done
