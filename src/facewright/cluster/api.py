"""The Kubernetes API as a step uses it: it may be away for a while, and refuses in one line."""

import json
import os
import threading
import time
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from kubernetes.watch import Watch
from urllib3.exceptions import HTTPError

from facewright.errors import ClusterError
from facewright.progress import say

Document = dict[str, Any]

NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
PATIENCE = 300.0  # seconds for which an API that is away is asked again
PAUSES = (1.0, 2.0, 4.0, 8.0, 15.0)  # seconds between; the last one again and again
AGAIN = frozenset({429, 500, 502, 503, 504})  # overloaded, starting, or a webhook that is away
GONE = 410  # the changes since then are forgotten
ANSWER = (10.0, 60.0)  # seconds to connect, and between two bytes
WATCH = 60  # seconds after which the server ends a watch, and the next one begins


@dataclass(frozen=True)
class Api:
    """The API server, in the namespace of the step."""

    objects: client.CustomObjectsApi
    core: client.CoreV1Api
    namespace: str
    patience: float = PATIENCE

    def call(
        self,
        what: str,
        function: Callable[..., Any],
        *arguments: Any,
        expected: Container[int] = (),
        patience: float | None = None,
        wait: Callable[[float], object] = time.sleep,
        read: Callable[[str], Any] = json.loads,
        **options: Any,
    ) -> Any:
        """What `function` of the client answers, through `read`; None for an `expected` status.

        Args:
            what: is done with it, for people.
            wait: for so many seconds; when it answers true, nobody wants to know any more.

        Raises:
            ClusterError: it is refused, or the API stays away for `patience` seconds.
        """
        limit = self.patience if patience is None else patience
        start, tries = time.monotonic(), 0
        while True:
            try:
                answer = function(
                    *arguments, _preload_content=False, _request_timeout=ANSWER, **options
                )
                return read(answer.data.decode("utf-8", "replace"))
            except ApiException as error:
                if error.status in expected:
                    return None
                if error.status not in AGAIN:
                    raise refusal(what, error) from error
                why = _message(error)
            except HTTPError as error:  # no connection, or one that broke
                why = str(error)
            pause = PAUSES[min(tries, len(PAUSES) - 1)]
            if time.monotonic() - start + pause > limit:
                raise ClusterError(
                    f"{what}: the Kubernetes API did not answer for {limit:.0f} s ({why}): run it "
                    "again when it does"
                )
            if tries == 0:
                say(f"{what}: the Kubernetes API is away, asking again ({' '.join(why.split())})")
            tries += 1
            if wait(pause):
                raise ClusterError(f"{what}: stopped")

    def changes(
        self,
        what: str,
        listing: Callable[..., Any],
        *arguments: Any,
        stop: threading.Event,
        **options: Any,
    ) -> Iterator[tuple[str, Any]]:
        """All that is there, `("ALL", [objects])`, then each change, `(type, object)`, for ever.

        Whenever changes may have been missed, there is an `ALL` again.

        Raises:
            ClusterError: as `call`.
        """
        while not stop.is_set():
            listed = self.call(what, listing, *arguments, wait=stop.wait, **options)
            yield "ALL", listed["items"]
            version = listed["metadata"]["resourceVersion"]
            try:
                while not stop.is_set():
                    for event in Watch(return_type="object").stream(
                        listing,
                        *arguments,
                        resource_version=version,
                        timeout_seconds=WATCH,
                        _request_timeout=(ANSWER[0], WATCH + 15.0),
                        **options,
                    ):
                        version = event["raw_object"]["metadata"]["resourceVersion"]
                        yield event["type"], event["raw_object"]
            except ApiException as error:
                if error.status not in AGAIN and error.status != GONE:
                    raise refusal(what, error) from error
            except (HTTPError, ValueError):  # the connection broke, perhaps within a line
                pass
            stop.wait(PAUSES[0])


def connect() -> Api:
    """The API server of the cluster that this runs in; elsewhere the one of `$KUBECONFIG`.

    Raises:
        ClusterError: nothing says where it is, or with what right.
    """
    settings = client.Configuration()
    settings.retries = False  # `Api.call` does that, for longer and aloud
    try:
        if NAMESPACE.exists():
            config.load_incluster_config(settings)
            namespace = NAMESPACE.read_text(encoding="utf-8").strip()
        else:
            file = os.environ.get("KUBECONFIG")  # the client reads it when it is imported
            config.load_kube_config(file, client_configuration=settings)
            _, context = config.list_kube_config_contexts(file)
            namespace = context["context"].get("namespace", "default")
    except (config.ConfigException, OSError) as error:
        raise ClusterError(
            f"no Kubernetes cluster is known here ({error}): run it as a step of the pipeline, "
            "with the account facewright-train, or set KUBECONFIG"
        ) from error
    made = client.ApiClient(settings)
    return Api(client.CustomObjectsApi(made), client.CoreV1Api(made), namespace)


def _message(error: ApiException) -> str:
    """What the server says is wrong: in a `Status`, or in anything that a proxy answers."""
    body = error.body or b""
    text = body.decode("utf-8", "replace") if isinstance(body, bytes) else str(body)
    try:
        return str(json.loads(text)["message"])
    except (ValueError, KeyError, TypeError):
        return f"{error.status} {error.reason} {text[:200]}".strip()


def refusal(what: str, error: ApiException) -> ClusterError:
    """What the server refuses, and how to mend it."""
    message = _message(error)
    if "must be created before the TrainJob" in message:  # the trainer's own check
        return ClusterError(
            f"{what}: there is no such runtime: kubectl apply -k k8s/overlays/… ({message})"
        )
    if error.status == 403 and "exceeded quota" in message:
        return ClusterError(
            f"{what}: quota exceeded: wait for others to end, ask for fewer nodes, or raise it "
            f"({message})"
        )
    if error.status in (401, 403):
        return ClusterError(
            f"{what}: forbidden: run the step with the account facewright-train, see "
            f"k8s/base/accounts.yaml ({message})"
        )
    if error.status == 404:
        return ClusterError(
            f"{what}: the API server does not know that: is Kubeflow Trainer 2 installed, and is "
            f"the namespace there? ({message})"
        )
    return ClusterError(f"{what}: refused with status {error.status}: {message}")
