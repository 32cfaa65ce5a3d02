import hashlib
import os
import subprocess
import sys
from pathlib import Path

from facewright.files import directory_digest

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
    from facewright.datasets.form import DatasetWriter, open_dataset, read_bytes

    root = tmp_path / "set"
    root.mkdir()
    photos = [bytes([k]) * (k * 700 + 1) for k in range(5)]
    with DatasetWriter(root, shard_bytes=3000) as writer:
        for k, data in enumerate(photos):
            writer.add(id=f"a/{k}", identity="a", data=data, suffix=".jpg")
        keys = ("name", "kind", "source", "source_digest", "licence", "consent")
        writer.finish(dict.fromkeys(keys, "-"))
    rows = open_dataset(root).manifest
    assert rows["shard"].nunique() > 1
    for row, data in zip(rows.itertuples(), photos, strict=True):
        assert row.sha256 == hashlib.sha256(data).hexdigest()
        assert read_bytes(root, shard=row.shard, offset=row.offset, length=row.length) == data
