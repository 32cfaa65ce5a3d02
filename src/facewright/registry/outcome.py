"""How a run of the whole graph ended, as a run in MLflow beside the trainings."""

from collections.abc import Mapping

from facewright.errors import RegistryError
from facewright.progress import say
from facewright.registry.server import open_client, open_run, registry_errors

RUN_TAG = "facewright.kubeflow_run"
STATE_TAG = "facewright.kubeflow_state"
# Kubeflow's states as MLflow's. Its metadata store has COMPLETE and CACHED for what succeeded.
STATUSES = {
    **dict.fromkeys(("SUCCEEDED", "COMPLETE", "CACHED"), "FINISHED"),
    **dict.fromkeys(("CANCELED", "CANCELLED"), "KILLED"),
    "FAILED": "FAILED",
}


def record_outcome(*, run_id: str, state: str, message: str, tags: Mapping[str, str]) -> None:
    """Say how the Kubeflow run `run_id` ended, and keep it in MLflow as `kubeflow RUN`.

    `state` is Kubeflow's (`SUCCEEDED`, `FAILED`, `CANCELED`), `message` its error, or empty. One
    that tells of no end (Kubeflow may say `RUNNING` where a loop is inside) is no failure: the run
    in MLflow stays open, since MLflow has no word for it. That MLflow does not answer is said too,
    and is no error: it must not hide how the run ended.
    """
    status = STATUSES.get(state)
    word = (
        state.lower() if status else f"how it ended is unknown, Kubeflow says {state or 'nothing'}"
    )
    why = " ".join(message.split())
    say(f"run {run_id}: {word}{f': {why}' if why else ''}")
    known = {RUN_TAG: run_id, STATE_TAG: state, **tags}
    if why:
        known["mlflow.note.content"] = why  # what MLflow shows as the run's description
    try:
        client = open_client()
        with registry_errors("the outcome cannot be kept"):
            made = open_run(client, f"kubeflow {run_id}", params={}, tags=known)
            if status:
                client.set_terminated(made, status)
    except RegistryError as error:
        say(str(error))
