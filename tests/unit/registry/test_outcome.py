"""How a run of the whole graph ended is kept, and never hidden by MLflow's own troubles."""

import pytest

from facewright.registry.outcome import RUN_TAG, STATE_TAG, record_outcome
from facewright.registry.tracking import connect


@pytest.mark.parametrize(
    ("state", "status"),
    [
        ("SUCCEEDED", "FINISHED"),
        ("COMPLETE", "FINISHED"),
        ("CACHED", "FINISHED"),
        ("FAILED", "FAILED"),
        ("CANCELED", "KILLED"),
        ("CANCELLED", "KILLED"),
    ],
)
def test_an_outcome_is_a_run(
    online: str, capsys: pytest.CaptureFixture[str], state: str, status: str
) -> None:
    record_outcome(run_id="r1", state=state, message="train:\nout of memory", tags={"a": "b"})
    assert capsys.readouterr().err == f"run r1: {state.lower()}: train: out of memory\n"
    client = connect()
    where = client.get_experiment_by_name("facewright").experiment_id
    (run,) = client.search_runs([where], f"tags.`{RUN_TAG}` = 'r1'")
    assert (run.info.run_name, run.info.status) == ("kubeflow r1", status)
    assert run.data.tags[STATE_TAG] == state
    assert run.data.tags["a"] == "b"
    assert run.data.tags["mlflow.note.content"] == "train: out of memory"


@pytest.mark.parametrize("state", ["RUNNING", "NEW", "?", ""])
def test_a_state_that_is_no_end_is_neither_success_nor_failure(
    online: str, capsys: pytest.CaptureFixture[str], state: str
) -> None:
    record_outcome(run_id="r1", state=state, message="", tags={})
    told = f"run r1: how it ended is unknown, Kubeflow says {state or 'nothing'}\n"
    assert capsys.readouterr().err == told
    client = connect()
    where = client.get_experiment_by_name("facewright").experiment_id
    (run,) = client.search_runs([where], f"tags.`{RUN_TAG}` = 'r1'")
    assert (run.info.status, run.info.end_time) == ("RUNNING", None)
    assert run.data.tags[STATE_TAG] == state


def test_mlflow_that_is_away_hides_nothing(
    offline: str, capsys: pytest.CaptureFixture[str]
) -> None:
    record_outcome(run_id="r1", state="FAILED", message="", tags={})
    first, second = capsys.readouterr().err.splitlines()
    assert first == "run r1: failed"
    assert "no MLflow server answers" in second
    assert "s3cr3t" not in second
