"""Kubeflow component of the stage validate."""

from kfp import dsl

from components.images import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def validate(
    params: str,
    data: dsl.Input[dsl.Dataset],
    output: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
    data_docs: dsl.Output[dsl.HTML],
):
    """Give every image a verdict."""
    import shutil
    from pathlib import Path

    from facewright.params import Validate, from_json
    from facewright.stages import validate
    from facewright.stages.metrics import read_metrics

    validate.run(
        data=Path(data.path),
        output=Path(output.path),
        params=from_json(Validate, params),
    )
    metrics.metadata.update(read_metrics(Path(output.path)))
    shutil.copyfile(Path(output.path) / "data_docs" / "index.html", data_docs.path)
