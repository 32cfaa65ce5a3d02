"""Outputs of stages that hold a person, told by looking into them, whatever DVC knows of them."""

import csv
import html
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from facewright.datasets.columns import DAMAGE
from facewright.datasets.erasing import Person
from facewright.datasets.form import MANIFEST
from facewright.datasets.names import comparable
from facewright.files import PACKAGE, file_digest

DIGESTS = ("sha256", "photo_sha256")  # columns
BETWEEN_TAGS = re.compile(r">([^<>]+)<")
CROPS, COMPARED = "align", "evaluate"  # stages
TEXTS = (".csv", ".html", ".json", ".tsv", ".txt", ".yaml", ".yml")


def unreadable_tables(artifacts: Path) -> list[Path]:
    """The Parquet files into which nobody can look, half written or damaged, from `artifacts`."""
    found = []
    for file in sorted(artifacts.glob("*/**/*.parquet")):
        try:
            with pq.ParquetFile(file) as table:
                for _ in table.iter_batches():
                    pass
        except DAMAGE:
            found.append(file.relative_to(artifacts))
    return found


def find_outputs(
    artifacts: Path, person: Person, *, in_data: bool = False
) -> tuple[set[Path], set[str]]:
    """The folders in `artifacts` that hold the person, and sha256 of the crops' manifests there.

    A folder holds them if a row of a table has one of their photos, if a table or text names them,
    or if a card says that it was made from crops which lie in such a folder. Names are compared
    with whole cells, lines, and parts of paths: whose name is a word as well is in no prose.

    What `evaluate` left goes with the crops of `align`, or, where none are left, with `in_data`,
    which says that the person is in `data/`: scores of templates hold digests of several
    photos together, and a picture of somebody in its report has no name.
    """
    held: set[Path] = set()
    crops: set[str] = set()
    folders = sorted(artifacts.glob("*/"))
    new = [folder for folder in folders if _holds(folder, person)]
    while new:
        held |= set(new)
        crops |= {file_digest(file) for folder in new for file in folder.rglob(MANIFEST)}
        new = [folder for folder in folders if folder not in held and _names_one(folder, crops)]
    aligned = {folder for folder in folders if stage_of(folder) == CROPS}
    if aligned & held or (in_data and not aligned):
        held |= {folder for folder in folders if stage_of(folder) == COMPARED}
    return held, crops


def is_stage(folder: Path) -> bool:
    """Whether a folder in `artifacts` has the name of a stage, or of what lies beside its output.

    What a stage wrote can be made anew; anything else is a person's own.
    """
    return (PACKAGE / "stages" / f"{stage_of(folder)}.py").is_file()


def stage_of(folder: Path) -> str:
    """`train` for `train` itself, `.train.checkpoints` and `.train.partial`."""
    name = folder.name
    return name[1:].split(".")[0] if name.startswith(".") else name  # `train.bak` is no stage's


def _holds(folder: Path, person: Person) -> bool:
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    if _are_theirs({file.relative_to(folder).as_posix() for file in files}, person):
        return True
    tables = (_table_holds(file, person) for file in files if file.suffix == ".parquet")
    texts = (_are_theirs(set(_cells(file)), person) for file in files if file.suffix in TEXTS)
    return any(tables) or any(texts)


def _table_holds(file: Path, person: Person) -> bool:
    photos = pa.array(sorted(person.photos), pa.string())
    try:
        table = pq.ParquetFile(file)
        for field in table.schema_arrow:
            kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
            if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
                continue
            column = table.read(columns=[field.name]).column(0).cast(pa.large_string())
            if field.name in DIGESTS:
                if pc.any(pc.is_in(column, photos.cast(pa.large_string()))).as_py():
                    return True
            elif _are_theirs(filter(None, pc.unique(column).to_pylist()), person):
                return True
    except DAMAGE:  # `unreadable_tables` tells it
        pass
    return False


def _are_theirs(values: Iterable[str], person: Person) -> bool:
    """Whether one of these is the person, or a path with a folder that is named after them."""
    labels = {f"{path.rpartition('/')[2]}/{label}" for path, label in person.labels}
    wanted = labels | person.photos
    places = set()
    for value in values:
        if value in wanted:
            return True
        places.add(value.rpartition("/")[0] or value)
    if places & labels:
        return True
    parts = {part for place in places for part in place.split("/")}
    return any(comparable(part) in person.names for part in parts)


def _cells(file: Path) -> Iterator[str]:
    text = file.read_text(encoding="utf-8", errors="replace")
    if file.suffix == ".html":
        yield from map(html.unescape, BETWEEN_TAGS.findall(text))
    elif file.suffix == ".json":
        try:
            yield from _strings(json.loads(text))
        except ValueError:
            yield from text.splitlines()
    elif file.suffix in (".csv", ".tsv"):
        cells = csv.reader(text.splitlines(), delimiter="\t" if file.suffix == ".tsv" else ",")
        try:
            yield from (cell for row in cells for cell in row)
        except csv.Error:  # none that a stage wrote
            yield from text.splitlines()
    else:
        yield from map(str.strip, text.splitlines())


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for each in value:
            yield from _strings(each)
    elif isinstance(value, dict):
        for key, each in value.items():
            yield key
            yield from _strings(each)


def _names_one(folder: Path, digests: set[str]) -> bool:
    """Whether a card in the folder names one of the digests."""
    cards = (file.read_text(errors="replace") for file in folder.rglob("*.yaml"))
    return any(digest in card for card in cards for digest in digests)
