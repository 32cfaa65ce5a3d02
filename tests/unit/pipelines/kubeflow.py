"""A stand-in for Kubeflow Pipelines' API server, on loopback, as far as a submission needs it.

Every body is held against the models of `kfp_server_api`: a field that they do not know, or a value
of another type, is answered with 400 and noted. Answers are made from the same models. Arguments of
a run are held against the pipeline that was uploaded, as the real server does.
"""

import json
import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from email import policy
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from time import sleep
from typing import Any
from urllib.parse import parse_qs, urlsplit

import kfp_server_api as api
import yaml
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

PREFIX = "/apis/v2beta1"
BEGAN = datetime.fromisoformat("2026-01-01T00:00:00+00:00")
NATIVE = {"str": str, "int": int, "bool": bool, "float": (int, float)}


class RefusedError(Exception):
    """A request that the server refuses: its status and words."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def check(kind: str, value: Any, where: str = "body") -> None:
    """Raise `RefusedError` unless `value`, from JSON, is all of it a `kind` of `kfp_server_api`."""
    if match := re.fullmatch(r"list\[(.*)\]", kind):
        items = value if isinstance(value, list) else _bad(where, kind, value)
        for n, item in enumerate(items):
            check(match[1], item, f"{where}[{n}]")
    elif match := re.fullmatch(r"dict\(str, (.*)\)", kind):
        pairs = value if isinstance(value, dict) else _bad(where, kind, value)
        for key, item in pairs.items():
            check(match[1], item, f"{where}.{key}")
    elif kind == "object":
        pass
    elif kind == "datetime":
        datetime.fromisoformat(value)
    elif kind in NATIVE:
        if not isinstance(value, NATIVE[kind]) or (kind == "int" and isinstance(value, bool)):
            _bad(where, kind, value)
    elif allowed := getattr(getattr(api, kind), "allowable_values", None):
        if value not in allowed:
            _bad(where, kind, value)
    else:
        model = getattr(api, kind)
        fields = {
            model.attribute_map[name]: model.openapi_types[name] for name in model.attribute_map
        }
        for key, item in (value if isinstance(value, dict) else _bad(where, kind, value)).items():
            if key not in fields:
                raise RefusedError(400, f"{where}.{key}: {kind} has no such field")
            check(fields[key], item, f"{where}.{key}")


def _bad(where: str, kind: str, value: Any) -> Any:
    raise RefusedError(400, f"{where}: {value!r} is no {kind}")


def task(
    name: str, state: str, seconds: float = 0, error: str = ""
) -> api.V2beta1PipelineTaskDetail:
    """What the server tells of one step."""
    ended = BEGAN + timedelta(seconds=seconds) if seconds else None
    return api.V2beta1PipelineTaskDetail(
        task_id=f"id-{name}",
        display_name=name,
        state=state,
        start_time=BEGAN,
        end_time=ended,
        error=api.GoogleRpcStatus(code=2, message=error) if error else None,
    )


class Kubeflow:
    """What the server holds, and what it will answer."""

    def __init__(self) -> None:
        self.address = ""
        self.multi_user = True
        self.namespace = "facewright"  # the one in which the caller may act
        self.token = ""  # asked for, where it is set
        self.page = ""  # sent in place of every answer, where it is set
        self.silent = 0.0  # seconds before an answer
        self.progress: list[tuple[str, list[api.V2beta1PipelineTaskDetail]]] = []
        self.faults: list[tuple[str, str, int]] = []  # method, part of the path, status: once each
        self.requests: list[tuple[str, str]] = []
        self.problems: list[str] = []  # requests that were malformed
        self.experiments: list[dict[str, Any]] = []
        self.pipelines: list[dict[str, Any]] = []
        self.versions: list[dict[str, Any]] = []
        self.specs: dict[str, dict[str, Any]] = {}
        self.runs: list[dict[str, Any]] = []
        self.recurring: list[dict[str, Any]] = []

    def asked(self, method: str, part: str) -> int:
        """How many requests of that method had `part` in their path."""
        return sum(one == method and part in path for one, path in self.requests)

    def answer(
        self, method: str, path: str, query: dict[str, str], headers: Any, body: bytes
    ) -> Any:
        for fault in self.faults:
            if fault[0] == method and fault[1] in path:
                self.faults.remove(fault)
                raise RefusedError(fault[2], "told to fail")
        if self.token and headers["Authorization"] != f"Bearer {self.token}":
            raise RefusedError(401, "Request header error: there is no user identity header.")
        room, _, rest = path.removeprefix(f"{PREFIX}/").partition("/")
        route = getattr(self, f"_{method}_{room}".lower(), None)
        if route is None or not path.startswith(PREFIX):
            raise RefusedError(404, f"no {method} {path}")
        if body and headers["Content-Type"].startswith("multipart/"):
            return route(rest, query, (headers["Content-Type"], body))
        return route(rest, query, json.loads(body) if body else None)

    def _get_healthz(self, rest: str, query: dict[str, str], body: None) -> Any:
        return api.V2beta1GetHealthzResponse(multi_user=self.multi_user)

    def _get_experiments(self, rest: str, query: dict[str, str], body: None) -> Any:
        self._authorize(query.get("namespace", ""), "list experiments")
        return {"experiments": self._filtered(self.experiments, query)}

    def _post_experiments(self, rest: str, query: dict[str, str], body: Any) -> Any:
        check("V2beta1Experiment", body)
        self._authorize(body.get("namespace", ""), "create experiments")
        return self._kept(self.experiments, "experiment_id", body)

    def _get_pipelines(self, rest: str, query: dict[str, str], body: None) -> Any:
        if rest.endswith("/versions"):
            return {"pipeline_versions": self._filtered(self.versions, query)}
        self._authorize(query.get("namespace", ""), "list pipelines")
        return {"pipelines": self._filtered(self.pipelines, query)}

    def _post_pipelines(self, rest: str, query: dict[str, str], body: Any) -> Any:
        if rest == "upload_version":
            return self._upload(query, *body)
        check("V2beta1Pipeline", body)
        self._authorize(body.get("namespace", ""), "create pipelines")
        return self._kept(self.pipelines, "pipeline_id", body)

    def _upload(self, query: dict[str, str], kind: str, body: bytes) -> Any:
        assert set(query) == {"name", "pipelineid"}, query
        parts = BytesParser(policy=policy.HTTP).parsebytes(
            b"Content-Type: " + kind.encode() + b"\r\n\r\n" + body
        )
        (part,) = parts.iter_parts()
        if part.get_param("name", header="content-disposition") != "uploadfile":
            raise RefusedError(400, "no uploadfile")
        spec, platform = yaml.safe_load_all(part.get_payload(decode=True))
        json_format.ParseDict(spec, pipeline_spec_pb2.PipelineSpec())
        json_format.ParseDict(platform, pipeline_spec_pb2.PlatformSpec())
        known = [one["pipeline_id"] for one in self.pipelines]
        if query["pipelineid"] not in known:
            raise RefusedError(404, f"pipeline {query['pipelineid']} not found")
        made = {"display_name": query["name"], "pipeline_id": query["pipelineid"]}
        made = self._kept(self.versions, "pipeline_version_id", made)
        self.specs[made["pipeline_version_id"]] = spec
        return made

    def _post_runs(self, rest: str, query: dict[str, str], body: Any) -> Any:
        check("V2beta1Run", body)
        self._startable(body)
        return self._kept(self.runs, "run_id", body)

    def _get_runs(self, rest: str, query: dict[str, str], body: None) -> Any:
        if rest not in [run["run_id"] for run in self.runs]:
            raise RefusedError(404, f"run {rest} not found")
        state, tasks = self.progress.pop(0) if len(self.progress) > 1 else self.progress[0]
        details = api.V2beta1RunDetails(task_details=tasks)
        return api.V2beta1Run(run_id=rest, state=state, run_details=details)

    def _post_recurringruns(self, rest: str, query: dict[str, str], body: Any) -> Any:
        check("V2beta1RecurringRun", body)
        self._startable(body)
        return self._kept(self.recurring, "recurring_run_id", body)

    def _get_recurringruns(self, rest: str, query: dict[str, str], body: None) -> Any:
        return {"recurringRuns": self._filtered(self.recurring, query)}

    def _startable(self, body: dict[str, Any]) -> None:
        if body["experiment_id"] not in [one["experiment_id"] for one in self.experiments]:
            raise RefusedError(404, "experiment not found")
        number = body["pipeline_version_reference"]["pipeline_version_id"]
        wanted = set(self.specs[number]["root"]["inputDefinitions"]["parameters"])
        given = set(body["runtime_config"]["parameters"])
        if wanted != given:
            raise RefusedError(400, f"parameters: {wanted ^ given} are missing or unknown")

    def _authorize(self, namespace: str, what: str) -> None:
        if not self.multi_user:
            if namespace:
                raise RefusedError(400, "In single-user mode, a namespace must not be given")
        elif namespace != self.namespace:
            raise RefusedError(403, f"User 'me' is not authorized to {what} in {namespace!r}")

    @staticmethod
    def _kept(place: list[dict[str, Any]], key: str, value: dict[str, Any]) -> dict[str, Any]:
        place.append(value | {key: f"{key}-{len(place) + 1}"})
        return place[-1]

    @staticmethod
    def _filtered(place: list[dict[str, Any]], query: dict[str, str]) -> list[dict[str, Any]]:
        (predicate,) = json.loads(query["filter"])["predicates"]
        assert predicate["operation"] in api.V2beta1PredicateOperation.allowable_values
        key, value = predicate["key"], predicate["stringValue"]
        return [one for one in place if one[key] == value]


@contextmanager
def serving(kubeflow: Kubeflow, tls: ssl.SSLContext | None = None) -> Iterator[Kubeflow]:
    """Serve it on a free port, over TLS if asked; afterwards every request was well formed."""

    class Handler(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            parts = urlsplit(self.path)
            query = {key: values[-1] for key, values in parse_qs(parts.query).items()}
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            kubeflow.requests.append((self.command, parts.path))
            sleep(kubeflow.silent)
            status, kind = 200, "application/json"
            try:
                found = kubeflow.answer(self.command, parts.path, query, self.headers, body)
                data = json.dumps(api.ApiClient().sanitize_for_serialization(found))
            except RefusedError as error:
                if error.status == 400:
                    kubeflow.problems.append(str(error))
                status = error.status
                data = json.dumps({"code": status, "message": str(error), "details": []})
            except Exception as error:
                kubeflow.problems.append(repr(error))
                status, data = 400, json.dumps({"message": repr(error)})
            if kubeflow.page:
                status, kind, data = 200, "text/html", kubeflow.page
            with suppress(ConnectionError):  # of a client that did not wait
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(data.encode())))
                self.end_headers()
                self.wfile.write(data.encode())

        do_GET = do_POST = _serve  # noqa: N815

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = False  # none may outlive its test
        if tls:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        kubeflow.address = f"http{'s' if tls else ''}://127.0.0.1:{server.server_port}"
        thread = Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield kubeflow
        finally:
            server.shutdown()
            thread.join()
    assert not kubeflow.problems
