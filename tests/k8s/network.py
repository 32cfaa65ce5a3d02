"""Who may talk to whom, by the rules of NetworkPolicy."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import ip_address, ip_network

from tests.k8s.rendering import NAMESPACE, Document
from tests.k8s.world import Pod


@dataclass(frozen=True)
class Address:
    """A machine outside the cluster."""

    name: str
    ip: str


def selects(selector: Document, labels: dict[str, str]) -> bool:
    """Whether a label selector takes these labels; an empty one takes all.

    Raises:
        ValueError: an operator that Kubernetes does not have.
    """
    if any(labels.get(key) != value for key, value in selector.get("matchLabels", {}).items()):
        return False
    for each in selector.get("matchExpressions", []):
        here, values = labels.get(each["key"]), each.get("values", [])
        match each["operator"]:
            case "In":
                fits = here in values
            case "NotIn":
                fits = here not in values
            case "Exists":
                fits = here is not None
            case "DoesNotExist":
                fits = here is None
            case other:
                raise ValueError(f"operator {other}")
        if not fits:
            return False
    return True


def peer_takes(peer: Document, other: Pod | Address) -> bool:
    """Whether a peer of a rule is that pod or machine."""
    if "ipBlock" in peer:
        if isinstance(other, Pod):  # whether it takes pods too depends on the network: not counted
            return False
        block = peer["ipBlock"]
        outside = [ip_network(each) for each in block.get("except", [])]
        ip = ip_address(other.ip)
        return ip in ip_network(block["cidr"]) and not any(ip in each for each in outside)
    if isinstance(other, Address):
        return False
    if "namespaceSelector" in peer:
        name = {"kubernetes.io/metadata.name": other.namespace}
        if not selects(peer["namespaceSelector"], name):
            return False
    elif other.namespace != NAMESPACE:
        return False
    return selects(peer.get("podSelector", {}), other.labels)


def _lets(
    policies: Iterable[Document], pod: Pod, other: Pod | Address, port: int, direction: str
) -> bool:
    """Whether the policies of a pod let it take (Ingress) or make (Egress) a connection."""
    if pod.namespace != NAMESPACE:
        return True  # not ours to say
    side = {"Ingress": "from", "Egress": "to"}[direction]
    closed = False
    for policy in policies:
        spec = policy["spec"]
        if direction not in spec["policyTypes"] or not selects(spec["podSelector"], pod.labels):
            continue
        closed = True
        for rule in spec.get(direction.lower(), []):
            ports = [each["port"] for each in rule.get("ports", [])]
            peers = rule.get(side, [])
            if (not ports or port in ports) and (
                not peers or any(peer_takes(each, other) for each in peers)
            ):
                return True
    return not closed


def flows(
    policies: list[Document], everybody: list[Pod | Address], *, ports: Iterable[int]
) -> Iterator[tuple[str, str, int]]:
    """Each connection that is let through, of those in which a pod of ours takes part."""
    for source in everybody:
        for target in everybody:
            ours = [
                each for each in (source, target)
                if isinstance(each, Pod) and each.namespace == NAMESPACE
            ]  # fmt: skip
            if not ours or isinstance(source, Address):
                continue
            for port in ports:
                out = _lets(policies, source, target, port, "Egress")
                into = isinstance(target, Address) or _lets(
                    policies, target, source, port, "Ingress"
                )
                if out and into:
                    yield source.name, target.name, port
