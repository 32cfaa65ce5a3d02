"""Kubeflow component of the stage gate; its returned outcome steers the pipeline."""

from kfp import dsl

from components.images import IMAGE


@dsl.component(base_image=IMAGE)
def gate(
    params: str,
    tracking_uri: str,
    evaluate: dsl.Input[dsl.Artifact],
    output: dsl.Output[dsl.Artifact],
) -> str:
    """Decide by the promotion policy: `promote`, `hold` or `insufficient evidence`."""
    import os
    from pathlib import Path

    from facewright.params import Gate, from_json
    from facewright.stages import gate

    os.environ["MLFLOW_TRACKING_URI"] = tracking_uri
    return gate.run(
        evaluate=Path(evaluate.path),
        output=Path(output.path),
        params=from_json(Gate, params),
    )
