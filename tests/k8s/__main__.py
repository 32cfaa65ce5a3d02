"""`python -m tests.k8s render FOLDER` and `check OVERLAY`; see the package's docstring."""

import sys
import tempfile
from pathlib import Path

import yaml

from tests.k8s.policy import faults
from tests.k8s.rendering import Copy, RenderError, render
from tests.k8s.schemas import VERSIONS, schema_faults
from tests.k8s.world import world


def render_both(folder: Path) -> None:
    """Write FOLDER/dev.yaml and FOLDER/prod.yaml."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        copy = Copy.make(Path(scratch) / "k8s")
        for overlay in (copy.dev, copy.prod):
            documents = render(overlay)
            path = folder / f"{overlay.name}.yaml"
            path.write_text(yaml.safe_dump_all(documents, sort_keys=False), encoding="utf-8")
            print(f"{path}: {len(documents)} documents")


def check(overlay: Path) -> int:
    """Say what is wrong with an overlay as it is; the number of faults."""
    documents = render(overlay)
    found = [*schema_faults(documents), *faults(world(documents))]
    for each in found:
        print(each)
    print(
        f"{overlay}: {len(documents)} documents, {len(found)} faults "
        f"(schemas of Kubernetes {' and '.join(VERSIONS)}, the project's rules)"
    )
    return len(found)


def main(arguments: list[str]) -> int:
    match arguments:
        case ["render", folder]:
            render_both(Path(folder))
            return 0
        case ["check", overlay]:
            return 1 if check(Path(overlay)) else 0
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except RenderError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
