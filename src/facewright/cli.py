"""The command line: `facewright run STAGE`, `dataset …`, `report`, `promote`, `sync` and so on."""

import argparse
import importlib
import inspect
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facewright.cli_registry import add_registry_commands
from facewright.errors import DatasetError, FacewrightError

if TYPE_CHECKING:
    from facewright.datasets.form import Dataset

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

SHOWN_FAULTS = 20  # of `dataset verify`; their number is always told
MEND = ": import or pull it again"  # the end of many a fault, and said once


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
        elif name == "policy":
            inputs[name] = params.load_policy(params.POLICY)
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
        templates=options.templates,
        people=options.people,
        images=options.images,
        names=options.names,
        landmarks=options.landmarks,
        name=options.name,
        licence=options.licence,
        consent=options.consent,
        collected=options.collected,
        endpoint_url=options.endpoint_url,
    )
    _tell(dataset)


def _show(options: argparse.Namespace) -> None:
    from facewright.datasets.checking import show_datasets

    print(show_datasets(options.folder))


def _verify(options: argparse.Namespace) -> None:
    from facewright.datasets.checking import verify_datasets

    faults = verify_datasets(options.folder)
    for fault in faults[:SHOWN_FAULTS]:
        print(fault)
    if faults:
        first = faults[0].removesuffix(MEND)
        raise DatasetError(f"{options.folder}: {len(faults)} faults, first: {first}{MEND}")
    print(f"{options.folder}: every byte is as the manifest says")


def _export(options: argparse.Namespace) -> None:
    from facewright.datasets.exporting import export_dataset

    print(f"{options.output}: {export_dataset(options.folder, options.output)} images")


def _merge(options: argparse.Namespace) -> None:
    from facewright.datasets.editing import merge_datasets

    _tell(merge_datasets(options.output, options.folders, rename=options.rename))


def _subset(options: argparse.Namespace) -> None:
    from facewright.datasets.editing import subset_dataset

    part = subset_dataset(
        options.folder,
        options.output,
        people=options.people,
        images=options.images,
        min_images=options.min_images,
        identities=options.identities,
        per_identity=options.per_identity,
    )
    _tell(part)


def _erase(options: argparse.Namespace) -> None:
    from facewright.erasure import erase

    told = erase(
        options.identity,
        data=options.data,
        purge=options.purge,
        yes=options.yes,
        ours=options.ours,
    )
    print(told)


def _tell(dataset: "Dataset") -> None:
    from facewright.datasets.receipts import tell_if_erased

    tell_if_erased(dataset)
    images, identities = dataset.counts()
    print(f"{dataset.root}: {images} images of {identities} identities")


def _report(options: argparse.Namespace) -> None:
    from facewright.summary import summary

    print(summary(Path("artifacts")))


def _sync(options: argparse.Namespace) -> None:
    from facewright.registry.tracking import sync

    print(sync())


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
        "source",
        help="folders of identities, an archive of them, WebDataset shards, an InsightFace folder "
        "or .bin, a .parquet, .csv or .tsv list, s3://bucket/prefix, sample:train, sample:verify",
    )
    imports.add_argument("output", type=Path, help="data/train/NAME or data/verify/NAME")
    imports.add_argument(
        "--pairs",
        type=Path,
        help="pairs file or CFP's folder Protocol/Split/FP; makes a verification set",
    )
    imports.add_argument(
        "--templates",
        type=Path,
        help="which photos stand together for one, as in IJB-B and IJB-C: lines PHOTO TEMPLATE "
        "MEDIUM; --pairs are then lines TEMPLATE TEMPLATE LABEL",
    )
    imports.add_argument(
        "--people", type=Path, help="keep only the people that this file lists, one a line"
    )
    imports.add_argument(
        "--images",
        type=Path,
        help="keep only the photos that this file lists, one a line: IDENTITY/PHOTO, or the path "
        "in the source, with a suffix or without",
    )
    imports.add_argument(
        "--names",
        type=Path,
        help="names of identities that are numbers: lines NUMBER NAME, or identity_meta.csv",
    )
    imports.add_argument(
        "--landmarks",
        type=Path,
        help="five points per photo, so that none are searched: lines PATH<tab>x y … (ten numbers, "
        "tabs between), VGGFace2's loose_landmark_….csv, or InsightFace's for IJB",
    )
    imports.add_argument("--name", help="name of the dataset; else that of the output folder")
    imports.add_argument("--licence", help="licence of the images")
    imports.add_argument("--consent", help="basis on which these faces may be used")
    imports.add_argument(
        "--collected",
        metavar="DAY",
        help="when the oldest of the photos were taken, as 2026-03-31; a gate may ask for it",
    )
    imports.add_argument("--endpoint-url", help="S3 server; else AWS_ENDPOINT_URL, else Amazon's")
    imports.set_defaults(command=_import)
    _add_dataset_actions(actions)

    report = commands.add_parser("report", help="the last run's results and where to look further")
    report.set_defaults(command=_report)

    add_registry_commands(commands)

    sync = commands.add_parser("sync", help="send MLflow the runs that its absence left on disk")
    sync.set_defaults(command=_sync)
    return parser


def _add_dataset_actions(actions: Any) -> None:
    """What is done with datasets that are there."""
    show = actions.add_parser(
        "show", help="a dataset's card and counts; for data/, a line for each"
    )
    show.add_argument("folder", type=Path, help="a dataset, or a folder of datasets such as data/")
    show.set_defaults(command=_show)

    verify = actions.add_parser("verify", help="compare every byte with the manifest")
    verify.add_argument(
        "folder", type=Path, help="a dataset, or a folder of datasets such as data/"
    )
    verify.set_defaults(command=_verify)

    export = actions.add_parser(
        "export", help="write a folder per identity, with the source's bytes"
    )
    export.add_argument("folder", type=Path, help="the dataset")
    export.add_argument("output", type=Path, help="a new folder")
    export.set_defaults(command=_export)

    merge = actions.add_parser("merge", help="join datasets; people of one name are one person")
    merge.add_argument("output", type=Path, help="the new dataset's folder, in none of the others")
    merge.add_argument(
        "folders", type=Path, nargs="+", metavar="folder", help="two or more datasets of one kind"
    )
    merge.add_argument("--rename", type=Path, help="CSV file of identities: dataset,from,to")
    merge.set_defaults(command=_merge)

    subset = actions.add_parser("subset", help="write a part of a dataset, the same every time")
    subset.add_argument("folder", type=Path, help="the dataset")
    subset.add_argument(
        "output",
        type=Path,
        help="the part's folder; in data/train only where the whole is elsewhere",
    )
    subset.add_argument("--people", type=Path, help="identities to keep, one a line")
    subset.add_argument("--images", type=Path, help="images to keep: ids or paths, one a line")
    subset.add_argument("--min-images", type=int, help="drop identities with fewer images")
    subset.add_argument("--identities", type=int, help="keep this many identities")
    subset.add_argument("--per-identity", type=int, help="keep this many images of each")
    subset.set_defaults(command=_subset)

    erase = actions.add_parser("erase", help="take a person out of data/ and of DVC's copies")
    erase.add_argument(
        "--identity",
        required=True,
        help="a name in any spelling, or DATASET/NUMBER such as train/web/0000045",
    )
    erase.add_argument("--data", type=Path, default=Path("data"), help="folder of the datasets")
    erase.add_argument("--purge", action="store_true", help="remove DVC's copies too")
    erase.add_argument(
        "--ours",
        action="append",
        default=[],
        metavar="MD5",
        help="a list in a shared cache or remote that is a version of data/ unknown to git",
    )
    erase.add_argument("--yes", action="store_true", help="do it; else it is only shown")
    erase.set_defaults(command=_erase)


if __name__ == "__main__":
    sys.exit(main())
