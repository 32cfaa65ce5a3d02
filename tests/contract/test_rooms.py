"""Who may know whom: the floors of docs/architecture.md, and who may import which package."""

import ast
import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "facewright"
FLOORS = (
    {"errors", "files", "progress", "refusals", "workers"},
    {"models", "datasets", "detection", "alignment", "cluster"},
    {"training", "engines"},
    {"compression", "evaluation"},
    {"registry"},
    {"stages", "params", "params_heads", "summary", "erasure"},
    {"cli", "cli_registry", "components"},
    {"pipelines"},
)
FLOOR = {room: n for n, rooms in enumerate(FLOORS) for room in rooms}
# Modules of the bottom floor, and these, know each other freely.
TOGETHER = {
    ("files", "errors"),
    ("workers", "errors"),
    ("stages", "params"),
    ("params", "params_heads"),
    ("cli", "cli_registry"),
}
OWNERS = {
    "mlflow": {"registry"},
    "boto3": {"datasets"},
    "great_expectations": {"datasets"},
    "tensorrt": {"engines"},
    "tensorrt_rtx": {"engines"},
    "tensorrt_rtx_bindings": {"engines"},
    "openvino": {"engines"},
    "kfp": {"components", "pipelines"},
    "kfp_server_api": {"pipelines"},
    "kubernetes": {"cluster"},
}
FILES = sorted(
    file
    for folder in (PACKAGE, ROOT / "components", ROOT / "pipelines")
    for file in folder.rglob("*.py")
)


LISTS = {  # rooms whose parts docs/architecture.md lists, from the bottom up
    "evaluation": "`evaluation/`, each of which",
    "registry": "`registry/`, each of which",
    "datasets": "`datasets/` is the largest room",
}


def room_of(file: Path) -> str:
    inside = file.relative_to(PACKAGE if file.is_relative_to(PACKAGE) else ROOT)
    return inside.parts[0].removesuffix(".py")


def imported(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: imports are absolute"
            assert node.module is not None
            if node.module == "facewright":
                yield from (f"facewright.{alias.name}" for alias in node.names)
            else:
                yield node.module


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(ROOT).as_posix())
def test_imports_go_downward_and_to_owners(file: Path) -> None:
    room = room_of(file)
    for name in imported(file):
        top, *rest = name.split(".")
        assert room in OWNERS.get(top, {room}), f"{file} may not import {top}"
        if top in ("facewright", "components", "pipelines") and (rest or top != "facewright"):
            other = rest[0] if top == "facewright" else top
            allowed = other == room or FLOOR[other] < FLOOR[room] or (room, other) in TOGETHER
            assert allowed, f"{file}: {room} may not know {other}"
            allowed = room in {"stages", "cli", "cli_registry", "components", "pipelines"}
            assert other != "params" or allowed, f"{file} may not know params"


@pytest.mark.parametrize("file", sorted((ROOT / "components").glob("*.py")), ids=lambda f: f.stem)
def test_a_component_file_imports_kfp_only(file: Path) -> None:
    """Bodies are sent as source: what stands outside them must not be needed inside."""
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.ImportFrom):
            assert node.module in {"kfp", "components.images"}
        else:
            assert not isinstance(node, ast.Import)


def test_every_room_stands_on_a_floor() -> None:
    rooms = {path.name.removesuffix(".py") for path in PACKAGE.iterdir()}
    known = set(FLOOR) - {"components", "pipelines"}
    assert rooms - {"__init__", "__pycache__", "py.typed"} == known


def test_files_stay_readable() -> None:
    lengths = {file: len(file.read_text().splitlines()) for file in FILES}
    too_long = {f: n for f, n in lengths.items() if n > (110 if room_of(f) == "stages" else 400)}
    assert not too_long


def test_the_mlflow_folder_shadows_nothing() -> None:
    assert not list((ROOT / "mlflow").rglob("*.py"))


@pytest.mark.parametrize("room", LISTS)
def test_parts_of_a_room_know_only_parts_above_them_in_its_list(room: str) -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    rows = itertools.dropwhile(
        lambda line: not line.startswith("|"), text[text.index(LISTS[room]) :].splitlines()
    )
    table = list(itertools.takewhile(lambda line: line.startswith("|"), rows))[2:]
    place: dict[str, int] = {}
    for number, row in enumerate(table):
        for name in re.findall(r"`(\w+)/?`", row):
            place.setdefault(name, number)
    wrong = []
    for file in sorted((PACKAGE / room).rglob("*.py")):
        part = file.relative_to(PACKAGE / room).parts[0].removesuffix(".py")
        if part == "__init__":
            continue
        assert part in place, f"docs/architecture.md does not list {room}/{part}"
        for name in imported(file):
            if name.startswith(f"facewright.{room}."):
                other = name.split(".")[2]
                if place[other] > place[part]:
                    wrong.append(f"{part} knows {other}")
    assert not wrong
