"""The nodes of a TrainJob: why their pods wait, how they end, and their logs."""

import datetime
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from facewright.cluster.api import ANSWER, Api, Document, refusal
from facewright.progress import say

# What JobSet and the Job below it write on their pods.
JOBSET = "jobset.sigs.k8s.io/jobset-name"
REPLICATED_JOB = "jobset.sigs.k8s.io/replicatedjob-name"
RESTART = "jobset.sigs.k8s.io/restart-attempt"
INDEX = "batch.kubernetes.io/job-completion-index"
CONTAINER = NODES = "node"  # of the runtime, as the trainer wants it

TAIL = 200  # lines of a failed node's log that are looked at
SHOWN = 3  # of them that go into the error
PAUSE = 2.0  # seconds before a log that broke off is asked for again
SILENT = 120.0  # seconds without a line of the log, after which it is asked for again


@dataclass(frozen=True)
class Node:
    """A node as its pod tells of it."""

    pod: str
    index: int
    start: int  # 0, and one more each time that JobSet starts all nodes again
    phase: str
    leaving: bool  # somebody deleted the pod: how it ends says nothing
    waits_for: str  # why it does not run yet
    exit_code: int | None
    reason: str  # why it ended: OOMKilled, Evicted, Error
    message: str
    finished: str  # ISO 8601

    @property
    def runs(self) -> bool:
        return self.phase == "Running" or self.phase == "Succeeded"

    @property
    def failed(self) -> bool:
        return not self.leaving and (self.phase == "Failed" or bool(self.exit_code))


def selector(job: str) -> str:
    """The labels of the pods that are the nodes of a TrainJob."""
    return f"{JOBSET}={job},{REPLICATED_JOB}={NODES}"


def read_node(pod: Document) -> Node:
    """What a pod says of itself."""
    about, status = pod["metadata"], pod.get("status", {})
    labels = about.get("labels", {})
    containers = [c for c in status.get("containerStatuses", []) if c["name"] == CONTAINER]
    state = containers[0].get("state", {}) if containers else {}
    ended = state.get("terminated", {})
    return Node(
        pod=about["name"],
        index=int(labels.get(INDEX, 0)),
        start=int(labels.get(RESTART, 0)),
        phase=status.get("phase", "Pending"),
        leaving="deletionTimestamp" in about,
        waits_for=_waits_for(status, state),
        exit_code=ended.get("exitCode"),
        reason=status.get("reason") or ended.get("reason") or "",
        message=status.get("message") or ended.get("message") or "",
        finished=ended.get("finishedAt") or "",
    )


def _waits_for(status: Document, state: Document) -> str:
    phase = status.get("phase", "Pending")
    if phase != "Pending":
        return str(phase) if phase == "Unknown" else ""
    conditions = {each["type"]: each for each in status.get("conditions", [])}
    placed = conditions.get("PodScheduled", {})
    told = state.get("waiting") or (placed if placed.get("status") == "False" else {})
    return ": ".join(filter(None, (told.get("reason"), told.get("message")))) or "Pending"


def why_no_pod(api: Api, job: str) -> str:
    """Why no pods are made for a TrainJob: a quota, a missing account; empty if nothing says so."""
    answer = api.call(
        f"TrainJob {job}: reading why nodes are missing",
        api.core.list_namespaced_event,
        api.namespace,
        field_selector="involvedObject.kind=Job,reason=FailedCreate",
    )
    own = [
        each
        for each in answer["items"]
        if each["involvedObject"].get("name", "").startswith(f"{job}-{NODES}-")
    ]
    if not own:
        return ""
    last = max(own, key=lambda each: each.get("lastTimestamp") or each.get("eventTime") or "")
    message = str(last.get("message", ""))
    return f"quota exceeded: {message}" if "exceeded quota" in message else message


def describe_failure(api: Api, node: Node) -> str:
    """Which node failed, how, and the last lines that it wrote, in one line."""
    how = f"exit code {node.exit_code}" if node.exit_code is not None else "no exit code"
    if node.reason not in ("", "Error"):
        how += f", {node.reason}"
    log = api.call(
        f"reading the log of pod {node.pod}",
        api.core.read_namespaced_pod_log,
        node.pod,
        api.namespace,
        container=CONTAINER,
        tail_lines=TAIL,
        read=str,
        # Gone, never started, or its machine does not answer: what the pod says has to do.
        expected={400, 404, 500, 502, 504},
    )
    lines = last_words(log or node.message)
    return f"node {node.index} (pod {node.pod}) failed with {how}: {lines or 'it wrote nothing'}"


def last_words(log: str) -> str:
    """The last lines that tell something, which torchrun's report of a lost process does not."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    report = (n for n, line in enumerate(lines) if line.startswith(("E", "W")) and _torchrun(line))
    own = lines[: next(report, len(lines))] or lines
    ours = [line for line in own if line.startswith("facewright: ")]
    return " | ".join(ours[-1:] or own[-SHOWN:])


def _torchrun(line: str) -> bool:
    return "torch/distributed/elastic" in line


def follow_log(api: Api, node: Node, *, ended: Callable[[], bool], stop: threading.Event) -> None:
    """Write the log of a node as it grows, through broken connections, until it has `ended`.

    Raises:
        ClusterError: the account may not read it.
    """
    seen, over = "", False
    while not over and not stop.is_set():
        over = ended()  # what it wrote before that is all there now
        try:
            for stamp, line in _lines(api, node.pod, seen):
                if stamp > seen:
                    seen = stamp
                    say(f"node {node.index} | {line}")
                if stop.is_set():
                    return
        except ApiException as error:
            if error.status in (401, 403):
                raise refusal(f"following the log of pod {node.pod}", error) from error
            over = over or error.status == 404  # with its node, or started again
        except (HTTPError, ValueError):
            over = False
        if not over:
            stop.wait(PAUSE)


def _lines(api: Api, pod: str, seen: str) -> Iterator[tuple[str, str]]:
    """Time and text of each line of a log from `seen` on, some of them once more."""
    since: dict[str, Any] = {}
    if seen:
        since["since_seconds"] = max(1, int(time.time() - _seconds(seen)) + 2)
    answer = api.core.read_namespaced_pod_log(
        pod,
        api.namespace,
        container=CONTAINER,
        follow=True,
        timestamps=True,
        _preload_content=False,
        _request_timeout=(ANSWER[0], SILENT),
        **since,
    )
    rest = b""
    try:
        for piece in answer.stream(amt=None, decode_content=False):
            *whole, rest = (rest + piece).split(b"\n")
            for line in whole:
                stamp, _, text = line.decode("utf-8", "replace").partition(" ")
                yield stamp, text
    finally:
        answer.close()


def _seconds(stamp: str) -> float:
    """Of a time such as 2026-11-28T12:00:00.123456789Z, since 1970."""
    return datetime.datetime.fromisoformat(f"{stamp[:19]}+00:00").timestamp()
