"""Kubeflow component of the stage gate; its returned outcome steers the pipeline."""

from kfp import dsl

from components.images import IMAGE


@dsl.component(base_image=IMAGE)
def gate(
    params: str,
    evaluate: dsl.Input[dsl.Artifact],
    output: dsl.Output[dsl.Artifact],
) -> str:
    """Decide by the promotion policy: `promote` or `hold`."""
    from pathlib import Path

    from facewright.params import Gate, from_json
    from facewright.stages import gate

    return gate.run(
        evaluate=Path(evaluate.path),
        output=Path(output.path),
        params=from_json(Gate, params),
    )
