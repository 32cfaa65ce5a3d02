"""Kubeflow component that joins the parts of the stage align."""

from kfp import dsl

from components.images import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def align_join(
    parts: dsl.Input[list[dsl.Dataset]],
    validate: dsl.Input[dsl.Artifact],
    output: dsl.Output[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
):
    """Make the crops of all parts one dataset."""
    from pathlib import Path

    from facewright.stages import align_parts
    from facewright.stages.metrics import read_metrics

    align_parts.join(
        parts=[Path(part.path) for part in parts],
        validate=Path(validate.path),
        output=Path(output.path),
    )
    metrics.metadata.update(read_metrics(Path(output.path)))
