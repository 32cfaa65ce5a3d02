"""Crops of the rows that validate judged: made over processes, and written as a dataset."""

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq

from facewright.datasets.form import RESERVED, DatasetWriter, find_datasets
from facewright.detection import load_detector
from facewright.params import Align
from facewright.progress import progress
from facewright.stages.photo import PLACE, Row, align_photos, start_worker
from facewright.workers import map_in_order, usable_cores, worker_pool

PHOTOS = 16  # per task of a worker
AHEAD = 8  # tasks per core that wait or run
VERDICT = {"id", "identity", "origin", "dataset", "status", "reason"}
Crop = tuple[Row, bytes | None]  # a row of the manifest and a PNG file, none without a face


@contextmanager
def croppers(params: Align) -> Iterator[ProcessPoolExecutor]:
    """Processes that cut crops.

    Raises:
        FacewrightError: no such detector, or not the file of its weights.
    """
    options = params.model_dump() | {"model": Path(params.model) if params.model else None}
    options["name"] = options.pop("detector")
    believe = options.pop("landmarks") == "source"
    load_detector(**options)  # refuse a wrong name or file here, not in a worker
    with worker_pool("align", start=start_worker, arguments=(options, believe)) as pool:
        yield pool


def crops_of(
    pool: ProcessPoolExecutor, *, data: Path, half: str, table: Path, rows: range
) -> Iterator[Crop]:
    """The crops of `rows` of validate's table of one half, in order."""
    kept = VERDICT | PLACE | _stated_columns(data / half)
    tasks = ((data, photos) for photos in _read_rows(table, kept, rows))
    return chain.from_iterable(
        map_in_order(pool, align_photos, tasks, ahead=AHEAD * usable_cores())
    )


def write_crops(
    root: Path,
    crops: Iterable[Crop],
    *,
    total: int,
    card: Mapping[str, Any],
    tables: Mapping[str, pd.DataFrame],
) -> None:
    """Write the dataset folder `root`; `tables`: its pairs, and perhaps templates."""
    root.mkdir()
    with DatasetWriter(root) as writer:
        for row, crop in progress(crops, total=total, label=f"align {root.name}"):
            id, identity = row.pop("id"), row.pop("identity")
            writer.add(id=id, identity=identity, data=crop, suffix=".png", columns=row)
        writer.finish(card, **tables)


def _stated_columns(folder: Path) -> set[str]:
    """The columns that sources of the datasets below `folder` brought, not what was measured."""
    return {
        name for dataset in find_datasets(folder) for name in dataset.manifest.columns
    } - RESERVED


def _read_rows(table: Path, kept: set[str], rows: range) -> Iterator[list[Row]]:
    """`rows` of a Parquet file, a few at a time, as plain values: pandas knows no missing integer,
    so what it reads is not always what was written."""
    with pq.ParquetFile(table) as file:
        names = [name for name in file.schema_arrow.names if name in kept]
        at = 0
        for group in range(file.num_row_groups):
            end = at + file.metadata.row_group(group).num_rows
            if end <= rows.start or at >= rows.stop:
                at = end
                continue
            for batch in file.iter_batches(batch_size=PHOTOS, row_groups=[group], columns=names):
                start, stop = max(rows.start - at, 0), min(rows.stop - at, len(batch))
                if start < stop:
                    yield batch.slice(start, stop - start).to_pylist()
                at += len(batch)
