"""No threshold of similarities is written into code: each is learnt from pairs, or comes from
params.yaml or the promotion policy, so that it holds for the recognizer that is at hand."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted(
    file
    for folder in ("src/facewright", "components", "pipelines")
    for file in (ROOT / folder).rglob("*.py")
)
COMPARED = re.compile(r"similarit|score|cosine", re.IGNORECASE)  # what a threshold is for
THRESHOLD = re.compile(r"(?<!nms_)threshold", re.IGNORECASE)  # that of boxes is their overlap
FREE = {0.0, 1.0}  # a sign or a count, and the end of what a cosine can be


def thresholds_in(source: str) -> list[str]:
    """Comparisons of similarities with a number, and numbers that are named a threshold."""
    tree = ast.parse(source)
    constants: dict[str, float] = {}
    for line in tree.body:
        if isinstance(line, ast.Assign | ast.AnnAssign) and (value := number(line.value)):
            for target in line.targets if isinstance(line, ast.Assign) else [line.target]:
                if isinstance(target, ast.Name):
                    constants[target.id] = value
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            fixed = [s for s in sides if is_fixed(s, constants)]
            if fixed and any(COMPARED.search(name) for s in sides for name in words(s)):
                found.append(ast.unparse(node))
        for name, given in named(node):
            if THRESHOLD.search(name) and is_fixed(given, constants):
                found.append(f"{name}: {ast.unparse(given)}")
    return found


def named(node: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    """What is given to a name: by assignment, as an argument or its default, in a dictionary."""
    if isinstance(node, ast.Assign):
        yield from ((name, node.value) for target in node.targets for name in words(target))
    elif isinstance(node, ast.AnnAssign) and node.value:
        yield from ((name, node.value) for name in words(node.target))
    elif isinstance(node, ast.keyword) and node.arg:
        yield node.arg, node.value
    elif isinstance(node, ast.Dict):
        for key, value in zip(node.keys, node.values, strict=True):
            if isinstance(key, ast.Constant) and isinstance(key.value, str):
                yield key.value, value
    elif isinstance(node, ast.arguments):
        placed = [*node.posonlyargs, *node.args]
        yield from (
            (argument.arg, default)
            for argument, default in (
                *zip(placed[len(placed) - len(node.defaults) :], node.defaults, strict=True),
                *zip(node.kwonlyargs, node.kw_defaults, strict=True),
            )
            if default
        )


def words(node: ast.AST) -> Iterator[str]:
    """The names, attributes and keys in an expression."""
    for part in ast.walk(node):
        if isinstance(part, ast.Name):
            yield part.id
        elif isinstance(part, ast.Attribute):
            yield part.attr
        elif isinstance(part, ast.Constant) and isinstance(part.value, str):
            yield part.value


def number(node: ast.AST | None) -> float | None:
    sign = 1
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        sign, node = -1, node.operand
    if isinstance(node, ast.Constant) and isinstance(node.value, float):  # counts are whole
        return sign * node.value
    return None


def is_fixed(node: ast.AST, constants: dict[str, float]) -> bool:
    value = constants.get(node.id) if isinstance(node, ast.Name) else number(node)
    return value is not None and value not in FREE


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ("if similarity >= 0.36: pass", 1),
        ("same = frame['similarity'] > -0.2", 1),
        ("LIMIT = 0.4\nsame = pair.cosine > LIMIT", 1),
        ("threshold = 0.3", 1),
        ("decide(threshold=0.3)", 1),
        ("def same(a, b, *, threshold=0.3): pass", 1),
        ("def same(a, b, threshold=0.3, mirrored=False): pass", 1),
        ("told = {'threshold': 0.3}", 1),
        ("near = similarity >= threshold", 0),
        ("near = similarity >= 0", 0),
        ("threshold = found['threshold']", 0),
        ("fits = len(scores) == 3", 0),
        ("tall = height > 0.5", 0),
    ],
)
def test_a_threshold_is_recognized(source: str, count: int) -> None:
    assert len(thresholds_in(source)) == count


def test_no_threshold_is_written_into_code() -> None:
    found = {
        str(file.relative_to(ROOT)): said
        for file in FILES
        if (said := thresholds_in(file.read_text(encoding="utf-8")))
    }
    assert found == {}
