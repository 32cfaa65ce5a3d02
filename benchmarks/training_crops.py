"""What the parts of `benchmarks/training.py` share: crops, settings, turns, other processes."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from facewright.progress import say
from facewright.training import fit
from facewright.training.batches import CropSource
from facewright.training.validation import Part

ROOT = Path(__file__).parents[1]
GRAIN = 6.0  # of 255: a PNG of such a crop is about as long as one of an LFW face


@dataclass(frozen=True)
class Drawn:
    """Crops of noise, all in memory, of any number of identities; nobody's faces."""

    pixels: np.ndarray  # (N, 112, 112, 3) uint8, RGB
    labels: np.ndarray  # (N,) int64
    identities: Sequence[str]

    @cached_property
    def ids(self) -> Sequence[str]:
        return [f"crop-{number}" for number in range(len(self.pixels))]

    def __len__(self) -> int:
        return len(self.pixels)

    def batch(self, indices: np.ndarray) -> np.ndarray:
        return self.pixels[indices]


def drawn(*, crops: int, identities: int) -> Drawn:
    """`crops` of noise, spread over so many identities (most have none if they are more)."""
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (crops, 112, 112, 3), dtype=np.uint8)
    labels = np.linspace(0, identities - 1, crops).round().astype(np.int64)
    return Drawn(pixels, labels, [f"{number:07d}" for number in range(identities)])


def write_crops(root: Path, *, crops: int, identities: int) -> None:
    """A dataset of PNG crops in the project's form: broad colours with grain, and no faces."""
    import cv2

    from facewright.datasets.form import DatasetWriter

    random = np.random.default_rng(0)
    card = {
        "name": "generated",
        "kind": "identities",
        "source": "generated",
        "source_digest": "",
        "licence": "none needed",
        "consent": "nobody's faces",
    }
    root.mkdir(parents=True)
    with DatasetWriter(root) as writer:
        for number in range(crops):
            coarse = random.uniform(20, 220, (7, 7, 3)).astype(np.float32)
            broad = cv2.resize(coarse, (112, 112), interpolation=cv2.INTER_CUBIC)
            noisy = broad + random.normal(0, GRAIN, broad.shape)
            data = cv2.imencode(".png", noisy.clip(0, 255).astype(np.uint8))[1].tobytes()
            person = f"{number % identities:05d}"
            row = {"status": "ok", "reason": ""}
            id = f"{person}/{number:06d}"
            writer.add(id=id, identity=person, data=data, suffix=".png", columns=row)
        writer.finish(card)


def some(crops: CropSource, count: int) -> Part:
    """The first `count` crops, with all identities."""
    return Part(crops, np.arange(count), np.asarray(crops.labels)[:count], crops.identities)


def fit_settings(**changed: Any) -> dict[str, Any]:
    """What `fit` takes: the train section of params.yaml, and what is `changed` of it."""
    values = yaml.safe_load((ROOT / "params.yaml").read_text())["train"]
    del values["log_samples"]
    nowhere = {"checkpoint_dir": None, "checkpoint_key": "", "report": lambda metrics, step: None}
    return values | nowhere | changed


def our_rate(crops: CropSource, *, warm: int, steps: int, **changed: Any) -> float:
    """Images per second of `fit` over at least `steps` steps, after `warm` that are not counted.

    An epoch is made `warm` steps long, since the rate is told at the end of each.
    """
    settings = fit_settings(**changed)
    batch = settings["batch_size"]
    part = some(crops, batch * warm)
    trained = fit(part, **settings | {"epochs": 1 + -(-steps // warm), "validation_identities": 0})
    before, images, seconds = 0.0, 0.0, 0.0
    for row in trained.history:
        if row["step"] > warm:
            new = (row["step"] - before) * batch
            images, seconds = images + new, seconds + new / row["images_per_second"]
        before = row["step"]
    return images / seconds


def in_turns(who: Mapping[str, Callable[[], float]], turns: int) -> dict[str, list[float]]:
    """The rates of everyone, A B A B …, so that a busy machine hits all alike."""
    rates: dict[str, list[float]] = {name: [] for name in who}
    for turn in range(turns):
        for name, measure in who.items():
            rates[name].append(measure())
        told = ", ".join(f"{name} {values[-1]:.1f}" for name, values in rates.items())
        say(f"turn {turn + 1} of {turns}: {told}")
    return rates


def ratio_figures(
    name: str, rates: Mapping[str, Sequence[float]], a: str, b: str
) -> dict[str, Any]:
    """`name`: the median of a's rate ÷ b's, turn by turn; `name_range`: the least and the most.

    Who failed has fewer turns than the others, or is not there; null stands for no turn of both.
    """
    each = [x / y for x, y in zip(rates.get(a, ()), rates.get(b, ()), strict=False)]
    if not each:
        return {name: None, f"{name}_range": None}
    median, low, high = (round(f(each), 3) for f in (statistics.median, min, max))
    return {name: median, f"{name}_range": [low, high]}


def in_processes(job: Mapping[str, Any], *, processes: int, threads: int) -> list[dict[str, Any]]:
    """What `benchmarks.training_worker` says of `job` in each of so many processes.

    One process is started plainly, several by torchrun; each has so many threads.
    """
    launcher = ["torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "-m"]
    launcher = ["-m", *(launcher if processes > 1 else []), "benchmarks.training_worker"]
    with tempfile.TemporaryDirectory() as scratch:
        subprocess.run(
            [sys.executable, *launcher, scratch, json.dumps(job)],
            cwd=ROOT,
            env=os.environ | {"OMP_NUM_THREADS": str(threads)},
            stdout=sys.stderr,
            check=True,
        )
        files = sorted(Path(scratch).glob("*.json"))
        return [json.loads(file.read_text()) for file in files]
