"""Kubeflow component that tells how a run ended, whatever happened in it."""

from kfp import dsl

from components.images import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def tell(status: dsl.PipelineTaskFinalStatus, tracking_uri: str, run_id: str, data_rev: str):
    """Say the outcome in a line, and keep it in MLflow beside the trainings."""
    import os

    from facewright.registry.outcome import record_outcome

    os.environ["MLFLOW_TRACKING_URI"] = tracking_uri
    record_outcome(
        run_id=run_id,
        state=status.state,
        message=status.error_message or "",
        tags={"facewright.data_rev": data_rev},
    )
