"""`python -m pipelines.compile [FILE]`: write the Kubeflow pipeline as YAML."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from kfp import compiler

from facewright.errors import FacewrightError
from pipelines.arguments import arguments, checked_tracking_uri, start_moves
from pipelines.cluster import load
from pipelines.graph import pipeline


def main(argv: Sequence[str] | None = None) -> int:
    """Compile the graph with this checkout's parameters as defaults.

    `repository` has no default, nor has `tracking_uri` unless `$MLFLOW_TRACKING_URI` is set.
    Returns 0, or 2 with one line when params.yaml, the policy or that address is wrong.
    """
    parser = argparse.ArgumentParser(prog="pipelines.compile", description=__doc__)
    parser.add_argument("file", nargs="?", type=Path, default=Path("build/facewright.yaml"))
    file: Path = parser.parse_args(argv).file
    try:
        defaults = arguments()
        if "tracking_uri" in defaults:
            checked_tracking_uri(defaults["tracking_uri"])
        graph = pipeline(load(), start_moves=start_moves(defaults))
    except FacewrightError as error:
        print(f"pipelines.compile: {error}", file=sys.stderr)
        return 2
    file.parent.mkdir(parents=True, exist_ok=True)
    compiler.Compiler().compile(graph, str(file), pipeline_parameters=defaults)
    print(f"{file}: upload it in the Kubeflow UI, or submit with `python -m pipelines.submit`")
    return 0


if __name__ == "__main__":
    sys.exit(main())
