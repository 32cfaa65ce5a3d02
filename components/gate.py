"""Kubeflow component of the stage gate; its returned outcome steers the pipeline."""

from kfp import dsl

from components.images import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def gate(
    params: str,
    tracking_uri: str,
    evaluate: dsl.Input[dsl.Artifact],
    output: dsl.Output[dsl.Artifact],
    decision: dsl.Output[dsl.Markdown],
) -> str:
    """Decide by the promotion policy: `promote`, `hold` or `insufficient evidence`."""
    import os
    from pathlib import Path

    from facewright.params import Gate, from_json
    from facewright.stages import gate
    from facewright.stages.shown import decision_text

    os.environ["MLFLOW_TRACKING_URI"] = tracking_uri
    outcome = gate.run(
        evaluate=Path(evaluate.path),
        output=Path(output.path),
        params=from_json(Gate, params),
    )
    Path(decision.path).write_text(decision_text(Path(output.path)), encoding="utf-8")
    return outcome
