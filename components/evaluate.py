"""Kubeflow component of the stage evaluate."""

from kfp import dsl

from components.images import IMAGE


@dsl.component(base_image=IMAGE)
def evaluate(
    params: str,
    align: dsl.Input[dsl.Dataset],
    train: dsl.Input[dsl.Model],
    quantize: dsl.Input[dsl.Model],
    compile: dsl.Input[dsl.Model],
    output: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
):
    """The same pairs through every recognizer."""
    from pathlib import Path

    from facewright.params import Evaluate, from_json
    from facewright.stages import evaluate
    from facewright.stages.metrics import read_metrics

    evaluate.run(
        align=Path(align.path),
        train=Path(train.path),
        quantize=Path(quantize.path),
        compile=Path(compile.path),
        output=Path(output.path),
        params=from_json(Evaluate, params),
    )
    metrics.metadata.update(read_metrics(Path(output.path)))
