"""dvc.yaml, the Kubeflow pipeline and the stages' own signatures tell of the same graph."""

import ast
import inspect
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from kfp import compiler

from facewright import cli, params
from pipelines.cluster import STEPS, Cluster, load
from pipelines.graph import pipeline

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src"
DVC = yaml.safe_load((ROOT / "dvc.yaml").read_text())
# What a stage's `run` takes beside its upstream stages.
NOT_EDGES = {"output", "params", "policy", "lineage"}
# What Kubeflow has beside the stages: it stands for data.dvc, and tells how a run ended.
BESIDE = {"pin", "fetch", "tell"}
PLACEHOLDER = re.compile(r"\{\{\$(?:(?!\{\{\$).)*\}\}", re.S)  # one, and nothing beside it


def tasks_of(cluster: Cluster, file: Path) -> dict[str, dict[str, Any]]:
    """The compiled pipeline's tasks by component name, whatever group they are in."""
    compiler.Compiler().compile(pipeline(cluster), str(file))
    spec = next(yaml.safe_load_all(file.read_text()))
    tasks = dict(spec["root"]["dag"]["tasks"])
    for component in spec["components"].values():
        tasks |= component.get("dag", {}).get("tasks", {})
    groups = ("condition-", "exit-handler-")
    return {name: task for name, task in tasks.items() if not name.startswith(groups)}


def in_parts(number: int) -> Cluster:
    """The usual cluster, in which `number` parts share align."""
    usual = load()
    align = usual.steps["align"].model_copy(update={"parts": number})
    return replace(usual, steps=usual.steps | {"align": align})


def one_align(tasks: dict[str, Any]) -> dict[str, Any]:
    """The same tasks with the parts of align and their join taken for one, as a stage is.

    It has the inputs of the parts, but for which one each is, and those of the join, but for what
    parts give it; who read from the join reads from it.
    """
    told = json.dumps(tasks).replace('"align-join"', '"align"')
    tasks = json.loads(told)
    loops = [name for name in tasks if name.startswith("for-loop-")]
    part, join, *_ = (tasks.pop(name) for name in ("align-part", "align", *loops))
    del part["inputs"]["parameters"]["part"], part["inputs"]["parameters"]["parts"]
    del join["inputs"]["artifacts"]["parts"]
    inputs = {
        kind: {**join["inputs"].get(kind, {}), **part["inputs"][kind]}
        for kind in ("parameters", "artifacts")
    }
    return tasks | {"align": join | {"inputs": inputs}}


@pytest.fixture(scope="module", params=[1, 4], ids=["align whole", "align in 4 parts"])
def kubeflow(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, Any]]:
    """The compiled pipeline's tasks by the name of their stage."""
    file = tmp_path_factory.mktemp("kubeflow") / "pipeline.yaml"
    tasks = tasks_of(in_parts(request.param), file)
    return tasks if request.param == 1 else one_align(tasks)


def outputs_of(stage: str) -> dict[str, Any]:
    """The types of a component's output artifacts, by name."""
    component = getattr(__import__(f"components.{stage}", fromlist=[stage]), stage)
    hints = inspect.signature(component.python_func).parameters
    marked = {name: get_args(one.annotation) for name, one in hints.items()}
    return {name: args[0] for name, args in marked.items() if "Output" in str(args[1:])}


def edges_of_signature(stage: str) -> set[str]:
    run = __import__(f"facewright.stages.{stage}", fromlist=["run"]).run
    return set(inspect.signature(run).parameters) - NOT_EDGES


def edges_of_dvc(stage: str) -> set[str]:
    edges = set()
    for dep in DVC["stages"][stage]["deps"]:
        first, *rest = Path(dep).parts
        if first == "data":
            edges.add("data")
        elif first == "artifacts":
            edges.add(rest[0])
    return edges


def edges_of_kubeflow(task: dict[str, Any]) -> set[str]:
    return set(task.get("inputs", {}).get("artifacts", {}))


def test_the_same_stages(kubeflow: dict[str, Any]) -> None:
    assert list(DVC["stages"]) == list(cli.STAGES)
    assert set(kubeflow) - BESIDE == set(cli.STAGES)
    assert set(kubeflow) == set(STEPS)


def test_steps_install_nothing(tmp_path: Path) -> None:
    """All that they need is in their images, whose file system cannot be written."""
    file = tmp_path / "pipeline.yaml"
    for nodes in (None, 4):
        compiler.Compiler().compile(pipeline(replace(load(), nodes=nodes)), str(file))
        text = file.read_text()
        assert "facewright.stages" in text
        assert "pip install" not in text


def strings(part: Any) -> Iterator[str]:
    """All texts of a document, keys too."""
    if isinstance(part, dict):
        for key, value in part.items():
            yield from strings(key)
            yield from strings(value)
    elif isinstance(part, list):
        for value in part:
            yield from strings(value)
    elif isinstance(part, str):
        yield part


@pytest.mark.parametrize("nodes", [None, 4], ids=["one node", "4 nodes"])
@pytest.mark.parametrize("parts", [1, 4], ids=["align whole", "align in 4 parts"])
def test_no_placeholder_stands_inside_other_text(
    parts: int, nodes: int | None, tmp_path: Path
) -> None:
    """Backends put values there unescaped, or in place of the whole text; `kfp.local` does not."""
    file = tmp_path / "pipeline.yaml"
    compiler.Compiler().compile(pipeline(replace(in_parts(parts), nodes=nodes)), str(file))
    documents = list(yaml.safe_load_all(file.read_text()))
    assert len(documents) == 2
    held = [text for text in strings(documents) if "{{$" in text]
    assert "{{$.pipeline_job_uuid}}" in held
    assert [text for text in held if not PLACEHOLDER.fullmatch(text)] == []


def test_on_many_nodes_it_is_the_same_graph(kubeflow: dict[str, Any], tmp_path: Path) -> None:
    """But for the step that trains, which has more parameters."""
    many = tasks_of(replace(load(), nodes=4), tmp_path / "pipeline.yaml")
    assert set(many) == set(kubeflow) - {"train"} | {"train-job"}
    many["train"] = many.pop("train-job")
    for name, task in kubeflow.items():
        assert edges_of_kubeflow(many[name]) == edges_of_kubeflow(task)
    for name, given in kubeflow["train"]["inputs"]["parameters"].items():
        assert many["train"]["inputs"]["parameters"][name] == given


@pytest.mark.parametrize("stage", cli.STAGES)
def test_the_same_edges(stage: str, kubeflow: dict[str, Any]) -> None:
    assert edges_of_dvc(stage) == edges_of_signature(stage)
    assert edges_of_kubeflow(kubeflow[stage]) == edges_of_signature(stage)


@pytest.mark.parametrize("stage", cli.STAGES)
def test_kubeflow_wires_each_input_to_the_stage_it_is_named_after(
    stage: str, kubeflow: dict[str, Any]
) -> None:
    for name, source in kubeflow[stage].get("inputs", {}).get("artifacts", {}).items():
        if "taskOutputArtifact" in source:
            producer = source["taskOutputArtifact"]["producerTask"]
        else:  # handed into a condition: pipelinechannel--PRODUCER-OUTPUT
            producer = source["componentInputArtifact"].split("--")[1].rsplit("-", 1)[0]
        assert producer == ("fetch" if name == "data" else name)


def test_every_part_of_align_is_cut_once_and_joined(tmp_path: Path) -> None:
    tasks = tasks_of(in_parts(4), tmp_path / "pipeline.yaml")
    (loop,) = (name for name in tasks if name.startswith("for-loop-"))
    iterator, part = tasks[loop]["parameterIterator"], tasks["align-part"]["inputs"]
    assert json.loads(iterator["items"]["raw"]) == [0, 1, 2, 3]
    assert part["parameters"]["part"] == {"componentInputParameter": iterator["itemInput"]}
    assert part["parameters"]["parts"] == {"runtimeValue": {"constant": 4}}
    joined = tasks["align-join"]["inputs"]["artifacts"]["parts"]["taskOutputArtifact"]
    assert joined["producerTask"] == loop
    assert joined["outputArtifactKey"] == "pipelinechannel--align-part-output"
    verdicts = tasks["align-join"]["inputs"]["artifacts"]["validate"]["taskOutputArtifact"]
    assert verdicts["producerTask"] == "validate"
    assert set(tasks) - {loop} == set(in_parts(4).tasks)


@pytest.mark.parametrize("stage", cli.STAGES)
def test_the_same_parameters(stage: str, kubeflow: dict[str, Any]) -> None:
    tracked = DVC["stages"][stage].get("params", [])
    given = kubeflow[stage].get("inputs", {}).get("parameters", {})
    if stage == "gate":
        assert tracked == [{str(params.POLICY): None}]
    elif stage in params.SECTIONS:
        assert tracked == [stage]
    else:
        assert tracked == []
        assert f"{stage}_params" not in str(given)
        return
    assert given["params"] == {"componentInputParameter": f"pipelinechannel--{stage}_params"}


def test_a_version_is_registered_with_all_parameters_of_its_run(kubeflow: dict[str, Any]) -> None:
    given = kubeflow["register"]["inputs"]["parameters"]
    for stage in params.SECTIONS:
        name = f"{stage}_params"
        assert given[name] == {"componentInputParameter": f"pipelinechannel--{name}"}
    assert given["policy"] == {"componentInputParameter": "pipelinechannel--gate_params"}


def test_whatever_talks_to_mlflow_is_told_where_it_is(kubeflow: dict[str, Any]) -> None:
    for stage in cli.STAGES:
        files = closure(SOURCE / "facewright" / "stages" / f"{stage}.py")
        talks = SOURCE / "facewright" / "registry" / "tracking.py" in files
        given = kubeflow[stage].get("inputs", {}).get("parameters", {})
        assert ("tracking_uri" in given) == talks, stage


def test_every_stage_runs_by_name_and_writes_one_folder() -> None:
    for stage, spec in DVC["stages"].items():
        assert spec["cmd"] == f"facewright run {stage}"
        # What talks to MLflow must not be restored from DVC's run cache (`persist` keeps it out).
        talks = stage in {"gate", "register", "promote"}
        output = f"artifacts/{stage}"
        assert spec["outs"] == [{output: {"persist": True}} if talks else output]


def test_the_ui_is_given_what_it_can_show() -> None:
    """Pages, curves and the model card are outputs of those types, beside the stage's folder."""
    shown = {
        (stage, name): f"{kind.schema_title}"
        for stage in cli.STAGES
        for name, kind in outputs_of(stage).items()
        if name not in {"output", "metrics"}
    }
    curves = ("roc_teacher", "roc_student", "roc_student_int8")
    assert shown == {
        ("validate", "data_docs"): "system.HTML",
        ("evaluate", "report"): "system.HTML",
        **{("evaluate", name): "system.ClassificationMetrics" for name in curves},
        ("gate", "decision"): "system.Markdown",
        ("register", "card"): "system.Markdown",
    }


def test_the_cache_follows_the_content_of_the_data(kubeflow: dict[str, Any]) -> None:
    """`fetch` is given the hash that `pin` finds when the run starts; the lineage too."""
    for name in ("fetch", "register"):
        source = kubeflow[name]["inputs"]["parameters"]["data_md5"]
        assert source["taskOutputParameter"]["producerTask"] == "pin"


def test_outputs_are_reused_where_they_are_a_function_of_the_inputs(
    kubeflow: dict[str, Any],
) -> None:
    """`pin` looks at a branch, `tell` at the run; the others ask MLflow: no key knows those."""
    again = {name for name, task in kubeflow.items() if not task["cachingOptions"]}
    assert again == {"pin", "gate", "register", "promote", "tell"}


@cache
def imports(file: Path) -> frozenset[Path]:
    """The files of the package that `file` imports, in functions too."""
    found: set[Path] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        for name in names:
            if name.split(".")[0] == "facewright":
                found |= files_of(name)
    return frozenset(found)


def files_of(module: str) -> set[Path]:
    """A module's file and the `__init__.py` of the packages that it lies in, as far as they are."""
    parts = module.split(".")
    files = {SOURCE.joinpath(*parts).with_suffix(".py")}
    files |= {SOURCE.joinpath(*parts[:n], "__init__.py") for n in range(1, len(parts) + 1)}
    return {file for file in files if file.exists()}


def closure(file: Path) -> set[Path]:
    seen: set[Path] = set()
    todo = {file}
    while todo:
        seen |= todo
        todo = set().union(*(imports(f) for f in todo)) - seen
    return seen


@pytest.mark.parametrize("stage", cli.STAGES)
def test_dvc_lists_every_file_that_the_stage_imports(stage: str) -> None:
    files = closure(SOURCE / "facewright" / "stages" / f"{stage}.py")
    # An empty package file changes nothing; listing it would only lengthen the graph.
    expected = sorted(f.relative_to(ROOT).as_posix() for f in files if f.stat().st_size)
    listed = [dep for dep in DVC["stages"][stage]["deps"] if dep.startswith("src/")]
    assert listed == expected, "dvc.yaml should list:\n" + "\n".join(f"- {f}" for f in expected)
