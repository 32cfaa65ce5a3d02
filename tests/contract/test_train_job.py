"""The component that trains on many nodes stands in for the one that trains on one."""

import inspect
from pathlib import Path
from typing import Any

import yaml
from google.protobuf.json_format import MessageToDict

from components.train import train
from components.train_job import train_job
from facewright.stages import train_job as stage

ROOT = Path(__file__).parents[2]


def definitions(component: Any, which: str) -> dict[str, Any]:
    (spec,) = component.pipeline_spec.components.values()
    found = MessageToDict(getattr(spec, which))
    return {name: value for kind in found.values() for name, value in kind.items()}


def test_it_has_the_inputs_and_outputs_of_train_and_what_the_cluster_asks_for() -> None:
    many, one = (definitions(each, "input_definitions") for each in (train_job, train))
    assert one.items() <= many.items()
    assert set(many) - set(one) == {"nodes", "wait_minutes", "image"}
    outputs = [definitions(each, "output_definitions") for each in (train_job, train)]
    assert outputs[0] == outputs[1] != {}
    asked = set(inspect.signature(stage.run).parameters) - {"volume", "output"}
    assert set(many) == asked


def test_the_volume_is_where_the_nodes_have_it() -> None:
    (runtime,) = yaml.safe_load_all((ROOT / "k8s/base/training-runtime.yaml").read_text())
    assert runtime["metadata"]["name"] == stage.RUNTIME
    (job,) = runtime["spec"]["template"]["spec"]["replicatedJobs"]
    pod = job["template"]["spec"]["template"]["spec"]
    (claim,) = [each for each in pod["volumes"] if "persistentVolumeClaim" in each]
    assert claim["persistentVolumeClaim"]["claimName"] == "facewright-work"
    mounts = {each["name"]: each["mountPath"] for each in pod["containers"][0]["volumeMounts"]}
    assert mounts[claim["name"]] == str(stage.VOLUME)
