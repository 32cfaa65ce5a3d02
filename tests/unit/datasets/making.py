"""Small pictures as datasets and as sources, for the tests of what works on them."""

import hashlib
import io
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from facewright.datasets.form import Dataset, DatasetWriter, open_dataset, read_bytes
from facewright.datasets.importing import import_dataset
from facewright.datasets.pairs import TEMPLATE_COLUMNS
from facewright.errors import DatasetError


def picture(seed: object) -> bytes:
    """A small JPEG that only this seed gives."""
    number = int.from_bytes(hashlib.sha256(str(seed).encode()).digest()[:4])
    pixels = np.random.default_rng(number).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG")
    return out.getvalue()


def dataset(
    root: Path,
    photos: Mapping[str, bytes],
    *,
    pairs: list[tuple[int, int, str, str]] | None = None,
    templates: list[tuple[str, str, str]] | None = None,
    shard_bytes: int = 6000,
    columns: Mapping[str, Mapping[str, Any]] | None = None,
    **card: str,
) -> Dataset:
    """Write a dataset of `photos`, bytes by `IDENTITY/STEM.ext`, in shards of a few pictures.

    `templates`: rows of id, template, media.
    """
    root.mkdir(parents=True)
    with DatasetWriter(root, shard_bytes=shard_bytes) as writer:
        for name, data in photos.items():
            stem, _, suffix = name.rpartition(".")
            more = (columns or {}).get(stem, {})
            writer.add(
                id=stem,
                identity=stem.rpartition("/")[0],
                data=data,
                suffix=f".{suffix.lower()}",
                columns={"width": 16, "height": 12, "origin": f"top/{name}", **more},
            )
        values = {
            "name": root.name,
            "kind": "identities" if pairs is None else "verification",
            "source": f"{root.name}.tar",
            "source_digest": "0" * 64,
            "licence": "CC0",
            "consent": "asked",
        }
        table = None if pairs is None else pd.DataFrame(pairs, columns=["fold", "label", "a", "b"])
        listed = None if templates is None else pd.DataFrame(templates, columns=TEMPLATE_COLUMNS)
        writer.finish(values | card, pairs=table, templates=listed)
    return open_dataset(root)


def contents(found: Dataset) -> dict[str, bytes]:
    """Bytes by id, each read where its row says."""
    places = found.manifest[["shard", "offset", "length"]].to_dict("records")
    return {
        id: read_bytes(found.root, **place)  # type: ignore[misc]
        for id, place in zip(found.manifest["id"], places, strict=True)
    }


def people(names: str, *, photos: int = 3) -> dict[str, bytes]:
    """`photos` pictures for each of the names, which blanks separate."""
    files = [f"{name}/{k}.jpg" for name in names.split() for k in range(photos)]
    return {file: picture(file) for file in files}


def jpeg(seed: int, *, side: int = 32) -> bytes:
    """Of side + 8 × side px."""
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side + 8, 3), dtype=np.uint8)
    return cv2.imencode(".jpg", pixels)[1].tobytes()


PHOTOS = {
    "Ada Ünal/one photo.jpg": jpeg(1),
    "Ada Ünal/J.R._2.JPG": jpeg(2),
    "Zoë_Ω 7/a.jpg": jpeg(3),
    "Zoë_Ω 7/b.jpg": jpeg(4),
    "陳/写真.jpg": jpeg(5),
}


def folder(path: Path, photos: dict[str, bytes] = PHOTOS) -> Path:
    """The folder `path` with these files."""
    for name, data in photos.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    return path


def archive(path: Path, photos: dict[str, bytes] = PHOTOS, *, top: str = "") -> Path:
    """An archive of these files, of the kind that the suffix of `path` says."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as packed:
            for name, data in photos.items():
                packed.writestr(top + name, data)
        return path
    mode = {".tgz": "w:gz", ".tar": "w", ".bz2": "w:bz2", ".xz": "w:xz"}[path.suffix]
    with tarfile.open(path, mode) as packed:
        for name, data in photos.items():
            member = tarfile.TarInfo(top + name)
            member.size = len(data)
            packed.addfile(member, io.BytesIO(data))
    return path


def refused(source: str | Path, output: Path, **options: Path) -> str:
    """The one line with which the import is refused, after which nothing is left."""
    with pytest.raises(DatasetError) as caught:
        import_dataset(source, output, **options)
    assert not output.exists()
    assert not list(output.parent.glob(".*.partial"))
    assert "\n" not in str(caught.value)
    return str(caught.value)
