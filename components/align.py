"""Kubeflow component of the stage align."""

from kfp import dsl

from components.images import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def align(
    params: str,
    data: dsl.Input[dsl.Dataset],
    validate: dsl.Input[dsl.Artifact],
    output: dsl.Output[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
):
    """Find faces and cut crops."""
    from pathlib import Path

    from facewright.params import Align, from_json
    from facewright.stages import align
    from facewright.stages.metrics import read_metrics

    align.run(
        data=Path(data.path),
        validate=Path(validate.path),
        output=Path(output.path),
        params=from_json(Align, params),
    )
    metrics.metadata.update(read_metrics(Path(output.path)))
