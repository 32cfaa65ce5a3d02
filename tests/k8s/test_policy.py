"""The rendered overlays keep the project's rules; each rule is shown to see what breaks it."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest

from tests.k8s.policy import RULES, faults
from tests.k8s.rendering import FOLDER, Document, render
from tests.k8s.world import world

Harm = Callable[[list[Document]], None]


def test_the_overlays_keep_the_rules(documents: list[Document]) -> None:
    assert faults(world(documents)) == []


def find(documents: list[Document], kind: str, name: str) -> Document:
    """A document by the beginning of its name, which may end in a hash."""
    found = [
        each for each in documents
        if each["kind"] == kind and each["metadata"]["name"].startswith(name)
    ]  # fmt: skip
    return min(found, key=lambda each: len(each["metadata"]["name"]))


TEMPLATE = {
    "Deployment": "spec.template.spec",
    "CronJob": "spec.jobTemplate.spec.template.spec",
    "ClusterTrainingRuntime": "spec.template.spec.replicatedJobs.0.template.spec.template.spec",
}
MLFLOW = ("Deployment", "mlflow")
BACKUP = ("CronJob", "mlflow-backup")
RUNTIME = ("ClusterTrainingRuntime", "facewright-torchrun")


def reach(value: Any, path: str) -> Any:
    for key in path.split(".") if path else []:
        value = value[int(key)] if isinstance(value, list) else value[key]
    return value


def put(who: tuple[str, str], path: str, value: Any) -> Harm:
    """Set a field of a document."""

    def harm(documents: list[Document]) -> None:
        *way, last = path.split(".")
        inner = reach(find(documents, *who), ".".join(way))
        inner[int(last) if isinstance(inner, list) else last] = value

    return harm


def take(who: tuple[str, str], path: str) -> Harm:
    """Take a field away."""

    def harm(documents: list[Document]) -> None:
        *way, last = path.split(".")
        inner = reach(find(documents, *who), ".".join(way))
        del inner[int(last) if isinstance(inner, list) else last]

    return harm


def add(who: tuple[str, str], path: str, value: Any) -> Harm:
    """Put one more into a list."""

    def harm(documents: list[Document]) -> None:
        reach(find(documents, *who), path).append(value)

    return harm


def pod(who: tuple[str, str], path: str) -> str:
    return f"{TEMPLATE[who[0]]}.{path}"


def more(document: Document) -> Harm:
    return lambda documents: documents.append(document)


def without(kind: str, name: str) -> Harm:
    return lambda documents: documents.remove(find(documents, kind, name))


def image(name: str) -> Harm:
    return put(MLFLOW, pod(MLFLOW, "containers.0.image"), name)


def volume(source: dict[str, Any]) -> Harm:
    return add(MLFLOW, pod(MLFLOW, "volumes"), {"name": "more", **source})


def env(**entry: Any) -> Harm:
    return add(MLFLOW, pod(MLFLOW, "containers.0.env"), entry)


def in_config_map(key: str, value: str) -> Harm:
    return put(("ConfigMap", "facewright-pipeline"), f"data.{key}", value)


def secret_elsewhere(documents: list[Document]) -> None:
    """The value of a rendered Secret, again in a ConfigMap."""
    from base64 import b64decode

    value = b64decode(find(documents, "Secret", "mlflow-database")["data"]["password"]).decode()
    find(documents, "ConfigMap", "facewright-pipeline")["data"]["NOTE"] = f"it is {value}"


def role(**rule: list[str]) -> Harm:
    return add(("Role", "facewright-train"), "rules", {"apiGroups": [""], **rule})


def policy(**spec: Any) -> Harm:
    return more({
        "kind": "NetworkPolicy", "metadata": {"name": "more", "namespace": "facewright"},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"], **spec},
    })  # fmt: skip


CONTEXT = "containers.0.securityContext"
BROKEN: dict[str, list[tuple[str, Harm, str]]] = {
    "images": [
        ("dev", image("facewright-mlflow:latest"), "no exact tag"),
        ("dev", image("facewright-mlflow"), "no exact tag"),
        ("prod", image("host:5000/facewright-mlflow"), "no exact tag"),
        ("dev", put(BACKUP, pod(BACKUP, "initContainers.0.image"), "postgres:15"), "no exact tag"),
        ("prod", put(RUNTIME, pod(RUNTIME, "containers.0.image"), "x:main"), "no exact tag"),
        ("dev", put(MLFLOW, pod(MLFLOW, "containers.0.imagePullPolicy"), "Always"), "pulls"),
    ],
    "resources": [
        ("dev", take(MLFLOW, pod(MLFLOW, "containers.0.resources.limits.memory")), "limits of mem"),
        ("dev", take(MLFLOW, pod(MLFLOW, "containers.0.resources.requests")), "requests of cpu"),
        ("prod", take(RUNTIME, pod(RUNTIME, "containers.0.resources")), "limits of cpu"),
        ("prod", take(BACKUP, pod(BACKUP, "initContainers.0.resources")), "limits of cpu"),
    ],
    "users": [
        ("dev", put(MLFLOW, pod(MLFLOW, "securityContext.runAsNonRoot"), False), "as root"),
        ("dev", put(BACKUP, pod(BACKUP, "securityContext.runAsUser"), 0), "as root"),
        ("dev", put(MLFLOW, pod(MLFLOW, f"{CONTEXT}.runAsUser"), 0), "mlflow runs as root"),
        ("prod", take(RUNTIME, pod(RUNTIME, "securityContext")), "as root"),
        ("dev", take(MLFLOW, pod(MLFLOW, "securityContext.seccompProfile")), "seccomp"),
        ("dev", take(MLFLOW, pod(MLFLOW, "serviceAccountName")), "default account"),
        ("dev", take(MLFLOW, pod(MLFLOW, "automountServiceAccountToken")), "token"),
        ("dev", take(MLFLOW, pod(MLFLOW, "enableServiceLinks")), "every Service"),
        ("dev", take(MLFLOW, pod(MLFLOW, "priorityClassName")), "no priority"),
    ],
    "privileges": [
        ("dev", put(MLFLOW, pod(MLFLOW, "hostNetwork"), True), "hostNetwork"),
        ("dev", put(MLFLOW, pod(MLFLOW, "hostPID"), True), "hostPID"),
        ("prod", put(RUNTIME, pod(RUNTIME, "hostIPC"), True), "hostIPC"),
        ("prod", put(RUNTIME, pod(RUNTIME, f"{CONTEXT}.privileged"), True), "gain privileges"),
        ("dev", take(MLFLOW, pod(MLFLOW, f"{CONTEXT}.allowPrivilegeEscalation")), "privileges"),
        ("dev", take(MLFLOW, pod(MLFLOW, f"{CONTEXT}.capabilities")), "capabilities"),
        ("dev", put(MLFLOW, pod(MLFLOW, f"{CONTEXT}.capabilities.add"), ["BPF"]), "capabilities"),
        ("dev", put(MLFLOW, pod(MLFLOW, "containers.0.ports.0.hostPort"), 5000), "port of its"),
    ],
    "files": [
        ("dev", volume({"hostPath": {"path": "/"}}), "path of its machine"),
        ("dev", volume({"emptyDir": {}}), "fill its machine's disk"),
        ("dev", take(MLFLOW, pod(MLFLOW, f"{CONTEXT}.readOnlyRootFilesystem")), "change its files"),
        ("prod", put(RUNTIME, pod(RUNTIME, f"{CONTEXT}.readOnlyRootFilesystem"), False), "change"),
        ("dev", put(MLFLOW, pod(MLFLOW, "containers.0.volumeMounts"), []), "no /tmp"),
    ],
    "probes": [
        ("dev", take(MLFLOW, pod(MLFLOW, "containers.0.readinessProbe")), "no readinessProbe"),
        ("dev", take(MLFLOW, pod(MLFLOW, "containers.0.livenessProbe")), "no livenessProbe"),
        ("dev", take(("StatefulSet", "postgres"), "spec.template.spec.containers.0.livenessProbe"),
         "no livenessProbe"),
    ],
    "secrets": [
        ("dev", env(name="AWS_SECRET_ACCESS_KEY", value="x"), "comes from no Secret"),
        ("prod", env(name="API_TOKEN", valueFrom={"configMapKeyRef": {"name": "a", "key": "b"}}),
         "comes from no Secret"),
        ("prod", env(name="U", value="postgresql://mlflow:x@database/mlflow"), "a secret's value"),
        ("prod", in_config_map("MLFLOW_TRACKING_PASSWORD", "x"), "belongs into a Secret"),
        ("dev", secret_elsewhere, "holds a secret's value"),
        ("prod", more({"kind": "Secret", "metadata": {"name": "x", "namespace": "facewright"},
                       "stringData": {"password": "x"}}), "written by hand"),
    ],
    "references": [
        ("dev", volume({"configMap": {"name": "gone"}}), "ConfigMap gone is nowhere"),
        ("dev", volume({"secret": {"secretName": "gone"}}), "Secret gone is nowhere"),
        ("dev", volume({"persistentVolumeClaim": {"claimName": "gone"}}), "gone is nowhere"),
        ("dev", put(MLFLOW, pod(MLFLOW, "serviceAccountName"), "gone"), "ServiceAccount gone"),
        ("dev", put(MLFLOW, pod(MLFLOW, "priorityClassName"), "gone"), "PriorityClass gone"),
        ("dev", without("Secret", "mlflow-s3"), "Secret mlflow-s3 is nowhere"),
        ("prod", without("ExternalSecret", "mlflow-users"), "Secret mlflow-users is nowhere"),
        ("prod", put(("ExternalSecret", "mlflow-database"), "spec.data.0.secretKey", "pass"),
         "Secret mlflow-database has no key password"),
        ("dev", env(name="A", valueFrom={
            "configMapKeyRef": {"name": "facewright-pipeline", "key": "GONE"}}), "no key GONE"),
        ("dev", put(("Role", "facewright-pipeline"), "rules.3.resourceNames", ["gone"]),
         "Secret gone"),
        ("dev", put(("RoleBinding", "facewright-train"), "roleRef.name", "gone"), "Role gone"),
        ("dev", put(("RoleBinding", "facewright-train"), "subjects.0.name", "gone"),
         "ServiceAccount gone is nowhere"),
    ],
    "rights": [
        ("dev", role(resources=["pods"], verbs=["*"]), "has a *"),
        ("dev", role(resources=["*"], verbs=["get"]), "has a *"),
        ("dev", role(resources=["secrets"], verbs=["get"]), "every Secret"),
        ("dev", role(resources=["pods"], verbs=["create"]), "start pods"),
        ("dev", role(resources=["pods/exec"], verbs=["create"]), "start pods"),
        ("dev", more({"kind": "ClusterRole", "metadata": {"name": "x"}, "rules": []}),
         "whole cluster"),
        ("dev", take(("ServiceAccount", "mlflow"), "automountServiceAccountToken"),
         "has no rights"),
    ],
    "namespaces": [
        ("dev", put(MLFLOW, "metadata.namespace", "default"), "is in namespace default"),
        ("dev", take(MLFLOW, "metadata.namespace"), "is in namespace None"),
        ("prod", put(RUNTIME, "metadata.namespace", "facewright"), "is in namespace facewright"),
        ("dev", put(("Namespace", "facewright"), "metadata.labels", {}), "pod security"),
        ("dev", without("ResourceQuota", "facewright"), "no ResourceQuota"),
        ("dev", without("LimitRange", "facewright"), "no LimitRange"),
    ],
    "services": [
        ("dev", put(("Service", "mlflow"), "spec.selector", {"app": "gone"}), "reaches no pod"),
        ("dev", put(("Service", "mlflow"), "spec.ports.0.targetPort", "gone"), "gone is not open"),
        ("prod", put(("Ingress", "mlflow"), "spec.tls", []), "has no TLS"),
        ("prod", put(("Ingress", "mlflow"), "spec.tls.0.secretName", "gone"), "Secret gone"),
        ("prod", put(("Ingress", "mlflow"),
                     "spec.rules.0.http.paths.0.backend.service.name", "mlflow"), "asks nobody"),
        ("prod", put(("Ingress", "mlflow"),
                     "spec.rules.0.http.paths.0.backend.service.name", "gone"), "Service gone"),
    ],
    "scaling": [
        ("prod", put(("HorizontalPodAutoscaler", "mlflow"), "spec.scaleTargetRef.name", "gone"),
         "Deployment gone is nowhere"),
        ("prod", put(MLFLOW, "spec.replicas", 1), "sets its number back"),
        ("prod", put(("PodDisruptionBudget", "mlflow"), "spec.selector.matchLabels", {"a": "b"}),
         "reaches no pod"),
    ],
    "network": [
        ("dev", without("NetworkPolicy", "closed"), "no NetworkPolicy closes"),
        ("dev", put(("NetworkPolicy", "closed"), "spec.policyTypes", ["Ingress"]), "closes"),
        ("dev", policy(ingress=[{}]), "opens ingress to everybody"),
        ("dev", policy(egress=[{"ports": [{"port": 443}]}]), "opens egress to everybody"),
        ("dev", policy(podSelector={"matchLabels": {"app": "gone"}}), "holds for no pod"),
        ("dev", policy(ingress=[{"from": [{"podSelector": {"matchLabels": {"app": "gone"}}}]}]),
         "names nobody"),
        ("dev", policy(policyTypes=["Egress"], ingress=[]), "ingress counts for nothing"),
    ],
    "ledger": [
        ("prod", add(RUNTIME, pod(RUNTIME, "volumes"),
                     {"name": "key", "secret": {"secretName": "facewright-ledger"}}), "the ledger"),
    ],
    "placeholders": [
        ("prod", put(("Ingress", "mlflow"), "spec.rules.0.host", "CHANGE-ME"), "still CHANGE-ME"),
        ("prod", image("CHANGE-ME/facewright-mlflow:3.17.2"), "still CHANGE-ME"),
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("rule", "overlay", "harm", "fault"),
    [(rule, *each) for rule, cases in BROKEN.items() for each in cases],
)
def test_a_broken_rule_is_seen(
    rendered: dict[str, list[Document]], rule: str, overlay: str, harm: Harm, fault: str
) -> None:
    broken = deepcopy(rendered[overlay])
    harm(broken)
    (checked,) = [each for each in RULES if each.__name__ == rule]
    assert any(fault in each for each in checked(world(broken)))


def test_every_rule_is_shown_to_fail() -> None:
    assert BROKEN.keys() == {each.__name__ for each in RULES}


def test_prod_as_it_lies_here_is_refused_for_each_value_of_its_site() -> None:
    site = (FOLDER / "overlays" / "prod" / "site.yaml").read_text()
    found = faults(world(render(FOLDER / "overlays" / "prod")))
    left = [each for each in found if "CHANGE-ME" in each]
    assert len(left) >= site.count(": CHANGE-ME") > 10
