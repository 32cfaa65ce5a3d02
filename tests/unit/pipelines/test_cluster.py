"""What steps get in a cluster, and that k8s/ has what they refer to."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from kfp import compiler

from components.images import CUDA_IMAGE, IMAGE, TENSORRT_IMAGE
from facewright.errors import ParamsError
from facewright.stages import train_job
from pipelines import cluster
from pipelines.cluster import CLUSTER, STEPS, VOLUME, load
from pipelines.graph import pipeline

ROOT = Path(__file__).parents[3]
K8S = ROOT / "k8s"
SENT = ("exec-align", "exec-train", "exec-distill")  # to nodes of their own, in a test


def compiled(file: Path, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Executors of the compiled pipeline, and what Kubernetes is told of them."""
    package = folder / "pipeline.yaml"
    compiler.Compiler().compile(pipeline(load(file)), str(package))
    spec, platform = yaml.safe_load_all(package.read_text())
    kubernetes = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    return spec["deploymentSpec"]["executors"], kubernetes


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, Any]]:
    return compiled(CLUSTER, tmp_path_factory.mktemp("usual"))


def test_each_step_gets_what_the_file_says(usual: Any) -> None:
    given = load()
    for name in STEPS:
        step, container = given.steps[name], usual[0][f"exec-{name}"]["container"]
        resources = container["resources"]
        engines = name in ("compile", "evaluate")  # they need TensorRT
        assert container["image"] == (given.engine_image if engines else given.image)
        assert resources["resourceCpuRequest"] == resources["resourceCpuLimit"]
        assert resources["resourceCpuLimit"] == f"{round(step.cpu * 1000)}m"
        assert resources["resourceMemoryRequest"] == step.memory == resources["resourceMemoryLimit"]
        assert "accelerator" not in resources


def test_each_step_is_retried_and_ended_as_the_file_says(tmp_path: Path) -> None:
    """With numbers that are no step's usual ones."""
    given = yaml.safe_load(CLUSTER.read_text())
    for at, name in enumerate(STEPS):
        given["steps"][name] |= {"retries": at % 10 + 1, "hours": 20.5 + at}
    given["steps"]["train"] |= {"retries": 0, "hours": None}  # neither tried again nor ended
    file = tmp_path / "cluster.yaml"
    file.write_text(yaml.safe_dump(given))
    package = tmp_path / "pipeline.yaml"
    compiler.Compiler().compile(pipeline(load(file)), str(package))
    spec, platform = yaml.safe_load_all(package.read_text())
    tasks = {
        name: task
        for part in (spec["root"], *spec["components"].values())
        for name, task in part.get("dag", {}).get("tasks", {}).items()
    }
    kubernetes = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    for at, name in enumerate(STEPS):
        policy, config = tasks[name].get("retryPolicy"), kubernetes[f"exec-{name}"]
        if name == "train":
            assert policy is None
            assert "activeDeadlineSeconds" not in config
            continue
        assert policy["maxRetryCount"] == at % 10 + 1, name
        assert (policy["backoffDuration"], policy["backoffFactor"]) == ("30s", 2.0)
        assert config["activeDeadlineSeconds"] == str(73800 + 3600 * at), name


def test_the_usual_images_are_the_projects() -> None:
    assert load().image == IMAGE
    assert load().gpu_image == CUDA_IMAGE
    assert load().engine_image == TENSORRT_IMAGE


def test_a_step_with_a_gpu_gets_the_image_and_the_node_for_it(tmp_path: Path) -> None:
    file = tmp_path / "cluster.yaml"
    text = CLUSTER.read_text()
    file.write_text(
        text.replace(
            "train: {cpu: 2, memory: 8Gi, shared_memory: 1Gi, gpus: 0",
            "train: {cpu: 8, memory: 64Gi, gpus: 1",
        )
    )
    executors, kubernetes = compiled(file, tmp_path)
    train = executors["exec-train"]["container"]
    assert train["image"] == load(file).gpu_image
    assert train["resources"]["accelerator"]["resourceType"] == "nvidia.com/gpu"
    assert train["resources"]["accelerator"]["resourceCount"] == "1"
    (toleration,) = kubernetes["exec-train"]["tolerations"]
    assert (toleration["key"], toleration["operator"]) == ("nvidia.com/gpu", "Exists")
    assert "nodeSelector" not in kubernetes["exec-train"]
    assert "accelerator" not in executors["exec-distill"]["container"]["resources"]
    assert "tolerations" not in kubernetes["exec-distill"]


def test_a_step_goes_where_the_file_sends_it(tmp_path: Path) -> None:
    """In the form of kfp-kubernetes 2.17, whose own calls wrote what is expected here."""
    file = tmp_path / "cluster.yaml"
    own = (
        "{node_selector: {disk: ssd, example.org/pool: faces}, "
        "tolerations: [{key: example.org/pool, value: faces, effect: NoExecute}, "
        "{key: spot, operator: Exists}], "
    )
    text = CLUSTER.read_text().replace(
        "node_selector: {}", "node_selector: {disk: any, nvidia.com/gpu.product: NVIDIA-L4}"
    )
    text = text.replace("train: {", f"train: {own}").replace("align: {", f"align: {own}")
    file.write_text(text.replace("shared_memory: 1Gi, gpus: 0", "gpus: 1"))
    _, kubernetes = compiled(file, tmp_path)

    gpu = {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
    tolerated = [
        {"key": "example.org/pool", "operator": "Equal", "value": "faces", "effect": "NoExecute"},
        {"key": "spot", "operator": "Exists"},
    ]
    labels = {"disk": "ssd", "example.org/pool": "faces"}
    assert kubernetes["exec-align"]["nodeSelector"] == {"labels": labels}
    assert kubernetes["exec-align"]["tolerations"] == tolerated
    # Beside what all steps with a GPU get; a label of its own comes before theirs.
    of_gpus = {"nvidia.com/gpu.product": "NVIDIA-L4"}
    assert kubernetes["exec-train"]["nodeSelector"] == {"labels": of_gpus | labels}
    assert kubernetes["exec-train"]["tolerations"] == [gpu, *tolerated]
    assert kubernetes["exec-distill"]["nodeSelector"] == {"labels": of_gpus | {"disk": "any"}}
    assert kubernetes["exec-distill"]["tolerations"] == [gpu]
    elsewhere = [each for name, each in kubernetes.items() if name not in SENT]
    assert not any("nodeSelector" in each or "tolerations" in each for each in elsewhere)


def test_pods_say_what_they_belong_to(usual: Any) -> None:
    executors, kubernetes = usual
    assert set(kubernetes) == set(executors)
    for name, config in kubernetes.items():
        labels = config["podMetadata"]["labels"]
        assert labels["app.kubernetes.io/part-of"] == "facewright"
        assert name.startswith(f"exec-{labels['app.kubernetes.io/component']}")


def test_shared_memory_is_a_volume_in_memory(usual: Any) -> None:
    """In the form of kfp-kubernetes 2.17's `empty_dir_mount`."""
    given = load()
    for name in STEPS:
        size = given.steps[name].shared_memory
        mount = {"volumeName": "shared-memory", "mountPath": "/dev/shm"}
        expected = [mount | {"medium": "Memory", "sizeLimit": size}] if size else None
        assert usual[1].get(f"exec-{name}", {}).get("emptyDirMounts") == expected
    assert given.steps["train"].shared_memory


def test_each_part_of_align_and_their_join_get_what_align_gets(usual: Any, tmp_path: Path) -> None:
    file = tmp_path / "cluster.yaml"
    file.write_text(CLUSTER.read_text().replace("parts: 1", "parts: 3"))
    executors, kubernetes = compiled(file, tmp_path)
    for name in ("exec-align-part", "exec-align-join"):
        resources = executors[name]["container"]["resources"]
        assert resources == usual[0]["exec-align"]["container"]["resources"]
        assert executors[name]["container"]["image"] == load().image
        assert kubernetes[name] == usual[1]["exec-align"]
    assert load(file).tasks == (*STEPS[:3], "align-part", "align-join", *STEPS[4:])
    assert load().tasks == STEPS


def test_a_training_on_many_nodes_is_made_by_a_step_that_sees_their_volume(tmp_path: Path) -> None:
    file = tmp_path / "cluster.yaml"
    file.write_text(CLUSTER.read_text().replace("nodes: null", "nodes: 4"))
    executors, kubernetes = compiled(file, tmp_path)
    assert "exec-train" not in executors
    assert executors["exec-train-job"]["container"]["image"] == load(file).image
    (mount,) = kubernetes["exec-train-job"]["pvcMount"]
    assert (mount["constant"], mount["mountPath"]) == (VOLUME, str(train_job.VOLUME))
    assert not any("pvcMount" in config for name, config in kubernetes.items() if "job" not in name)
    assert "train-job" in load(file).tasks
    assert len(load(file).tasks) == len(STEPS)

    file.write_text(
        file.read_text().replace("1Gi, gpus: 0, retries: 2", "1Gi, gpus: 1, retries: 2")
    )
    with pytest.raises(ParamsError, match=r"steps\.train\.gpus: the nodes have the GPUs"):
        load(file)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("  fetch:", "  fetsch:", "steps.fetch: missing"),
        ("  tell:", "  told: {}\n  tell:", "steps.told: unknown: known are pin, fetch"),
        ("cpu: 0.5", "cpus: 0.5", "steps.pin.cpus: unknown key: did you mean 'cpu'?"),
        ("cpu: 0.5", "cpu: 500m", "steps.pin.cpu: input should be a valid number"),
        ("memory: 1Gi", "memory: 1G", "string should match pattern '^[1-9][0-9]*(Mi|Gi|Ti)$', got"),
        ("memory: 1Gi", "memory: 0Gi", "steps.pin.memory: string should match pattern"),
        ("gpus: 0", "gpus: 2", "steps.pin.gpus: input should be less than or equal to 1"),
        ("hours: 0.5", "hours: 0", "steps.pin.hours: input should be greater than 0"),
        ("parts: 1", "parts: 0", "steps.align.parts: input should be greater than or equal to 1"),
        ("hours: 0.5", "hours: 0.5, parts: 2", "steps.pin.parts: only align has parts: remove it"),
        ("gpu_image:", "gpu-image:", "gpu-image: unknown key: did you mean 'gpu_image'?"),
        ("gpu_node:", "gpu_nodes:", "gpu_nodes: unknown key: did you mean 'gpu_node'?"),
        ("node_selector:", "nodeSelector:", "gpu_node.nodeSelector: unknown key: did you mean"),
        ("cpu: 0.5", "node_selector: {gpu: true}, cpu: 0.5", "steps.pin.node_selector.gpu: input"),
        ("cpu: 0.5", "node_selector: {a/b/c: d}, cpu: 0.5", "steps.pin.node_selector: value error"),
        ("cpu: 0.5", "node_selector: {A.b/c: d}, cpu: 0.5", "steps.pin.node_selector: value error"),
        ("cpu: 0.5", "node_selector: {a: -d}, cpu: 0.5", "a value is up to 63 letters"),
        ("cpu: 0.5", "tolerations: {key: a}, cpu: 0.5", "steps.pin.tolerations: input should be"),
        ("operator: Exists", "operator: exists", "input should be 'Equal' or 'Exists', got"),
        ("operator: Exists, ", "", "gpu_node.tolerations.0.value: value error, give a value, or"),
        ("operator: Exists", "operator: Exists, value: x", "tolerations.0.value: value error"),
        ("effect: NoSchedule", "effects: NoSchedule", "effects: unknown key: did you mean 'effect"),
        ("effect: NoSchedule", "effect: Never", "gpu_node.tolerations.0.effect: input should be"),
        ("shared_memory: 1Gi", "shared_memory: 64", "steps.train.shared_memory: input should be"),
        ("shared_memory: 1Gi", "shared_memory: 8Gi", "steps.train.shared_memory: value error, it"),
        ("shared_memory: 1Gi", "shared_memory: 8192Mi", "it is a part of the step's memory"),
        ("image: facewright:0.1.0", "image: fw:1;rm", "image: value error, an image needs a tag"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, old: str, new: str, told: str) -> None:
    file = tmp_path / "cluster.yaml"
    assert old in CLUSTER.read_text()
    file.write_text(CLUSTER.read_text().replace(old, new, 1))
    with pytest.raises(ParamsError, match=re.escape(told)) as error:
        load(file)
    assert str(error.value).startswith(str(file))


@pytest.mark.parametrize(
    "image", ["r.example:5000/a/facewright:1", "facewright@sha256:" + "0" * 64]
)
def test_images_of_any_registry(tmp_path: Path, image: str) -> None:
    file = tmp_path / "cluster.yaml"
    file.write_text(CLUSTER.read_text().replace("image: facewright:0.1.0", f"image: {image}"))
    assert load(file).image == image


def test_the_cluster_has_what_steps_refer_to(usual: Any) -> None:
    made = yaml.safe_load((K8S / "base" / "settings.yaml").read_text())
    assert made["metadata"]["name"] == cluster.SETTINGS
    settings = made["data"]
    secrets = {
        one["spec"]["target"]["name"]: {item["secretKey"] for item in one["spec"]["data"]}
        for one in yaml.safe_load_all((K8S / "overlays" / "prod" / "secrets.yaml").read_text())
    }
    table = (K8S / "README.md").read_text()
    for config in usual[1].values():
        for source in config.get("configMapAsEnv", ()):
            assert source["configMapName"] == cluster.SETTINGS
            assert {pair["configMapKey"] for pair in source["keyToEnv"]} <= set(settings)
        for source in config.get("secretAsEnv", ()):
            keys = {pair["secretKey"] for pair in source["keyToEnv"]}
            assert keys <= secrets[source["secretName"]]
        for source in config.get("secretAsVolume", ()):
            assert secrets[source["secretName"]] == {"ledger.key"}
            assert settings["FACEWRIGHT_LEDGER_KEY"] == f"{source['mountPath']}/ledger.key"
        for source in config.get("configMapAsVolume", ()):
            assert f"| ConfigMap | `{source['configMapName']}` |" in table
            assert settings["FACEWRIGHT_LEDGER_KEYS"] == source["mountPath"]


def test_only_who_signs_can_read_the_key(usual: Any) -> None:
    reads = {name for name, config in usual[1].items() if "secretAsVolume" in config}
    assert reads == {"exec-register", "exec-promote"}
    assert {name for name, config in usual[1].items() if "secretAsEnv" in config} == {"exec-fetch"}
