"""What the public training sets would take: storage, workers, GPUs, hours, and what they wait for.

    python -m benchmarks.scale      # all sets, each with the network of its recipe
    python -m benchmarks.scale --dataset ms1mv2 --network mobilefacenet_wide --gpus 16
        [--align-workers 16] [--gpu-images-per-s 1500] [--network-mb-per-s 1000]
        [--gpu-hour 2.5 --cpu-hour 0.04 --gb-month 0.02]

Nothing is run: the stages are laid out in time by a small simulation (`scale_plan.py`), from rates
that were measured here (docs/results) and, for GPUs, rates that others published
(`scale_inputs.py`). Give your own with --gpu-images-per-s: of one GPU, for this network and set,
as the first minutes of a training report it. --network-mb-per-s is what the store and the volume
of training give to all pods together. --align-workers are pods of two cores, for validate and
align. Prices are yours: none is built in. Tables are in Markdown, as docs/guides/scale.md has them;
the last line is one JSON object, with the source of every rate.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.scale_inputs import NETWORKS, datasets, inputs, recipe_of
from benchmarks.scale_plan import GB, STAGES, Job, Plan, bottleneck, make_plan

# What the guide shows: set, network (that of the recipe where none is named), GPUs.
SHOWN = (
    ("casia", None, 8),
    ("vggface2", None, 8),
    ("ms1mv2", "mobilefacenet_wide", 8),
    ("ms1mv2", None, 8),
    ("webface42m", None, 8),
    ("webface42m", None, 32),
)
WORKERS = 16


@dataclass(frozen=True)
class Prices:
    gpu_hour: float | None = None
    cpu_hour: float | None = None  # of one core
    gb_month: float | None = None


def job(
    dataset: str,
    network: str | None = None,
    gpus: int = 8,
    workers: int = WORKERS,
    *,
    gpu_images_per_s: float | None = None,
    network_mb_per_s: float | None = None,
) -> Job:
    recipe, _ = recipe_of(dataset, network)
    rates = inputs(
        recipe["train"]["network"],
        recipe["distill"]["network"],
        gpu_images_per_s=gpu_images_per_s,
        network_mb_per_s=network_mb_per_s,
    )
    return Job(datasets()[dataset], recipe, rates, gpus, workers)


def cost(plan: Plan, prices: Prices) -> dict[str, float]:
    """What a run costs, with a month of storage; only what has a price, the sum if all have."""
    amounts = {
        "gpus": (plan.gpu_hours, prices.gpu_hour),
        "cores": (plan.core_hours, prices.cpu_hour),
        "storage_a_month": (plan.stored_bytes / GB, prices.gb_month),
    }
    parts = {name: many * price for name, (many, price) in amounts.items() if price is not None}
    return parts | {"together": sum(parts.values())} if len(parts) == len(amounts) else parts


def figures(plan: Plan, prices: Prices) -> dict[str, Any]:
    """All that is told of a plan; hours, GB (10⁹ bytes) and numbers."""
    job, narrow = plan.job, bottleneck(plan)
    shards = {"photos": job.shards(job.photo_bytes), "crops": job.shards(job.crop_bytes)}
    trained = job.data.photos * job.of("train", "epochs")
    return {
        "dataset": job.data.title,
        "network": job.recipe["train"]["network"],
        "student": job.recipe["distill"]["network"],
        "epochs": int(job.of("train", "epochs")),
        "gpus": job.gpus,
        "workers": job.workers,
        "photos": job.data.photos,
        "people": job.data.people,
        "photos_gb": job.photo_bytes / GB,
        "crops_gb": job.crop_bytes / GB,
        "shards_of_photos": shards["photos"],
        "shards_of_crops": shards["crops"],
        # Each folder has a manifest, a card and the list that DVC makes of it.
        "dvc_objects": sum(shards.values()) + 2 * 3,
        "checkpoint_gb": job.checkpoint_bytes / GB,
        "stored_gb": plan.stored_bytes / GB,
        "pod_gb": job.pod_bytes / GB,
        "moved_gb": plan.moved_bytes / GB,
        "validate_memory_gb": (
            job.rate("validate_memory") + job.rate("validate_memory_each") * job.data.photos
        )
        / GB,
        "align_workers_at_most": job.align_workers_at_most,
        "classifier_gb_a_gpu": job.classifier_bytes(sampled=False) / GB,
        "classifier_gb_a_gpu_sampled": job.classifier_bytes(sampled=True) / GB,
        "hours": {stage: plan.stage_hours(stage) for stage in STAGES} | {"all": plan.hours},
        "checkpoint_hours": plan.checkpoint_hours,
        "train_images_per_s": trained / plan.stage_hours("train") / 3600,
        "gpu_hours": plan.gpu_hours,
        "core_hours": plan.core_hours,
        "bottleneck": asdict(narrow),
        "cost": cost(plan, prices),
    }


def hours(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}" if value >= 0.95 else f"{value:.2f}"


def amount(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"


Told = dict[str, Any]
ROWS: dict[str, Callable[[Told], str]] = {
    "network": lambda of: f"`{of['network']}`",
    "epochs, GPUs": lambda of: f"{of['epochs']}, {of['gpus']}",
    "photos, M": lambda of: f"{of['photos'] / 1e6:.2f}",
    "people": lambda of: f"{of['people']:,}",
    "photos, GB (shards)": lambda of: f"{amount(of['photos_gb'])} ({of['shards_of_photos']:,})",
    "crops, GB (shards)": lambda of: f"{amount(of['crops_gb'])} ({of['shards_of_crops']:,})",
    "objects of DVC": lambda of: f"{of['dvc_objects']:,}",
    "checkpoint, GB": lambda of: amount(of["checkpoint_gb"]),
    "stored, GB": lambda of: amount(of["stored_gb"]),
    "disk of the fullest pod, GB": lambda of: amount(of["pod_gb"]),
    "moved, GB": lambda of: amount(of["moved_gb"]),
    "workers of align that fill the line": lambda of: f"{of['align_workers_at_most']}",
    "memory of validate, GB": lambda of: amount(of["validate_memory_gb"]),
    "classifier on a GPU, GB": lambda of: amount(of["classifier_gb_a_gpu"]),
    "the same, sampled 0.1": lambda of: amount(of["classifier_gb_a_gpu_sampled"]),
    "**hours**: fetch": lambda of: hours(of["hours"]["fetch"]),
    "validate": lambda of: hours(of["hours"]["validate"]),
    "align": lambda of: hours(of["hours"]["align"]),
    "train": lambda of: hours(of["hours"]["train"]),
    "– of it writing checkpoints": lambda of: hours(of["checkpoint_hours"]),
    "distill, one GPU": lambda of: hours(of["hours"]["distill"]),
    "evaluate": lambda of: hours(of["hours"]["evaluate"]),
    "all": lambda of: f"**{hours(of['hours']['all'])}**",
    "images/s of train, all in": lambda of: amount(of["train_images_per_s"]),
    "GPU hours": lambda of: amount(of["gpu_hours"]),
    "core hours, without GPU nodes": lambda of: amount(of["core_hours"]),
    "bottleneck": lambda of: (
        f"{of['bottleneck']['stage']}: {' + '.join(of['bottleneck']['parts'])}"
    ),
    "twice as fast saves, h": lambda of: hours(of["bottleneck"]["saved_hours"]),
}


def table(told: Sequence[Told]) -> str:
    """A column for each plan."""
    rows = [["", *(of["dataset"] for of in told)], ["---", *["---:"] * len(told)]]
    rows += [[name, *map(row, told)] for name, row in ROWS.items()]
    if any(of["cost"] for of in told):
        parts = dict.fromkeys(part for of in told for part in of["cost"])
        rows += [[f"cost: {part}", *(amount(of["cost"][part]) for of in told)] for part in parts]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def sources(jobs: Sequence[Job]) -> dict[str, dict[str, Any]]:
    """Every rate by name, with the set and network that it is of where these differ."""
    found: dict[str, dict[str, Any]] = {}
    for one in jobs:
        of = f"{one.data.title}, {one.recipe['train']['network']}"
        for name, rate in (dict(one.rates) | {"photo_bytes": one.data.photo_bytes}).items():
            told = asdict(rate)
            found[name if found.get(name, told) == told else f"{name} ({of})"] = told
    return found


def rates_table(rates: dict[str, dict[str, Any]]) -> str:
    rows = [["rate", "value", "unit", "", "source"], ["---", "---:", "---", "---", "---"]]
    for name, of in rates.items():
        rows.append([name, f"{of['value']:.4g}", of["unit"], of["kind"], of["source"]])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def parsed(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--dataset", choices=list(datasets()), help="one; all if none is named")
    parser.add_argument("--network", choices=NETWORKS, help="that of the set's recipe by default")
    parser.add_argument("--gpus", type=_whole, help="8 by default")
    parser.add_argument("--align-workers", type=_whole, default=WORKERS, help="pods of two cores")
    parser.add_argument("--gpu-images-per-s", type=_positive, help="of one GPU: your measurement")
    parser.add_argument("--network-mb-per-s", type=_positive, help="of the store, for all together")
    parser.add_argument("--gpu-hour", type=_positive, help="price")
    parser.add_argument("--cpu-hour", type=_positive, help="price of one core")
    parser.add_argument("--gb-month", type=_positive, help="price")
    wanted = parser.parse_args(words)
    if wanted.gpu_images_per_s and not wanted.dataset:
        parser.error("--gpu-images-per-s is the rate of one network on one set: name --dataset")
    return wanted


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value


def _whole(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return value


def main(words: Sequence[str] | None = None) -> None:
    wanted = parsed(words)
    own = {
        "gpu_images_per_s": wanted.gpu_images_per_s,
        "network_mb_per_s": wanted.network_mb_per_s,
    }
    chosen = [(wanted.dataset, wanted.network, 8)] if wanted.dataset else list(SHOWN)
    if wanted.network and not wanted.dataset:
        chosen = [(name, wanted.network, 8) for name in datasets()]
    jobs = [
        job(name, network, wanted.gpus or gpus, wanted.align_workers, **own)
        for name, network, gpus in chosen
    ]
    prices = Prices(wanted.gpu_hour, wanted.cpu_hour, wanted.gb_month)
    told = [figures(make_plan(one), prices) for one in jobs]
    rates = sources(jobs)
    print(f"{table(told)}\n\n{rates_table(rates)}\n")
    print(json.dumps({"plans": told, "rates": rates}, ensure_ascii=False))


if __name__ == "__main__":
    main()
