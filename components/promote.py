"""Kubeflow component of the stage promote; the pipeline runs it only if the gate says so."""

from kfp import dsl

from components.images import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def promote(
    tracking_uri: str,
    policy: str,
    gate: dsl.Input[dsl.Artifact],
    register: dsl.Input[dsl.Artifact],
    output: dsl.Output[dsl.Artifact],
):
    """Make the registered version the champion."""
    import os
    from pathlib import Path

    from facewright.params import Gate, from_json
    from facewright.stages import promote

    os.environ["MLFLOW_TRACKING_URI"] = tracking_uri
    promote.run(
        gate=Path(gate.path),
        register=Path(register.path),
        output=Path(output.path),
        policy=from_json(Gate, policy),
    )
