"""Small valid files of every kind that readers read, for the fuzz run, tests and benchmarks."""

import io
import json
import pickle
import random
import struct
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from facewright.datasets.importing import import_dataset

MAGIC = struct.pack("<I", 0xCED7230A)

Files = dict[str, bytes]  # name → content


def jpeg(number: int, *, side: int = 112, size: int = 60) -> bytes:
    """The head of a JPEG of side × side px, then `size` bytes that depend on `number`."""
    frame = struct.pack(">HBHHB", 8, 8, side, side, 0)
    return b"\xff\xd8\xff\xc0" + frame + random.Random(number).randbytes(size)


def record(labels: Sequence[float], key: int, content: bytes, *, scalar: bool = False) -> bytes:
    """A record as MXNet's `recordio.pack` makes it; `scalar` keeps one label in the header."""
    if scalar:
        return struct.pack("<IfQQ", 0, labels[0], key, 0) + content
    head = struct.pack("<IfQQ", len(labels), 0.0, key, 0)
    return head + struct.pack(f"<{len(labels)}f", *labels) + content


def framed(payload: bytes) -> bytes:
    """A record as dmlc-core's `RecordIOWriter` writes it: cut where MAGIC stands at a word."""
    words = range(0, len(payload) - 3, 4)
    cuts = [at for at in words if payload[at : at + 4] == MAGIC] if MAGIC in payload else []
    out, start, part = [], 0, b""
    for place, at in enumerate([*cuts, len(payload)]):
        kind = 0 if not cuts else 1 if place == 0 else 2 if place < len(cuts) else 3
        part = payload[start:at]
        out.append(MAGIC + struct.pack("<I", kind << 29 | len(part)) + part)
        start = at + 4
    return b"".join(out) + bytes(-len(part) % 4)


def packed(records: Iterator[tuple[int, bytes]] | Sequence[tuple[int, bytes]]) -> Files:
    """`train.rec` and `train.idx` with these (key, record)."""
    rec, idx = io.BytesIO(), io.BytesIO()
    for key, payload in records:
        idx.write(b"%d\t%d\n" % (key, rec.tell()))
        rec.write(framed(payload))
    return {"train.rec": rec.getvalue(), "train.idx": idx.getvalue()}


def record_set(
    identities: Sequence[Sequence[bytes]],
    *,
    header: bool = True,
    stated: bool = True,
    two_labels: bool = True,
) -> Files:
    """`train.rec` and `train.idx` with the images of each identity, in InsightFace's order.

    With `header`: images from key 1, then the header with key 0, then the identities' records;
    else images only, from key 0. With `stated`, `property` too.
    """
    records: list[tuple[int, bytes]] = []
    ranges = []
    key = int(header)
    for label, images in enumerate(identities):
        ranges.append((key, key + len(images)))
        for image in images:
            labels = [label, 1] if two_labels else [label]
            records.append((key, record(labels, key, image, scalar=not two_labels)))
            key += 1
    if header:
        records.append((0, record((key, key + len(ranges)), 0, b"")))
        records += [(key + k, record(ends, key + k, b"")) for k, ends in enumerate(ranges)]
    files = packed(records)
    return files | ({"property": b"%d,112,112" % len(identities)} if stated else {})


def python2(images: Sequence[bytes], labels: Sequence[bool], *, protocol: int) -> bytes:
    """(images, labels) as Python 2's pickle writes it, where a string is bytes."""
    if protocol == 0:
        strings = [b"S'%s'\np0\na" % _escaped(image) for image in images]
        bools = [b"I0%d\na" % label for label in labels]
        return b"((lp1\n" + b"".join(strings) + b"(lp2\n" + b"".join(bools) + b"tp3\n."
    strings = [b"T" + struct.pack("<i", len(image)) + image + b"q\1" for image in images]
    bools = [b"\x88" if label else b"\x89" for label in labels]
    lists = [b"]q\0(" + b"".join(items) + b"e" for items in (strings, bools)]
    return b"\x80\2" + lists[0] + lists[1] + b"\x86q\2."


def _escaped(data: bytes) -> bytes:
    plain = set(range(32, 127)) - set(b"\\'")
    return "".join(chr(c) if c in plain else f"\\x{c:02x}" for c in data).encode()


def records() -> list[Files]:
    people = [[jpeg(10 * k + n) for n in range(3)] for k in range(4)]
    people[1][1] = jpeg(0)[:12] + MAGIC + jpeg(5) + MAGIC * 2
    sets = [
        record_set(people),
        record_set(people, header=False, two_labels=False),
        record_set(people, stated=False, two_labels=False),
    ]
    return [*sets, {"train.rec": sets[0]["train.rec"]}]


def bins() -> list[Files]:
    images = [jpeg(number % 7) for number in range(12)]
    labels = [number % 3 > 0 for number in range(6)]
    arrays = [np.frombuffer(image, np.uint8).reshape(-1, 1) for image in images]
    values = [(images, labels), (arrays, [np.bool_(label) for label in labels])]
    pickles = [pickle.dumps(value, protocol) for value in values for protocol in range(6)]
    pickles += [python2(images, labels, protocol=protocol) for protocol in (0, 2)]
    return [{"lfw.bin": data} for data in pickles]


def tars() -> list[Files]:
    found = []
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=form) as tar:
            for number in range(6):
                name = f"Person {number // 3}/{'long ' * (40 * (number == 4))}{number} é.jpg"
                member = tarfile.TarInfo(name)
                member.size = len(jpeg(number))
                tar.addfile(member, io.BytesIO(jpeg(number)))
        found.append({"a.tar": out.getvalue()})
    return found


def samples() -> list[Files]:
    """Shards of WebDataset, with a file of each kind beside the photos."""
    members = [("0.cls", b"Bo"), ("0.jpg", jpeg(0, size=120)), ("1.jpg", jpeg(1, size=120))]
    points = [float(number) for number in range(10)]
    said = {"identity": 7, "person": "Ann", "source": "film", "landmarks": points}
    members += [
        ("1.json", json.dumps(said).encode()),
        ("A/2.jpg", jpeg(2, size=120)),
        ("A/2.txt", b"text"),
    ]
    members += [("A/3.jpg", jpeg(3, size=120)), ("A/3.json", b'{"label": 1}')]
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return [{"a.tar": out.getvalue()}]


def pictures() -> list[Files]:
    pixels = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    found = []
    for suffix in (".jpg", ".png", ".webp", ".bmp", ".tiff"):
        data = cv2.imencode(suffix, pixels)[1].tobytes()
        found.append({f"a{suffix}": data})
    return found


def zips() -> list[Files]:
    found = []
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", method) as archive:
            for number in range(6):
                archive.writestr(f"Person {number // 3}/{number} é.jpg", jpeg(number))
        found.append({"a.zip": out.getvalue()})
    return found


def lists() -> list[Files]:
    """A Parquet list beside its photos, plain and with every kind of column that is kept."""
    photos = {f"Person {n // 2}/{n}.jpg": jpeg(n, size=120) for n in range(6)}
    table = pd.DataFrame({"path": list(photos), "identity": [name[:8] for name in photos]})
    more = table.assign(
        person="Ann",
        source=["film", None] * 3,
        landmarks=[[float(k) for k in range(10)]] * 6,
        aligned=True,
        year=range(6),
        share=0.5,
    )
    found = []
    for each, codec in ((table, None), (more, "snappy"), (more, "zstd")):
        out = io.BytesIO()
        each.to_parquet(out, index=False, compression=codec)
        found.append({"list.parquet": out.getvalue(), **photos})
    return found


def datasets() -> list[Files]:
    """Our own form, as import writes it, of a training and of a verification set."""
    found = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number in range(6):
            photo = folder / "photos" / f"Person {number // 2}" / f"{number}.jpg"
            photo.parent.mkdir(parents=True, exist_ok=True)
            photo.write_bytes(jpeg(number, size=120))
        pairs = folder / "pairs.tsv"
        pairs.write_text(
            "0\t1\tPerson 0/0.jpg\tPerson 0/1.jpg\n0\t0\tPerson 1/2.jpg\tPerson 2/4.jpg\n"
        )
        for each in (None, pairs):
            root = folder / f"set {each is None}"
            import_dataset(folder / "photos", root, pairs=each, name="set")
            files = sorted(file for file in root.rglob("*") if file.is_file())
            found.append({f.relative_to(root).as_posix(): f.read_bytes() for f in files})
    return found
