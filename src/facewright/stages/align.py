"""align: find the face in every accepted photo and cut a 112 × 112 crop.

Photos that `validate` rejected, and those in which no face was found, stay in the manifest with
their status, so that evaluation can count them.
"""

from pathlib import Path
from typing import Any

import cv2
import pandas as pd

from facewright.alignment import crop_face, crop_quality
from facewright.datasets.form import DatasetWriter, find_datasets, read_bytes
from facewright.datasets.images import decode_rgb
from facewright.detection import Detector, choose_face, load_detector
from facewright.errors import DatasetError
from facewright.files import whole_directory, write_json
from facewright.params import Align
from facewright.progress import progress, say
from facewright.workers import worker_pool

SIZE = 112  # px, the input of every network here (ArcFace)
Row = dict[str, Any]

_detector: Detector  # one per worker process


def run(*, data: Path, validate: Path, output: Path, params: Align) -> None:
    """Write `train/` and `verify/` (datasets of crops, `verify/` with its pairs) and metrics."""
    metrics: dict[str, float] = {}
    options = params.model_dump() | {"model": Path(params.model) if params.model else None}
    options["name"] = options.pop("detector")
    load_detector(**options)  # refuse a wrong name or file here, not in a worker
    with (
        whole_directory(output) as folder,
        worker_pool("align", start=_start, arguments=(options,)) as pool,
    ):
        for half, kind in (("train", "identities"), ("verify", "verification")):
            table = pd.read_parquet(validate / f"{half}.parquet")
            rows = [dict(row) for row in table.to_dict("records")]
            photos = [(data, row) for row in rows]
            (folder / half).mkdir()
            with DatasetWriter(folder / half) as writer:
                crops = pool.map(_align, photos, chunksize=16)
                for row, crop in progress(crops, total=len(rows), label=f"align {half}"):
                    writer.add(**row, data=crop, suffix=".png")
                pairs = pd.read_parquet(validate / "pairs.parquet") if half == "verify" else None
                writer.finish(_card(data / half, kind=kind), pairs=pairs)
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
            say(f"align {half}: {found} faces found, {missed} not")
        write_json(folder / "metrics.json", metrics)


def _card(folder: Path, *, kind: str) -> dict[str, str]:
    """The crops' card: where the photos came from, all licences and consents that apply."""
    cards = [dataset.card for dataset in find_datasets(folder)]
    return {
        "name": "+".join(card.name for card in cards),
        "kind": kind,
        "source": "+".join(card.source for card in cards),
        "source_digest": "+".join(card.source_digest for card in cards),
        "licence": "; ".join(sorted({card.licence for card in cards})),
        "consent": "; ".join(sorted({card.consent for card in cards})),
    }


def _start(options: dict[str, Any]) -> None:
    global _detector
    cv2.setNumThreads(1)
    _detector = load_detector(**options)


def _align(photo: tuple[Path, Row]) -> tuple[Row, bytes | None]:
    """One photo to its manifest row and PNG bytes (none without a face)."""
    data, row = photo
    kept = {k: row[k] for k in ("id", "identity", "origin", "dataset", "status", "reason")}
    kept["photo_sha256"] = row["sha256"]
    nothing = {"score": None, "quality": None, "box": None, "landmarks": None}
    if row["status"] != "ok":
        return kept | nothing, None
    image = decode_rgb(
        read_bytes(data, shard=row["shard"], offset=row["offset"], length=row["length"])
    )
    faces = _detector.detect(image)
    chosen = choose_face(faces, width=image.shape[1], height=image.shape[0])
    if chosen is None:
        return kept | nothing | {"status": "no_face", "reason": "no face was found"}, None
    crop = crop_face(image, faces.landmarks[chosen], size=SIZE)
    found = {
        "score": float(faces.scores[chosen]),
        "quality": crop_quality(crop, faces.landmarks[chosen]).total,
        "box": faces.boxes[chosen].tolist(),
        "landmarks": faces.landmarks[chosen].ravel().tolist(),
        "width": SIZE,
        "height": SIZE,
    }
    png = cv2.imencode(".png", crop[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 1])[1]
    return kept | found, png.tobytes()
