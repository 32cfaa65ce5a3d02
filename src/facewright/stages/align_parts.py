"""align, dealt out: part k of n cuts the crops of some photos; the join is what `align` writes.

For engines that have several machines: to the byte, the join of any number of parts is the output
of one run. A part is a folder with `train/` and `verify/`, datasets of crops without pairs, each
only where the part has rows of it, and `part.json`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from facewright.datasets.card import read_card
from facewright.datasets.form import MANIFEST
from facewright.datasets.shards import read_images
from facewright.errors import DatasetError
from facewright.files import whole_directory, write_json
from facewright.params import Align
from facewright.stages.align import HALVES, card_of, count_rows, measure, tables_of
from facewright.stages.cropping import Crop, croppers, crops_of, write_crops
from facewright.stages.metrics import read_written

PART = "part.json"
STORED = ["shard", "offset", "length", "sha256"]  # what the writer states anew
ROWS = 1024  # of a part's manifest, in memory at a time


def run_part(
    *, data: Path, validate: Path, output: Path, params: Align, part: int, parts: int
) -> None:
    """Write part `part` of `parts`, counted from 0."""
    with whole_directory(output) as folder, croppers(params) as pool:
        for half in HALVES:
            table = validate / f"{half}.parquet"
            if rows := share(table, part=part, parts=parts):
                crops = crops_of(pool, data=data, half=half, table=table, rows=rows)
                card = card_of(data, half)
                write_crops(folder / half, crops, total=len(rows), card=card, tables={})
        write_json(folder / PART, {"part": part, "parts": parts})


def share(table: Path, *, part: int, parts: int) -> range:
    """The rows of a table of validate that are a part's: in a row, since so they lie in shards.

    Parts have about the same bytes of accepted photos: reading and decoding grow with them, and a
    rejected photo is not looked at.
    """
    rows = pd.read_parquet(table, columns=["status", "length"])
    work = rows["length"].where(rows["status"] == "ok", 0).to_numpy(np.int64)
    before = np.cumsum(work) - work
    starts = np.searchsorted(before * parts, work.sum() * np.arange(parts)).tolist()
    return range(starts[part], [*starts, len(rows)][part + 1])


def join(*, parts: Sequence[Path], validate: Path, output: Path) -> None:
    """Write what `align.run` writes from all parts, in whatever order they are given.

    Raises:
        DatasetError: a part is missing, is there twice, or was cut from other tables.
    """
    parts = _in_order(parts)
    metrics: dict[str, float] = {}
    with whole_directory(output) as folder:
        for half in HALVES:
            held = [part / half for part in parts if (part / half).is_dir()]
            total = count_rows(validate / f"{half}.parquet")
            if sum(count_rows(root / MANIFEST) for root in held) != total:
                raise DatasetError(
                    f"the parts of {half} are not those of the {total} photos that validate "
                    "judged: run all parts again"
                )
            write_crops(
                folder / half,
                chain.from_iterable(map(_read_crops, held)),
                total=total,
                card=asdict(read_card(held[0])),
                tables=tables_of(validate, half),
            )
            metrics |= measure(folder / half, photos=Path("data") / half)
        write_json(folder / "metrics.json", metrics)


def _in_order(folders: Sequence[Path]) -> list[Path]:
    known = [read_written(folder / PART, stage="align", keys=("part",)) for folder in folders]
    numbers = [values["part"] for values in known]
    if sorted(numbers) != list(range(len(folders))) or any(
        values.get("parts") != len(folders) for values in known
    ):
        raise DatasetError(f"parts {numbers} are not one of each: give every part once")
    return [folder for _, folder in sorted(zip(numbers, folders, strict=True))]


def _read_crops(root: Path) -> Iterator[Crop]:
    """The rows and crops of a part, as they were given to its writer."""
    images = read_images(root, pd.read_parquet(root / MANIFEST, columns=["id", *STORED]))
    with pq.ParquetFile(root / MANIFEST) as file:
        for batch in file.iter_batches(batch_size=ROWS):
            for row in batch.drop_columns(STORED).to_pylist():
                yield row, next(images)[1]
