"""align: find the face in every accepted photo and cut a 112 × 112 crop.

Photos that `validate` rejected, and those in which no face was found, stay in the manifest with
their status, so that evaluation can count them. Columns that a source brought (person, source, …)
stay too, so that results can be read by them.
"""

from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq

from facewright.datasets.card import joined_card
from facewright.datasets.form import PAIRS, TEMPLATES, find_datasets
from facewright.errors import DatasetError
from facewright.files import whole_directory, write_json
from facewright.params import Align
from facewright.progress import say
from facewright.stages.cropping import croppers, crops_of, write_crops

HALVES = ("train", "verify")
KINDS = {"train": "identities", "verify": "verification"}


def run(*, data: Path, validate: Path, output: Path, params: Align) -> None:
    """Write `train/`, `verify/` (datasets of crops; the latter with pairs, templates), metrics."""
    metrics: dict[str, float] = {}
    with whole_directory(output) as folder, croppers(params) as pool:
        for half in HALVES:
            table = validate / f"{half}.parquet"
            rows = range(count_rows(table))
            write_crops(
                folder / half,
                crops_of(pool, data=data, half=half, table=table, rows=rows),
                total=len(rows),
                card=card_of(data, half),
                tables=tables_of(validate, half),
            )
            metrics |= measure(folder / half, photos=data / half)
        write_json(folder / "metrics.json", metrics)


def count_rows(table: Path) -> int:
    """The rows of a Parquet file."""
    return int(pq.read_metadata(table).num_rows)


def card_of(data: Path, half: str) -> dict[str, str]:
    """The card of the crops of one half."""
    return joined_card([one.card for one in find_datasets(data / half)], kind=KINDS[half])


def tables_of(validate: Path, half: str) -> dict[str, pd.DataFrame]:
    """The pairs, and the templates where the set has them; nothing for training."""
    files = {"pairs": PAIRS, "templates": TEMPLATES} if half == "verify" else {}
    return {
        name: pd.read_parquet(validate / file)
        for name, file in files.items()
        if name == "pairs" or (validate / file).exists()
    }


def measure(crops: Path, *, photos: Path) -> dict[str, float]:
    """The metrics of one half, by its name: photos by status, mean quality, landmarks stated.

    Args:
        photos: where they are, for the error.

    Raises:
        DatasetError: no photo has a face.
    """
    half = crops.name
    columns = ["status", "quality", "score"]
    table = pd.read_parquet(crops / "manifest.parquet", columns=columns)
    counts = table["status"].value_counts()
    found, missed, rejected = (
        int(counts.get(status, 0)) for status in ("ok", "no_face", "rejected")
    )
    if not found:
        raise DatasetError(
            f"no face was found in any accepted photo of {photos}: look at the "
            "photos, or lower align.min_face or align.threshold"
        )
    stated = int((table["score"].isna() & (table["status"] == "ok")).sum())
    say(f"align {half}: {found} faces found, {missed} not; {stated} by stated landmarks")
    return {
        f"{half}.ok": found,
        f"{half}.no_face": missed,
        f"{half}.rejected": rejected,
        f"{half}.quality": float(table.loc[table["status"] == "ok", "quality"].mean()),
        f"{half}.stated": stated,
    }
