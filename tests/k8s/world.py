"""Documents as a whole: which pods they make, what is there under which name, what others bring."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tests.k8s.rendering import FOLDER, NAMESPACE, Document

LONG_RUNNING = ("Deployment", "StatefulSet", "DaemonSet")
CLUSTER_WIDE = ("Namespace", "PriorityClass", "ClusterTrainingRuntime")


@dataclass(frozen=True)
class Pod:
    """A pod, of these documents or of somebody else's."""

    name: str
    namespace: str
    labels: dict[str, str] = field(hash=False)
    spec: Document = field(hash=False, default_factory=dict)
    long_running: bool = False

    @property
    def containers(self) -> list[Document]:
        return self.spec.get("initContainers", []) + self.spec.get("containers", [])


def pods(documents: Iterable[Document]) -> Iterator[Pod]:
    """What the documents start, a pod per workload and, in a runtime, per replicated job."""
    for each in documents:
        kind, name = each["kind"], f"{each['kind']}/{each['metadata']['name']}"
        spec = each.get("spec", {})
        if kind in LONG_RUNNING or kind == "Job":
            yield _pod(name, spec["template"], kind in LONG_RUNNING)
        elif kind == "CronJob":
            yield _pod(name, spec["jobTemplate"]["spec"]["template"], False)
        elif kind == "Pod":
            yield _pod(name, each, True)
        elif kind in ("ClusterTrainingRuntime", "TrainingRuntime"):
            for job in spec["template"]["spec"]["replicatedJobs"]:
                yield _pod(name, job["template"]["spec"]["template"], False)


def _pod(name: str, template: Document, long_running: bool) -> Pod:
    labels = template.get("metadata", {}).get("labels", {})
    return Pod(name, NAMESPACE, labels, template.get("spec", {}), long_running)


@dataclass(frozen=True)
class World:
    """Rendered documents, and what k8s/README.md says that others bring."""

    documents: list[Document]
    brought: frozenset[tuple[str, str]]  # kind and name
    strangers: tuple[Pod, ...]

    @property
    def pods(self) -> list[Pod]:
        return list(pods(self.documents))

    def of(self, *kinds: str) -> list[Document]:
        return [each for each in self.documents if each["kind"] in kinds]

    def keys(self, kind: str, name: str) -> set[str] | None:
        """The keys of a ConfigMap or Secret that is there; none if it is not."""
        for each in self.of(kind):
            if each["metadata"]["name"] == name:
                return set(each.get("data", {})) | set(each.get("stringData", {}))
        for each in self.of("ExternalSecret") if kind == "Secret" else []:
            if each["spec"]["target"]["name"] == name:
                return {one["secretKey"] for one in each["spec"]["data"]}
        return None

    def has(self, kind: str, name: str) -> bool:
        there = any(each["metadata"]["name"] == name for each in self.of(kind))
        return there or (kind, name) in self.brought or self.keys(kind, name) is not None


def read_guide(path: Path = FOLDER / "README.md") -> tuple[frozenset[Any], tuple[Pod, ...]]:
    """Two tables of k8s/README.md: what others bring, and the pods that others make.

    Rows are `| KIND | `NAME` | …` and `| PODS | `NAMESPACE` | `LABEL=VALUE` … |`.
    """
    text = path.read_text(encoding="utf-8")
    kinds = "ConfigMap|Secret|ServiceAccount|PersistentVolumeClaim"
    table = _section(text, "What others bring")
    brought = frozenset(re.findall(rf"(?m)^\| ({kinds}) \| `([\w.-]+)`", table))
    strangers = []
    table = _section(text, "Pods of others")
    for name, namespace, labels in re.findall(r"(?m)^\| ([^|`]+) \| `([\w-]+)` \| (.*) \|$", table):
        found = dict(re.findall(r"`([\w./-]+)=([\w….-]+)`", labels))
        strangers.append(Pod(name.strip(), namespace, found))
    return brought, tuple(strangers)


def _section(text: str, title: str) -> str:
    return text.split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]


def world(documents: list[Document]) -> World:
    """Documents, with what the guide says; the Ingress's controller is where site.yaml puts it."""
    brought, strangers = read_guide()
    spaces = [
        peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"]
        for each in documents
        if each["kind"] == "NetworkPolicy" and each["metadata"]["name"] == "mlflow-login"
        for peer in each["spec"]["ingress"][0]["from"]
    ]
    found = tuple(
        replace(each, namespace=spaces[0])
        if each.namespace == "ingress-namespace" and spaces
        else each
        for each in strangers
    )
    return World(documents, brought, found)
