"""The guide of Kubeflow shows the pipeline as it is compiled: its graph, and lines of the file."""

import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines import compile as pipeline_compile
from tests.excerpts import excerpts, misfit

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "docs" / "guides" / "kubeflow.md"


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What `python -m pipelines.compile` writes."""
    file = tmp_path_factory.mktemp("compiled") / "facewright.yaml"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        assert pipeline_compile.main([str(file)]) == 0
    return file.read_text()


def test_lines_of_the_compiled_pipeline_are_shown_as_they_are(printed: str) -> None:
    first, second = excerpts(GUIDE)
    spec, platform = printed.split("\n---\n")
    assert misfit(first, spec) is None
    assert misfit(second, platform) is None


@pytest.mark.parametrize(
    ("shown", "wrong"),
    [
        ("a:\n  …\n  c: 2\nd:\n  c: 3", None),
        ("…\nd:\n  …", "  c: 3"),  # it says that nothing follows at the left
        ("…\nd:\n  c: 3", None),
        ("a:\n  b: 1\n…", None),
        ("a:\n  c: 2\n…", "  c: 2"),  # without saying that a line was left out
        ("a:\n  …\n  c: 3", "  c: 3"),  # which is below another key
        ("a:\n  b: 1", "  c: 2"),  # and the rest
        ("…\ne: 1", "e: 1"),
    ],
)
def test_an_excerpt_that_lies_is_found(shown: str, wrong: str | None) -> None:
    assert misfit(shown, "a:\n  b: 1\n  c: 2\nd:\n  c: 3") == wrong


def drawn() -> tuple[set[tuple[str, str]], dict[str, str], dict[str, set[str]]]:
    """Arrows of the picture; titles of its groups; what lies in each."""
    (picture,) = excerpts(GUIDE, "mermaid")
    arrows: set[tuple[str, str]] = set()
    titles: dict[str, str] = {}
    inside: dict[str, set[str]] = {}
    around: list[str] = []
    for line in picture.splitlines()[1:]:
        if group := re.fullmatch(r' *subgraph (\w+)\["(.+)"\]', line):
            around.append(group[1])
            titles[group[1]], inside[group[1]] = group[2], set()
        elif line.strip() == "end":
            around.pop()
        elif not line.strip().startswith("direction"):
            chain = [part.strip().split(" & ") for part in line.split("-->")]
            arrows |= {(a, b) for left, right in pairwise(chain) for a in left for b in right}
            for group_of in around[-1:]:
                inside[group_of] |= {name for part in chain for name in part}
    return arrows, titles, inside


def test_the_picture_is_the_graph_that_is_compiled(printed: str) -> None:
    spec: dict[str, Any] = next(yaml.safe_load_all(printed))
    top = spec["root"]["dag"]["tasks"]
    in_handler = dict(spec["components"]["comp-exit-handler-1"]["dag"]["tasks"])
    condition = in_handler.pop("condition-2")
    in_condition = spec["components"]["comp-condition-2"]["dag"]["tasks"]

    arrows, titles, inside = drawn()
    assert titles == {
        "run": f"exit handler: {top['exit-handler-1']['taskInfo']['name']}",
        "condition": f"if: {condition['taskInfo']['name']}",
    }
    assert inside["condition"] == set(in_condition)
    assert inside["run"] == set(in_handler) | inside["condition"]
    compiled = {
        (before, name)
        for name, task in in_handler.items()
        for before in task.get("dependentTasks", ())
    }
    # All that waits for the condition, or that it waits for, is drawn to what is in it.
    compiled |= {(before, name) for name in in_condition for before in condition["dependentTasks"]}
    assert top["tell"]["dependentTasks"] == ["exit-handler-1"]
    assert arrows == compiled | {("run", "tell")}
