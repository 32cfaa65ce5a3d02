"""Documents against schemas: Kubernetes' own of two versions, and those of the operators' kinds."""

import warnings
from collections.abc import Iterator
from functools import cache
from typing import Any

from tests.k8s.rendering import Document

VERSIONS = ("1.33", "1.37")

# No package has the schema of ExternalSecret: the fields of external-secrets.io/v1 that are used
# here, each with its type, or the values it may have.
_REMOTE = {"key": str, "property": str}
EXTERNAL_SECRET = {
    "refreshInterval": str,
    "secretStoreRef": {"kind": ("SecretStore", "ClusterSecretStore"), "name": str},
    "target": {"name": str},
    "data": [{"secretKey": str, "remoteRef": _REMOTE}],
}


def schema_faults(documents: list[Document]) -> Iterator[str]:
    """What does not fit its schema, a line each; a kind that nobody knows is a fault too."""
    for each in documents:
        name = f"{each.get('kind')}/{each.get('metadata', {}).get('name')}"
        for fault in _faults(each):
            yield f"{name}: {fault}"


def _faults(document: Document) -> Iterator[str]:
    group, kind = document.get("apiVersion", "").split("/")[0], document.get("kind")
    if group == "trainer.kubeflow.org":
        yield from _trainer_faults(document)
    elif (document.get("apiVersion"), kind) == ("external-secrets.io/v1", "ExternalSecret"):
        yield from _shape_faults(document.get("spec"), EXTERNAL_SECRET, "spec")
    else:
        for version in VERSIONS:
            fault = _builtin_fault(document, version)
            if fault:
                yield f"{fault} (Kubernetes {version})"


@cache
def _validator() -> Any:
    """kubernetes-validate, reading each of its files of some MB once and not once per document."""
    import kubernetes_validate
    from kubernetes_validate import utils

    utils.schema_contents = cache(utils.schema_contents)
    return kubernetes_validate


def _builtin_fault(document: Document, version: str) -> str | None:
    validate = _validator()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            validate.validate(document, version, strict=True)
        except validate.ValidationError as error:
            where = ".".join(str(each) for each in error.path)
            return f"{where}: {error.message.splitlines()[0][:200]}"
        except validate.SchemaNotFoundError as error:
            return str(error.message)
    return None


def _trainer_faults(document: Document) -> Iterator[str]:
    """The SDK drops what it does not know: what comes back is compared with what went in."""
    from kubeflow_trainer_api import models
    from pydantic import ValidationError

    kinds = {
        "ClusterTrainingRuntime": models.TrainerV1alpha1ClusterTrainingRuntime,
        "TrainJob": models.TrainerV1alpha1TrainJob,
    }
    if document.get("apiVersion") != "trainer.kubeflow.org/v1alpha1":
        yield f"version {document.get('apiVersion')} is not v1alpha1"
        return
    try:
        read = kinds[document["kind"]].from_dict(document)
    except (KeyError, ValidationError) as error:
        yield f"not as the trainer reads it: {' '.join(str(error).split())[:200]}"
        return
    yield from _lost(document, read.to_dict() if read else {}, "")


def _lost(before: Any, after: Any, where: str) -> Iterator[str]:
    if isinstance(before, dict) and isinstance(after, dict):
        for key in before.keys() | after.keys():
            if key not in after:
                yield f"{where}{key} is unknown to the trainer"
            elif key not in before:
                yield f"{where}{key} would be added"
            else:
                yield from _lost(before[key], after[key], f"{where}{key}.")
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for number, (one, other) in enumerate(zip(before, after, strict=True)):
            yield from _lost(one, other, f"{where}{number}.")
    elif before != after:
        yield f"{where.rstrip('.')} is {before!r}, and {after!r} to the trainer"


def _shape_faults(value: Any, shape: Any, where: str) -> Iterator[str]:
    if isinstance(shape, dict):
        if not isinstance(value, dict) or value.keys() != shape.keys():
            found = sorted(value) if isinstance(value, dict) else value
            yield f"{where} has {found}, and not {sorted(shape)}"
            return
        for key, inner in shape.items():
            yield from _shape_faults(value[key], inner, f"{where}.{key}")
    elif isinstance(shape, list):
        if not isinstance(value, list) or not value:
            yield f"{where} is no list with something in it"
            return
        for number, each in enumerate(value):
            yield from _shape_faults(each, shape[0], f"{where}.{number}")
    elif isinstance(shape, tuple):
        if value not in shape:
            yield f"{where} is {value!r}, and not one of {', '.join(shape)}"
    elif not isinstance(value, shape):
        yield f"{where} is {value!r}, and no {shape.__name__}"
