"""`python -m pipelines.compile [FILE]`: write the Kubeflow pipeline as YAML."""

import argparse
import sys
from pathlib import Path

from kfp import compiler

from facewright.errors import FacewrightError
from pipelines.graph import facewright


def main() -> int:
    """Compile the graph; 0, or 2 with one line when params.yaml or the policy is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", nargs="?", type=Path, default=Path("build/facewright.yaml"))
    file: Path = parser.parse_args().file
    try:
        from pipelines.arguments import arguments

        defaults = arguments(repository=".", revision="")
    except FacewrightError as error:
        print(f"pipelines.compile: {error}", file=sys.stderr)
        return 2
    file.parent.mkdir(parents=True, exist_ok=True)
    compiler.Compiler().compile(facewright, str(file), pipeline_parameters=defaults)
    print(f"{file}: upload it in the Kubeflow UI, or submit it with kfp.Client")
    return 0


if __name__ == "__main__":
    sys.exit(main())
