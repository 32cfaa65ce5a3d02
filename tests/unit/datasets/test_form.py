import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from facewright.datasets import form
from facewright.errors import DatasetError
from facewright.files import directory_digest

CARD = dict.fromkeys(("name", "kind", "source", "source_digest", "licence", "consent"), "-")

WRITE = """
import sys
from pathlib import Path
from facewright.datasets.form import DatasetWriter

root = Path(sys.argv[1])
root.mkdir()
with DatasetWriter(root) as writer:
    writer.add(id="a/1", identity="a", data=b"x", suffix=".jpg", width=1, height=2, origin="o")
    writer.add(id="a/2", identity="a", data=None, status="no_face", reason="none", quality=None)
    keys = ("name", "kind", "source", "source_digest", "licence", "consent")
    writer.finish(dict.fromkeys(keys, "-"))
"""


def test_the_same_bytes_in_every_process(tmp_path: Path) -> None:
    """Python orders sets anew in each process; nothing of that may reach a file."""
    digests = set()
    for seed in ("1", "2", "3"):
        folder = tmp_path / seed
        environment = os.environ | {"PYTHONHASHSEED": seed}
        subprocess.run([sys.executable, "-c", WRITE, str(folder)], check=True, env=environment)
        digests.add(directory_digest(folder))
    assert len(digests) == 1


def test_an_image_lies_where_its_row_says(tmp_path: Path) -> None:
    root = tmp_path / "set"
    root.mkdir()
    photos = [bytes([k]) * (k * 700 + 1) for k in range(5)]
    with form.DatasetWriter(root, shard_bytes=3000) as writer:
        for k, data in enumerate(photos):
            writer.add(id=f"a/{k}", identity="a", data=data, suffix=".jpg")
        writer.finish(CARD)
    rows = form.open_dataset(root).manifest
    assert rows["shard"].nunique() > 1
    for row, data in zip(rows.itertuples(), photos, strict=True):
        assert row.sha256 == hashlib.sha256(data).hexdigest()
        assert form.read_bytes(root, shard=row.shard, offset=row.offset, length=row.length) == data


def test_rows_that_were_set_aside_join_with_columns_that_come_late(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(form, "ROWS", 3)
    late: dict[int, dict[str, Any]] = {4: {"person": "P"}, 5: {"landmarks": [0.5] * 10}}
    with form.DatasetWriter(tmp_path) as writer:
        for k in range(8):
            age = k + 0.5 if k > 6 else k  # whole numbers at first
            writer.add(id=f"a/{k}", identity="a", data=b"x", age=age, **late.get(k, {}))
        writer.finish(CARD)
    table = form.open_dataset(tmp_path).manifest
    assert table["id"].tolist() == [f"a/{k}" for k in range(8)]
    assert table["age"].tolist() == [0, 1, 2, 3, 4, 5, 6, 7.5]
    assert table["person"].notna().tolist() == [k == 4 for k in range(8)]
    assert table["landmarks"].map(lambda v: v is not None and len(v)).tolist()[5] == 10
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "dataset.yaml",
        "manifest.parquet",
        "shards",
    ]


def test_one_id_twice_is_refused_however_far_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(form, "ROWS", 3)
    with form.DatasetWriter(tmp_path) as writer:
        for k in (0, 1, 2, 3, 4, 5, 6, 0):
            writer.add(id=f"a/{k}", identity="a", data=b"x")
        with pytest.raises(DatasetError, match="two images are named 'a/0'"):
            writer.finish(CARD)
