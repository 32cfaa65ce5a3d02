"""A TrainJob is made as the trainer reads it, followed through all that happens, and deleted."""

import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from facewright.cluster import api, train_jobs
from facewright.cluster.api import Api
from facewright.cluster.train_jobs import run_train_job, train_job
from facewright.errors import ClusterError
from tests.k8s.schemas import schema_faults
from tests.unit.cluster.fake_cluster import (
    EVENTS,
    NAMESPACE,
    PODS,
    TRAINJOBS,
    FakeCluster,
    RefusalError,
)

ROOT = Path(__file__).parents[3]
NAME = "facewright-train-0123456789abcdef"
FOLDER = "/work/crops/0123456789abcdef/trainings/0123456789abcdef"
LOST = "facewright: process 0 of 2 lost another one, whose own message says why: start all again"
# As torchrun 2.13 writes it, shortened.
REPORT = (
    "E1128 12:00:00.1 7 torch/distributed/elastic/multiprocessing/api.py:1011] failed",
    "Traceback (most recent call last):",
    '  File "torch/distributed/launcher/api.py", line 300, in launch_agent',
    "facewright.stages.train_job FAILED",
    "============================================================",
)


def job_of(**changed: Any) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "namespace": NAMESPACE,
        "runtime": "facewright-torchrun",
        "nodes": 2,
        "arguments": ["-m", "facewright.stages.train_job", FOLDER],
        "image": "",
        "environment": {"MLFLOW_TRACKING_URI": "http://mlflow.facewright:5000"},
        "owner": None,
    }
    return train_job(NAME, **settings | changed)


def run(here: Api, *, within: float = 30, **changed: Any) -> None:
    run_train_job(here, job_of(**changed), within=within)


def goes_well(cluster: FakeCluster, job: dict[str, Any]) -> None:
    """All nodes run, write and end."""
    pods = cluster.add_nodes(job["metadata"]["name"], job["spec"]["trainer"]["numNodes"])
    for pod in pods:
        cluster.start_pod(pod)
        cluster.write(pod, f"hello of {pod}")
    for pod in pods:
        cluster.write(pod, f"goodbye of {pod}")
        cluster.end_pod(pod, 0)
    cluster.condition(job["metadata"]["name"], "Complete")


def fails(*endings: tuple[int, str, tuple[str, ...]]) -> Callable[[FakeCluster, Any], None]:
    """An operator whose nodes end in this order, each with code, reason and log."""

    def operator(cluster: FakeCluster, job: dict[str, Any]) -> None:
        pods = cluster.add_nodes(NAME, len(endings))
        for pod in pods:
            cluster.start_pod(pod)
        for pod, (code, reason, lines) in reversed(list(zip(pods, endings, strict=True))):
            cluster.write(pod, *lines)
            cluster.end_pod(pod, code, reason=reason)
            time.sleep(1.1)  # times of pods are whole seconds
        cluster.condition(NAME, "Failed", reason="FailedJobs", message="jobset failed")

    return operator


def refused(here: Api, **changed: Any) -> str:
    with pytest.raises(ClusterError) as caught:
        run(here, **changed)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("changed", [
    {}, {"image": "facewright-cuda:0.1.0", "owner": ("step-1", "a-uid")}, {"environment": {}},
])  # fmt: skip
def test_it_is_one_that_the_trainer_reads_without_loss(changed: dict[str, Any]) -> None:
    job = job_of(**changed)
    assert list(schema_faults([job])) == []
    trainer = job["spec"]["trainer"]
    assert trainer["numNodes"] == 2
    assert trainer.get("image", "") == changed.get("image", "")
    # JobSet's pods are named NAME-node-0-I-XXXXX, and are hosts of that name.
    assert len(f"{NAME}-node-0-999-abcde") <= 63
    assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", job["metadata"]["name"])


def test_it_goes_with_the_pod_of_its_step() -> None:
    (owner,) = job_of(owner=("step-1", "a-uid"))["metadata"]["ownerReferences"]
    assert owner == {"apiVersion": "v1", "kind": "Pod", "name": "step-1", "uid": "a-uid"}


def test_it_fits_the_runtime_of_the_cluster() -> None:
    (runtime,) = yaml.safe_load_all((ROOT / "k8s/base/training-runtime.yaml").read_text())
    reference = job_of()["spec"]["runtimeRef"]
    assert (reference["kind"], reference["name"]) == (runtime["kind"], runtime["metadata"]["name"])
    (job,) = runtime["spec"]["template"]["spec"]["replicatedJobs"]
    (container,) = job["template"]["spec"]["template"]["spec"]["containers"]
    assert job["name"] == container["name"] == "node"
    assert container["command"] == job_of()["spec"]["trainer"]["command"]
    mounts = {each["name"]: each["mountPath"] for each in container["volumeMounts"]}
    assert FOLDER.startswith(f"{mounts['work']}/")


def test_made_followed_and_deleted_with_the_rights_of_its_account(
    cluster: FakeCluster, here: Api, told: list[str]
) -> None:
    cluster.operator = goes_well
    run(here)
    cluster.wait_for(lambda: cluster.job() is None)
    first, second = (f"{NAME}-node-0-{index}-s0" for index in range(2))
    log = [line for line in told if " | " in line]
    assert log == [f"node 0 | hello of {first}", f"node 0 | goodbye of {first}"]
    assert not any(second in line for line in told)
    assert f"TrainJob {NAME}: made, with 2 nodes" in told
    assert told.index(f"TrainJob {NAME}: complete") > 0
    assert cluster.asked("delete", TRAINJOBS) == [{"propagationPolicy": "Foreground"}]
    used = {(verb, resource) for verb, resource, _ in cluster.requests}
    training = {(verb, what) for verb, what in cluster.rights if what == TRAINJOBS}
    assert used <= cluster.rights
    assert training - used <= {("get", TRAINJOBS)}  # asked for when there is one already


def test_only_its_own_objects_are_watched(cluster: FakeCluster, here: Api) -> None:
    def others_fail(cluster: FakeCluster, job: dict[str, Any]) -> None:
        other = job_of()
        other["metadata"]["name"] = "facewright-train-other"
        cluster.put(TRAINJOBS, other, "ADDED")
        cluster.end_pod(cluster.add_nodes("facewright-train-other", 1)[0], 1)
        cluster.condition("facewright-train-other", "Failed")
        goes_well(cluster, job)

    cluster.operator = others_fail
    run(here)
    cluster.wait_for(lambda: (TRAINJOBS, NAME) not in cluster.objects)
    assert (TRAINJOBS, "facewright-train-other") in cluster.objects


def test_all_start_again_after_one_failed_and_the_new_log_is_followed(
    cluster: FakeCluster, here: Api, told: list[str]
) -> None:
    def operator(cluster: FakeCluster, job: dict[str, Any]) -> None:
        pods = cluster.add_nodes(NAME, 2)
        for pod in pods:
            cluster.start_pod(pod)
        cluster.write(pods[0], "step 40")
        cluster.write(pods[1], "facewright: the disk is full", *REPORT)
        cluster.end_pod(pods[1], 2)
        cluster.wait_for(lambda: any("the disk is full" in line for line in told))
        cluster.wait_for(lambda: "node 0 | step 40" in told)
        cluster.remove_pods(pods)
        pods = cluster.add_nodes(NAME, 2, start=1)
        for pod in pods:
            cluster.start_pod(pod)
        cluster.write(pods[0], "going on after step 40")
        for pod in pods:
            cluster.end_pod(pod, 0)
        cluster.condition(NAME, "Complete")

    cluster.operator = operator
    run(here)
    assert (
        f"TrainJob {NAME}: node 1 (pod {NAME}-node-0-1-s0) failed with exit code 2: "
        "facewright: the disk is full"
    ) in told
    assert [line for line in told if " | " in line] == [
        "node 0 | step 40",
        "node 0 | going on after step 40",
    ]


def test_a_failure_names_the_node_that_failed_first_and_its_last_words(
    cluster: FakeCluster, here: Api
) -> None:
    words = "facewright: crop 7 is damaged"
    cluster.operator = fails((1, "", (LOST, *REPORT)), (2, "", ("step 1", words, *REPORT)))
    message = refused(here)
    assert message == (
        f"TrainJob {NAME}: node 1 (pod {NAME}-node-0-1-s0) failed with exit code 2: {words}"
    )
    cluster.wait_for(lambda: cluster.job() is None)


def test_a_node_that_was_killed_tells_why_and_its_last_lines(
    cluster: FakeCluster, here: Api
) -> None:
    cluster.operator = fails((137, "OOMKilled", ("a", "b", "", "c", "d")))
    message = refused(here, nodes=1)
    assert message.endswith("failed with exit code 137, OOMKilled: b | c | d")


def test_a_log_that_is_gone_is_replaced_by_what_the_pod_keeps_of_it(
    cluster: FakeCluster, here: Api
) -> None:
    def operator(cluster: FakeCluster, job: dict[str, Any]) -> None:
        (pod,) = cluster.add_nodes(NAME, 1)
        cluster.logs.pop(pod)
        cluster.end_pod(pod, 1, message="CUDA error: no device\n")
        cluster.condition(NAME, "Failed")

    cluster.operator = operator
    assert refused(here, nodes=1).endswith("failed with exit code 1: CUDA error: no device")


def test_a_node_that_its_machine_took_along_has_no_exit_code(
    cluster: FakeCluster, here: Api
) -> None:
    def operator(cluster: FakeCluster, job: dict[str, Any]) -> None:
        (pod,) = cluster.add_nodes(NAME, 1)
        cluster.set_pod(pod, phase="Failed", reason="Evicted", message="low on memory")
        cluster.condition(NAME, "Failed")

    cluster.operator = operator
    message = refused(here, nodes=1)
    assert message.endswith("failed with no exit code, Evicted: low on memory")


def test_a_failure_without_a_failed_node_tells_what_the_trainer_says(
    cluster: FakeCluster, here: Api
) -> None:
    cluster.operator = lambda cluster, job: cluster.condition(
        NAME, "Failed", reason="DeadlineExceeded", message="it ran too long"
    )
    assert refused(here) == f"TrainJob {NAME}: DeadlineExceeded: it ran too long"


def test_a_failure_of_an_earlier_start_is_not_the_reason_of_the_last(
    cluster: FakeCluster, here: Api, told: list[str]
) -> None:
    def operator(cluster: FakeCluster, job: dict[str, Any]) -> None:
        (pod,) = cluster.add_nodes(NAME, 1)
        cluster.end_pod(pod, 1)
        cluster.wait_for(lambda: any("failed with exit code 1" in line for line in told))
        cluster.remove_pods([pod])
        cluster.start_pod(cluster.add_nodes(NAME, 1, start=1)[0])
        cluster.condition(NAME, "Failed", reason="DeadlineExceeded", message="it ran too long")

    cluster.operator = operator
    assert refused(here, nodes=1) == f"TrainJob {NAME}: DeadlineExceeded: it ran too long"


def test_a_log_that_may_not_be_read_is_told_at_once(cluster: FakeCluster, here: Api) -> None:
    cluster.rights.remove(("get", f"{PODS}/log"))
    cluster.operator = lambda cluster, job: cluster.start_pod(cluster.add_nodes(NAME, 1)[0])
    assert "following the log of pod" in refused(here, nodes=1)


FORBIDDEN = 'trainjobs is forbidden: User "x" cannot create resource "trainjobs"'
QUOTA = 'trainjobs "x" is forbidden: exceeded quota: facewright, used: 5, limited: 5'


@pytest.mark.parametrize(("refusal", "told"), [
    (RefusalError(403, "Forbidden", FORBIDDEN), ["forbidden", "facewright-train", "accounts.yaml"]),
    (RefusalError(403, "Forbidden", QUOTA), ["quota exceeded", "fewer nodes", "used: 5"]),
    (RefusalError(401, "Unauthorized", "Unauthorized"), ["forbidden", "account"]),
    (RefusalError(404, "NotFound", "no such resource"), ["Kubeflow Trainer 2 installed"]),
    (RefusalError(422, "Invalid", "spec.trainer: Invalid value"), ["422", "spec.trainer"]),
])  # fmt: skip
def test_what_is_refused_is_told_in_a_line(
    cluster: FakeCluster, here: Api, refusal: RefusalError, told: list[str]
) -> None:
    cluster.refuse[f"create {TRAINJOBS}"] = refusal
    message = refused(here)
    assert all(each in message for each in told), message
    assert len(cluster.asked("create", TRAINJOBS)) == 1


def test_a_runtime_that_is_not_there_is_told(cluster: FakeCluster, here: Api) -> None:
    message = refused(here, runtime="facewright-torchrum")
    assert "there is no such runtime: kubectl apply" in message
    assert '"facewright-torchrum" not found' in message


@pytest.mark.parametrize("lacking", [
    ("list", TRAINJOBS), ("watch", TRAINJOBS), ("list", PODS), ("watch", PODS),
    ("get", f"{PODS}/log"), ("list", EVENTS),
])  # fmt: skip
def test_each_right_of_the_account_is_needed(
    cluster: FakeCluster, here: Api, lacking: tuple[str, str]
) -> None:
    def operator(cluster: FakeCluster, job: dict[str, Any]) -> None:
        with suppress(KeyError):  # it may be deleted by then
            if lacking[1] != EVENTS:
                fails((1, "", ("no",)))(cluster, job)

    cluster.rights.remove(lacking)
    cluster.operator = operator
    message = refused(here, nodes=1)
    assert "forbidden" in message
    assert f"cannot {lacking[0]} " in message
    cluster.wait_for(lambda: cluster.job() is None)


def test_nodes_that_no_quota_lets_in_are_waited_for_and_told(
    cluster: FakeCluster, here: Api, told: list[str], clock: list[float]
) -> None:
    why = 'Error creating: pods "x" is forbidden: exceeded quota: facewright, limited: gpu=32'

    def operator(cluster: FakeCluster, job: dict[str, Any]) -> None:
        cluster.event(NAME, why)
        cluster.wait_for(
            lambda: f"TrainJob {NAME}: 0 of 2 nodes run; quota exceeded: {why}" in told
        )
        clock[0] = 1000.0

    cluster.operator = operator
    message = refused(here, within=100)
    assert f"0 of 2 nodes run (quota exceeded: {why})" in message
    assert "ask for fewer nodes" in message
    cluster.wait_for(lambda: cluster.job() is None)


PLACED = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
NO_IMAGE = {"reason": "ImagePullBackOff", "message": 'Back-off pulling image "x:1"'}


@pytest.mark.parametrize(("status", "why"), [
    ({"conditions": [{**PLACED, "message": "0/3 nodes are available: 3 Insufficient gpu."}]},
     "Unschedulable: 0/3 nodes are available: 3 Insufficient gpu."),
    ({"containerStatuses": [{"name": "node", "state": {"waiting": NO_IMAGE}}]},
     'ImagePullBackOff: Back-off pulling image "x:1"'),
])  # fmt: skip
def test_nodes_that_do_not_start_are_waited_for_and_told(
    cluster: FakeCluster, here: Api, told: list[str], clock: list[float],
    status: dict[str, Any], why: str,
) -> None:  # fmt: skip
    def operator(cluster: FakeCluster, job: dict[str, Any]) -> None:
        pods = cluster.add_nodes(NAME, 2)
        cluster.start_pod(pods[0])
        cluster.set_pod(pods[1], phase="Pending", **status)
        cluster.wait_for(lambda: f"TrainJob {NAME}: 1 of 2 nodes run; node 1: {why}" in told)
        clock[0] = 1000.0

    cluster.operator = operator
    assert f"1 of 2 nodes run (node 1: {why})" in refused(here, within=100)


def test_time_counts_only_while_nodes_are_missing(
    cluster: FakeCluster, here: Api, told: list[str], clock: list[float]
) -> None:
    def operator(cluster: FakeCluster, job: dict[str, Any]) -> None:
        pods = cluster.add_nodes(NAME, 2)
        for pod in pods:
            cluster.start_pod(pod)
        cluster.wait_for(lambda: f"TrainJob {NAME}: 2 of 2 nodes run" in told)
        clock[0] = 1000.0
        time.sleep(0.3)
        for pod in pods:
            cluster.end_pod(pod, 0)
        cluster.condition(NAME, "Complete")

    cluster.operator = operator
    run(here, within=100)


def test_changes_that_the_server_forgot_are_not_missed(
    cluster: FakeCluster, here: Api, told: list[str]
) -> None:
    def operator(cluster: FakeCluster, job: dict[str, Any]) -> None:
        pods = cluster.add_nodes(NAME, 2)
        for pod in pods:
            cluster.start_pod(pod)
        cluster.wait_for(lambda: len(cluster.asked("watch", TRAINJOBS)) == 1)
        with cluster.news:  # before any watch sees them
            for pod in pods:
                cluster.end_pod(pod, 0)
            cluster.condition(NAME, "Complete")
            cluster.forgotten = cluster.version

    cluster.operator = operator
    run(here)
    assert len(cluster.asked("list", TRAINJOBS)) == 2
    assert f"TrainJob {NAME}: complete" in told


def test_watches_that_end_go_on_where_they_were(
    cluster: FakeCluster, here: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "WATCH", 1)

    def operator(cluster: FakeCluster, job: dict[str, Any]) -> None:
        cluster.wait_for(lambda: len(cluster.asked("watch", TRAINJOBS)) == 3)
        goes_well(cluster, job)

    cluster.operator = operator
    run(here)
    assert len(cluster.asked("list", TRAINJOBS)) == 1


def test_an_api_that_is_away_for_a_while_loses_nothing(
    cluster: FakeCluster, here: Api, told: list[str]
) -> None:
    def operator(cluster: FakeCluster, job: dict[str, Any]) -> None:
        pods = cluster.add_nodes(NAME, 2)
        for pod in pods:
            cluster.start_pod(pod)
        cluster.write(pods[0], *(f"step {n}" for n in range(5)))
        cluster.wait_for(lambda: cluster.asked("get", f"{PODS}/log"))
        cluster.go()
        cluster.write(pods[0], *(f"step {n}" for n in range(5, 9)))
        time.sleep(1)
        cluster.come()
        cluster.write(pods[0], "step 9")
        for pod in pods:
            cluster.end_pod(pod, 0)
        cluster.condition(NAME, "Complete")

    cluster.operator = operator
    run(here)
    assert [line for line in told if " | " in line] == [f"node 0 | step {n}" for n in range(10)]
    assert any("the Kubernetes API is away, asking again" in line for line in told)
    cluster.wait_for(lambda: cluster.job() is None)


def test_an_api_that_stays_away_is_told_and_what_is_left_to_do(
    cluster: FakeCluster, here: Api, told: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(train_jobs, "FAREWELL", 0.3)

    def operator(cluster: FakeCluster, job: dict[str, Any]) -> None:
        cluster.wait_for(lambda: cluster.asked("watch", PODS))
        cluster.go()

    cluster.operator = operator
    message = refused(replace(here, patience=0.5))
    assert "the Kubernetes API did not answer for 0 s" in message
    assert f"kubectl -n facewright delete trainjob {NAME}" in told[-1]


def test_a_server_that_is_overloaded_is_asked_again(cluster: FakeCluster, here: Api) -> None:
    cluster.operator = goes_well
    cluster.refuse[f"create {TRAINJOBS}"] = RefusalError(503, "ServiceUnavailable", "try again")

    def recover() -> None:
        cluster.wait_for(lambda: len(cluster.asked("create", TRAINJOBS)) > 2)
        cluster.refuse.clear()

    threading.Thread(target=recover).start()
    run(here)
    assert len(cluster.asked("create", TRAINJOBS)) > 2


def test_an_answer_that_is_lost_makes_no_second_one(
    cluster: FakeCluster, here: Api, told: list[str]
) -> None:
    cluster.operator = goes_well
    cluster.lose_answers = ["create"]
    run(here)
    assert len(cluster.asked("create", TRAINJOBS)) == 2
    assert len(cluster.asked("delete", TRAINJOBS)) == 1
    assert not any("earlier start" in line for line in told)


def test_one_of_an_earlier_start_goes_first_with_all_its_nodes(
    cluster: FakeCluster, here: Api
) -> None:
    old = job_of()
    cluster.put(TRAINJOBS, old, "ADDED")
    (left,) = cluster.add_nodes(NAME, 1)
    cluster.start_pod(left)
    cluster.leaving.clear()
    pods_at_start: list[bool] = []

    def operator(cluster: FakeCluster, job: dict[str, Any]) -> None:
        pods_at_start.append((PODS, left) in cluster.objects)
        goes_well(cluster, job)

    cluster.operator = operator
    threading.Timer(0.5, cluster.leaving.set).start()
    run(here)
    assert pods_at_start == [False]
    assert len(cluster.asked("delete", TRAINJOBS)) == 2


def test_one_that_does_not_go_is_told(
    cluster: FakeCluster, here: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_jobs, "LEAVING", 0.3)
    cluster.put(TRAINJOBS, job_of(), "ADDED")
    cluster.leaving.clear()
    assert f"kubectl -n facewright describe trainjob {NAME}" in refused(here)


def test_one_that_somebody_deletes_is_told(cluster: FakeCluster, here: Api) -> None:
    def operator(cluster: FakeCluster, job: dict[str, Any]) -> None:
        cluster.wait_for(lambda: cluster.asked("watch", TRAINJOBS))
        cluster.put(TRAINJOBS, cluster.objects[TRAINJOBS, NAME], "DELETED")

    cluster.operator = operator
    assert "somebody deleted it" in refused(here)


STEP = f"""
from facewright.cluster.api import connect
from facewright.cluster.train_jobs import run_train_job, train_job

run_train_job(connect(), train_job(
    {NAME!r}, namespace={NAMESPACE!r}, runtime="facewright-torchrun", nodes=1, arguments=[],
    image="", environment={{}}, owner=None,
), within=60)
"""


def test_a_step_that_is_cancelled_deletes_it(cluster: FakeCluster) -> None:
    """By SIGTERM, which Kubernetes sends, to a real process; here it even comes twice."""

    def operator(cluster: FakeCluster, job: dict[str, Any]) -> None:
        (pod,) = cluster.add_nodes(NAME, 1)
        cluster.start_pod(pod)
        cluster.write(pod, "training")

    cluster.operator = operator
    with subprocess.Popen([sys.executable, "-c", STEP], stderr=subprocess.PIPE, text=True) as step:
        try:
            assert step.stderr is not None
            lines = iter(step.stderr.readline, "node 0 | training\n")
            assert f"TrainJob {NAME}: made, with 1 nodes\n" in list(lines)
            step.send_signal(signal.SIGTERM)
            time.sleep(0.05)
            step.send_signal(signal.SIGTERM)
            _, rest = step.communicate(timeout=120)
        finally:
            step.kill()
    assert step.returncode == 128 + signal.SIGTERM
    assert "Traceback" not in rest
    assert cluster.asked("delete", TRAINJOBS) == [{"propagationPolicy": "Foreground"}]
    cluster.wait_for(lambda: not cluster.objects)
