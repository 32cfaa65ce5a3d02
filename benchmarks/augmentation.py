"""Augmentation against kornia's, the library made for it: the same crops, in the same run.

    plain    geometry, colour, grey and an erased rectangle, as in params.yaml
    usual    these, and the camera's and the file's changes at a chance of 0.1 each
    certain  everything at once on every crop: what a crop costs at most

Rates are per second of CPU time on one thread. Both begin with `(64, 112, 112, 3) uint8` and end
with float32 in [-1, 1], channels last; they take turns, so that a busy machine hits both. Medians
over the repeats are given, with the smallest and largest. Where kornia has no such change the
nearest stands in: a Gaussian blur for low resolution with blur, noise of one strength. Then a batch
is changed whole and in two halves, as two processes would have it, and the largest difference is
given (2 is from black to white).

    pip install --no-deps kornia kornia_rs
    make bench-augmentation         # or python -m benchmarks.augmentation [--repeats 15] [--clock]

Without kornia only ours is measured. The last line is one JSON object.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor

from facewright.progress import say
from facewright.training.augmentation import NAMES, apply_changes, draw_changes

BATCH = 64
PLAIN = {
    "flip": 0.5,
    "rotation": 10.0,
    "zoom": 0.08,
    "shift": 0.05,
    "brightness": 0.2,
    "contrast": 0.15,
    "saturation": 0.1,
    "erase": 0.2,
    "grey": 0.05,
}
RANGES = {
    "erase_area": [0.05, 0.2],
    "lowres_size": [0.2, 1.0],
    "lowres_blur": [0.0, 1.0],
    "noise_sigma": [0.01, 0.05],
    "salt_share": [0.02, 0.1],
    "jpeg_quality": [30, 95],
}
DEGRADATIONS = ("lowres", "noise", "salt", "jpeg")
OFF = dict.fromkeys(NAMES, 0.0) | RANGES
SETTINGS: dict[str, dict[str, Any]] = {
    "plain": OFF | PLAIN,
    "usual": OFF | PLAIN | dict.fromkeys(DEGRADATIONS, 0.1),
    "certain": OFF | PLAIN | dict.fromkeys(("erase", *DEGRADATIONS), 1.0),
}
Augment = Callable[[Tensor, int, slice], Tensor]  # crops, seed, the part of them to change


def ours(settings: dict[str, Any]) -> Augment:
    def augment(crops: Tensor, seed: int, part: slice) -> Tensor:
        changes = draw_changes(len(crops), settings, torch.Generator().manual_seed(seed))
        return apply_changes(crops[part], changes[part])

    return augment


def kornias(settings: dict[str, Any]) -> Augment | None:
    """The peer as its makers mean it to be used; None if it is not installed."""
    try:
        import kornia.augmentation as K  # noqa: N812
    except ImportError:
        return None
    s = settings
    changes = [
        K.RandomHorizontalFlip(p=s["flip"]),
        K.RandomAffine(
            degrees=s["rotation"],
            translate=(s["shift"], s["shift"]),
            scale=(1 - s["zoom"], 1 + s["zoom"]),
            padding_mode="BORDER",
            p=1.0,
        ),
        K.ColorJiggle(s["brightness"], s["contrast"], s["saturation"], p=1.0),
        K.RandomGrayscale(p=s["grey"]),
        K.RandomErasing(scale=tuple(s["erase_area"]), ratio=(0.5, 2.0), p=s["erase"]),
    ]
    if s["lowres"]:
        blur = (0.1, s["lowres_blur"][1])  # it takes no 0
        strength = sum(s["noise_sigma"]) / 2
        changes += [
            K.RandomGaussianBlur((7, 7), blur, p=s["lowres"]),
            K.RandomGaussianNoise(std=strength, p=s["noise"]),
            K.RandomSaltAndPepperNoise(amount=tuple(s["salt_share"]), p=s["salt"]),
            K.RandomJPEG(jpeg_quality=tuple(map(float, s["jpeg_quality"])), p=s["jpeg"]),
        ]
    pipeline = K.AugmentationSequential(*changes, data_keys=["input"])

    def augment(crops: Tensor, seed: int, part: slice) -> Tensor:
        torch.manual_seed(seed)
        images = crops[part].permute(0, 3, 1, 2).contiguous().float() / 255
        with torch.no_grad():
            images = pipeline(images).clamp(0, 1) * 2 - 1
        return images.contiguous(memory_format=torch.channels_last)

    return augment


def example_crops(count: int) -> Tensor:
    """Broad colours with grain: what the speed of JPEG or noise could hang on, and no faces."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 3, 7, 7, generator=generator) * 200 + 20
    broad = torch.nn.functional.interpolate(coarse, (112, 112), mode="bicubic")
    grain = 6 * torch.randn(count, 3, 112, 112, generator=generator)
    return (broad + grain).clamp(0, 255).byte().permute(0, 2, 3, 1).contiguous()


def measure(
    who: dict[str, Augment], crops: Tensor, repeats: int, clock: Callable[[], float]
) -> dict[str, list[float]]:
    """Crops per second of everyone, batch by batch and in turns."""
    rates: dict[str, list[float]] = {each: [] for each in who}
    for turn in range(repeats + 3):
        for each, augment in who.items():
            start = clock()
            augment(crops, turn, slice(0, len(crops)))
            if turn >= 3:  # the first ones also fill caches
                rates[each].append(len(crops) / (clock() - start))
    return rates


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument(
        "--clock",
        action="store_true",
        help="also per second of the clock, on all cores: true only where nothing else runs",
    )
    wanted = parser.parse_args()
    cores = torch.get_num_threads()
    modes = [("cpu", 1, time.thread_time), ("clock", cores, time.perf_counter)]
    modes = modes if wanted.clock else modes[:1]
    crops, whole = example_crops(BATCH), slice(0, BATCH)
    result: dict[str, Any] = {
        "batch": BATCH,
        "cores": cores,
        "repeats": wanted.repeats,
        "torch": torch.__version__,
    }
    for name, settings in SETTINGS.items():
        who = {"ours": ours(settings)}
        if (peer := kornias(settings)) is not None:
            who["kornia"] = peer
            result["kornia"] = version("kornia")
        elif name == "plain":
            say("skipped kornia: pip install --no-deps kornia kornia_rs")
        for label, threads, clock in modes:
            torch.set_num_threads(threads)
            rates = measure(who, crops, wanted.repeats, clock)
            for each, values in rates.items():
                result[f"{name}_crops_per_{label}_s_{each}"] = round(statistics.median(values))
                result[f"{name}_{label}_spread_{each}"] = [round(min(values)), round(max(values))]
            if "kornia" in who:
                ratios = [a / b for a, b in zip(rates["ours"], rates["kornia"], strict=True)]
                result[f"{name}_{label}_speedup"] = round(statistics.median(ratios), 2)
            told = ", ".join(f"{e} {statistics.median(r):.0f}" for e, r in rates.items())
            say(f"{name}, crops per {label} second: {told}")
        for each, augment in who.items():
            at_once = augment(crops, 1, whole)
            halves = [augment(crops, 1, part) for part in (slice(0, 32), slice(32, BATCH))]
            difference = float((torch.cat(halves) - at_once).abs().max())
            result[f"{name}_largest_difference_in_halves_{each}"] = round(difference, 6)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
