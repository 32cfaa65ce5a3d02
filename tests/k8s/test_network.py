"""The flows that NetworkPolicies let through, all of them and no others."""

import pytest

from tests.k8s.network import Address, flows, selects
from tests.k8s.rendering import Document
from tests.k8s.world import Pod, world

OUTSIDE = [  # as rendering.SITE has them, and one that nobody named
    Address("database", "10.1.0.1"), Address("s3", "10.2.0.7"), Address("API server", "10.3.0.1"),
    Address("git", "10.4.0.1"), Address("anywhere", "198.51.100.1"),
]  # fmt: skip
INSIDE = {"Deployment/mlflow": "mlflow", "ClusterTrainingRuntime/facewright-torchrun": "training"}
STRANGER = Pod("somebody in the namespace", "facewright", {"app": "x"})
NEIGHBOUR = Pod("somebody elsewhere", "other", {"app": "x", "app.kubernetes.io/name": "mlflow"})

KUBEFLOW = {
    "a pipeline's run > mlflow 5000",
    "a pipeline's run > Kubeflow's API 8887",
    "a pipeline's run > Kubeflow's API 8888",
    "a pipeline's run > Kubeflow's metadata 8080",
    "a pipeline's run > Kubeflow's S3 8333",
    "a pipeline's run > Kubeflow's S3 9000",
    "Kubeflow's UI > viewer of artifacts 3000",
    "viewer of artifacts > Kubeflow's S3 8333",
    "viewer of artifacts > Kubeflow's S3 9000",
    "training > mlflow 5000",
    "training > training *",
}
DEV = KUBEFLOW | {
    "mlflow > StatefulSet/postgres 5432",
    "mlflow > StatefulSet/seaweedfs 8333",
    "CronJob/mlflow-backup > StatefulSet/postgres 5432",
    "CronJob/mlflow-backup > StatefulSet/seaweedfs 8333",
    "CronJob/mlflow-restore > StatefulSet/postgres 5432",
    "CronJob/mlflow-restore > StatefulSet/seaweedfs 8333",
    "CronJob/mlflow-upgrade > StatefulSet/postgres 5432",
    "a pipeline's run > StatefulSet/seaweedfs 8333",
    *(f"a pipeline's run > {each.name} {port}" for each in OUTSIDE for port in (443, 6443)),
}
PROD = KUBEFLOW | {
    "the Ingress's controller > Deployment/mlflow-login 8080",
    "Deployment/mlflow-login > mlflow 5000",
    "mlflow > database 5432",
    "mlflow > s3 443",
    "CronJob/mlflow-backup > database 5432",
    "CronJob/mlflow-backup > s3 443",
    "CronJob/mlflow-restore > database 5432",
    "CronJob/mlflow-restore > s3 443",
    "CronJob/mlflow-upgrade > database 5432",
    "a pipeline's run > s3 443",
    "a pipeline's run > API server 443",
    "a pipeline's run > API server 6443",
    "a pipeline's run > git 443",
}


@pytest.mark.parametrize(("overlay", "expected"), [("dev", DEV), ("prod", PROD)])
def test_these_flows_are_open_and_no_others(
    rendered: dict[str, list[Document]], overlay: str, expected: set[str]
) -> None:
    there = world(rendered[overlay])
    policies = there.of("NetworkPolicy")
    ports = {22, 80, 29500} | {  # three that nobody opens by name, and all that are named
        port["port"]
        for each in policies
        for side in ("ingress", "egress")
        for rule in each["spec"].get(side, [])
        for port in rule.get("ports", [])
    }
    everybody = [*there.pods, *there.strangers, STRANGER, NEIGHBOUR, *OUTSIDE]
    found: dict[tuple[str, str], set[int]] = {}
    for source, target, port in flows(policies, everybody, ports=ports):
        pair = INSIDE.get(source, source), INSIDE.get(target, target)
        found.setdefault(pair, set()).add(port)

    inside = [each for each in everybody if isinstance(each, Pod)]
    ours = [each.name for each in inside if each.namespace == "facewright"]
    for name in ours:  # everybody asks for names; a stranger in the namespace does nothing else
        assert found.pop((INSIDE.get(name, name), "names")) == {53}
    told = {
        f"{source} > {target} {port}"
        for (source, target), open_ports in found.items()
        for port in (["*"] if open_ports == ports else open_ports)
    }
    assert told == expected


def test_a_policy_that_is_gone_opens_what_it_closed(prod: list[Document]) -> None:
    there = world(prod)
    policies = [each for each in there.of("NetworkPolicy") if each["metadata"]["name"] != "closed"]
    assert ("somebody elsewhere", "CronJob/mlflow-backup", 22) in set(
        flows(policies, [*there.pods, NEIGHBOUR], ports=[22])
    )


@pytest.mark.parametrize(("selector", "labels", "taken"), [
    ({}, {}, True),
    ({"matchLabels": {"a": "1"}}, {"a": "1", "b": "2"}, True),
    ({"matchLabels": {"a": "1"}}, {"a": "2"}, False),
    ({"matchExpressions": [{"key": "a", "operator": "Exists"}]}, {"a": ""}, True),
    ({"matchExpressions": [{"key": "a", "operator": "DoesNotExist"}]}, {"a": ""}, False),
    ({"matchExpressions": [{"key": "a", "operator": "NotIn", "values": ["1"]}]}, {}, True),
    ({"matchLabels": {"b": "1"},
      "matchExpressions": [{"key": "a", "operator": "In", "values": ["1"]}]}, {"a": "1"}, False),
])  # fmt: skip
def test_selectors(selector: Document, labels: dict[str, str], taken: bool) -> None:
    assert selects(selector, labels) is taken
