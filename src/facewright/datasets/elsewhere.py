"""What lies below `data/` beside datasets and decisions, and may be about a person."""

import json
from collections.abc import Collection
from pathlib import Path

from facewright.datasets.card import CARD
from facewright.datasets.decisions import CLEANING
from facewright.datasets.erasing import Found, Person, dataset_path
from facewright.datasets.form import MANIFEST, PAIRS, TEMPLATES, Dataset
from facewright.datasets.names import comparable

PROBE = 8192  # bytes in which a file that is no text has a zero


def find_elsewhere(
    data: Path, person: Person, *, datasets: Collection[Dataset], found: Collection[Found]
) -> list[str]:
    """A line for each file that names the person or may hold them, and that is never rewritten.

    These are text files that name them, whatever lies in a dataset that holds them and is no part
    of the form, and, counted by folder, files that are neither text nor part of a dataset. No line
    has the person's name.
    """
    words = _words(person)
    roots = {dataset.root: dataset_path(data, dataset) for dataset in datasets}
    holding = {one.name for one in found}
    lines = []
    unread: dict[str, int] = {}
    for file in sorted(data.rglob("*")):
        inside = file.relative_to(data)
        hidden = any(part.endswith((".partial", ".replaced")) for part in inside.parts)
        if hidden or not file.is_file() or inside.as_posix() == CLEANING:
            continue
        root = next((folder for folder in file.parents if folder in roots), None)
        if root is not None:
            own = file.relative_to(root)
            if own.parts[0] == "shards" or own.as_posix() in (CARD, MANIFEST, PAIRS, TEMPLATES):
                continue
        shown = without_name(inside, person, below=data)
        if root is not None and roots[root] in holding:
            lines.append(f"{shown}, which is no part of the dataset: look whether it is about them")
        elif _is_text(file):
            if shown != (data / inside).as_posix() or _names(file, words):
                lines.append(f"{shown}, which names them: correct it by hand")
        else:
            folder = (data / inside.parent).as_posix()
            unread[folder] = unread.get(folder, 0) + 1
    lines += [f"files in {folder} that are no text: {count}" for folder, count in unread.items()]
    return lines


def without_name(inside: Path, person: Person, *, below: Path) -> str:
    """The path `below / inside` as it may stand in a receipt."""
    words = _words(person)
    for part in (inside, *inside.parents):
        spaced = f" {comparable(part.as_posix())} "
        if not any(word in spaced for word in words):
            named = "" if part == inside else " (a file that is named after them)"
            return (below / part).as_posix() + named
    return f"{below.as_posix()} (a file that is named after them)"


def _words(person: Person) -> set[str]:
    """How the person is named in a text that `names.comparable` has gone over, with blanks."""
    numbers = {f"{path.rpartition('/')[2]}/{label}" for path, label in person.labels}
    return {f" {name} " for name in person.names | set(map(comparable, numbers)) if name}


def _is_text(file: Path) -> bool:
    with file.open("rb") as stream:
        return b"\0" not in stream.read(PROBE)


def _names(file: Path, words: set[str]) -> bool:
    if file.suffix == ".json":
        try:  # where letters may be written as \uNNNN
            value = json.loads(file.read_text(encoding="utf-8"))
            text = f" {comparable(json.dumps(value, ensure_ascii=False))} "
            return any(word in text for word in words)
        except ValueError:
            pass
    with file.open(encoding="utf-8", errors="replace") as lines:
        return any(word in f" {comparable(line)} " for line in lines for word in words)
