"""What INT8 gains over FP32: speed on ONNX Runtime and OpenVINO, size, and how far it strays.

Networks with random weights, whose BatchNorm statistics are set on crops of the sample set, are
exported and quantized as the stage `quantize` does it, on other crops of it; a third part tells
the cosine between the embeddings of both forms. A trained network strays far less (the stage writes
its cosine to metrics.json): at random, faces differ by little, which the last BatchNorm magnifies.

Everything runs on one thread, preparation of the crops included, in repeats that take all
recognizers in turn, so that a busy machine hits all alike: 64 crops in one call, and one crop
alone. Rates are medians over the repeats, beside the lowest and highest; a speedup is taken within
each repeat.

    make bench-quantization         # about 3 minutes on two cores
    python -m benchmarks.quantization [--networks resnet_tiny resnet_small] [--repeats 7]

The last line on standard output is one JSON object.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from benchmarks.figures import spread
from facewright.alignment import crop_face
from facewright.compression.onnx_export import export_onnx
from facewright.compression.quantization import parity, quantize_onnx
from facewright.datasets.sample.album import PHOTOS_PER_IDENTITY, render_scene
from facewright.engines import Recognizer, latency, load_recognizer
from facewright.models import build_network
from facewright.models.recognizer import read_card
from facewright.models.weights import save_network
from facewright.progress import progress
from facewright.workers import worker_pool

NETWORKS = ("resnet_tiny", "resnet_small", "mobilefacenet")
RUNTIMES = ("onnxruntime", "openvino")
EMBEDDING = 256
METHOD = "percentile"  # as in params.yaml
PEOPLE = 36
BATCH = 64
BATCH_CALLS, SINGLE_CALLS = 3, 20  # timed per repeat, of which the median counts


def crops_of(person: int) -> np.ndarray:
    """`(12, 112, 112, 3) uint8 RGB`, cut at the true places of the five points."""
    scenes = [render_scene(person, photo) for photo in range(PHOTOS_PER_IDENTITY)]
    return np.stack([crop_face(scene.image, scene.points) for scene in scenes])


def untrained(name: str, crops: np.ndarray, folder: Path) -> nn.Module:
    """A network with random weights and the statistics of `crops`, in evaluation mode, saved."""
    torch.manual_seed(0)
    network = build_network(name, embedding_size=EMBEDDING).train()
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = None  # statistics are plain means over the batches
    images = torch.from_numpy(crops).permute(0, 3, 1, 2) / 127.5 - 1
    with torch.no_grad():
        for batch in images.split(32):
            network(batch)
    network.eval()
    about = {"data_digest": "", "code_digest": ""}
    save_network(folder, network, name="student", network=name, embedding_size=EMBEDDING, **about)
    return network


def build(name: str, parts: Sequence[np.ndarray], folder: Path) -> dict[str, Path]:
    """The FP32 and the INT8 recognizer of a network."""
    network = untrained(name, parts[0], folder / "torch")
    export_onnx(network, folder / "fp32", source=read_card(folder / "torch"))
    batches = (parts[1][start : start + 32] for start in range(0, len(parts[1]), 32))
    quantize_onnx(folder / "fp32", folder / "int8", calibration=batches, method=METHOD)
    return {form: folder / form for form in ("fp32", "int8")}


def measure(recognizer: Recognizer, crops: np.ndarray) -> dict[str, float]:
    """Images per second of a batch, and milliseconds of a single crop."""
    recognizer.embed(crops)  # warms the caches that the recognizer before it has filled
    times = []
    for _ in range(BATCH_CALLS):
        start = time.perf_counter()
        recognizer.embed(crops)
        times.append(time.perf_counter() - start)
    single = latency(recognizer, crops[0], calls=SINGLE_CALLS, flip=False)
    return {"images_per_s": len(crops) / statistics.median(times), "single_ms": single}


def compare(runs: Sequence[dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    """FP32 against INT8 over the repeats of one network on one runtime."""
    found = {
        f"{key}_{form}": spread([run[form][key] for run in runs], 3)
        for key in ("images_per_s", "single_ms")
        for form in ("fp32", "int8")
    }
    batch = [run["int8"]["images_per_s"] / run["fp32"]["images_per_s"] for run in runs]
    single = [run["fp32"]["single_ms"] / run["int8"]["single_ms"] for run in runs]
    return found | {"speedup_batch": spread(batch, 3), "speedup_single": spread(single, 3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    with worker_pool("rendering") as pool:
        people = progress(pool.map(crops_of, range(PEOPLE)), total=PEOPLE, label="people")
        crops = np.concatenate(list(people))
    # Statistics, calibration and comparison see different people.
    parts = np.split(crops, 3)
    result: dict = {"batch": BATCH, "repeats": options.repeats, "threads": 1, "method": METHOD}
    with tempfile.TemporaryDirectory() as scratch:
        opened: dict[tuple[str, str], dict[str, Recognizer]] = {}
        for name in options.networks:
            forms = build(name, parts, Path(scratch) / name)
            for runtime in RUNTIMES:
                opened[name, runtime] = {
                    form: load_recognizer(folder, runtime=runtime, threads=1)
                    for form, folder in forms.items()
                }
        rounds = range(options.repeats)
        repeats = [
            {
                key: {form: measure(one, parts[2][:BATCH]) for form, one in forms.items()}
                for key, forms in opened.items()
            }
            for _ in progress(rounds, total=len(rounds), label="repeats")
        ]
        for (name, runtime), forms in opened.items():
            apart = parity(forms["fp32"], forms["int8"], parts[2])
            megabytes = {f"megabytes_{k}": round(v.model_bytes / 1e6, 2) for k, v in forms.items()}
            result.setdefault(name, megabytes)[runtime] = {
                **compare([repeat[name, runtime] for repeat in repeats]),
                **{key: round(apart[key], 4) for key in ("cosine_min", "cosine_mean")},
            }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
