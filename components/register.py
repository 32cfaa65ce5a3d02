"""Kubeflow component of the stage register."""

from kfp import dsl

from components.images import IMAGE


@dsl.component(base_image=IMAGE)
def register(
    lineage: str,
    train: dsl.Input[dsl.Model],
    distill: dsl.Input[dsl.Model],
    quantize: dsl.Input[dsl.Model],
    compile: dsl.Input[dsl.Model],
    evaluate: dsl.Input[dsl.Artifact],
    gate: dsl.Input[dsl.Artifact],
    output: dsl.Output[dsl.Artifact],
):
    """Register the recognizer in MLflow as challenger."""
    import json
    from pathlib import Path

    from facewright.registry.lineage import Lineage
    from facewright.stages import register

    register.run(
        train=Path(train.path),
        distill=Path(distill.path),
        quantize=Path(quantize.path),
        compile=Path(compile.path),
        evaluate=Path(evaluate.path),
        gate=Path(gate.path),
        output=Path(output.path),
        lineage=Lineage(**json.loads(lineage)),
    )
