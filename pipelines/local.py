"""The Kubeflow pipeline on this machine: `make kfp-local`, a subprocess per component.

With --docker each step runs in its image. The data comes from a repository and its DVC remote, and
MLflow is a server; credentials of both are taken from the environment.

That is less closed than a cluster: kfp runs all containers with the same settings. So every step,
not only those that need it, sees the network, the credentials, the ledger's signing key and all of
`artifacts/kfp-local`, earlier runs too, where it may also write. It sees nothing else of this
machine. Limits of memory and time are not applied.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kfp import local
from kfp.local import docker_task_handler

from facewright.errors import FacewrightError, PipelineError
from facewright.progress import say
from facewright.registry.ledger_keys import (
    KEY_VARIABLE,
    KEYS_VARIABLE,
    key_file,
    keys_folder,
    signer,
    trust,
    trusted_keys,
)
from facewright.registry.tracking import tracking_uri
from pipelines.arguments import arguments
from pipelines.cluster import LEDGER_FOLDER, LEDGER_KEYS_FOLDER, Cluster, load
from pipelines.graph import pipeline

ROOT = Path("artifacts/kfp-local")  # one folder per run, one below it per component
GIVEN = ("AWS_", "MLFLOW_", "LOGNAME")  # what containers get of the environment
USER = f"{os.getuid()}:{os.getgid()}"  # so that what containers write belongs to the caller


def main(argv: Sequence[str] | None = None) -> int:
    """Run the pipeline on `data/` of this working tree, or of a repository; 0 when it went well,
    else 2."""
    parser = _parser()
    options = parser.parse_args(argv)
    if {options.docker, bool(options.repository), bool(options.revision)} == {True, False}:
        parser.error("--docker, --repository and --revision go together")
    ROOT.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("MLFLOW_TRACKING_URI", tracking_uri())
    try:
        cluster = load()
        # Without a revision the data comes from the working tree, as for `dvc repro`.
        given = arguments() | {"repository": str(Path().resolve()), "revision": ""}
        runner: Any = local.SubprocessRunner(use_venv=False)
        if options.docker:
            given |= {"repository": options.repository, "revision": options.revision}
            runner = _containers(cluster)
        local.init(runner, pipeline_root=str(ROOT.resolve()))
        pipeline(cluster)(**given)
    except (FacewrightError, RuntimeError) as error:
        print(f"pipelines.local: {error}", file=sys.stderr)
        return 2
    print(f"{ROOT}: what each component wrote, in a folder per run")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="pipelines.local", description=__doc__)
    parser.add_argument("--docker", action="store_true", help="each step in its image")
    parser.add_argument("--repository", metavar="URL", help="with --docker: where data.dvc is")
    parser.add_argument("--revision", metavar="REV", help="with --docker: a commit or branch there")
    return parser


def _run_container(client: Any, image: str, command: list[str], volumes: Any, **given: Any) -> int:
    """Run a step's container to its end; its exit code.

    In place of kfp's own (2.17), which lets Docker remove the container as it ends, and takes one
    that is gone before it was asked how it ended for a success.
    """
    container = client.containers.run(image, command, volumes=volumes, detach=True, **given)
    try:
        for line in container.logs(stream=True):
            print(line.decode(errors="replace"), end="")
        return int(container.wait()["StatusCode"])
    finally:
        container.remove(force=True)


def _containers(cluster: Cluster) -> local.DockerRunner:
    """How containers run: as the caller, without capabilities, and with nothing to write to but
    `/tmp` and the folder of all runs.

    As in a cluster they cannot trust a key: where none is trusted yet, the caller's is from now on.

    Raises:
        PipelineError: Docker does not answer, an image is missing, or MLflow is no server.
    """
    import docker

    if not os.environ["MLFLOW_TRACKING_URI"].startswith("http"):
        raise PipelineError(
            "containers need MLflow as a server: start one with `make servers` and set "
            "MLFLOW_TRACKING_URI"
        )
    try:
        images = docker.from_env().images.list()
    except docker.errors.DockerException as error:
        raise PipelineError("Docker does not answer: start it, or set DOCKER_HOST") from error
    there = {name for one in images for name in (*one.tags, *(one.attrs["RepoDigests"] or ()))}
    for name in {cluster.image_of(step) for step in cluster.steps}:
        if name not in there:
            raise PipelineError(f"image {name} is not there: `make images`, or mend cluster.yaml")
    docker_task_handler.run_docker_container = _run_container
    mine = signer()
    if not trusted_keys():
        say(f"ledger: {trust(mine)} is trusted from now on: commit it")
    return local.DockerRunner(
        network_mode="host",
        user=USER,
        read_only=True,
        tmpfs={"/tmp": ""},
        cap_drop=["ALL"],
        security_opt=["no-new-privileges"],
        environment={
            **{k: v for k, v in os.environ.items() if k.startswith(GIVEN)},
            KEY_VARIABLE: f"{LEDGER_FOLDER}/ledger.key",
            KEYS_VARIABLE: LEDGER_KEYS_FOLDER,
        },
        mounts=[
            docker.types.Mount(inside, str(path.resolve()), "bind", read_only=True)
            for inside, path in (
                (f"{LEDGER_FOLDER}/ledger.key", key_file()),
                (LEDGER_KEYS_FOLDER, keys_folder()),
            )
        ],
    )


if __name__ == "__main__":
    sys.exit(main())
