"""train on many nodes: as a TrainJob of Kubeflow Trainer, and not in this process."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from facewright.cluster.api import connect
from facewright.cluster.train_jobs import run_train_job, train_job
from facewright.cluster.volume import appears, copy_files, move_entries, training_folder
from facewright.datasets.form import open_dataset
from facewright.errors import ClusterError, FacewrightError
from facewright.files import code_digest, values_digest, whole_directory, write_json
from facewright.params import Train, from_json
from facewright.progress import say
from facewright.stages import train

VOLUME = Path("/work")  # where k8s/base/training-runtime.yaml mounts it
RUNTIME = "facewright-torchrun"
SPOOL = ".mlflow-spool"  # in the folder that a process runs in
NAMED = 16  # digits of a digest that name a folder


def run(
    *,
    align: Path,
    output: Path,
    params: Train,
    nodes: int,
    wait_minutes: float,
    image: str,
    tracking_uri: str,
    volume: Path = VOLUME,
) -> None:
    """What `train.run` writes, trained by `nodes` nodes that see `volume` as this process does.

    One that failed or was cancelled goes on from its last checkpoint when it is started again with
    the same crops, parameters and code.

    Args:
        wait_minutes: in which all nodes have to run.
        image: of the nodes; empty for the one of the runtime.
        tracking_uri: the MLflow server that the nodes reach.

    Raises:
        ClusterError: as `run_train_job`, or the nodes see another volume.
        StorageError: the volume refuses.
    """
    digest = open_dataset(align / "train").digest
    counts = {
        name: value
        for name, value in params.model_dump().items()
        if name not in train.NOT_OF_THE_RESULT - {"resume"}
    }
    key = values_digest([digest, counts, code_digest("models", "training")])[:NAMED]
    api = connect()
    with training_folder(volume, align / "train", digest=digest[:NAMED], key=key) as folder:
        trained = folder / "train"
        if trained.exists():
            say(f"train: {trained} is whole: an earlier start was cut off after the training")
        else:
            write_json(folder / "params.json", params.model_dump())
            job = train_job(
                f"facewright-train-{key}",
                namespace=api.namespace,
                runtime=RUNTIME,
                nodes=nodes,
                arguments=["-m", "facewright.stages.train_job", str(folder)],
                image=image,
                environment={"MLFLOW_TRACKING_URI": tracking_uri},
                owner=_own_pod(),
            )
            run_train_job(api, job, within=wait_minutes * 60)
        if not appears(trained):
            raise ClusterError(
                f"the TrainJob is complete, but {trained} is not here: its nodes must see the "
                f"same volume at {volume} as this step"
            )
        with whole_directory(output, lasting=True) as whole:
            copy_files(trained, whole, label="train: files taken from the volume")
        if move_entries(folder / SPOOL, volume / SPOOL):
            say(f"train: MLflow has not got all of the run: `facewright sync` in {volume} sends it")


def _own_pod() -> tuple[str, str] | None:
    """Name and uid, which Kubeflow Pipelines gives to its steps."""
    name, uid = os.environ.get("KFP_POD_NAME"), os.environ.get("KFP_POD_UID")
    return (name, uid) if name and uid else None


def main(arguments: Sequence[str]) -> int:
    """One process of a node: torchrun -m facewright.stages.train_job FOLDER."""
    folder = Path(arguments[0])
    try:
        os.chdir(folder)  # what MLflow has not got yet is kept in the working directory
        text = Path("params.json").read_text(encoding="utf-8")
        train.run(align=folder.parents[1], output=Path("train"), params=from_json(Train, text))
    except FacewrightError as error:
        print(f"facewright: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
