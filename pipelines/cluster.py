"""What each step of the pipeline gets in a cluster: `pipelines/cluster.yaml`, or a file like it."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from kfp import dsl
from pydantic import AfterValidator, Field

from facewright.errors import ParamsError
from facewright.params import SECTIONS, check, load_section
from facewright.params_heads import Positive, Section, beside

CLUSTER = Path(__file__).with_name("cluster.yaml")
STEPS = ("pin", "fetch", *SECTIONS, "gate", "register", "promote", "tell")
TRAIN_JOB = "train-job"  # the task that stands in for `train`
ENGINE_STEPS = ("compile", "evaluate")
BACKOFF = "30s"  # before the first retry; each further one waits twice as long
# Names that k8s/README.md lists, and where its settings expect the ledger's keys.
SETTINGS, STORE = "facewright-pipeline", "facewright-s3"
ACCOUNT, TRAIN_ACCOUNT = "facewright-pipeline", "facewright-train"
VOLUME, VOLUME_FOLDER = "facewright-work", "/work"
LEDGER, LEDGER_FOLDER = "facewright-ledger", "/etc/facewright/ledger"
LEDGER_KEYS, LEDGER_KEYS_FOLDER = "facewright-ledger-keys", "/etc/facewright/ledger-keys"
SHARED_MEMORY, SHARED_MEMORY_FOLDER = "shared-memory", "/dev/shm"
# Kubernetes' rules for keys and values of labels and taints.
NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
PREFIX = re.compile(r"(?=.{1,253}$)[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*")


def _pinned(image: str) -> str:
    """An image is named by a tag or a digest, and by none that moves."""
    name, _, digest = image.rpartition("/")[2].partition("@")
    tag = name.partition(":")[2]
    if not re.fullmatch(r"[\w.:/@-]+", image) or tag == "latest" or not (tag or digest):
        raise ValueError("an image needs a tag other than latest, such as facewright:0.1.0")
    return image


Image = Annotated[str, AfterValidator(_pinned)]


Amount = Annotated[str, Field(pattern=r"^[1-9][0-9]*(Mi|Gi|Ti)$")]


def _bytes(amount: str) -> int:
    return int(amount[:-2]) << (20 + 10 * ("Mi", "Gi", "Ti").index(amount[-2:]))


def _key(text: str) -> str:
    """The key of a label or taint, as an API server takes it."""
    prefix, slash, name = text.rpartition("/")
    if not (NAME.fullmatch(name) and (not slash or PREFIX.fullmatch(prefix))):
        raise ValueError("a key is such as nvidia.com/gpu: a domain, if any, and up to 63 letters")
    return text


def _value(text: str) -> str:
    """The value of a label or taint, which may be empty."""
    if text and not NAME.fullmatch(text):
        raise ValueError("a value is up to 63 letters, digits, '-', '_' and '.', in quotes")
    return text


def _labels(labels: dict[str, str]) -> dict[str, str]:
    return {_key(key): _value(value) for key, value in labels.items()}


class Toleration(Section):
    """A taint that a pod puts up with, in Kubernetes' words."""

    key: Annotated[str, AfterValidator(_key)]
    operator: Literal["Equal", "Exists"] = "Equal"
    value: Annotated[
        Annotated[str, AfterValidator(_value)] | None,
        Field(validate_default=True),
        beside(
            lambda value, operator: (
                None
                if (value is None) == (operator == "Exists")
                else "give a value, or operator: Exists, which takes any"
            ),
            "operator",
        ),
    ] = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None  # None: all


class Node(Section):
    """Which nodes a step may run on: all that have these labels, and no taints but these."""

    node_selector: Annotated[dict[str, str], AfterValidator(_labels)] = Field(default_factory=dict)
    tolerations: list[Toleration] = Field(default_factory=list)


class Step(Node):
    cpu: Positive
    memory: Amount
    shared_memory: Annotated[
        Amount | None,
        beside(
            lambda part, whole: (
                None
                if part is None or _bytes(part) < _bytes(whole)
                else "it is a part of the step's memory: take less than that"
            ),
            "memory",
        ),
    ] = None
    gpus: Annotated[int, Field(ge=0, le=1)]  # a step is one process, which uses one GPU
    retries: Annotated[int, Field(ge=0, le=10)]
    hours: Positive | None
    parts: Annotated[int, Field(ge=1, le=100)] = 1  # side by side, each with all of the above


class _File(Section):
    image: Image
    gpu_image: Image
    engine_image: Image
    gpu_node: Node
    nodes: Annotated[int, Field(ge=1)] | None
    steps: dict[str, Any]


@dataclass(frozen=True)
class Cluster:
    """Images, and what each of `STEPS` gets."""

    image: str
    gpu_image: str
    engine_image: str
    gpu_node: Node  # of the steps with a GPU
    nodes: int | None  # of a TrainJob; None where the step trains
    steps: dict[str, Step]

    @property
    def account(self) -> str:
        """The service account of a run's pods."""
        return ACCOUNT if self.nodes is None else TRAIN_ACCOUNT

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks of a run by the names that Kubeflow shows; parts have one name."""
        instead: dict[str, tuple[str, ...]] = {}
        if self.steps["align"].parts > 1:
            instead["align"] = ("align-part", "align-join")
        if self.nodes is not None:
            instead["train"] = (TRAIN_JOB,)
        return tuple(name for step in STEPS for name in instead.get(step, (step,)))

    def image_of(self, name: str) -> str:
        """The image of a step."""
        if name in ENGINE_STEPS:
            return self.engine_image
        return self.gpu_image if self.steps[name].gpus else self.image


def load(file: Path = CLUSTER) -> Cluster:
    """Read and check such a file.

    Raises:
        ParamsError: it is missing or no YAML, a key or a step is unknown or missing, or a value is
            bad: an image without a tag, an amount or a label that Kubernetes would refuse, a
            GPU for a step that others train for.
    """
    given = load_section(_File, file)
    if wrong := sorted(set(given.steps) ^ set(STEPS)):
        what = "missing: add it" if wrong[0] in STEPS else f"unknown: known are {', '.join(STEPS)}"
        raise ParamsError(f"{file}: steps.{wrong[0]}: {what}")
    steps = {name: check(Step, given.steps[name], where=f"{file}: steps.{name}") for name in STEPS}
    if dealt := [name for name, step in steps.items() if step.parts > 1 and name != "align"]:
        raise ParamsError(f"{file}: steps.{dealt[0]}.parts: only align has parts: remove it")
    if given.nodes is not None and steps["train"].gpus:
        raise ParamsError(f"{file}: steps.train.gpus: the nodes have the GPUs: set it to 0")
    return Cluster(
        image=given.image,
        gpu_image=given.gpu_image,
        engine_image=given.engine_image,
        gpu_node=given.gpu_node,
        nodes=given.nodes,
        steps=steps,
    )


def place(
    task: dsl.PipelineTask, cluster: Cluster, *, asks_mlflow: bool = False
) -> dsl.PipelineTask:
    """Give a task what its step gets, and what the cluster keeps for it; returns the task.

    With `asks_mlflow` its output is never reused: it depends on what no cache key knows.
    """
    name = task.name.partition("-")[0]  # of align-part, align-join and train-job, too
    step = cluster.steps[name]
    cpu = f"{round(step.cpu * 1000)}m"
    task.set_container_image(cluster.image_of(name))
    task.set_cpu_request(cpu).set_cpu_limit(cpu)
    # The namespace's default limit would refuse a step that requests more than it.
    task.set_memory_request(step.memory).set_memory_limit(step.memory)
    if step.gpus:
        task.set_accelerator_type("nvidia.com/gpu").set_accelerator_limit(step.gpus)
    if step.retries:
        task.set_retry(num_retries=step.retries, backoff_duration=BACKOFF, backoff_factor=2)
    if asks_mlflow:
        task.set_caching_options(False)
    task.platform_config["kubernetes"] = _kubernetes(task.name, step, cluster)
    return task


def _kubernetes(name: str, step: Step, cluster: Cluster) -> dict[str, Any]:
    """What only Kubernetes knows, in the form that kfp-kubernetes 2.17 writes."""
    step_name = name.partition("-")[0]
    part = {"app.kubernetes.io/part-of": "facewright", "app.kubernetes.io/component": step_name}
    config: dict[str, Any] = {"podMetadata": {"labels": part}}
    if name == "fetch":
        keys = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
        config["secretAsEnv"] = [
            _named("secret", STORE)
            | {"keyToEnv": [{"secretKey": key, "envVar": key} for key in keys], "optional": False}
        ]
        config["configMapAsEnv"] = [_settings("AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL_S3")]
    if name in ("register", "promote"):  # they sign, and nothing else may
        config["secretAsVolume"] = [
            _named("secret", LEDGER) | {"mountPath": LEDGER_FOLDER, "optional": False}
        ]
        config["configMapAsVolume"] = [
            _named("configMap", LEDGER_KEYS) | {"mountPath": LEDGER_KEYS_FOLDER, "optional": False}
        ]
        config["configMapAsEnv"] = [
            _settings("FACEWRIGHT_LEDGER_KEY", "FACEWRIGHT_LEDGER_KEYS", "LOGNAME")
        ]
    if name == TRAIN_JOB:  # what the nodes see too
        config["pvcMount"] = [
            {"constant": VOLUME, "mountPath": VOLUME_FOLDER}
            | {"pvcNameParameter": {"runtimeValue": {"constant": VOLUME}}}
        ]
    node = cluster.gpu_node if step.gpus else Node()
    if labels := node.node_selector | step.node_selector:
        config["nodeSelector"] = {"labels": labels}
    if tolerations := node.tolerations + step.tolerations:
        config["tolerations"] = [one.model_dump(exclude_none=True) for one in tolerations]
    if step.shared_memory:
        config["emptyDirMounts"] = [
            {"volumeName": SHARED_MEMORY, "mountPath": SHARED_MEMORY_FOLDER}
            | {"medium": "Memory", "sizeLimit": step.shared_memory}
        ]
    if step.hours is not None:
        config["activeDeadlineSeconds"] = str(round(step.hours * 3600))
    return config


def _settings(*keys: str) -> dict[str, Any]:
    """Keys of the settings' ConfigMap as environment variables of the same names."""
    pairs = [{"configMapKey": key, "envVar": key} for key in keys]
    return _named("configMap", SETTINGS) | {"keyToEnv": pairs, "optional": False}


def _named(kind: str, name: str) -> dict[str, Any]:
    """A name in both forms: older backends read the first."""
    return {f"{kind}Name": name, f"{kind}NameParameter": {"runtimeValue": {"constant": name}}}
