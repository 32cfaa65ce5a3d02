"""What each network costs: parameters, multiply-adds, bytes on disk, images per second.

Parameters and multiply-adds are counted (`facewright.models.cost`), for embeddings of 512 values;
the file is the safetensors file that a recognizer holds. Rates are of PyTorch on the CPU, batches
of 32 random crops, channels last, as engines and training run them: fp32, and bf16 autocast. With
`--training` a step (forward, backward, SGD, in the same two precisions) is timed too, on a plain
loss: a margin head costs next to nothing beside the network.

Weights are random, which changes no rate. All networks take turns within each repeat, so that a
busy machine hits all alike; given are the median over the repeats and the lowest and highest, and
which CPU it was: bf16 is fast where it has units for it.

    make bench-backbones            # minutes: all networks, five times, in two precisions
    python -m benchmarks.backbones [--networks NAME …] [--repeats 5] [--training] [--table-only]

`--table-only` measures no time. A Markdown table goes to standard error; the last line on standard
output is one JSON object.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.figures import cpu, spread
from facewright.models import NETWORKS, build_network
from facewright.models.cost import network_cost
from facewright.models.recognizer import WEIGHTS
from facewright.models.weights import save_network
from facewright.progress import progress
from facewright.training.schedule import build_optimizer

EMBEDDING = 512
BATCH = 32
PRECISIONS = ("fp32", "bf16")


def counted(name: str) -> dict[str, int]:
    """Parameters, multiply-adds, and bytes of the weights' file."""
    cost = network_cost(name, embedding_size=EMBEDDING)
    with torch.device("meta"):
        network = build_network(name, embedding_size=EMBEDDING)
    network.to_empty(device="cpu")  # what the values are changes no size
    with tempfile.TemporaryDirectory() as scratch:
        about = {"network": name, "embedding_size": EMBEDDING, "data_digest": "", "code_digest": ""}
        save_network(Path(scratch), network, name="size", **about)
        size = (Path(scratch) / WEIGHTS["torch"]).stat().st_size
    return {
        "parameters": cost.parameters,
        "multiply_adds": cost.multiply_adds,
        "bytes": size,
    }


def inference(network: nn.Module, images: Tensor, precision: str) -> Callable[[], None]:
    def call() -> None:
        network.eval()
        with torch.inference_mode(), autocast(precision):
            network(images)

    return call


def training(network: nn.Module, images: Tensor, precision: str) -> Callable[[], None]:
    # A rate of zero: weights that stay put keep every repeat the same.
    optimizer = build_optimizer(
        network.parameters(), name="sgd", learning_rate=0.0, weight_decay=5e-4
    )

    def call() -> None:
        network.train()
        with autocast(precision):
            embeddings = network(images)
        embeddings.float().square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()

    return call


def autocast(precision: str) -> torch.autocast:
    return torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16")


def timed(call: Callable[[], None]) -> float:
    """Images per second of one call, after one that warms the caches."""
    call()
    start = time.perf_counter()
    call()
    return BATCH / (time.perf_counter() - start)


def measured(names: Sequence[str], repeats: int, *, with_training: bool) -> dict[str, dict]:
    """Per network and kind of run the images per second over the repeats."""
    torch.manual_seed(0)
    images = torch.rand(BATCH, 3, 112, 112) * 2 - 1
    images = images.contiguous(memory_format=torch.channels_last)
    calls: dict[tuple[str, str], Callable[[], None]] = {}
    for name in names:
        network = build_network(name, embedding_size=EMBEDDING)
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        for precision in PRECISIONS:
            calls[name, f"images_per_s_{precision}"] = inference(network, images, precision)
            if with_training:
                step = training(network, images, precision)
                calls[name, f"training_images_per_s_{precision}"] = step
    runs = progress(range(repeats), total=repeats, label="repeats")
    rates = [{key: timed(call) for key, call in calls.items()} for _ in runs]
    found: dict[str, dict] = {name: {} for name in names}
    for name, kind in calls:
        found[name][kind] = spread([rate[name, kind] for rate in rates])
    return found


def table(result: dict[str, dict]) -> str:
    """The table of docs/guides/networks.md, and columns for what was timed beside it."""
    kinds = [key for key in next(iter(result.values())) if "images_per_s" in key]
    told = [key.replace("_", " ").replace("images per s ", "images/s, ") for key in kinds]
    head = ["network", "parameters, M", "multiply-adds, G", "file, MB", *told]
    lines = [head, ["---", *["---:"] * (len(head) - 1)]]
    for name, row in result.items():
        cells = [
            f"`{name}`",
            f"{row['parameters'] / 1e6:.2f}",
            f"{row['multiply_adds'] / 1e9:.2f}",
            f"{row['bytes'] / 1e6:.1f}",
        ]
        for kind in kinds:
            rate = row[kind]
            cells.append(f"{rate['median']:.0f} ({rate['low']:.0f}–{rate['high']:.0f})")
        lines.append(cells)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--training", action="store_true", help="time training steps too")
    parser.add_argument("--table-only", action="store_true", help="count, and time nothing")
    options = parser.parse_args()
    result: dict[str, dict] = {name: counted(name) for name in options.networks}
    if not options.table_only:
        times = measured(options.networks, options.repeats, with_training=options.training)
        result = {name: row | times[name] for name, row in result.items()}
    print(table(result), file=sys.stderr)
    about: dict = {"embedding": EMBEDDING, "batch": BATCH} | cpu()
    if not options.table_only:
        about["repeats"] = options.repeats
    print(json.dumps(about | {"networks": result}))


if __name__ == "__main__":
    main()
