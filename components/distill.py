"""Kubeflow component of the stage distill."""

from kfp import dsl

from components.images import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def distill(
    params: str,
    tracking_uri: str,
    align: dsl.Input[dsl.Dataset],
    train: dsl.Input[dsl.Model],
    output: dsl.Output[dsl.Model],
    metrics: dsl.Output[dsl.Metrics],
):
    """Distill the student."""
    import os
    from pathlib import Path

    from facewright.params import Distill, from_json
    from facewright.stages import distill
    from facewright.stages.metrics import read_metrics

    os.environ["MLFLOW_TRACKING_URI"] = tracking_uri
    distill.run(
        align=Path(align.path),
        train=Path(train.path),
        output=Path(output.path),
        params=from_json(Distill, params),
    )
    metrics.metadata.update(read_metrics(Path(output.path)))
