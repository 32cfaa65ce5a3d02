"""Datasets of small pictures for the tests of what works on datasets."""

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from facewright.datasets.form import Dataset, DatasetWriter, open_dataset, read_bytes


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
    shard_bytes: int = 6000,
    columns: Mapping[str, Mapping[str, Any]] | None = None,
    **card: str,
) -> Dataset:
    """Write a dataset of `photos`, bytes by `IDENTITY/STEM.ext`, in shards of a few pictures."""
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
                width=16,
                height=12,
                origin=f"top/{name}",
                **more,
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
        writer.finish(values | card, pairs=table)
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
