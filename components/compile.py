"""Kubeflow component of the stage compile."""

from kfp import dsl

from components.images import TENSORRT_IMAGE


@dsl.component(base_image=TENSORRT_IMAGE, install_kfp_package=False)
def compile(
    params: str,
    quantize: dsl.Input[dsl.Model],
    output: dsl.Output[dsl.Model],
    metrics: dsl.Output[dsl.Metrics],
):
    """Build TensorRT engines."""
    from pathlib import Path

    from facewright.params import Compile, from_json
    from facewright.stages import compile
    from facewright.stages.metrics import read_metrics

    compile.run(
        quantize=Path(quantize.path),
        output=Path(output.path),
        params=from_json(Compile, params),
    )
    metrics.metadata.update(read_metrics(Path(output.path)))
