"""Kubeflow component of the stage quantize."""

from kfp import dsl

from components.images import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def quantize(
    params: str,
    align: dsl.Input[dsl.Dataset],
    distill: dsl.Input[dsl.Model],
    output: dsl.Output[dsl.Model],
    metrics: dsl.Output[dsl.Metrics],
):
    """Write the student as FP32 and INT8 ONNX."""
    from pathlib import Path

    from facewright.params import Quantize, from_json
    from facewright.stages import quantize
    from facewright.stages.metrics import read_metrics

    quantize.run(
        align=Path(align.path),
        distill=Path(distill.path),
        output=Path(output.path),
        params=from_json(Quantize, params),
    )
    metrics.metadata.update(read_metrics(Path(output.path)))
