"""`python -m pipelines.submit --host URL`: run the pipeline in a cluster, and follow it."""

import argparse
import hashlib
import os
import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import kfp_server_api as api
from kfp import compiler

from facewright import params
from facewright.errors import FacewrightError, PipelineError
from facewright.progress import say
from pipelines.arguments import (
    arguments,
    branch_of_data,
    checked_repository,
    checked_tracking_uri,
    data_at,
    remote_address,
    start_moves,
)
from pipelines.cluster import CLUSTER, load
from pipelines.graph import pipeline
from pipelines.server import Server
from pipelines.watch import duration, follow

TRACKING_URI = "http://mlflow.facewright:5000"  # k8s/base
SECONDS = {"m": 60, "h": 3600, "d": 86400}


def main(argv: Sequence[str] | None = None) -> int:
    """Check everything that can be checked here, then upload, start and follow.

    Returns 0 when the run succeeded (or was started, without --wait), 1 when it did not, 2 with one
    line when it could not be started or followed, and 130 when the following was interrupted.
    """
    options = _parser().parse_args(argv)
    try:
        return _submit(options)
    except FacewrightError as error:
        print(f"pipelines.submit: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="pipelines.submit", description=__doc__)
    host = os.environ.get("KF_PIPELINES_ENDPOINT")
    parser.add_argument(
        "--host", default=host, required=not host,
        help="address of Kubeflow Pipelines' API; default: $KF_PIPELINES_ENDPOINT",
    )  # fmt: skip
    parser.add_argument("--namespace", default="facewright", help="default: %(default)s")
    parser.add_argument(
        "--params", type=Path, default=params.PARAMS, metavar="FILE", help="default: %(default)s"
    )
    parser.add_argument(
        "--cluster", type=Path, default=CLUSTER, metavar="FILE",
        help="images, and what each step gets; default: pipelines/cluster.yaml",
    )  # fmt: skip
    parser.add_argument(
        "--data-rev", metavar="REV",
        help="commit, tag or branch whose data.dvc is meant; default: HEAD, or its branch",
    )  # fmt: skip
    parser.add_argument(
        "--repository", metavar="URL", help="where the cluster finds it; default: git's origin"
    )
    parser.add_argument(
        "--tracking-uri", metavar="URL",
        default=os.environ.get("MLFLOW_TRACKING_URI", TRACKING_URI),
        help=f"MLflow as pods see it; default: $MLFLOW_TRACKING_URI, or {TRACKING_URI}",
    )  # fmt: skip
    then = parser.add_mutually_exclusive_group()
    then.add_argument(
        "--wait", nargs="?", type=_minutes, const=float("inf"), metavar="MINUTES",
        help="follow the run to its end, or for so long",
    )  # fmt: skip
    then.add_argument(
        "--every", metavar="TIME",
        help="look for new data again and again: 30m, 6h, 1d, or Kubeflow's cron of six fields",
    )  # fmt: skip
    return parser


def _submit(options: argparse.Namespace) -> int:
    cluster = load(options.cluster)
    given = arguments(options.params) | {
        "tracking_uri": checked_tracking_uri(options.tracking_uri),
        "repository": checked_repository(options.repository or remote_address()),
    }
    trigger = None
    if options.every:
        trigger = _trigger(options.every)
        branch = branch_of_data(options.data_rev)
        # Without a hash, `pin` takes the one that the branch has when a run begins.
        given |= {"revision": branch, "data_md5": ""}
    else:
        commit, md5 = data_at(options.data_rev, pushed=options.repository is None)
        given |= {"revision": commit, "data_md5": md5}

    server = Server(options.host, options.namespace)
    version = _uploaded(server, pipeline(cluster, start_moves=start_moves(given)))
    note = f"submitted from {given['git_commit']}; {cluster.image}"
    if trigger:
        name = f"facewright {given['revision']} every {options.every}"
        made = server.repeat(name, note, version, given, trigger, account=cluster.account)
        say(f"recurring run {name!r}: trains anew when the hash of the data has changed")
        print(server.link("recurringrun", made))
        return 0

    data = given["data_md5"][:10]
    name = f"facewright data {data}"
    run_id = server.start(name, note, version, given, account=cluster.account)
    link = server.link("runs", run_id)
    print(link, flush=True)
    if options.wait is None:
        say(f"run {run_id} started; --wait follows it")
        return 0
    return _watch(server, run_id, link, cluster.tasks, options.wait)


def _watch(server: Server, run_id: str, link: str, tasks: Sequence[str], minutes: float) -> int:
    try:
        outcome = follow(server, run_id, tasks, minutes=minutes)
    except KeyboardInterrupt:
        say(f"the run goes on: {link}")
        return 130
    except PipelineError as error:
        raise PipelineError(f"{error}; the run was not stopped: {link}") from error
    took = duration(outcome.seconds)
    if outcome.state == "SUCCEEDED":
        say(f"run {run_id} succeeded after {took}")
        return 0
    if not outcome.state:
        say(f"run {run_id} has not ended after {took}, and goes on: {link}")
        return 1
    at = f" at {', '.join(outcome.failed)}" if outcome.failed else ""
    why = f": {outcome.why}" if outcome.why else ""
    say(f"run {run_id} {outcome.state.lower()} after {took}{at}{why}; its logs: {link}")
    return 1


def _uploaded(server: Server, graph: Any) -> tuple[str, str]:
    """The graph's ids in the server. Its name is its content: arguments come with each run."""
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / "facewright.yaml"
        compiler.Compiler().compile(graph, str(package))
        return server.version(package, hashlib.sha256(package.read_bytes()).hexdigest())


def _trigger(text: str) -> api.V2beta1Trigger:
    """`30m`, `6h`, `1d`, or a cron expression of six fields, seconds first."""
    if match := re.fullmatch(r"([1-9][0-9]*)([mhd])", text):
        seconds = int(match[1]) * SECONDS[match[2]]
        return api.V2beta1Trigger(
            periodic_schedule=api.V2beta1PeriodicSchedule(interval_second=str(seconds))
        )
    if re.fullmatch(r"[0-9*?/,A-Za-z-]+( [0-9*?/,A-Za-z-]+){5}", text):
        return api.V2beta1Trigger(cron_schedule=api.V2beta1CronSchedule(cron=text))
    raise PipelineError(f"--every {text!r}: give 30m, 6h, 1d, or six fields such as '0 0 3 * * *'")


def _minutes(text: str) -> float:
    value = float(text)
    if not value > 0:
        raise ValueError(text)
    return value


if __name__ == "__main__":
    sys.exit(main())
