"""Kubeflow component of the stage train, on many nodes."""

from kfp import dsl

from components.images import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def train_job(
    params: str,
    tracking_uri: str,
    nodes: int,
    wait_minutes: float,
    image: str,
    align: dsl.Input[dsl.Dataset],
    output: dsl.Output[dsl.Model],
    metrics: dsl.Output[dsl.Metrics],
):
    """Train the teacher as a TrainJob of Kubeflow Trainer; this step follows it.

    `image` is that of the nodes. The volume facewright-work must be mounted at /work.
    """
    from pathlib import Path

    from facewright.params import Train, from_json
    from facewright.stages import train_job
    from facewright.stages.metrics import read_metrics

    train_job.run(
        align=Path(align.path),
        output=Path(output.path),
        params=from_json(Train, params),
        nodes=nodes,
        wait_minutes=wait_minutes,
        image=image,
        tracking_uri=tracking_uri,
    )
    metrics.metadata.update(read_metrics(Path(output.path)))
