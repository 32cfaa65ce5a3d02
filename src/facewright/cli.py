"""The command line: `facewright run STAGE`, `dataset import`, `report`, `promote`, `rollback`."""

import argparse
import importlib
import inspect
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from facewright.errors import FacewrightError

STAGES = (
    "validate",
    "align",
    "train",
    "distill",
    "quantize",
    "compile",
    "evaluate",
    "gate",
    "register",
    "promote",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; 0 when it went well, 2 with one line on standard error when not."""
    options = _parser().parse_args(arguments)
    try:
        options.command(options)
    except FacewrightError as error:
        print(f"facewright: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("facewright: interrupted; nothing half written", file=sys.stderr)
        return 130
    return 0


def run_stage(stage: str) -> Any:
    """Run one stage in the working directory: `data/` and `artifacts/` in, `artifacts/STAGE` out.

    A stage's inputs are the arguments of its `run`: each is named after the stage that made it.
    """
    from facewright import params

    run = importlib.import_module(f"facewright.stages.{stage}").run
    inputs: dict[str, Any] = {}
    for name in inspect.signature(run).parameters:
        if name == "params":
            inputs[name] = params.load(stage)
        elif name == "lineage":
            from facewright.registry.lineage import collect

            inputs[name] = collect(Path())
        elif name == "output":
            inputs[name] = Path("artifacts", stage)
        else:
            inputs[name] = Path("data") if name == "data" else Path("artifacts", name)
            if not inputs[name].exists():
                raise FacewrightError(f"{inputs[name]} is missing: run `dvc repro {stage}`")
    return run(**inputs)


def _run(options: argparse.Namespace) -> None:
    run_stage(options.stage)


def _import(options: argparse.Namespace) -> None:
    from facewright.datasets.importing import import_dataset

    dataset = import_dataset(
        options.source,
        options.output,
        pairs=options.pairs,
        people=options.people,
        name=options.name,
        licence=options.licence,
        consent=options.consent,
    )
    people = dataset.manifest["identity"].nunique()
    print(f"{dataset.root}: {len(dataset.manifest)} images of {people} identities")


def _report(options: argparse.Namespace) -> None:
    from facewright.summary import summary

    print(summary(Path("artifacts")))


def _promote(options: argparse.Namespace) -> None:
    from facewright.registry.promotion import promote

    promoted = promote(_model(options), options.version)
    print(f"{promoted.model} version {promoted.version} is champion")


def _rollback(options: argparse.Namespace) -> None:
    from facewright.registry.promotion import rollback

    restored = rollback(_model(options))
    print(f"{restored.model} version {restored.version} is champion again")


def _model(options: argparse.Namespace) -> str:
    from facewright import params

    return str(options.model or params.load_policy(params.POLICY).model)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="facewright", description="A factory for face recognizers.", allow_abbrev=False
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="run one stage of the graph in this folder")
    run.add_argument("stage", choices=STAGES)
    run.set_defaults(command=_run)

    dataset = commands.add_parser("dataset", help="work on datasets")
    actions = dataset.add_subparsers(required=True, metavar="ACTION")
    imports = actions.add_parser("import", help="write a dataset folder from a source")
    imports.add_argument(
        "source", help="sample:train, sample:verify, a folder per identity, or an archive of it"
    )
    imports.add_argument("output", type=Path, help="data/train/NAME or data/verify/NAME")
    imports.add_argument("--pairs", type=Path, help="pairs file; makes a verification set")
    imports.add_argument("--people", type=Path, help="keep only the people that this file lists")
    imports.add_argument("--name", help="name of the dataset; else that of the output folder")
    imports.add_argument("--licence", help="licence of the images")
    imports.add_argument("--consent", help="basis on which these faces may be used")
    imports.set_defaults(command=_import)

    report = commands.add_parser("report", help="the last run's results and where to look further")
    report.set_defaults(command=_report)

    promote = commands.add_parser("promote", help="make a registered version the champion")
    promote.add_argument(
        "version", nargs="?", type=int, help="else the version that is the challenger"
    )
    promote.add_argument("--model", help="registered model; else the promotion policy's")
    promote.set_defaults(command=_promote)

    rollback = commands.add_parser("rollback", help="give the alias back to the champion before")
    rollback.add_argument("--model", help="registered model; else the promotion policy's")
    rollback.set_defaults(command=_rollback)
    return parser


if __name__ == "__main__":
    sys.exit(main())
