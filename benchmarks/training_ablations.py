"""What each choice earns that made the recipe for LFW View 1; see `benchmarks/training.py`.

Measured on people of the training half that none of these trainings sees, never on pairsDevTest:
choices made by looking at the reported pairs would make the report a lie.
"""

import json
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from benchmarks.training_crops import fit_settings, write_crops
from benchmarks.training_faces import RECIPE, prepare, recipe, view1_imports, work
from facewright.datasets.crops import Crops
from facewright.files import code_digest, values_digest, write_json
from facewright.progress import say
from facewright.training import fit
from facewright.training.augmentation import NAMES
from facewright.training.batches import CropSource
from facewright.training.validation import Part, embed, hold_out, part_of, true_match_rate

HELD = 200  # people
HELD_SEED = 0  # the same people in all trainings

# What all are compared with, so that the table stays one table: the recipe for LFW with these.
START: dict[str, Any] = {
    "head": {"name": "cosface", "scale": 32.0, "margin": 0.2},
    "weight_decay": 0.0005,
}
# One thing changed each, as it stands in the train section; `min_photos` is of identities.
VARIATIONS: dict[str, dict[str, Any]] = {
    "none": {},
    "cosface 0.3 and weight decay 0.001": {
        "head": {"name": "cosface", "scale": 32.0, "margin": 0.3},
        "weight_decay": 0.001,
    },
    "softmax": {"head": {"name": "softmax"}},
    "no margin (normface)": {"head": {"name": "normface", "scale": 32.0}},
    "arcface 0.3": {"head": {"name": "arcface", "scale": 32.0, "margin": 0.3}},
    "adaface 0.3": {
        "head": {"name": "adaface", "scale": 32.0, "margin": 0.3, "h": 0.333, "t_alpha": 0.01}
    },
    "cosface, margin 0.1": {"head": {"name": "cosface", "scale": 32.0, "margin": 0.1}},
    "cosface, margin 0.3": {"head": {"name": "cosface", "scale": 32.0, "margin": 0.3}},
    "cosface, margin 0.4": {"head": {"name": "cosface", "scale": 32.0, "margin": 0.4}},
    "cosface, scale 64": {"head": {"name": "cosface", "scale": 64.0, "margin": 0.2}},
    "no label smoothing": {"label_smoothing": 0.0},
    "flip alone": {"augmentation": dict.fromkeys(NAMES, 0.0) | {"flip": 0.5}},
    "no geometry": {"augmentation": {"rotation": 0.0, "zoom": 0.0, "shift": 0.0}},
    "no colour": {"augmentation": dict.fromkeys(("brightness", "contrast", "saturation"), 0.0)},
    "no erased rectangle": {"augmentation": {"erase": 0.0}},
    "erased rectangle 0.5": {"augmentation": {"erase": 0.5}},
    "geometry 15°, 10 %, 10 %": {"augmentation": {"rotation": 15.0, "zoom": 0.1, "shift": 0.1}},
    "no geometry, cosface 0.3, weight decay 0.001": {
        "augmentation": {"rotation": 0.0, "zoom": 0.0, "shift": 0.0},
        "head": {"name": "cosface", "scale": 32.0, "margin": 0.3},
        "weight_decay": 0.001,
    },
    "wider geometry": {"augmentation": {"rotation": 15.0, "zoom": 0.15, "shift": 0.08}},
    "low resolution 0.2": {"augmentation": {"lowres": 0.2}},
    "noise, JPEG 0.1": {"augmentation": {"noise": 0.1, "jpeg": 0.1}},
    "dropout 0": {"dropout": 0.0},
    "dropout 0.2": {"dropout": 0.2},
    "dropout 0.6": {"dropout": 0.6},
    "weight decay 0.001": {"weight_decay": 0.001},
    "weight decay 0.002": {"weight_decay": 0.002},
    "average 0.999": {"average": 0.999},
    "identities with one photo too": {"min_photos": 1},
    "identities with three photos or more": {"min_photos": 3},
}


def ablations(
    quick: bool, seeds: Sequence[int], epochs: int, only: Sequence[str] | None, crops: Path | None
) -> dict[str, Any]:
    """Train every variation with every seed, and print the table; what is done is kept."""
    params = yaml.safe_load(RECIPE.read_text())
    unknown = sorted(set(only or ()) - set(VARIATIONS))
    if unknown:
        sys.exit(f"ablations: no variation {unknown[0]!r}: there are {', '.join(VARIATIONS)}")
    base = {k: v for k, v in params["train"].items() if k != "log_samples"} | START
    base |= {"epochs": epochs, "min_photos": params["validate"]["min_images_per_identity"]}
    if quick:
        base |= {"epochs": 1, "network": "resnet_tiny", "batch_size": 16}
    folder = work(quick) / "ablations"
    folder.mkdir(parents=True, exist_ok=True)
    whole = all_crops(quick, folder, crops)
    training, held = hold_out(whole, identities=5 if quick else HELD, seed=HELD_SEED)
    assert held is not None
    settings = {
        name: changed(base, change)
        for name, change in VARIATIONS.items()
        if only is None or name in only or not change
    }
    if quick:
        settings = dict(list(settings.items())[:3] + list(settings.items())[-2:])
    rows = {
        name: [
            measured(name, training, held, made, seed=seed, digest=whole.digest, folder=folder)
            for seed in seeds
        ]
        for name, made in settings.items()
    }
    text = table(rows, epochs=base["epochs"], held=held)
    say(text)
    (folder / "table.md").write_text(text + "\n")
    return {"ablations_epochs": base["epochs"], "ablations": rows}


def all_crops(quick: bool, folder: Path, crops: Path | None) -> Crops:
    """Crops of identities with one photo too; those of View 1's preparation leave these out."""
    if crops is not None:
        return Crops(crops)
    if quick:
        root = work(quick) / "generated"
        if not root.exists():
            write_crops(root, crops=120, identities=30)
        return Crops(root)
    params = recipe(quick, min_images_per_identity=1)
    prepared = prepare(folder / "crops", params, view1_imports(folder, quick))
    return Crops(prepared / "artifacts" / "align" / "train")


def changed(base: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    augmentation = base["augmentation"] | change.get("augmentation", {})
    return {**base, **change, "augmentation": augmentation}


def measured(
    name: str,
    training: CropSource,
    held: Part,
    settings: dict[str, Any],
    *,
    seed: int,
    digest: str,
    folder: Path,
) -> dict[str, float]:
    """Held-out figures of one training, or those that an earlier run kept."""
    key = values_digest(
        [settings, seed, digest, held.identities, code_digest("models", "training")]
    )
    done = folder / "results" / f"{key[:16]}.json"
    if done.is_file():
        say(f"ablations: {name}, seed {seed}: kept from an earlier run")
        kept: dict[str, float] = json.loads(done.read_text())
        return kept
    values = {k: v for k, v in settings.items() if k != "min_photos"}
    begin = time.monotonic()
    trained = fit(
        with_photos(training, settings["min_photos"]),
        **fit_settings(**values | {"seed": seed, "validation_identities": 0}),
    )
    minutes = (time.monotonic() - begin) / 60
    embeddings = embed(
        trained.network, held, device=torch.device("cpu"), precision=torch.float32, readers=2
    )
    row = {
        "true_match_rate": round(true_match_rate(embeddings, held.labels), 5),
        "accuracy": round(balanced_accuracy(embeddings.numpy(), held.labels), 5),
        "crops": len(trained.crops),
        "minutes": round(minutes, 2),
    }
    done.parent.mkdir(parents=True, exist_ok=True)
    write_json(done, row)
    say(f"ablations: {name}, seed {seed}: {row}")
    return row


def with_photos(crops: CropSource, least: int) -> Part:
    """The identities that have at least so many crops."""
    return part_of(crops, np.bincount(crops.labels, minlength=len(crops.identities)) >= least)


def balanced_accuracy(embeddings: np.ndarray, labels: np.ndarray) -> float:
    """Verification accuracy at the best threshold, over all pairs of `embeddings (N, E)`.

    Genuine and impostor pairs count one half each, and among the genuine every identity alike, so
    that people with many photos do not decide. The threshold is chosen on the same pairs, which is
    a little kind to all trainings alike.
    """
    first, second = np.triu_indices(len(labels), 1)
    cosines = (embeddings @ embeddings.T)[first, second]
    genuine = labels[first] == labels[second]
    own, person = cosines[genuine], labels[first][genuine]
    weight = (1 / np.bincount(person))[person]
    order = np.argsort(own)
    missed = np.concatenate(([0.0], np.cumsum(weight[order]) / weight.sum()))
    others = np.sort(cosines[~genuine])
    # Just below each genuine pair's cosine nothing changes but the impostors: the best is there.
    accepted = 1 - np.searchsorted(others, own[order], side="left") / len(others)
    return float(1 - ((missed[:-1] + accepted) / 2).min())


def table(rows: Mapping[str, Sequence[Mapping[str, float]]], *, epochs: int, held: Part) -> str:
    """Markdown, in per cent, mean over the seeds with the least and the most."""
    lines = [
        f"{epochs} epochs; {len(held)} crops of {len(held.identities)} held-out training people",
        "",
        "| one change | held-out accuracy, % | true matches at FMR 1 %, % | crops | minutes |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, of_seeds in rows.items():
        cells = []
        for key in ("accuracy", "true_match_rate"):
            values = [100 * row[key] for row in of_seeds]
            between = f" ({min(values):.1f}–{max(values):.1f})" if len(values) > 1 else ""
            cells.append(f"{statistics.mean(values):.1f}{between}")
        cells.append(f"{of_seeds[0]['crops']:.0f}")
        cells.append(f"{statistics.mean(row['minutes'] for row in of_seeds):.1f}")
        lines.append(f"| {' | '.join([name, *cells])} |")
    return "\n".join(lines)
