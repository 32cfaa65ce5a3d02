"""Training on one CUDA device; see `benchmarks/training.py`. In the root of this repository:

    PYTHONPATH=src python -m benchmarks.training gpu

Needs numpy, pandas, Pillow, PyYAML, and PyTorch for CUDA with what `torch.compile` needs there;
no data, and no other part of the project's environment. The result so far is told on standard
error after each step, so that a run that is cut off has not lost it.
"""

import json
import re
import shutil
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.figures import spread
from benchmarks.plain_loop import plain_rate
from benchmarks.training_crops import drawn, our_rate, ratio_figures
from facewright.models.cost import network_cost
from facewright.progress import say
from facewright.workers import usable_cores

EMBEDDING = 512
IDENTITIES = 93_431  # MS1M-v3's, as in arcface_torch's configuration of IResNet-50
MILLION = 1_000_000
STEP = 6  # floating-point operations per multiply-add: two, forward and twice backward
WARM_S = 0.5  # until an idle device has raised its clocks
PREFETCHED = 3  # batches of a plain worker in /dev/shm: two waiting and one being made
# Dense bf16 with fp32 sums, TFLOPS, from NVIDIA's data sheets (half of the figures "with
# sparsity"), by words of the device's name; the first that fits.
PEAKS = {
    "H200 NVL": 835.5,
    "H200": 989.5,
    "H100 PCIe": 756.5,
    "H100 NVL": 835.5,
    "H100": 989.5,
    "A100": 312.0,
    "B200": 2250.0,
    "L40S": 362.0,
    "L4": 121.0,
    "A10": 125.0,
    "RTX 4090": 165.2,
}
SMALLER = {"MIG", "Laptop", "D"}  # words by which a device is less than its name says
SPEEDUPS = {
    "speedup_over_plain_bf16": ("ours", "plain_bf16"),
    "compiled_speedup_over_plain_bf16": ("ours_compiled", "plain_bf16"),
    "speedup_over_plain_fp32": ("ours", "plain_fp32"),
}


def gpu(quick: bool, turns: int, batch: int) -> dict[str, Any]:
    """IResNet-50, a million identities and MobileFaceNet on the GPU, where there is one.

    A quick run, which measures nothing, takes the CPU where there is none.
    """
    if not quick and not torch.cuda.is_available():
        say("gpu: PyTorch finds no CUDA device here, so nothing is measured on one")
        return {"gpu": None}
    return measured(quick=quick, turns=turns, batch=batch)


def measured(*, quick: bool, turns: int, batch: int) -> dict[str, Any]:
    place = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name = torch.cuda.get_device_name() if place.type == "cuda" else "cpu"
    result: dict[str, Any] = {
        "gpu": name,
        "gpu_batch": batch,
        "gpu_peak_tflops": peak_of(name),
        "gpu_matmul_tflops": round(matmul_rate(place, side=256 if quick else 8192), 2),
    }
    warm, steps = (2, 2) if quick else (10, 40)
    sizes = {"batch_size": batch, "embedding_size": EMBEDDING, "warm": warm, "steps": steps}
    readers, workers = max(2, min(8, usable_cores() // 2)), plain_workers(batch)
    result |= {"gpu_readers": readers, "gpu_plain_workers": workers}
    ours = partial(our_rate, **sizes, precision="bf16", readers=readers)
    plain = partial(plain_rate, **sizes, device=place, workers=workers)
    first, *others = ("resnet_tiny",) if quick else ("iresnet50", "mobilefacenet")

    def loops(network: str) -> dict[str, Any]:
        crops = drawn(crops=warm * batch, identities=100 if quick else IDENTITIES)
        return of_network(network, partial(ours, crops), partial(plain, crops), turns, result)

    def million() -> dict[str, Any]:
        crops = drawn(crops=warm * batch, identities=1000 if quick else MILLION)
        return of_million(partial(ours, crops, network=first), turns)

    failed: list[str] = []
    for part in (partial(loops, first), million, *(partial(loops, other) for other in others)):
        result |= part()
        failed += result.pop("gpu_failed")
        say(f"gpu so far: {json.dumps(result | {'gpu_failed': failed})}")
    return result | {"gpu_failed": failed}


def of_network(
    network: str,
    ours: Callable[..., float],
    plain: Callable[..., float],
    turns: int,
    device: Mapping[str, Any],
) -> dict[str, Any]:
    """Both loops with `network`, ours as it is and compiled; `device` is what is known of that."""
    who: dict[str, Callable[[], float]] = {
        "ours": partial(ours, network=network, compiled=False),
        "ours_compiled": partial(ours, network=network, compiled=True),
        "plain_fp32": partial(plain, network=network),  # convolutions in TF32: PyTorch's way
        "plain_bf16": partial(plain, network=network, precision=torch.bfloat16),
    }
    if device["gpu"] == "cpu":
        del who["ours_compiled"]  # the compiler takes minutes there
    # Once, and not in each turn: networks of one kind share what was compiled for the first. That
    # was seen with a compiler that counts, on a CPU: on a GPU it was not tried.
    torch.compiler.reset()
    rates, failed = gpu_turns(who, turns, label=network)
    result: dict[str, Any] = {"gpu_failed": failed}
    for name, (a, b) in SPEEDUPS.items():
        result |= ratio_figures(f"gpu_{network}_{name}", rates, a, b)
    work = network_cost(network, embedding_size=EMBEDDING).multiply_adds * STEP / 1e12
    peak, product = device["gpu_peak_tflops"], device["gpu_matmul_tflops"]
    for each, values in rates.items():
        key = f"gpu_{network}_images_per_s_{each}"
        result[key] = spread(values) if values else None
        if values:
            done = result[key]["median"] * work
            result[f"gpu_{network}_tflops_{each}"] = round(done, 2)
            result[f"gpu_{network}_share_of_peak_{each}"] = peak and round(done / peak, 4)
            result[f"gpu_{network}_share_of_matmul_{each}"] = round(done / product, 4)
    return result


def of_million(ours: Callable[..., float], turns: int) -> dict[str, Any]:
    """Ours with all people compared, and with a tenth of them; and the most memory of each."""
    most: dict[str, float] = {}

    def run(name: str, share: float) -> float:
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        rate = ours(sampled_identities=share)
        if torch.cuda.is_available():
            most[name] = round(torch.cuda.max_memory_allocated() / 1e9, 2)
        return rate

    who = {name: partial(run, name, share) for name, share in (("all", 1.0), ("sampled", 0.1))}
    rates, failed = gpu_turns(who, turns, label="a million")
    result: dict[str, Any] = {"gpu_failed": failed}
    for name, values in rates.items():
        result[f"gpu_million_{name}_images_per_s"] = spread(values) if values else None
        result[f"gpu_million_{name}_gb"] = most.get(name)
    return result


def gpu_turns(
    who: Mapping[str, Callable[[], float]], turns: int, *, label: str
) -> tuple[dict[str, list[float]], list[str]]:
    """As `in_turns`, and who failed: left out from then on, since a GPU's time is dear."""
    rates: dict[str, list[float]] = {name: [] for name in who}
    failed: dict[str, str] = {}
    for turn in range(turns):
        for name, run in who.items():
            if name in failed:
                continue
            try:
                rates[name].append(run())
                say(f"gpu {label}, turn {turn + 1}: {name} {rates[name][-1]:.0f} images/s")
            except Exception as error:
                failed[name] = f"{label}: {name}"
                say(f"gpu {label}: {name} failed: {type(error).__name__}: {error}")
    return rates, list(failed.values())


def plain_workers(batch: int) -> int:
    """As many as the cores feed, and as /dev/shm has room for: in many containers it is small."""
    shared = Path("/dev/shm")
    free = shutil.disk_usage(shared).free if shared.is_dir() else 0
    room = free // (PREFETCHED * batch * 3 * 112 * 112 * 4)
    return max(1, min(usable_cores() - 2, room))


def peak_of(name: str) -> float | None:
    """Of whole words alone: an L40 is no L4, and an A10G no A10."""
    words = re.split(r"[\s-]+", name)
    if SMALLER & set(words):
        return None
    told = f" {' '.join(words)} "
    return next((peak for part, peak in PEAKS.items() if f" {part} " in told), None)


def matmul_rate(place: torch.device, *, side: int) -> float:
    """TFLOPS of a large square product in bf16: the most that any network could reach."""
    a, b = (torch.randn(side, side, device=place, dtype=torch.bfloat16) for _ in range(2))
    repeats = 30
    begin = time.perf_counter()
    while time.perf_counter() - begin < WARM_S:
        a @ b
        synchronize(place)
    begin = time.perf_counter()
    for _ in range(repeats):
        a @ b
    synchronize(place)
    return repeats * 2 * side**3 / (time.perf_counter() - begin) / 1e12


def synchronize(place: torch.device) -> None:
    if place.type == "cuda":
        torch.cuda.synchronize()
