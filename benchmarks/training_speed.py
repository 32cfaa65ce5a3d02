"""Rates and memory of training on this machine's CPU; see `benchmarks/training.py`."""

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import torch

from benchmarks.figures import cpu, spread
from benchmarks.plain_loop import plain_rate
from benchmarks.training_crops import (
    fit_settings,
    in_processes,
    in_turns,
    our_rate,
    ratio_figures,
    some,
    write_crops,
)
from facewright.datasets.crops import Crops
from facewright.progress import say
from facewright.training.augmentation import apply_changes, draw_changes
from facewright.training.batches import make_plan, read_ahead, seed_of

SMALL = "resnet_small"
NETWORKS = {  # crops per step, embedding size, steps that warm up, steps that are measured
    SMALL: (64, 256, 4, 16),
    "iresnet18": (32, 512, 2, 4),
}
IDENTITIES = 1000  # about as many as LFW's DevTrain people with two photos
MILLION = 1_000_000
PROCESSES = (1, 2, 4)
SPARE_GB = 2.0


@contextmanager
def generated(quick: bool) -> Iterator[Crops]:
    """PNG crops in shards, decoded anew at each call, as those of a set larger than the memory."""
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch) / "crops"
        write_crops(root, crops=256 if quick else 1024, identities=32 if quick else IDENTITIES)
        yield Crops(root, memory=0)


def sizes(network: str, quick: bool) -> tuple[int, int, int, int]:
    batch, embedding, warm, steps = NETWORKS[network]
    return (8, embedding, 1, 2) if quick else (batch, embedding, warm, steps)


def convolution_rates() -> dict[str, float]:
    """Forward and backward of one 3×3 convolution as both loops have it, 10⁹ operations a second.

    Of all threads together. Most of training is convolutions: their ratio is about what bf16 can
    give on this machine.
    """
    size, channels, side = 32, 128, 14
    rates = {}
    for name, kind, layout in (
        ("fp32_contiguous", torch.float32, torch.contiguous_format),
        ("bf16_channels_last", torch.bfloat16, torch.channels_last),
    ):
        layer = torch.nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        layer = layer.to(dtype=kind, memory_format=layout)
        maps = torch.randn(size, channels, side, side).to(dtype=kind, memory_format=layout)
        maps.requires_grad_()
        times = []
        for _ in range(9):
            begin = time.perf_counter()
            layer(maps).backward(torch.ones_like(maps))
            times.append(time.perf_counter() - begin)
        work = 3 * 2 * size * channels * channels * 9 * side * side
        rates[name] = round(work / sorted(times)[len(times) // 2] / 1e9, 1)
    return rates


def loop(quick: bool, turns: int, networks: list[str]) -> dict[str, Any]:
    """Ours against the plain loop: the same network, crops, batch and cores, in turns."""
    result: dict[str, Any] = {"loop_cpu": cpu() | {"gflops": convolution_rates()}}
    with generated(quick) as crops:
        for network in networks:
            batch, embedding, warm, steps = sizes(network, quick)
            of_both: dict[str, Any] = {
                "network": network,
                "embedding_size": embedding,
                "batch_size": batch,
                "warm": warm,
                "steps": steps,
            }
            same = some(crops, batch * warm)
            who = {
                "ours": partial(our_rate, same, **of_both),
                "plain": partial(plain_rate, same, **of_both),
            }
            say(f"loop, {network}, images/s:")
            rates = in_turns(who, turns)
            name = "small" if network == SMALL else network
            result |= ratio_figures(f"{name}_speedup", rates, "ours", "plain")
            for each, values in rates.items():
                result[f"{name}_images_per_s_{each}"] = spread(values)
    return result


def gloo2(quick: bool, turns: int) -> dict[str, Any]:
    """Two processes with one thread each against one with two, at the same global batch."""
    batch, embedding, warm, steps = sizes(SMALL, quick)
    with generated(quick) as crops:
        job = {
            "crops": str(crops.root),
            "warm": warm,
            "steps": 2 * steps,
            "changed": {"network": SMALL, "embedding_size": embedding, "batch_size": batch},
        }

        def rate(processes: int, threads: int) -> float:
            return in_processes(job, processes=processes, threads=threads)[0]["images_per_s"]

        say("gloo2, images/s:")
        rates = in_turns({"two": partial(rate, 2, 1), "one": partial(rate, 1, 2)}, turns)
    result = ratio_figures("gloo2_ratio", rates, "two", "one")
    for each, values in rates.items():
        result[f"gloo2_images_per_s_{each}"] = spread(values)
    return result


def data(quick: bool, turns: int) -> dict[str, Any]:
    """Crops decoded and augmented per second ÷ crops that the small default trains on."""
    batch, embedding, warm, steps = sizes(SMALL, quick)
    network = {"network": SMALL, "embedding_size": embedding, "batch_size": batch}
    with generated(quick) as crops:
        who = {
            "input": partial(input_rate, crops, batch=batch, warm=warm, steps=10 * steps),
            "training": partial(our_rate, crops, warm=warm, steps=steps, **network),
        }
        say("data, crops/s:")
        rates = in_turns(who, turns)
    result = ratio_figures("data_headroom", rates, "input", "training")
    for each, values in rates.items():
        result[f"data_crops_per_s_{each}"] = spread(values)
    return result


def input_rate(crops: Crops, *, batch: int, warm: int, steps: int) -> float:
    """All that happens to crops before the network, as `fit` does it, on the same cores."""
    settings = fit_settings()
    part = some(crops, batch * warm)
    plan = make_plan(part, batch_size=batch, epochs=1 + -(-steps // warm), seed=1)
    begin, done = 0.0, 0
    for step, images, _ in read_ahead(part, plan, threads=settings["readers"]):
        if step.number == warm:
            begin = time.perf_counter()
        generator = torch.Generator().manual_seed(seed_of(1, "changes", step.number))
        apply_changes(images, draw_changes(len(images), settings["augmentation"], generator))
        done += len(images) if step.number >= warm else 0
    return done / (time.perf_counter() - begin)


def memory(quick: bool) -> dict[str, Any]:
    """The largest resident memory of a process with a million identities, and with nearly none."""
    identities = 10_000 if quick else MILLION
    result: dict[str, Any] = {"memory_identities": identities}
    for embedding in (128, 512):
        for processes in PROCESSES:
            for share in (1.0, 0.1):
                name = f"memory{'' if embedding == 128 else f'_{embedding}'}_mb_per_rank"
                name = f"{name}_{processes}{'' if share == 1 else '_sampled'}"
                # Centres, their gradients, momenta and unit copies, and the copies' gradients;
                # then the logits of a batch, a few times.
                need = identities * 4 * (5 * embedding + 5 * 16) / 1e9 + 0.7 * processes
                free = psutil.virtual_memory().available / 1e9
                if need + SPARE_GB > free:
                    say(f"{name}: skipped, needs {need:.1f} GB and {free:.1f} GB are free")
                    result[name] = None
                    continue
                result[name] = _peak(identities, embedding, processes, share)
                say(f"{name}: {result[name]}")
    for processes in PROCESSES:
        result[f"memory_mb_per_rank_{processes}_base"] = _peak(100, 128, processes, 1.0)
    return result


def _peak(identities: int, embedding: int, processes: int, share: float) -> float:
    """MB of the process that holds most; tiny network and steps, so that classifiers count."""
    job = {
        "drawn": {"crops": 32, "identities": identities},
        "warm": 2,
        "steps": 2,
        "changed": {
            "network": "resnet_tiny",
            "embedding_size": embedding,
            "batch_size": 16,
            "sampled_identities": share,
        },
    }
    found = in_processes(job, processes=processes, threads=1)
    return round(max(each["peak_mb"] for each in found))
