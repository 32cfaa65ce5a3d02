"""Every rendered document fits its schema, and a document that does not is told."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import yaml

from tests.k8s.rendering import FOLDER, Document
from tests.k8s.schemas import schema_faults


def test_documents_fit_their_schemas(documents: list[Document]) -> None:
    assert len(documents) > 40
    assert list(schema_faults(documents)) == []


def test_the_example_of_a_training_fits_its_schema_and_names_the_runtime(
    prod: list[Document],
) -> None:
    job = yaml.safe_load((FOLDER / "examples" / "trainjob.yaml").read_text())
    assert list(schema_faults([job])) == []
    (runtime,) = [each for each in prod if each["kind"] == "ClusterTrainingRuntime"]
    assert job["spec"]["runtimeRef"] == {
        "apiGroup": runtime["apiVersion"].split("/")[0],
        "kind": runtime["kind"],
        "name": runtime["metadata"]["name"],
    }


def _set(path: str, value: Any) -> Callable[[Document], None]:
    def change(document: Document) -> None:
        *way, last = path.split(".")
        for key in way:
            document = document[int(key)] if isinstance(document, list) else document[key]
        document[last] = value

    return change


@pytest.mark.parametrize(("kind", "change", "fault"), [
    ("Deployment", _set("spec.replica", 2), "'replica' was unexpected"),
    ("Deployment", _set("spec.replicas", "two"), "spec.replicas"),
    ("NetworkPolicy", _set("spec.policyType", ["Ingress"]), "'policyType' was unexpected"),
    ("CronJob", _set("spec.schedule", 5), "spec.schedule"),
    ("CronJob", _set("spec.jobTemplate.spec.template.spec.container", []), "unexpected"),
    ("Ingress", _set("apiVersion", "extensions/v1beta1"), "Couldn't find schema"),
    ("Role", _set("kind", "Rolle"), "Couldn't find schema"),
    ("ClusterTrainingRuntime", _set("spec.mlPolicy.numNode", 2), "numNode is unknown"),
    ("ClusterTrainingRuntime", _set("spec.mlPolicy.numNodes", "2"), "not as the trainer reads it"),
    ("ClusterTrainingRuntime", _set("apiVersion", "trainer.kubeflow.org/v1"), "not v1alpha1"),
    ("ClusterTrainingRuntime",
     _set("spec.template.spec.replicatedJobs.0.template.spec.template.spec.toleration", []),
     "toleration is unknown"),
    ("ExternalSecret", _set("spec.target", {"names": "x"}), "spec.target has ['names']"),
    ("ExternalSecret", _set("spec.secretStoreRef.kind", "Store"), "not one of SecretStore"),
    ("ExternalSecret", _set("spec.data", []), "spec.data is no list"),
    ("ExternalSecret", _set("apiVersion", "external-secrets.io/v1beta1"), "Couldn't find schema"),
])  # fmt: skip
def test_what_does_not_fit_is_told(
    prod: list[Document], kind: str, change: Callable[[Document], None], fault: str
) -> None:
    broken = deepcopy(next(each for each in prod if each["kind"] == kind))
    change(broken)
    assert any(fault in each for each in schema_faults([broken]))
