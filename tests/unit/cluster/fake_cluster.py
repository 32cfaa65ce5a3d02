"""An API server in this process: the parts of the Kubernetes API that a training step uses.

It allows what the Roles of `k8s/base` give to the account facewright-train, takes only TrainJobs
that the trainer's own models read without loss, and complains of whatever it does not know. What
operators and kubelets would do, a test does through the methods.
"""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import yaml

from tests.k8s.schemas import schema_faults

ROOT = Path(__file__).parents[3]
NAMESPACE = "facewright"
TOKEN = "the token of facewright-train"
TRAINJOBS, PODS, EVENTS = "trainer.kubeflow.org/trainjobs", "/pods", "/events"
PATHS = {
    f"/apis/trainer.kubeflow.org/v1alpha1/namespaces/{NAMESPACE}/trainjobs": TRAINJOBS,
    f"/api/v1/namespaces/{NAMESPACE}/pods": PODS,
    f"/api/v1/namespaces/{NAMESPACE}/events": EVENTS,
}
KNOWN = {  # parameters of a verb
    "list": {"fieldSelector", "labelSelector"},
    "watch": {"fieldSelector", "labelSelector", "watch", "resourceVersion", "timeoutSeconds"},
    "get": set(),
    "create": set(),
    "delete": {"propagationPolicy"},
    "log": {"container", "follow", "timestamps", "tailLines", "sinceSeconds"},
}
Document = dict[str, Any]


def rights(account: str) -> set[tuple[str, str]]:
    """Verbs and resources (`group/resource`) that the Roles of k8s/base give to an account."""
    documents = list(yaml.safe_load_all((ROOT / "k8s/base/accounts.yaml").read_text()))
    bound = {
        each["roleRef"]["name"]
        for each in documents
        if each["kind"] == "RoleBinding" and account in [s["name"] for s in each["subjects"]]
    }
    return {
        (verb, f"{group}/{resource}")
        for each in documents
        if each["kind"] == "Role" and each["metadata"]["name"] in bound
        for rule in each["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
        if "resourceNames" not in rule
    }


@dataclass
class RefusalError(Exception):
    """An answer of the server that is a `Status`."""

    code: int
    reason: str
    message: str


@dataclass
class FakeCluster:
    """State of the cluster, and what goes wrong in it."""

    objects: dict[tuple[str, str], Document] = field(default_factory=dict)
    changes: list[tuple[int, str, str, Document]] = field(default_factory=list)
    logs: dict[str, list[tuple[str, str]]] = field(default_factory=dict)  # time and text
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    refuse: dict[str, RefusalError] = field(default_factory=dict)  # by verb and resource
    lose_answers: list[str] = field(default_factory=list)  # of these; what they ask for is done
    operator: Callable[["FakeCluster", Document], None] | None = None  # sees each TrainJob
    leaving: threading.Event = field(default_factory=threading.Event)  # set: nodes go at once
    version: int = 100
    forgotten: int = 0  # changes up to here
    news: threading.Condition = field(default_factory=threading.Condition)
    server: ThreadingHTTPServer | None = None
    open: list[socket.socket] = field(default_factory=list)
    port: int = 0

    def __post_init__(self) -> None:
        self.rights = rights("facewright-train")
        self.leaving.set()

    # What operators and kubelets do

    def put(self, resource: str, thing: Document, change: str = "MODIFIED") -> None:
        with self.news:
            self.version += 1
            thing["metadata"]["resourceVersion"] = str(self.version)
            key = (resource, thing["metadata"]["name"])
            if change == "DELETED":
                self.objects.pop(key, None)
            else:
                self.objects[key] = thing
            self.changes.append((self.version, resource, change, json.loads(json.dumps(thing))))
            self.news.notify_all()

    def add_nodes(self, job: str, count: int, *, start: int = 0) -> list[str]:
        """Pods as JobSet and Job would make them; their names."""
        names = [f"{job}-node-0-{index}-s{start}" for index in range(count)]
        for index, name in enumerate(names):
            labels = {
                "jobset.sigs.k8s.io/jobset-name": job,
                "jobset.sigs.k8s.io/replicatedjob-name": "node",
                "jobset.sigs.k8s.io/restart-attempt": str(start),
                "batch.kubernetes.io/job-completion-index": str(index),
            }
            about = {"name": name, "namespace": NAMESPACE, "labels": labels}
            self.logs[name] = []
            self.put(PODS, {"metadata": about, "status": {"phase": "Pending"}}, "ADDED")
        return names

    def set_pod(self, name: str, **status: Any) -> None:
        self.put(PODS, {**self.objects[PODS, name], "status": status})

    def start_pod(self, name: str) -> None:
        state = {"running": {"startedAt": _time()}}
        self.set_pod(name, phase="Running", containerStatuses=[{"name": "node", "state": state}])

    def end_pod(self, name: str, code: int, *, reason: str = "", message: str = "") -> None:
        ended = {"exitCode": code, "finishedAt": _time(), "message": message}
        ended["reason"] = reason or ("Error" if code else "Completed")
        self.set_pod(
            name,
            phase="Failed" if code else "Succeeded",
            containerStatuses=[{"name": "node", "state": {"terminated": ended}}],
        )

    def remove_pods(self, names: list[str]) -> None:
        for name in names:
            self.put(PODS, self.objects[PODS, name], "DELETED")
            self.logs.pop(name, None)

    def write(self, pod: str, *lines: str) -> None:
        with self.news:
            for line in lines:
                self.logs[pod].append((_time(nano=True), line))
            self.news.notify_all()

    def condition(self, job: str, kind: str, *, reason: str = "", message: str = "") -> None:
        told = {"type": kind, "status": "True", "reason": reason or kind, "message": message}
        there = self.objects[TRAINJOBS, job]
        self.put(TRAINJOBS, {**there, "status": {"conditions": [told]}})

    def event(self, job: str, message: str) -> None:
        name = f"{job}-node-0"
        thing = {"metadata": {"name": f"{name}.17"}, "reason": "FailedCreate", "message": message}
        thing |= {"involvedObject": {"kind": "Job", "name": name}, "lastTimestamp": _time()}
        self.put(EVENTS, thing, "ADDED")

    def wait_for(self, what: Callable[[], object], seconds: float = 120) -> None:
        until = time.monotonic() + seconds
        while not what():
            assert time.monotonic() < until, "the step did not do it"
            time.sleep(0.01)

    def job(self) -> Document | None:
        return next((o for (kind, _), o in self.objects.items() if kind == TRAINJOBS), None)

    def asked(self, verb: str, resource: str) -> list[dict[str, str]]:
        """The parameters of each such request."""
        return [given for v, r, given in self.requests if (v, r) == (verb, resource)]

    # The server

    @contextmanager
    def running(self, folder: Path) -> Iterator[Path]:
        """The server, and a kubeconfig for it."""
        self.come()
        user = {"name": "step", "user": {"token": TOKEN}}
        server = {"name": "fake", "cluster": {"server": f"http://127.0.0.1:{self.port}"}}
        context = {"cluster": "fake", "user": "step", "namespace": NAMESPACE}
        config = {
            "apiVersion": "v1", "kind": "Config", "current-context": "here",
            "clusters": [server], "users": [user],
            "contexts": [{"name": "here", "context": context}],
        }  # fmt: skip
        path = folder / "kubeconfig"
        path.write_text(yaml.safe_dump(config))
        try:
            yield path
        finally:
            self.go()

    def come(self) -> None:
        handler = type("Handler", (_Handler,), {"cluster": self})
        server = type("Server", (ThreadingHTTPServer,), {"daemon_threads": True})
        self.server = server(("127.0.0.1", self.port), handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def go(self) -> None:
        """Nothing listens any more, and all connections break."""
        if self.server is not None:
            self.server.shutdown()
            self.server.server_close()
            self.server = None
        self.break_connections()

    def break_connections(self) -> None:
        for each in list(self.open):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        with self.news:
            self.news.notify_all()


class _Handler(BaseHTTPRequestHandler):
    cluster: FakeCluster
    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        super().setup()
        self.cluster.open.append(self.connection)

    def finish(self) -> None:
        self.cluster.open.remove(self.connection)
        with suppress(OSError):
            super().finish()

    def handle(self) -> None:
        with suppress(OSError):  # the connection was broken, which is what was asked for
            super().handle()

    def log_message(self, format: str, *arguments: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_DELETE(self) -> None:
        self._answer()

    def _answer(self) -> None:
        size = int(self.headers.get("Content-Length", 0))
        body = json.loads(self.rfile.read(size)) if size else None
        try:
            self._do(*self._asked(), body)
        except RefusalError as refusal:
            status = {"kind": "Status", "apiVersion": "v1", "status": "Failure"}
            told = {"reason": refusal.reason, "message": refusal.message, "code": refusal.code}
            self._send({**status, **told}, refusal.code)

    def _asked(self) -> tuple[str, str, str, dict[str, str]]:
        """Verb, resource, name and parameters of the request, if they are known and allowed."""
        cluster, url = self.cluster, urlsplit(self.path)
        given = dict(parse_qsl(url.query, strict_parsing=bool(url.query)))
        path, _, rest = url.path, "", ""
        if path not in PATHS:
            for known in PATHS:
                if path.startswith(f"{known}/"):
                    path, rest = known, path.removeprefix(f"{known}/")
        name, _, below = rest.partition("/")
        resource = PATHS.get(path, path) + (f"/{below}" if below else "")
        verb = {"POST": "create", "DELETE": "delete"}.get(self.command, "get")
        if verb == "get" and not name:
            verb = "watch" if given.get("watch") == "True" else "list"
        cluster.requests.append((verb, resource, given))
        unknown = set(given) - KNOWN["log" if below == "log" else verb]
        if path not in PATHS or unknown:
            cluster.complaints.append(f"{self.command} {self.path}")
            raise RefusalError(404, "NotFound", "the server could not find the requested resource")
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            raise RefusalError(401, "Unauthorized", "Unauthorized")
        if refusal := cluster.refuse.get(f"{verb} {resource}"):
            raise refusal
        if (verb, resource) not in cluster.rights:
            who = f'User "system:serviceaccount:{NAMESPACE}:facewright-train"'
            raise RefusalError(
                403, "Forbidden", f"{resource} is forbidden: {who} cannot {verb} resource in API"
            )
        return verb, resource, name, given

    def _do(
        self, verb: str, resource: str, name: str, given: dict[str, str], body: Document | None
    ) -> None:
        cluster = self.cluster
        if resource == f"{PODS}/log":
            self._log(name, given)
        elif verb == "create":
            assert body is not None
            self._create(resource, body)
        elif verb == "watch":
            self._watch(resource, given)
        elif verb == "list":
            with cluster.news:
                found = [o for (kind, _), o in cluster.objects.items() if kind == resource]
                items = [each for each in found if _selected(each, given)]
                self._send({"items": items, "metadata": {"resourceVersion": str(cluster.version)}})
        elif (resource, name) not in cluster.objects:
            raise RefusalError(404, "NotFound", f'{resource} "{name}" not found')
        elif verb == "get":
            self._send(cluster.objects[resource, name])
        else:
            self._delete(resource, name, given)

    def _create(self, resource: str, thing: Document) -> None:
        cluster, name = self.cluster, thing["metadata"]["name"]
        if faults := list(schema_faults([thing])):
            cluster.complaints.extend(faults)
            raise RefusalError(422, "Invalid", faults[0])
        if (resource, name) in cluster.objects:
            raise RefusalError(409, "AlreadyExists", f'{resource} "{name}" already exists')
        runtime = thing["spec"]["runtimeRef"]["name"]
        if runtime != "facewright-torchrun":
            raise RefusalError(
                422, "Invalid",
                'admission webhook "validator.trainjob.trainer.kubeflow.org" denied the request: '
                f'spec.RuntimeRef: Invalid value: "{runtime}": ClusterTrainingRuntime "{runtime}" '
                "not found: specified clusterTrainingRuntime must be created before the TrainJob "
                "is created",
            )  # fmt: skip
        cluster.put(resource, thing, "ADDED")
        if cluster.operator is not None:
            arguments = (cluster, thing)
            threading.Thread(target=cluster.operator, args=arguments, daemon=True).start()
        if "create" in cluster.lose_answers:
            cluster.lose_answers.remove("create")
            self.connection.shutdown(socket.SHUT_RDWR)
            raise ConnectionResetError
        self._send(thing, 201)

    def _delete(self, resource: str, name: str, given: dict[str, str]) -> None:
        """In the foreground: it is there, and marked, until its pods are gone."""
        cluster = self.cluster
        if given.get("propagationPolicy") != "Foreground":
            cluster.complaints.append(f"{name} was deleted with {given}")
        thing = cluster.objects[resource, name]
        marked = {**thing, "metadata": {**thing["metadata"], "deletionTimestamp": _time()}}
        cluster.put(resource, marked)
        self._send(marked)

        def leave() -> None:
            cluster.leaving.wait()
            pods = [
                pod
                for (kind, pod), each in cluster.objects.items()
                if kind == PODS and f"jobset-name={name}" in _labels(each)
            ]
            cluster.remove_pods(pods)
            if (resource, name) in cluster.objects:
                cluster.put(resource, marked, "DELETED")

        threading.Thread(target=leave, daemon=True).start()

    def _watch(self, resource: str, given: dict[str, str]) -> None:
        cluster, server = self.cluster, self.cluster.server
        seen, until = int(given["resourceVersion"]), time.monotonic() + int(given["timeoutSeconds"])
        self._begin("application/json")
        while time.monotonic() < until and cluster.server is server:
            with cluster.news:
                if seen < cluster.forgotten:
                    gone = {"code": 410, "reason": "Expired", "message": "too old resource version"}
                    self._piece(json.dumps({"type": "ERROR", "object": gone}) + "\n")
                    break
                fresh = [each for each in cluster.changes if each[0] > seen]
                if not fresh:
                    cluster.news.wait(0.1)
            for version, kind, change, thing in fresh:
                seen = version
                if kind == resource and _selected(thing, given):
                    # In two pieces: nobody may think that a piece is a line.
                    line = json.dumps({"type": change, "object": thing}) + "\n"
                    self._piece(line[:20])
                    self._piece(line[20:])
        self._piece("")

    def _log(self, pod: str, given: dict[str, str]) -> None:
        cluster, server = self.cluster, self.cluster.server
        if pod not in cluster.logs:
            raise RefusalError(404, "NotFound", f'pods "{pod}" not found')
        if given.get("container") != "node":
            cluster.complaints.append(f"the log of container {given.get('container')}")
        sent = 0
        if "sinceSeconds" in given:
            since = _time(before=float(given["sinceSeconds"]), nano=True)
            sent = sum(stamp < since for stamp, _ in cluster.logs[pod])
        if "tailLines" in given:
            sent = max(0, len(cluster.logs[pod]) - int(given["tailLines"]))
        self._begin("text/plain")
        while True:
            with cluster.news:
                lines = cluster.logs.get(pod, [])[sent:]
                phase = cluster.objects.get((PODS, pod), {}).get("status", {}).get("phase")
                if not lines and given.get("follow") == "True" and phase == "Running":
                    cluster.news.wait(0.1)
                    if cluster.server is server:
                        continue
            if not lines:
                break
            sent += len(lines)
            stamped = given.get("timestamps") == "True"
            for stamp, text in lines:
                self._piece(f"{stamp} {text}\n" if stamped else f"{text}\n")
        self._piece("")

    def _send(self, value: Document, code: int = 200) -> None:
        data = json.dumps(value).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _begin(self, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def _piece(self, text: str) -> None:
        data = text.encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))


def _selected(thing: Document, given: dict[str, str]) -> bool:
    wanted = dict(each.split("=") for each in given.get("labelSelector", "").split(",") if each)
    labels = thing["metadata"].get("labels", {})
    if any(labels.get(key) != value for key, value in wanted.items()):
        return False
    for each in filter(None, given.get("fieldSelector", "").split(",")):
        key, value = each.split("=")
        place: Any = thing
        for part in key.split("."):
            place = place[part]
        if place != value:
            return False
    return True


def _labels(thing: Document) -> str:
    return ",".join(f"{k}={v}" for k, v in thing["metadata"].get("labels", {}).items())


def _time(*, before: float = 0, nano: bool = False) -> str:
    now = time.time() - before
    text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now))
    return f"{text}.{int(now % 1 * 1e9):09d}Z" if nano else f"{text}Z"
