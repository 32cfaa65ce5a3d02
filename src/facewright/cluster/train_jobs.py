"""A training as a TrainJob of Kubeflow Trainer 2: made, followed to its end, and deleted."""

import queue
import secrets
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

from facewright.cluster.api import Api, Document
from facewright.cluster.nodes import (
    Node,
    describe_failure,
    follow_log,
    read_node,
    selector,
    why_no_pod,
)
from facewright.errors import ClusterError
from facewright.progress import say

KIND = ("trainer.kubeflow.org", "v1alpha1")
PLURAL = "trainjobs"
START = "facewright/start"  # annotation: which start of a step made it
LEAVING = 600.0  # seconds in which the nodes of an earlier TrainJob have to be gone
FAREWELL = 20.0  # seconds for which a deletion is tried: a cancelled step has 30
LOG_ENDS = 30.0  # seconds in which the rest of a log has to come
ASK_WHY = 15.0  # seconds between two looks at why nodes are missing
TICK = 1.0
ENDED = ("Succeeded", "Failed")  # phases of a pod
STARTED = ("Running", *ENDED)


def train_job(
    name: str,
    *,
    namespace: str,
    runtime: str,
    nodes: int,
    arguments: list[str],
    image: str,
    environment: Mapping[str, str],
    owner: tuple[str, str] | None,
) -> Document:
    """A TrainJob, of trainer.kubeflow.org/v1alpha1.

    Args:
        image: empty for the one of the runtime.
        owner: name and uid of the pod with which it goes, whatever becomes of its process.
    """
    trainer: Document = {
        "numNodes": nodes,
        "command": ["torchrun"],
        "args": arguments,
        "env": [{"name": key, "value": value} for key, value in environment.items()],
    }
    about: Document = {
        "name": name,
        "namespace": namespace,
        "labels": {"app.kubernetes.io/name": "facewright-training"},
        "annotations": {START: secrets.token_hex(8)},
    }
    if owner is not None:
        pod, uid = owner
        about["ownerReferences"] = [{"apiVersion": "v1", "kind": "Pod", "name": pod, "uid": uid}]
    reference = {"apiGroup": KIND[0], "kind": "ClusterTrainingRuntime", "name": runtime}
    return {
        "apiVersion": "/".join(KIND),
        "kind": "TrainJob",
        "metadata": about,
        "spec": {
            "runtimeRef": reference,
            "trainer": trainer | ({"image": image} if image else {}),
        },
    }


def run_train_job(api: Api, job: Document, *, within: float) -> None:
    """Make a TrainJob, follow it until it is complete, and delete it, however that ends.

    The log of node 0 is written as it grows, and a line whenever something changes.

    Args:
        within: seconds in which all nodes have to run, at the start and after each restart.

    Raises:
        ClusterError: it is refused, a node fails, nodes do not come, or the API stays away.
        SystemExit: SIGTERM came, with which Kubernetes cancels a step.
    """
    name = job["metadata"]["name"]
    with _ended_by_sigterm() as ignore_it:
        try:
            _create(api, job)
            _Following(api, name, job["spec"]["trainer"]["numNodes"], within).follow()
        finally:
            ignore_it()
            _delete(api, name)


@contextmanager
def _ended_by_sigterm() -> Iterator[Callable[[], object]]:
    """SIGTERM ends what is inside; it is ignored after the first one, and after the call."""

    def ignore() -> object:
        return signal.signal(signal.SIGTERM, signal.SIG_IGN)

    def end(number: int, frame: object) -> None:
        ignore()
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    came = False
    try:
        yield ignore
    except SystemExit:
        came = True  # the process ends, in peace
        raise
    finally:
        if not came:
            signal.signal(signal.SIGTERM, before)


def _create(api: Api, job: Document) -> None:
    name = job["metadata"]["name"]
    what = f"TrainJob {name}"
    until, told = time.monotonic() + LEAVING, False
    while not _made(api, job, what):
        # A step that was killed could not delete its own.
        if not told:
            say(f"{what}: one of an earlier start is still there: waiting until its nodes are gone")
            _delete(api, name)
            told = True
        if time.monotonic() > until:
            raise ClusterError(
                f"{what}: one of an earlier start is still there after {LEAVING:.0f} s: look at it "
                f"with `kubectl -n {api.namespace} describe trainjob {name}`"
            )
        time.sleep(TICK)
    say(f"{what}: made, with {job['spec']['trainer']['numNodes']} nodes")


def _made(api: Api, job: Document, what: str) -> bool:
    """Whether it is there; an answer that was lost on the way does not make two of it."""
    kind = (*KIND, api.namespace, PLURAL)
    create = api.objects.create_namespaced_custom_object
    if api.call(what, create, *kind, job, expected={409}) is not None:
        return True
    get = api.objects.get_namespaced_custom_object
    found = api.call(what, get, *kind, job["metadata"]["name"], expected={404}) or {}
    annotations = found.get("metadata", {}).get("annotations", {})
    return bool(annotations.get(START) == job["metadata"]["annotations"][START])


def _delete(api: Api, name: str) -> None:
    """Delete it, and with it JobSet, Jobs and pods; it is there until they are gone."""
    try:
        api.call(
            f"TrainJob {name}: deleting it",
            api.objects.delete_namespaced_custom_object,
            *(*KIND, api.namespace, PLURAL, name),
            propagation_policy="Foreground",
            expected={404},
            patience=FAREWELL,
        )
    except ClusterError as error:  # it must not hide why it is deleted
        say(f"{error}: delete it by hand: kubectl -n {api.namespace} delete trainjob {name}")


class _Following:
    """What is known of a TrainJob while it is followed."""

    def __init__(self, api: Api, name: str, nodes: int, within: float):
        self.api, self.name, self.count, self.within = api, name, nodes, within
        self.job: Document | None = None
        self.nodes: dict[str, Node] = {}  # by pod
        self.failures: dict[str, tuple[Node, str]] = {}  # nodes that failed, and how, by pod
        self.told = ""  # the last line about nodes
        self.missing_since: float | None = time.monotonic()
        self.asked, self.why = time.monotonic(), ""
        self.stop = threading.Event()
        self.news: queue.SimpleQueue[tuple[str, str, Any]] = queue.SimpleQueue()
        self.logs: dict[str, threading.Thread] = {}

    def follow(self) -> None:
        kind = (*KIND, self.api.namespace, PLURAL)
        listing = self.api.objects.list_namespaced_custom_object
        only = {"field_selector": f"metadata.name={self.name}"}
        self._watch("job", listing, *kind, **only)
        pods = self.api.core.list_namespaced_pod
        self._watch("pod", pods, self.api.namespace, label_selector=selector(self.name))
        try:
            while not self._complete():
                self._follow_first_node()
                self._see_that_nodes_come()
                try:
                    self._take(*self.news.get(timeout=TICK))
                except queue.Empty:
                    continue
            say(f"TrainJob {self.name}: complete")
            self._finish_logs()
        finally:
            self.stop.set()

    def _watch(self, what: str, listing: Callable[..., Any], *kind: str, **options: str) -> None:
        def watch() -> None:
            where = f"TrainJob {self.name}: watching its {what}s"
            changes = self.api.changes(where, listing, *kind, stop=self.stop, **options)
            for change, value in changes:
                self.news.put((what, change, value))

        self._beside(watch)

    def _beside(self, work: Callable[[], None]) -> threading.Thread:
        """Do it in another thread; its error is raised where the news are taken."""

        def guarded() -> None:
            try:
                work()
            except Exception as error:
                self.news.put(("", "ERROR", error))

        thread = threading.Thread(target=guarded, daemon=True)
        thread.start()
        return thread

    def _take(self, what: str, change: str, value: Any) -> None:
        if change == "ERROR":
            raise value
        if what == "pod":
            if change == "ALL":
                self.nodes.clear()
            for pod in value if change == "ALL" else [value]:
                self._take_node(read_node(pod), gone=change == "DELETED")
            return
        there = value if change == "ALL" else [value]
        if change == "DELETED" or (change == "ALL" and not there):
            raise ClusterError(
                f"TrainJob {self.name}: somebody deleted it: start the step again, and it goes on "
                "from the last checkpoint"
            )
        self.job = there[0]

    def _take_node(self, node: Node, *, gone: bool) -> None:
        self.nodes.pop(node.pod, None)
        if not gone:
            self.nodes[node.pod] = node
        # At once: when JobSet starts all again, the pod and its log are gone.
        if node.failed and node.pod not in self.failures:
            how = describe_failure(self.api, node)
            self.failures[node.pod] = (node, how)
            say(f"TrainJob {self.name}: {how}")

    def _now(self) -> list[Node]:
        """The nodes since all were last started, in their order."""
        start = max((node.start for node in self.nodes.values()), default=0)
        return sorted(
            (node for node in self.nodes.values() if node.start == start),
            key=lambda node: (node.index, node.leaving),
        )

    def _complete(self) -> bool:
        """Whether it is.

        Raises:
            ClusterError: it has failed.
        """
        true = {
            each["type"]: each
            for each in (self.job or {}).get("status", {}).get("conditions", [])
            if each["status"] == "True"
        }
        if "Failed" in true:
            self._fail(true["Failed"])
        self.why = true.get("Suspended", {}).get("message", "") or self.why
        return "Complete" in true

    def _fail(self, condition: Document) -> None:
        """Tell of the node that failed first: the others were lost with it."""
        self._look_at_nodes()
        why = ": ".join(filter(None, (condition.get("reason"), condition.get("message"))))
        nodes = [*self.nodes.values(), *(node for node, _ in self.failures.values())]
        last = max((node.start for node in nodes), default=0)
        own = [each for each in self.failures.values() if each[0].start == last]
        if own:
            _, why = min(own, key=lambda each: each[0].finished or "~")
        raise ClusterError(f"TrainJob {self.name}: {why}")

    def _look_at_nodes(self) -> None:
        """Take them as they are now: the watch of the TrainJob may be ahead of theirs."""
        what = f"TrainJob {self.name}: looking at its pods"
        listing, labels = self.api.core.list_namespaced_pod, selector(self.name)
        found = self.api.call(what, listing, self.api.namespace, label_selector=labels)
        self._take("pod", "ALL", found["items"])

    def _see_that_nodes_come(self) -> None:
        """Say how many run and why others wait.

        Raises:
            ClusterError: they have had their time.
        """
        nodes = self._now()
        running = len({node.index for node in nodes if node.runs})
        now = time.monotonic()
        if running >= self.count:
            self.missing_since, self.why = None, ""
            self._say(f"{running} of {self.count} nodes run")
            return
        if self.missing_since is None:
            self.missing_since = now
        if len(nodes) < self.count and now - self.asked > ASK_WHY:
            self.asked, self.why = now, why_no_pod(self.api, self.name) or self.why
        waiting = [f"node {node.index}: {node.waits_for}" for node in nodes if node.waits_for]
        reason = (waiting or [self.why])[0]
        self._say(f"{running} of {self.count} nodes run" + (f"; {reason}" if reason else ""))
        if now - self.missing_since > self.within:
            raise ClusterError(
                f"TrainJob {self.name}: after {self.within / 60:.0f} min {running} of {self.count} "
                f"nodes run ({reason or 'nothing says why'}): ask for fewer nodes"
            )

    def _say(self, line: str) -> None:
        if line != self.told:
            self.told = line
            say(f"TrainJob {self.name}: {line}")

    def _follow_first_node(self) -> None:
        for node in self._now():
            if node.index == 0 and node.phase in STARTED and node.pod not in self.logs:
                ended = self._ended(node.pod)
                follow = partial(follow_log, self.api, node, ended=ended, stop=self.stop)
                self.logs[node.pod] = self._beside(follow)

    def _ended(self, pod: str) -> Callable[[], bool]:
        def ended() -> bool:
            node = self.nodes.get(pod)
            return node is None or node.phase in ENDED

        return ended

    def _finish_logs(self) -> None:
        """Let the log of node 0 come to its end."""
        self._look_at_nodes()
        self._follow_first_node()
        until = time.monotonic() + LOG_ENDS
        for thread in self.logs.values():
            thread.join(max(0.0, until - time.monotonic()))
