"""align: find the face in every accepted photo and cut a 112 × 112 crop.

Photos that `validate` rejected, and those in which no face was found, stay in the manifest with
their status, so that evaluation can count them. Columns that a source brought (person, source, …)
stay too, so that results can be read by them.
"""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pandas as pd

from facewright.datasets.card import joined_card
from facewright.datasets.form import PAIRS, RESERVED, TEMPLATES, DatasetWriter, find_datasets
from facewright.detection import load_detector
from facewright.errors import DatasetError
from facewright.files import whole_directory, write_json
from facewright.params import Align
from facewright.progress import progress, say
from facewright.stages.photo import PLACE, Row, align_photos, start_worker
from facewright.workers import map_in_order, usable_cores, worker_pool

PHOTOS = 16  # per task of a worker
AHEAD = 8  # tasks per core that wait or run
VERDICT = {"id", "identity", "origin", "dataset", "status", "reason"}


def run(*, data: Path, validate: Path, output: Path, params: Align) -> None:
    """Write `train/`, `verify/` (datasets of crops; the latter with pairs, templates), metrics."""
    metrics: dict[str, float] = {}
    options = params.model_dump() | {"model": Path(params.model) if params.model else None}
    options["name"] = options.pop("detector")
    believe = options.pop("landmarks") == "source"
    load_detector(**options)  # refuse a wrong name or file here, not in a worker
    with (
        whole_directory(output) as folder,
        worker_pool("align", start=start_worker, arguments=(options, believe)) as pool,
    ):
        for half, kind in (("train", "identities"), ("verify", "verification")):
            table = pd.read_parquet(validate / f"{half}.parquet")
            kept = VERDICT | PLACE | _stated_columns(data / half)
            table = table[[name for name in table.columns if name in kept]]
            (folder / half).mkdir()
            with DatasetWriter(folder / half) as writer:
                tasks = _tasks(data, table)
                parts = map_in_order(pool, align_photos, tasks, ahead=AHEAD * usable_cores())
                crops = chain.from_iterable(parts)
                for row, crop in progress(crops, total=len(table), label=f"align {half}"):
                    id, identity = row.pop("id"), row.pop("identity")
                    writer.add(id=id, identity=identity, data=crop, suffix=".png", columns=row)
                cards = [dataset.card for dataset in find_datasets(data / half)]
                tables = _tables(validate) if half == "verify" else {}
                writer.finish(joined_card(cards, kind=kind), **tables)
            table = pd.read_parquet(folder / half / "manifest.parquet")
            counts = table["status"].value_counts()
            for status in ("ok", "no_face", "rejected"):
                metrics[f"{half}.{status}"] = int(counts.get(status, 0))
            if not metrics[f"{half}.ok"]:
                raise DatasetError(
                    f"no face was found in any accepted photo of {data / half}: look at the "
                    "photos, or lower align.min_face or align.threshold"
                )
            metrics[f"{half}.quality"] = float(table.loc[table.status == "ok", "quality"].mean())
            found, missed = metrics[f"{half}.ok"], metrics[f"{half}.no_face"]
            stated = int((table["score"].isna() & (table["status"] == "ok")).sum())
            metrics[f"{half}.stated"] = stated
            say(f"align {half}: {found} faces found, {missed} not; {stated} by stated landmarks")
        write_json(folder / "metrics.json", metrics)


def _tables(validate: Path) -> dict[str, pd.DataFrame]:
    """The pairs, and the templates where the set has them."""
    tables = {"pairs": pd.read_parquet(validate / PAIRS)}
    if (validate / TEMPLATES).exists():
        tables["templates"] = pd.read_parquet(validate / TEMPLATES)
    return tables


def _stated_columns(folder: Path) -> set[str]:
    """The columns that sources of the datasets below `folder` brought, not what was measured."""
    return {
        name for dataset in find_datasets(folder) for name in dataset.manifest.columns
    } - RESERVED


def _tasks(data: Path, table: pd.DataFrame) -> Iterator[tuple[Path, list[Row]]]:
    for start in range(0, len(table), PHOTOS):
        part = table.iloc[start : start + PHOTOS].to_dict("records")
        yield data, [{str(name): value for name, value in row.items()} for row in part]
