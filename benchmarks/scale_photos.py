"""What a photo costs in validate and align, and how large it is: rates for `benchmarks/scale.py`.

    measure    validate's measures of a photo of 250 px, and of a crop of 112 px, both JPEG
    align      from the bytes in a shard to the PNG of a crop: faces found by MTCNN, landmarks that
               the source states, and pictures that are crops already
    decode     a crop, as training reads it

    make bench-scale-photos         # two minutes on one core
    python -m benchmarks.scale_photos [--photos 600] [--repeats 3]

Photos are LFW's, from ../shared/data (or $FACEWRIGHT_DATA). Rates are per second of CPU time on
one thread, so that other work on the machine matters less; medians over the repeats, taken in
turns, with the least and the most. Bytes are means. The last line is one JSON object.
"""

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd

from benchmarks.alignment import MIN_FACE, asked, photo_files
from facewright.alignment import crop_face
from facewright.datasets.crops import Crops
from facewright.datasets.form import DatasetWriter
from facewright.datasets.validation.measuring import measure
from facewright.progress import say
from facewright.stages.photo import SIZE, Row, align_photos, start_worker

QUALITY = 95  # of the crops' JPEG: OpenCV's default
DETECTOR = {"name": "mtcnn", "model": None, "min_face": MIN_FACE, "threshold": 0.7}
CARD = dict.fromkeys(("name", "source", "source_digest", "licence", "consent"), "LFW")


def written(folder: Path, pictures: list[bytes], suffix: str) -> list[Row]:
    """The pictures as a dataset, and its rows as align gets them."""
    folder.mkdir()
    with DatasetWriter(folder) as writer:
        for number, data in enumerate(pictures):
            about = {"status": "ok", "reason": "", "dataset": "lfw"}
            id = f"{number:05d}"
            writer.add(id=id, identity="lfw", data=data, suffix=suffix, columns=about)
        writer.finish(CARD | {"kind": "identities"})
    table = pd.read_parquet(folder / "manifest.parquet")
    return [{str(k): v for k, v in row.items()} for row in table.to_dict("records")]


def jpeg(data: bytes, marks: np.ndarray) -> bytes:
    """The crop of a photo as a JPEG, as those of InsightFace's records are."""
    photo = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    crop = crop_face(photo, marks, size=SIZE)[..., ::-1]
    return cv2.imencode(".jpg", crop, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes()


def rate(work: Callable[[], object], count: int) -> float:
    start = time.process_time()
    work()
    return count / (time.process_time() - start)


def main() -> None:
    wanted = asked(__doc__, photos=600)
    if wanted is None:
        return
    start_worker(DETECTOR, True)  # this process is the worker, on one thread
    files = photo_files(wanted.photos)
    photos, marks = [data for data, _ in files], [points for _, points in files]
    small = [jpeg(data, points) for data, points in files]
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        whole, cut = (
            written(root / name, pictures, ".jpg")
            for name, pictures in (("photos", photos), ("crops", small))
        )
        stated = [row | {"landmarks": at.ravel()} for row, at in zip(whole, marks, strict=True)]
        aligned = [row | {"aligned": True} for row in cut]
        pngs = [png for _, png in align_photos((root / "photos", stated)) if png]
        written(root / "pngs", pngs, ".png")
        crops = Crops(root / "pngs", memory=0)
        works: dict[str, Callable[[], object]] = {
            "measure_photo": lambda: [measure(data) for data in photos],
            "measure_crop": lambda: [measure(data) for data in small],
            "align_detect": lambda: align_photos((root / "photos", whole)),
            "align_landmarks": lambda: align_photos((root / "photos", stated)),
            "align_aligned": lambda: align_photos((root / "crops", aligned)),
            "decode": lambda: crops.batch(np.arange(len(crops))),
        }
        rates: dict[str, list[float]] = {name: [] for name in works}
        for turn in range(wanted.repeats):
            for name, work in works.items():
                rates[name].append(rate(work, len(pngs if name == "decode" else photos)))
                say(f"{turn + 1}/{wanted.repeats} {name}: {rates[name][-1]:.0f} a CPU second")
    result: dict[str, Any] = {"photos": len(photos), "repeats": wanted.repeats}
    for name, values in rates.items():
        result[f"{name}_per_cpu_s"] = round(statistics.median(values), 1)
        result[f"{name}_spread"] = [round(min(values), 1), round(max(values), 1)]
    for name, pictures in (("photo", photos), ("crop_jpeg", small), ("crop_png", pngs)):
        result[f"bytes_{name}"] = round(statistics.mean(map(len, pictures)))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
