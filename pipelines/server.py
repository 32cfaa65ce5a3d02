"""Kubeflow Pipelines' API through `kfp.Client`: what is there, what is started; errors in a line.

All calls are those of the client's generated services, since they alone take a timeout.
"""

import json
import logging
import os
import ssl
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import kfp
import kfp_server_api as api
from kfp.client.set_volume_credentials import ServiceAccountTokenVolumeCredentials
from urllib3.exceptions import HTTPError

from facewright.errors import PipelineError
from facewright.progress import say

NAME = "facewright"  # of the pipeline, and of the experiment in which it runs
CALL_SECONDS = (10, 60)  # until a connection is there, and until an answer is
AWAY_SECONDS = 600.0  # a server may be away, upgraded for instance, while a run is followed
PAUSE_SECONDS = 5.0  # before the second try; each further one waits twice as long, up to a minute
PASSING = {429, 500, 502, 503, 504}  # answers of a server or a gateway that is coming back
TOKEN_FILE = "KF_PIPELINES_SA_TOKEN_PATH"  # kfp's own: the file of a token, read for each call
GUIDE = "docs/guides/kubeflow.md"

T = TypeVar("T")


class Server:
    """One Kubeflow Pipelines server, seen from one namespace."""

    def __init__(self, host: str, namespace: str) -> None:
        """Find out whether it is there and lets us in.

        Raises:
            PipelineError: nothing answers, the token is refused, or it is no such server.
        """
        self.host = (host if "://" in host else f"https://{host}").rstrip("/")
        self.shown = os.environ.get("KF_PIPELINES_UI_ENDPOINT", self.host).rstrip("/")
        self.namespace: str | None = namespace
        # urllib3 tells of each try on its own, and kfp that it is no client of version 1.
        logging.getLogger("urllib3").setLevel(logging.ERROR)
        credentials = None
        if token := os.environ.get(TOKEN_FILE):
            if not Path(token).is_file():
                raise PipelineError(f"${TOKEN_FILE} names {token}, and there is no such file")
            credentials = ServiceAccountTokenVolumeCredentials()
        with warnings.catch_warnings(action="ignore"):
            # Another namespace than kfp's default keeps it from asking the server here.
            self._client = kfp.Client(
                host=self.host,
                namespace=NAME,
                credentials=credentials,
                ssl_ca_cert=os.environ.get("SSL_CERT_FILE"),
            )
        ask = self._client.healthzs.healthz_service_get_healthz
        health = self._call("use it", ask)
        # The client takes any page for an answer without fields.
        if not ask.__self__.api_client.last_response.data.lstrip().startswith("{"):
            raise PipelineError(
                f"{self.host} answers, but not as Kubeflow Pipelines: a login page, or an address "
                f"that lacks /pipeline at its end; see {GUIDE}"
            )
        if not health.multi_user:
            self.namespace = None  # an installation for one user knows no namespaces

    def experiment(self) -> str:
        """The id of the experiment, which is made if it is not there."""
        found = self._call(
            "list experiments",
            self._client.experiments.experiment_service_list_experiments,
            filter=_named(NAME),
            **self._here(),
        )
        if found.experiments:
            return str(found.experiments[0].experiment_id)
        made = self._call(
            "make an experiment",
            self._client.experiments.experiment_service_create_experiment,
            experiment=api.V2beta1Experiment(display_name=NAME, namespace=self.namespace),
        )
        return str(made.experiment_id)

    def version(self, package: Path, digest: str) -> tuple[str, str]:
        """The ids of the pipeline and of its version named after `digest`, uploaded once."""
        pipelines, uploads = self._client.pipelines, self._client.pipeline_uploads
        found = self._call(
            "list pipelines",
            pipelines.pipeline_service_list_pipelines,
            filter=_named(NAME),
            **self._here(),
        )
        if found.pipelines:
            pipeline = found.pipelines[0].pipeline_id
        else:
            pipeline = self._call(
                "make a pipeline",
                pipelines.pipeline_service_create_pipeline,
                pipeline=api.V2beta1Pipeline(
                    name=NAME, display_name=NAME, namespace=self.namespace
                ),
            ).pipeline_id
        name = f"{NAME}-{digest[:12]}"
        versions = self._call(
            "list versions",
            pipelines.pipeline_service_list_pipeline_versions,
            pipeline_id=pipeline,
            filter=_named(name),
        ).pipeline_versions
        if versions:
            say(f"version {name}: is there")
        else:
            say(f"version {name}: uploading")
            versions = [
                self._call(
                    "upload a version",
                    uploads.upload_pipeline_version,
                    uploadfile=str(package),
                    name=name,
                    pipelineid=pipeline,
                )
            ]
        return str(pipeline), str(versions[0].pipeline_version_id)

    def start(
        self,
        name: str,
        note: str,
        version: tuple[str, str],
        arguments: dict[str, str],
        *,
        account: str,
    ) -> str:
        """Start a run, whose pods have a service account; returns its id."""
        made = self._call(
            "start a run",
            self._client.runs.run_service_create_run,
            run=api.V2beta1Run(
                experiment_id=self.experiment(),
                display_name=name,
                description=note,
                service_account=account,
                **_what(version, arguments),
            ),
        )
        return str(made.run_id)

    def repeat(
        self,
        name: str,
        note: str,
        version: tuple[str, str],
        arguments: dict[str, str],
        trigger: api.V2beta1Trigger,
        *,
        account: str,
    ) -> str:
        """Start a recurring run, one at a time and none made up for; returns its id.

        Raises:
            PipelineError: one of that name is there.
        """
        experiment, runs = self.experiment(), self._client.recurring_runs
        there = self._call(
            "list recurring runs",
            runs.recurring_run_service_list_recurring_runs,
            experiment_id=experiment,
            filter=_named(name),
        ).recurring_runs
        if there:
            where = self.link("recurringrun", there[0].recurring_run_id)
            raise PipelineError(f"recurring run {name!r} is there: delete it first: {where}")
        made = self._call(
            "start a recurring run",
            runs.recurring_run_service_create_recurring_run,
            recurring_run=api.V2beta1RecurringRun(
                experiment_id=experiment,
                display_name=name,
                description=note,
                service_account=account,
                mode=api.RecurringRunMode.ENABLE,
                trigger=trigger,
                max_concurrency="1",
                no_catchup=True,
                **_what(version, arguments),
            ),
        )
        return str(made.recurring_run_id)

    def run(self, run_id: str) -> api.V2beta1Run:
        """A run as it is now. A server that is away is waited for."""
        return self._patiently(
            lambda: self._call(
                "look at a run", self._client.runs.run_service_get_run, run_id=run_id
            )
        )

    def link(self, kind: str, name: str) -> str:
        """Where the UI shows it: `kind` is `runs` or `recurringrun`."""
        return f"{self.shown}/#/{kind}/details/{name}"

    def _here(self) -> dict[str, str]:
        return {"namespace": self.namespace} if self.namespace else {}

    def _call(self, what: str, method: Callable[..., T], **values: Any) -> T:
        with self._errors(what):
            return method(_request_timeout=CALL_SECONDS, **values)

    def _patiently(self, ask: Callable[[], T]) -> T:
        """Ask again for a while where the server is away. Nothing is started in this way."""
        end, pause = time.monotonic() + AWAY_SECONDS, PAUSE_SECONDS
        while True:
            try:
                return ask()
            except AwayError as error:
                if time.monotonic() + pause > end:
                    raise
                say(f"{error}; asking again")
            time.sleep(pause)
            pause = min(2 * pause, 60.0)

    @contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        """Turn what kfp's client raises into one line."""
        place = f" in namespace {self.namespace}" if self.namespace else ""
        try:
            yield
        except HTTPError as error:
            reason = getattr(error, "reason", None) or error
            # urllib3 wraps it twice, so that kfp's client does not see it. Time does not mend it.
            if isinstance(cause := next(iter(reason.args), None), ssl.SSLCertVerificationError):
                raise PipelineError(
                    f"the certificate of {self.host} is refused: {_short(cause.verify_message)}: "
                    "$SSL_CERT_FILE names the authority that signed it"
                ) from error
            raise AwayError(f"nothing answers at {self.host}: {_short(reason)}") from error
        except api.ApiException as error:
            status, said = error.status, _said(error)
            if status == 401:
                message = f"{self.host} refuses the token (401): renew it in ${TOKEN_FILE}'s file"
            elif status == 403:
                message = f"{self.host} does not let you {what}{place} (403): {said}"
            elif status == 404:
                message = f"{self.host} cannot {what}{place} (404): no such thing there: {said}"
            else:
                message = f"{self.host} cannot {what}{place} ({status}): {said}"
            raise (AwayError if status in PASSING else PipelineError)(message) from error


class AwayError(PipelineError):
    """A server that may come back."""


def _what(version: tuple[str, str], arguments: dict[str, str]) -> dict[str, Any]:
    """What a run and a recurring run have in common."""
    pipeline, number = version
    return {
        "pipeline_version_reference": api.V2beta1PipelineVersionReference(
            pipeline_id=pipeline, pipeline_version_id=number
        ),
        "runtime_config": api.V2beta1RuntimeConfig(parameters=arguments),
    }


def _named(name: str) -> str:
    """The API's filter for one name."""
    predicate = {"operation": "EQUALS", "key": "display_name", "stringValue": name}
    return json.dumps({"predicates": [predicate]})


def _said(error: api.ApiException) -> str:
    """The server's own words: `message` of its JSON, else the reason that HTTP gives."""
    try:
        return _short(json.loads(error.body)["message"])
    except (TypeError, ValueError, KeyError):
        return _short(error.reason)


def _short(message: object) -> str:
    """The first line of a message, at most 300 characters."""
    return (str(message).strip().splitlines() or ["no reason given"])[0][:300]
