"""Kubeflow component of the stage train."""

from kfp import dsl

from components.images import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def train(
    params: str,
    tracking_uri: str,
    align: dsl.Input[dsl.Dataset],
    output: dsl.Output[dsl.Model],
    metrics: dsl.Output[dsl.Metrics],
):
    """Train the teacher."""
    import os
    from pathlib import Path

    from facewright.params import Train, from_json
    from facewright.stages import train
    from facewright.stages.metrics import read_metrics

    os.environ["MLFLOW_TRACKING_URI"] = tracking_uri
    train.run(
        align=Path(align.path),
        output=Path(output.path),
        params=from_json(Train, params),
    )
    metrics.metadata.update(read_metrics(Path(output.path)))
