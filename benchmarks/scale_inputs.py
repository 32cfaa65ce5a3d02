"""What `benchmarks/scale.py` reckons with: every number with its source, and who measured it."""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
RESULTS = "docs/results/2026-11-{}.json"
RECIPES = "docs/recipes"
ARCFACE_TORCH = "https://github.com/deepinsight/insightface/tree/master/recognition/arcface_torch"
MEASURED, COUNTED, PUBLISHED = "measured here", "counted here", "published"
ASSUMED, GIVEN = "assumed", "given"


@dataclass(frozen=True)
class Rate:
    """A number, and why one may believe it."""

    value: float
    unit: str
    kind: str  # one of the five above
    source: str  # a file of this repository and the place in it, or an address


@dataclass(frozen=True)
class Dataset:
    """A public training set, and how it is to be trained on."""

    title: str
    photos: int
    people: int
    pixels: str  # what validate measures: photo, crop
    faces: str  # how align finds them: detect, landmarks, aligned
    photo_bytes: Rate
    source: str  # of the counts
    recipe: dict[str, Any]
    recipe_source: str


# Epochs and batch of configs/wf42m_pfc02_8gpus_r50_bs4k; the student as in the recipes of MS1M.
WEBFACE42M = {
    "train": {
        "network": "iresnet50",
        "embedding_size": 512,
        "epochs": 20,
        "batch_size": 4096,
        "sampled_identities": 0.1,
        "checkpoint_every": 1000,
        "checkpoints": 2,
    },
    "distill": {"network": "resnet_small", "epochs": 3, "batch_size": 512},
}
NETWORKS = ("mobilefacenet_wide", "iresnet50", "iresnet100")
LOGS = {"mobilefacenet_wide": "mbf", "iresnet50": "r50", "iresnet100": "r100"}
DEPTHWISE = ("mobilefacenet_wide",)


def result(name: str, *keys: str, unit: str, factor: float = 1.0) -> Rate:
    """A number of `docs/results/`, times `factor`."""
    path = RESULTS.format(name)
    value = _file(path)["result"]
    for key in keys:
        value = value[key]
    return Rate(value * factor, unit, MEASURED, f"{path}: {'.'.join(keys)}")


def recipe(name: str) -> dict[str, Any]:
    return _file(f"{RECIPES}/{name}.yaml")


@cache
def _file(path: str) -> dict[str, Any]:
    """YAML or JSON, which is YAML too."""
    found: dict[str, Any] = yaml.safe_load((ROOT / path).read_text())
    return found


def datasets() -> dict[str, Dataset]:
    """What is planned for, the smallest first."""
    photo, crop = (
        Rate(of.value, "bytes", ASSUMED, f"as those of LFW, {of.source}")
        for of in (
            result("scale-photos", f"bytes_{name}", unit="bytes") for name in ("photo", "crop_jpeg")
        )
    )
    return {
        "casia": Dataset(
            "CASIA-WebFace", 494_414, 10_575, "photo", "detect", photo,
            "docs/guides/casia-webface.md",
            recipe("casia-iresnet50"), f"{RECIPES}/casia-iresnet50.yaml",
        ),
        "vggface2": Dataset(
            "VGGFace2", 3_141_890, 8_631, "photo", "landmarks",
            Rate(40e9 / 3_310_000, "bytes", PUBLISHED, "docs/guides/vggface2.md: 40 GB, 3.31 M"),
            f"docs/guides/vggface2.md, {RECIPES}/vggface2-iresnet50.yaml: its training half",
            recipe("vggface2-iresnet50"), f"{RECIPES}/vggface2-iresnet50.yaml",
        ),
        "ms1mv2": Dataset(
            "MS1MV2", 5_822_653, 85_742, "crop", "aligned", crop,
            f"docs/guides/ms1m.md; {ARCFACE_TORCH}/configs/ms1mv2_r50.py",
            recipe("ms1m-iresnet100"), f"{RECIPES}/ms1m-iresnet100.yaml",
        ),
        "webface42m": Dataset(
            "WebFace42M", 42_474_557, 2_059_906, "crop", "aligned",
            Rate(
                140 * 2**30 / 42_474_557, "bytes", PUBLISHED,
                f"{ARCFACE_TORCH}/configs/wf42m_pfc02_8gpus_r50_bs4k.py: the record file lies in "
                "a memory disk of 140 GiB, so at most this",
            ),
            f"{ARCFACE_TORCH}/configs/wf42m_pfc02_8gpus_r50_bs4k.py",
            WEBFACE42M, f"{ARCFACE_TORCH}/configs/wf42m_pfc02_8gpus_r50_bs4k.py; sampling 0.1",
        ),
    }  # fmt: skip


def recipe_of(dataset: str, network: str | None) -> tuple[dict[str, Any], str]:
    """The recipe of a set, for another network with what is known of that one."""
    about = datasets()[dataset]
    if dataset == "ms1mv2" and network == "mobilefacenet_wide":
        return recipe("ms1m-mobilefacenet"), f"{RECIPES}/ms1m-mobilefacenet.yaml"
    changed = {"network": network or about.recipe["train"]["network"]}
    return about.recipe | {"train": about.recipe["train"] | changed}, about.recipe_source


def published_images_per_s(network: str) -> Rate:
    """Of one GPU: the logs of arcface_torch on MS1MV2, as docs/recipes/README.md has them."""
    path = f"{RECIPES}/README.md"
    log = f"ms1mv2_{LOGS[network]}"
    found = re.search(rf"\| `{log}`, \d+ epochs \| ([\d,]+) \|", (ROOT / path).read_text())
    assert found is not None, f"{path}: no row of {log}"
    value = int(found[1].replace(",", "")) / 8
    return Rate(value, "images/s of one GPU", PUBLISHED, f"{path}: log {log}, 8 GPUs, card unnamed")


def network_costs() -> dict[str, dict[str, Rate]]:
    """Multiply-adds (10⁹) and file (MB) of every network, from the table of networks.md."""
    path = "docs/guides/networks.md"
    rows = re.findall(
        r"^\| `(\w+)` \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|",
        (ROOT / path).read_text(),
        re.MULTILINE,
    )
    return {
        name: {
            "multiply_adds": Rate(float(adds), "10⁹ a crop", COUNTED, f"{path}: {name}"),
            "file": Rate(float(size), "MB", COUNTED, f"{path}: {name}"),
        }
        for name, _, adds, size in rows
    }


def many_gpus() -> dict[int, Rate]:
    """How much of its speed a GPU keeps among so many: r50 on WebFace42M with 8, 16, 32."""
    source = (
        f"{ARCFACE_TORCH}: WF42M-PFC-0.2, r50 on 8, 16, 32 GPUs: 5,900, 11,000, 17,000 images/s"
    )
    return {
        gpus: Rate(rate / 5900 * 8 / gpus, "of the rate on 8", PUBLISHED, source)
        for gpus, rate in ((8, 5900), (16, 11000), (32, 17000))
    }


def classifier_seconds(sampled: bool) -> Rate:
    """GPU seconds that a person more costs each crop: V100s, 125,000 and 1.4 million people."""
    fast, slow = (5004, 4738) if sampled else (4824, 3043)
    how = "Partial FC 0.1" if sampled else "Model Parallel"
    return Rate(
        8 * (1 / slow - 1 / fast) / (1_400_000 - 125_000), "GPU seconds a crop and person",
        PUBLISHED, f"{ARCFACE_TORCH}: Speed Benchmark, {how}, 8 V100: {fast} and {slow} images/s",
    )  # fmt: skip


def classifier_bytes(sampled: bool) -> Rate:
    """What a person costs the process that has her centre of 512 values, at a batch of 16."""
    name = "memory_512_mb_per_rank_1" + ("_sampled" if sampled else "")
    found = result("training-speed", name, unit="bytes a person")
    base = result("training-speed", "memory_mb_per_rank_1_base", unit="MB")
    people = result("training-speed", "memory_identities", unit="people")
    value = (found.value - base.value) * 1e6 / people.value
    return Rate(value, found.unit, MEASURED, f"{found.source}, less memory_mb_per_rank_1_base")


def validate_memory() -> tuple[Rate, Rate]:
    """What validate holds in all processes without a photo, and what each photo more takes."""
    few, many = (
        result("datasets", f"size_{k}k", "validate", "peak_mb", unit="MB") for k in (50, 500)
    )
    each = (many.value - few.value) * 1e6 / 450_000
    source = f"{few.source}, size_500k.…"
    return (
        Rate(few.value * 1e6 - 50_000 * each, "bytes", MEASURED, source),
        Rate(each, "bytes a photo", MEASURED, source),
    )


def remote(verb: str) -> Rate:
    """How fast DVC pushes or pulls with four jobs, from the table of remote.md."""
    path = "docs/guides/remote.md"
    row = r"^ *\| 4 \| (?P<push>[\d.]+) \| \d+ \| (?P<pull>[\d.]+) \| \d+ \|$"
    found = re.search(row, (ROOT / path).read_text(), re.MULTILINE)
    assert found is not None, f"{path}: no row of 4 jobs"
    source = f"{path}: {verb} of four shards of 256 MB, S3 on the same machine, taken once"
    return Rate(4 * 256 / float(found[verb]), "MB/s", MEASURED, source)


def on_cpu(network: str, precision: str) -> Rate:
    """Images per second of ONNX Runtime on one thread."""
    name = f"images_per_s_{precision}"
    return result("quantization", network, "onnxruntime", name, "median", unit="images/s of a core")


def inputs(
    network: str,
    student: str,
    *,
    gpu_images_per_s: float | None = None,
    network_mb_per_s: float | None = None,
) -> dict[str, Rate]:
    """Every rate that a plan for these two networks is made of, by name."""
    base, each = validate_memory()
    cost = network_costs()
    given = Rate(gpu_images_per_s or 0, "images/s of one GPU", GIVEN, "--gpu-images-per-s")
    line = Rate(network_mb_per_s or 0, "MB/s", GIVEN, "--network-mb-per-s")
    photos = {
        name: result("scale-photos", f"{name}_per_cpu_s", unit="photos a core and second")
        for name in (
            "measure_photo", "measure_crop", "align_detect", "align_landmarks", "align_aligned",
        )
    }  # fmt: skip
    crops = result("training-speed", "data_crops_per_s_input", "median", unit="", factor=0.5)
    ours = "iresnet18_images_per_s_ours"
    return photos | {
        "validate_join": result(
            "datasets", "marginal_images_per_s", "validate", unit="photos/s of a pod of 2 cores"
        ),
        "validate_memory": base,
        "validate_memory_each": each,
        "crop_bytes": result("scale-photos", "bytes_crop_png", unit="bytes"),
        "read_mb_per_s": line if network_mb_per_s else remote("pull"),
        "write_mb_per_s": line if network_mb_per_s else remote("push"),
        "crops_read": Rate(crops.value, "crops a core and second", MEASURED, crops.source),
        "gpu_images_per_s": given if gpu_images_per_s else published_images_per_s(network),
        **{f"gpus_{gpus}": rate for gpus, rate in many_gpus().items()},
        **{
            f"classifier_{what}{'_sampled' if sampled else ''}": of(sampled)
            for what, of in (("seconds", classifier_seconds), ("bytes", classifier_bytes))
            for sampled in (False, True)
        },
        "teacher_multiply_adds": cost[network]["multiply_adds"],
        "teacher_file": cost[network]["file"],
        "student_multiply_adds": cost[student]["multiply_adds"],
        "cpu_training": result("training-speed", ours, "median", unit="images/s of 2 cores"),
        "cpu_training_multiply_adds": cost["iresnet18"]["multiply_adds"],
        "student_cpu": on_cpu(student, "fp32"),
        "student_int8_cpu": on_cpu(student, "int8"),
        "depthwise_cpu": on_cpu("mobilefacenet", "fp32"),
        "depthwise_multiply_adds": cost["mobilefacenet"]["multiply_adds"],
        "bootstrap": result("evaluation", "bootstrap_1000_s", unit="s a recognizer"),
        "verification_photos": Rate(13_233, "photos", ASSUMED, "all of LFW: docs/guides/lfw.md"),
        "cores_per_pod": Rate(2, "cores", ASSUMED, "as the machine of docs/results/2026-11-*"),
        "cores_per_gpu": Rate(4, "cores", ASSUMED, "k8s/base/training-runtime.yaml: 16 for 4 GPUs"),
        "node_memory_per_gpu": Rate(24, "GiB", ASSUMED, "k8s/base/training-runtime.yaml: 96 for 4"),
        "shard_mib": Rate(256, "MiB", ASSUMED, "src/facewright/datasets/form.py: SHARD_BYTES"),
    }  # fmt: skip
