"""Training: how fast, how large, and how well; each part can be run alone.

    loop       our loop (bf16 where the CPU has units for it, channels last, our augmentation)
               against the plain one that arcface_torch runs (`plain_loop.py`: fp32, contiguous,
               its augmentation): the same network, crops, batch and two cores, in turns
    gloo2      two processes of one thread under torchrun against one of two, same global batch
    data       crops per second decoded from shards and augmented ÷ those that training consumes
    memory     a million identities over 1, 2 and 4 processes, all compared and a tenth sampled:
               the largest resident memory of a process, with `resnet_tiny` and steps of 16 crops
    view1      LFW View 1 through the project's stages, for each seed: accuracy on pairsDevTest
    gpu        IResNet-50, MobileFaceNet and a million identities on a CUDA device, where one is
    view2      as view1: YouTube Faces and its people's LFW photos → the other 5,386 pairs of View 2
    view2_full View 2 as published: ten models, each trained without the people of the fold that it
               is scored on; the first seed alone
    ablations  a plainer form of view1's recipe (START in training_ablations.py) with one thing
               changed each, judged by held-out training people

    make bench-training             # loop gloo2 data memory view1 gpu: hours, most of it view1
    python -m benchmarks.training [loop gloo2 …] [--turns 5] [--networks resnet_small iresnet18]
        [--seeds 1 2 3] [--students] [--prepare] [--epochs 12] [--only NAME …] [--crops DIR]
        [--batch 256] [--quick]

The ratio of loop hangs on the bf16 units of the CPU, which are told with it: AMX multiplies
matrices, AVX512_BF16 pairs of numbers; without either ours trains in fp32 as well.

Images of view1, view2 and ablations come from ../shared/data (or $FACEWRIGHT_DATA); what is done
of them is kept in build/training/, so that a run that was cut off goes on. --prepare stops before
anything is trained; where the trainings then run they need the whole environment, these images and
build/training/ (for view2_full ten folds of crops). loop, gloo2, data and memory measure the CPU,
on two cores, whatever else is there; the views and ablations keep to two cores where there is no
GPU. --quick makes everything tiny, and gpu runs on the CPU where there is no other: it tests the
script, and measures nothing. A part that fails is told, and the others are measured; the exit code
is then 1. The last line is one JSON object; null stands for what was not run. Rates are medians of
the turns with the least and the most; ratios are of each turn, told in the same way.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from facewright.progress import say

KEYS = (
    "small_speedup",
    "iresnet18_speedup",
    "gloo2_ratio",
    "data_headroom",
    "view1_accuracy_mean",
    "view1_minutes",
)
# The module of each part, imported when it is run: a GPU machine need not have the others' needs.
PARTS = {
    "loop": "training_speed",
    "gloo2": "training_speed",
    "data": "training_speed",
    "memory": "training_speed",
    "view1": "training_faces",
    "gpu": "training_gpu",
    "view2": "training_faces",
    "view2_full": "training_faces",
    "ablations": "training_ablations",
}
OF_THE_CPU = ("loop", "gloo2", "data", "memory")
BY_NAME_ONLY = ("view2", "view2_full", "ablations")
CORES = 2


def main() -> int:
    options = parsed()
    parts = options.parts or [part for part in PARTS if part not in BY_NAME_ONLY]
    quick, turns = options.quick, 1 if options.quick else options.turns
    arguments: dict[str, tuple[Any, ...]] = {
        "loop": (quick, turns, options.networks),
        "gloo2": (quick, turns),
        "data": (quick, turns),
        "memory": (quick,),
        "view1": (quick, options.seeds, options.students, options.prepare),
        "gpu": (quick, turns, 8 if quick else options.batch),
        "view2": (quick, options.seeds, options.prepare),
        "view2_full": (quick, options.seeds[0], options.prepare),
        "ablations": (quick, options.seeds, options.epochs, options.only, options.crops),
    }
    result: dict[str, Any] = dict.fromkeys(KEYS)
    every, failed = usable(), []
    for part in parts:
        say(f"— {part}")
        run = getattr(import_module(f"benchmarks.{PARTS[part]}"), part)
        try:
            with without_gpu() if part in OF_THE_CPU else nullcontext():
                keep_to(every if torch.cuda.is_available() or part == "gpu" else every[:CORES])
                result |= run(*arguments[part])
            failed += result.get("gpu_failed", ()) if part == "gpu" else ()
        except (Exception, SystemExit) as error:  # hours of other parts are not lost with it
            failed.append(part)
            say(f"{part} failed: {error}")
    result |= {"failed": failed, "quick": quick, "torch": torch.__version__}
    print(json.dumps(result))
    return int(bool(failed))


@contextmanager
def without_gpu() -> Iterator[None]:
    """As on a machine that has none, here and in the processes that are started."""
    with (
        mock.patch.object(torch.cuda, "is_available", return_value=False),
        mock.patch.dict(os.environ, CUDA_VISIBLE_DEVICES=""),
    ):
        yield


def usable() -> list[int]:
    if not hasattr(os, "sched_getaffinity"):
        return list(range(os.cpu_count() or 1))
    return sorted(os.sched_getaffinity(0))


def keep_to(cores: list[int]) -> None:
    """This process, and those that it starts, on these cores alone."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)
    torch.set_num_threads(len(cores))


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--turns", type=int, default=5, help="of everyone who is compared")
    networks = ("resnet_small", "iresnet18")
    parser.add_argument("--networks", nargs="+", choices=networks, default=list(networks))
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--students", action="store_true", help="view1: the later stages too")
    parser.add_argument("--prepare", action="store_true", help="views: import and align alone")
    parser.add_argument("--epochs", type=int, default=12, help="of each ablation")
    parser.add_argument("--only", nargs="+", help="ablations by name; the base is always run")
    parser.add_argument("--crops", type=Path, help="ablations: a dataset of crops that is there")
    parser.add_argument("--batch", type=int, default=256, help="crops per step on the GPU")
    parser.add_argument("--quick", action="store_true", help="tiny: tests the script")
    options = parser.parse_args()
    for part in options.parts:
        if part not in PARTS:
            parser.error(f"unknown part {part!r}: choose of {', '.join(PARTS)}")
    return options


if __name__ == "__main__":
    sys.exit(main())
