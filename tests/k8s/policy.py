"""The project's own rules for what goes into a cluster: a line for each breach."""

import re
from base64 import b64decode
from collections.abc import Callable, Iterator
from typing import Any

from tests.k8s.network import selects
from tests.k8s.rendering import NAMESPACE, Document
from tests.k8s.world import CLUSTER_WIDE, Pod, World

PINNED = re.compile(r"([\w.-]+(:\d+)?/)*[\w.-]+:v?\d+\.\d+[\w.-]*")
SECRET_NAME = re.compile(r"PASSWORD|SECRET|TOKEN|ACCESS_KEY|PRIVATE", re.IGNORECASE)
WITH_PASSWORD = re.compile(r"://[^/@\s]*:[^/@\s]+@")
PLACEHOLDER = "CHANGE-ME"
LEDGER = "facewright-ledger"
ASKS_NOBODY = ("mlflow",)  # Services without a login

Rule = Callable[[World], Iterator[str]]


def faults(world: World) -> list[str]:
    """All breaches of all rules."""
    return [each for rule in RULES for each in rule(world)]


def images(world: World) -> Iterator[str]:
    for pod, container in _containers(world):
        if not PINNED.fullmatch(container.get("image", "")):
            yield f"{pod.name}: image {container.get('image')} has no exact tag"
        if container.get("imagePullPolicy") != "IfNotPresent":
            yield f"{pod.name}: {container['name']} pulls an image that it has"


def resources(world: World) -> Iterator[str]:
    for pod, container in _containers(world):
        for side in ("requests", "limits"):
            for what in ("cpu", "memory"):
                if what not in container.get("resources", {}).get(side, {}):
                    yield f"{pod.name}: {container['name']} has no {side} of {what}"


def users(world: World) -> Iterator[str]:
    for pod in world.pods:
        context = pod.spec.get("securityContext", {})
        if context.get("runAsNonRoot") is not True or not context.get("runAsUser"):
            yield f"{pod.name}: may run as root"
        if context.get("seccompProfile", {}).get("type") != "RuntimeDefault":
            yield f"{pod.name}: has no seccomp profile"
        if not pod.spec.get("serviceAccountName"):
            yield f"{pod.name}: runs under the default account"
        if pod.spec.get("automountServiceAccountToken") is not False:
            yield f"{pod.name}: gets a token that it does not need"
        if pod.spec.get("enableServiceLinks") is not False:
            yield f"{pod.name}: gets an environment variable for every Service"
        if not pod.spec.get("priorityClassName"):
            yield f"{pod.name}: has no priority"
    for pod, container in _containers(world):
        context = container.get("securityContext", {})
        if context.get("runAsUser") == 0 or context.get("runAsNonRoot") is False:
            yield f"{pod.name}: {container['name']} runs as root"


def privileges(world: World) -> Iterator[str]:
    for pod in world.pods:
        for key in ("hostNetwork", "hostPID", "hostIPC"):
            if pod.spec.get(key):
                yield f"{pod.name}: has {key}"
    for pod, container in _containers(world):
        context, name = container.get("securityContext", {}), container["name"]
        if context.get("privileged") or context.get("allowPrivilegeEscalation") is not False:
            yield f"{pod.name}: {name} may gain privileges"
        capabilities = context.get("capabilities", {})
        if capabilities.get("drop") != ["ALL"] or capabilities.get("add"):
            yield f"{pod.name}: {name} keeps capabilities"
        if any("hostPort" in each for each in container.get("ports", [])):
            yield f"{pod.name}: {name} takes a port of its machine"


def files(world: World) -> Iterator[str]:
    for pod in world.pods:
        for volume in pod.spec.get("volumes", []):
            if "hostPath" in volume:
                yield f"{pod.name}: {volume['name']} is a path of its machine"
            if "emptyDir" in volume and not volume["emptyDir"].get("sizeLimit"):
                yield f"{pod.name}: {volume['name']} may fill its machine's disk"
    for pod, container in _containers(world):
        if container.get("securityContext", {}).get("readOnlyRootFilesystem") is not True:
            yield f"{pod.name}: {container['name']} can change its files"
        if "/tmp" not in {each["mountPath"] for each in container.get("volumeMounts", [])}:
            yield f"{pod.name}: {container['name']} has no /tmp to write to"


def probes(world: World) -> Iterator[str]:
    for pod in world.pods:
        for container in pod.spec.get("containers", []) if pod.long_running else []:
            for probe in ("readinessProbe", "livenessProbe"):
                if probe not in container:
                    yield f"{pod.name}: {container['name']} has no {probe}"


def secrets(world: World) -> Iterator[str]:
    """No value of a secret outside Secrets, and none that was written down by hand."""
    values = [
        value
        for each in world.of("Secret")
        for value in (
            *(b64decode(one).decode() for one in each.get("data", {}).values()),
            *each.get("stringData", {}).values(),
        )
    ]
    for document in world.documents:
        name = _name(document)
        if document["kind"] == "Secret":
            if document.get("stringData"):
                yield f"{name}: was written by hand"
            continue
        for path, value in _leaves(document):
            if isinstance(value, str) and (
                WITH_PASSWORD.search(value) or any(one in value for one in values)
            ):
                yield f"{name}: {path} holds a secret's value"
        for path, value in _leaves(document.get("data") if document["kind"] == "ConfigMap" else {}):
            if SECRET_NAME.search(path) and value:
                yield f"{name}: {path} belongs into a Secret"
    for pod, container in _containers(world):
        for each in container.get("env", []):
            if SECRET_NAME.search(each["name"]) and "secretKeyRef" not in each.get("valueFrom", {}):
                yield f"{pod.name}: {each['name']} comes from no Secret"


def references(world: World) -> Iterator[str]:
    """What a pod names is rendered, or k8s/README.md says who brings it."""
    for pod in world.pods:
        for kind, name, key in _named(pod):
            if not world.has(kind, name):
                yield f"{pod.name}: {kind} {name} is nowhere"
                continue
            keys = world.keys(kind, name)
            if key and keys is not None and key not in keys:
                yield f"{pod.name}: {kind} {name} has no key {key}"
    for role in world.of("Role"):
        for rule in role["rules"]:
            for resource, kind in (("configmaps", "ConfigMap"), ("secrets", "Secret")):
                for name in rule.get("resourceNames", []) if resource in rule["resources"] else []:
                    if not world.has(kind, name):
                        yield f"{_name(role)}: {kind} {name} is nowhere"
    for binding in world.of("RoleBinding"):
        if not world.has("Role", binding["roleRef"]["name"]):
            yield f"{_name(binding)}: Role {binding['roleRef']['name']} is nowhere"
        for subject in binding["subjects"]:
            kind, name = subject["kind"], subject["name"]
            if kind != "ServiceAccount" or not world.has(kind, name):
                yield f"{_name(binding)}: {kind} {name} is nowhere"


def rights(world: World) -> Iterator[str]:
    """Rights in the namespace only, each spelt out, secrets by name; tokens for who has rights."""
    bound = {one["name"] for each in world.of("RoleBinding") for one in each["subjects"]}
    for each in world.documents:
        if each["kind"] in ("ClusterRole", "ClusterRoleBinding"):
            yield f"{_name(each)}: holds in the whole cluster"
        if each["kind"] == "ServiceAccount":
            token = each.get("automountServiceAccountToken")
            if token is not False and each["metadata"]["name"] not in bound:
                yield f"{_name(each)}: gets a token and has no rights"
    for role in world.of("Role", "ClusterRole"):
        for rule in role["rules"]:
            if "*" in rule["verbs"] + rule["resources"] + rule["apiGroups"]:
                yield f"{_name(role)}: has a *"
            if "secrets" in rule["resources"] and not rule.get("resourceNames"):
                yield f"{_name(role)}: may read every Secret"
            if set(rule["resources"]) & {"pods", "pods/exec"} and "create" in rule["verbs"]:
                yield f"{_name(role)}: may start pods, so may read every Secret"


def namespaces(world: World) -> Iterator[str]:
    for each in world.documents:
        wanted = None if each["kind"] in CLUSTER_WIDE else NAMESPACE
        if each["metadata"].get("namespace") != wanted:
            yield f"{_name(each)}: is in namespace {each['metadata'].get('namespace')}"
    for each in world.of("Namespace"):
        labels = each["metadata"].get("labels", {})
        if labels.get("pod-security.kubernetes.io/enforce") not in ("baseline", "restricted"):
            yield f"{_name(each)}: does not enforce pod security"
    for kind in ("ResourceQuota", "LimitRange"):
        if not world.of(kind):
            yield f"there is no {kind}"


def services(world: World) -> Iterator[str]:
    """Services reach a port that is open, Ingresses a Service, with TLS and past a login."""
    for each in world.of("Service"):
        selector = {"matchLabels": each["spec"]["selector"]}
        reached = [pod for pod in world.pods if selects(selector, pod.labels)]
        if not reached:
            yield f"{_name(each)}: reaches no pod"
        containers = [container for pod in reached for container in pod.containers]
        offered = {port.get("name") for one in containers for port in one.get("ports", [])}
        for port in each["spec"]["ports"]:
            if reached and port["targetPort"] not in offered:
                yield f"{_name(each)}: port {port['targetPort']} is not open"
    for each in world.of("Ingress"):
        covered = {host for one in each["spec"].get("tls", []) for host in one["hosts"]}
        for rule in each["spec"]["rules"]:
            if rule["host"] not in covered:
                yield f"{_name(each)}: {rule['host']} has no TLS"
            for path in rule["http"]["paths"]:
                service = path["backend"]["service"]["name"]
                if not world.has("Service", service):
                    yield f"{_name(each)}: Service {service} is nowhere"
                if service in ASKS_NOBODY:
                    yield f"{_name(each)}: {service} asks nobody who they are"
        for one in each["spec"].get("tls", []):
            if not world.has("Secret", one["secretName"]):
                yield f"{_name(each)}: Secret {one['secretName']} is nowhere"


def scaling(world: World) -> Iterator[str]:
    """Autoscalers and disruption budgets are for something; its number is the autoscaler's."""
    for each in world.of("HorizontalPodAutoscaler"):
        target = each["spec"]["scaleTargetRef"]
        kind, name = target["kind"], target["name"]
        found = [one for one in world.of(kind) if one["metadata"]["name"] == name]
        if not found:
            yield f"{_name(each)}: {kind} {name} is nowhere"
        if any("replicas" in one["spec"] for one in found):
            yield f"{_name(each)}: applying {name} again sets its number back"
    for each in world.of("PodDisruptionBudget"):
        if not any(selects(each["spec"]["selector"], pod.labels) for pod in world.pods):
            yield f"{_name(each)}: reaches no pod"


def network(world: World) -> Iterator[str]:
    """All is closed first; what is opened names somebody who exists."""
    everybody = [*world.pods, *world.strangers]
    closed = False
    for each in world.of("NetworkPolicy"):
        spec, name = each["spec"], _name(each)
        closed |= spec == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
        if not any(_is({"podSelector": spec["podSelector"]}, pod) for pod in everybody):
            yield f"{name}: holds for no pod"
        for direction, side in (("ingress", "from"), ("egress", "to")):
            if direction in spec and direction.title() not in spec["policyTypes"]:
                yield f"{name}: its {direction} counts for nothing"
            for rule in spec.get(direction, []):
                if not rule.get(side):
                    yield f"{name}: opens {direction} to everybody"
                for peer in rule.get(side, []):
                    if "ipBlock" not in peer and not any(_is(peer, pod) for pod in everybody):
                        yield f"{name}: {direction} names nobody: {peer}"
    if not closed:
        yield "no NetworkPolicy closes the namespace"


def ledger(world: World) -> Iterator[str]:
    """What trains can sign nothing."""
    for pod in world.pods:
        if any(name == LEDGER for _, name, _ in _named(pod)):
            yield f"{pod.name}: holds the key of the ledger"


def placeholders(world: World) -> Iterator[str]:
    for each in world.documents:
        for path, value in _leaves(each):
            if isinstance(value, str) and PLACEHOLDER in value:
                yield f"{_name(each)}: {path} is still {PLACEHOLDER}"


RULES: tuple[Rule, ...] = (
    images, resources, users, privileges, files, probes, secrets, references, rights, namespaces,
    services, scaling, network, ledger, placeholders,
)  # fmt: skip


def _name(document: Document) -> str:
    return f"{document['kind']}/{document['metadata']['name']}"


def _containers(world: World) -> Iterator[tuple[Pod, Document]]:
    for pod in world.pods:
        for container in pod.containers:
            yield pod, container


def _named(pod: Pod) -> Iterator[tuple[str, str, str | None]]:
    """Kind, name and, where one is asked for, key of everything that a pod names."""
    yield "ServiceAccount", pod.spec.get("serviceAccountName", "default"), None
    if "priorityClassName" in pod.spec:
        yield "PriorityClass", pod.spec["priorityClassName"], None
    for volume in pod.spec.get("volumes", []):
        if "configMap" in volume:
            yield "ConfigMap", volume["configMap"]["name"], None
        if "secret" in volume:
            yield "Secret", volume["secret"]["secretName"], None
        if "persistentVolumeClaim" in volume:
            yield "PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"], None
    for container in pod.containers:
        for each in container.get("envFrom", []):
            for ref, kind in (("configMapRef", "ConfigMap"), ("secretRef", "Secret")):
                if ref in each:
                    yield kind, each[ref]["name"], None
        for each in container.get("env", []):
            source = each.get("valueFrom", {})
            for ref, kind in (("configMapKeyRef", "ConfigMap"), ("secretKeyRef", "Secret")):
                if ref in source:
                    yield kind, source[ref]["name"], source[ref]["key"]


def _is(peer: Document, pod: Pod) -> bool:
    space = {"kubernetes.io/metadata.name": pod.namespace}
    if "namespaceSelector" in peer:
        there = selects(peer["namespaceSelector"], space)
    else:
        there = pod.namespace == NAMESPACE
    return there and selects(peer.get("podSelector", {}), pod.labels)


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _leaves(inner, f"{path}.{number}")
    else:
        yield path, value
