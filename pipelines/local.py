"""`make kfp-local`: the Kubeflow pipeline on this machine, a subprocess per component."""

import os
import sys
from pathlib import Path

from kfp import local

from facewright.errors import FacewrightError
from facewright.registry.tracking import tracking_uri
from pipelines.arguments import arguments
from pipelines.cluster import load
from pipelines.graph import pipeline

ROOT = Path("artifacts/kfp-local")  # one folder per run, one below it per component


def main() -> int:
    """Run the pipeline on `data/` of this working tree; 0 when it went well, else 2."""
    ROOT.mkdir(parents=True, exist_ok=True)
    here = Path().resolve()
    os.environ.setdefault("MLFLOW_TRACKING_URI", tracking_uri())
    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(ROOT))
    try:
        # Without a revision the data comes from the working tree, as for `dvc repro`.
        pipeline(load())(**arguments() | {"repository": str(here), "revision": ""})
    except (FacewrightError, RuntimeError) as error:
        print(f"pipelines.local: {error}", file=sys.stderr)
        return 2
    print(f"{ROOT}: what each component wrote, in a folder per run")
    return 0


if __name__ == "__main__":
    sys.exit(main())
