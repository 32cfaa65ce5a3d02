"""What the second engine and the containers cost, beside `dvc repro` on the same sample set.

    noop      `dvc repro` where nothing changed
    local     the pipeline by kfp.local, a process per step, ÷ `dvc repro`; each from nothing
    images    `make images` from nothing and after a change of code; what takes the room
    docker    the pipeline in these images, data from git and S3, MLflow on PostgreSQL and S3, and
              what a step costs that only starts

    make bench-kubeflow            # everything, half an hour on two quiet cores
    python -m benchmarks.kubeflow [noop local images docker] [--turns 1]

images and docker start a Docker daemon of their own, as root; where no registry of images is
reachable, on a base made here, which has no CUDA's PyTorch either. `$FACEWRIGHT_DOCKER` names a
folder whose images are kept. The last line is one JSON object; null stands for what was not run.
"""

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from components.images import CUDA_IMAGE, IMAGE, TENSORRT_IMAGE
from facewright.progress import say
from tests.containers.base import provide_base
from tests.containers.daemon import Docker, missing
from tests.containers.images import Images
from tests.containers.published import let_containers_read, published
from tests.servers.stack import Stack
from tests.shell import ROOT, copy_project, shell

KEYS = (
    "noop_repro_s",
    "subprocess_over_dvc",
    "docker_over_dvc",
    "rebuild_after_code_change_s",
    "image_mb_cpu",
)
PARTS = ("noop", "local", "images", "docker")
NOOPS = 5
STARTS = 5
LARGEST = 8  # packages that are named


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("parts", nargs="*", default=PARTS, metavar="PART", help=" ".join(PARTS))
    parser.add_argument("--turns", type=int, default=1, help="of the whole graph on each engine")
    options = parser.parse_args(argv)
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"unknown part {min(unknown)!r}: choose of {', '.join(PARTS)}")
    if not (ROOT / "data" / "verify").is_dir():
        sys.exit("no sample set in data/: run `make data` first")
    result: dict[str, Any] = dict.fromkeys(KEYS)
    with ExitStack() as stack, tempfile.TemporaryDirectory(prefix="facewright-bench-") as scratch:
        folder = Path(scratch)
        os.environ["FACEWRIGHT_LEDGER_KEY"] = str(folder / "key" / "ledger.key")
        dvc = engines(folder, options, result) if set(options.parts) - {"images"} else None
        if {"images", "docker"} & set(options.parts):
            containers(stack, folder, options.parts, dvc, result)
    print(json.dumps(result))


def engines(folder: Path, options: argparse.Namespace, result: dict[str, Any]) -> float | None:
    """DVC, and kfp.local beside it; the seconds of `dvc repro` from nothing."""
    dvc: list[float] = []
    local: list[float] = []
    for turn in range(options.turns):
        for engine, command, took in (
            ("dvc", ("dvc", "repro"), dvc),
            ("local", (sys.executable, "-m", "pipelines.local"), local),
        ):
            if engine == "local" and "local" not in options.parts:
                continue
            project = fresh(folder / f"{engine}-{turn}")
            took.append(timed(partial(shell, project, *command)))
            say(f"{engine}: {took[-1]:.1f} s")
    project = folder / "dvc-0"
    if "noop" in options.parts:
        noop = [timed(lambda: shell(project, "dvc", "repro")) for _ in range(NOOPS)]
        result |= {"noop_repro_s": round(statistics.median(noop), 2)}
        result |= {"noop_spread_s": [round(min(noop), 2), round(max(noop), 2)]}
    result["dvc_s"] = [round(s, 1) for s in dvc]
    if local:
        ratios = [b / a for a, b in zip(dvc, local, strict=True)]
        result |= {"subprocess_over_dvc": round(statistics.median(ratios), 3)}
        result |= {"subprocess_s": [round(s, 1) for s in local]}
    return statistics.median(dvc)


def containers(
    stack: ExitStack, folder: Path, parts: Sequence[str], dvc: float | None, result: dict[str, Any]
) -> None:
    if why := missing():
        sys.exit(f"images and docker: {why}")
    kept = os.environ.get("FACEWRIGHT_DOCKER")
    docker = Docker(Path(kept or tempfile.mkdtemp(prefix="facewright-docker-")))
    docker.start()
    stack.callback(docker.stop if kept else docker.remove)
    images = Images(docker, stand_in=provide_base(docker))
    result["stand_in_base"] = images.stand_in
    if "images" in parts:
        cold = images.build("--no-cache")
        copy = copy_project(folder / "changed")
        with (copy / "src" / "facewright" / "errors.py").open("a") as file:
            file.write("# changed\n")
        result |= {
            "build_from_nothing_s": round(cold, 1),
            "rebuild_after_code_change_s": round(images.build(root=copy), 1),
        }
    images.build()
    for key, name in (("cpu", IMAGE), ("cuda", CUDA_IMAGE), ("tensorrt", TENSORRT_IMAGE)):
        size = int(docker.run("image", "inspect", "-f", "{{.Size}}", name).stdout)
        result[f"image_mb_{key}"] = round(size / 1e6)
    listed = docker.run(
        "run", "--rm", "--network", "none", IMAGE,
        "sh", "-c", "du -sm /opt/facewright/lib/python3.11/site-packages/* | sort -rn",
    ).stdout  # fmt: skip
    rows = [line.split() for line in listed.splitlines()[:LARGEST]]
    result["largest_mb"] = {Path(path).name: int(size) for size, path in rows}
    if "docker" not in parts:
        return
    alone = ("run", "--rm", "--network", "none", IMAGE, "python3", "-c")
    for key, code in (("start", "pass"), ("import", "import facewright.stages.evaluate")):
        run = partial(docker.run, *alone, code)
        result[f"container_{key}_s"] = round(statistics.median(map(timed, [run] * STARTS)), 2)
    servers = Stack(folder / "servers")
    stack.callback(servers.remove)
    servers.start()
    let_containers_read(folder / "key" / "ledger.key")
    project = folder / "dvc-0"
    shutil.rmtree(project / "artifacts" / "kfp-local", ignore_errors=True)
    with published(project, docker, servers, folder) as cluster:
        took = timed(cluster.run)
    result["docker_s"] = round(took, 1)
    if dvc is not None:
        result["docker_over_dvc"] = round(took / dvc, 3)


def fresh(folder: Path) -> Path:
    """A copy of the project with the sample set, in which nothing has run."""
    copy_project(folder)
    shutil.copytree(ROOT / "data", folder / "data")
    assert shell(folder, "dvc", "add", "--quiet", "data").returncode == 0
    return folder


def timed(job: Callable[[], Any]) -> float:
    """Seconds of a command, which must end well."""
    begin = time.monotonic()
    done = job()
    took = time.monotonic() - begin
    if done.returncode:
        sys.exit(f"{done.args}: exit code {done.returncode}: {done.stderr[-2000:]}")
    return took


if __name__ == "__main__":
    main()
