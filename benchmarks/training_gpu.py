"""Training on one CUDA device; see `benchmarks/training.py`. Needs torch, numpy, PyYAML, Pillow,
safetensors and this repository, no data, and no other part of the project's environment."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from benchmarks.figures import spread
from benchmarks.plain_loop import plain_rate
from benchmarks.training_crops import drawn, our_rate
from facewright.models.cost import network_cost
from facewright.progress import say
from facewright.workers import usable_cores

EMBEDDING = 512
IDENTITIES = 93_431  # MS1M-v3's, as in arcface_torch's configuration of IResNet-50
MILLION = 1_000_000
STEP = 6  # floating-point operations per multiply-add: two, forward and twice backward
# Dense bf16 with fp32 sums, TFLOPS, from NVIDIA's data sheets (half of the figures "with
# sparsity"), by what the device's name holds; the first that fits.
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


def gpu(quick: bool, turns: int, batch: int) -> dict[str, Any]:
    """IResNet-50, MobileFaceNet and a million identities on the GPU, where there is one.

    A quick run, which measures nothing, takes the CPU where there is none.
    """
    if not quick and not torch.cuda.is_available():
        say("gpu: PyTorch finds no CUDA device here, so nothing is measured on one")
        return {"gpu": None}
    return measured(quick=quick, turns=turns, batch=batch)


def measured(*, quick: bool, turns: int, batch: int) -> dict[str, Any]:
    place = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name = torch.cuda.get_device_name() if place.type == "cuda" else "cpu"
    peak = next((value for part, value in PEAKS.items() if part in name), None)
    product = matmul_rate(place, side=256 if quick else 8192)
    result: dict[str, Any] = {
        "gpu": name,
        "gpu_batch": batch,
        "gpu_peak_tflops": peak,
        "gpu_matmul_tflops": round(product, 2),
    }
    warm, steps = (2, 2) if quick else (10, 40)
    people = 100 if quick else IDENTITIES
    crops = drawn(crops=warm * batch, identities=people)
    ours = partial(our_rate, crops, warm=warm, steps=steps, batch_size=batch, precision="bf16")
    plain = partial(plain_rate, crops, warm=warm, steps=steps, batch_size=batch, device=place)
    plain = partial(plain, embedding_size=EMBEDDING, workers=max(2, usable_cores() - 2))
    ours = partial(ours, embedding_size=EMBEDDING, readers=max(2, min(8, usable_cores() // 2)))
    for network in ("resnet_tiny",) if quick else ("iresnet50", "mobilefacenet"):
        cost = network_cost(network, embedding_size=EMBEDDING).multiply_adds
        who: dict[str, Callable[[], float]] = {
            "ours": partial(ours, network=network, compiled=False),
            "ours_compiled": partial(ours, network=network, compiled=True),
            "plain_fp32": partial(plain, network=network),  # convolutions in TF32: PyTorch's way
            "plain_bf16": partial(plain, network=network, precision=torch.bfloat16),
        }
        if place.type == "cpu":
            del who["ours_compiled"]  # the compiler takes minutes there
        rates = gpu_turns(who, turns, label=network)
        for each, values in rates.items():
            key = f"gpu_{network}_images_per_s_{each}"
            result[key] = spread(values) if values else None
            if values:
                done = result[key]["median"] * cost * STEP / 1e12
                result[f"gpu_{network}_tflops_{each}"] = round(done, 2)
                result[f"gpu_{network}_share_of_peak_{each}"] = peak and round(done / peak, 4)
                result[f"gpu_{network}_share_of_matmul_{each}"] = round(done / product, 4)
    many = drawn(crops=warm * batch, identities=1000 if quick else MILLION)
    network = "resnet_tiny" if quick else "iresnet50"
    settings = {"network": network, "embedding_size": EMBEDDING, "batch_size": batch}
    for share in (1.0, 0.1):
        key = f"gpu_million_{'all' if share == 1 else 'sampled'}"
        if place.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        run = partial(our_rate, many, warm=warm, steps=steps, sampled_identities=share, **settings)
        rates = gpu_turns({"ours": run}, 1, label=key)
        result[f"{key}_images_per_s"] = round(rates["ours"][0], 1) if rates["ours"] else None
        most = torch.cuda.max_memory_allocated() / 1e9 if place.type == "cuda" else 0.0
        result[f"{key}_gb"] = round(most, 2)
    return result


def gpu_turns(
    who: dict[str, Callable[[], float]], turns: int, *, label: str
) -> dict[str, list[float]]:
    """As `in_turns`; whoever fails is told, and left out from then on: a GPU's time is dear."""
    rates: dict[str, list[float]] = {name: [] for name in who}
    failed: set[str] = set()
    for turn in range(turns):
        for name, run in who.items():
            if name in failed:
                continue
            torch.compiler.reset()  # a network of its own each time
            try:
                rates[name].append(run())
                say(f"gpu {label}, turn {turn + 1}: {name} {rates[name][-1]:.0f} images/s")
            except Exception as error:
                failed.add(name)
                say(f"gpu {label}: {name} failed: {type(error).__name__}: {error}")
    return rates


def matmul_rate(place: torch.device, *, side: int) -> float:
    """TFLOPS of a large square product in bf16: the most that any network could reach."""
    a, b = (torch.randn(side, side, device=place, dtype=torch.bfloat16) for _ in range(2))
    repeats = 30
    for _ in range(5):
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
