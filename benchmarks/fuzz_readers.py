"""Mutated files through every reader of a binary format: it reads them or refuses them in a line.

Each input is a small valid file in which bits are flipped, pieces cut, doubled or moved, numbers
replaced by those at which arithmetic breaks, and lengths changed. Whatever a reader does with it
other than entries or a DatasetError is a crash, and so are more than TIME_LIMIT seconds and more
than MEMORY bytes. The same seed gives the same inputs.

    python -m benchmarks.fuzz_readers [--inputs 100000] [--seed 0]

The last line on standard output is one JSON object.
"""

import argparse
import bz2
import gzip
import io
import json
import lzma
import pickle
import random
import resource
import signal
import struct
import sys
import tarfile
import tempfile
import time
import traceback
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from facewright.datasets.images import image_size
from facewright.datasets.readers import Entry
from facewright.datasets.readers.archives import read_archive
from facewright.datasets.readers.insightface import read_pickled_pairs, read_records
from facewright.datasets.readers.webdataset import read_samples
from facewright.errors import DatasetError
from facewright.progress import progress

MAGIC = struct.pack("<I", 0xCED7230A)
TIME_LIMIT = 5.0  # seconds for one input of some kilobytes
MEMORY = 1 << 30  # bytes of address space beyond what the program has when it starts

Files = dict[str, bytes]  # name → content

# ---- valid files -------------------------------------------------------------------------------


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


def _records() -> list[Files]:
    people = [[jpeg(10 * k + n) for n in range(3)] for k in range(4)]
    people[1][1] = jpeg(0)[:12] + MAGIC + jpeg(5) + MAGIC * 2
    sets = [
        record_set(people),
        record_set(people, header=False, two_labels=False),
        record_set(people, stated=False, two_labels=False),
    ]
    return [*sets, {"train.rec": sets[0]["train.rec"]}]


def _bins() -> list[Files]:
    images = [jpeg(number % 7) for number in range(12)]
    labels = [number % 3 > 0 for number in range(6)]
    arrays = [np.frombuffer(image, np.uint8).reshape(-1, 1) for image in images]
    values = [(images, labels), (arrays, [np.bool_(label) for label in labels])]
    pickles = [pickle.dumps(value, protocol) for value in values for protocol in range(6)]
    pickles += [python2(images, labels, protocol=protocol) for protocol in (0, 2)]
    return [{"lfw.bin": data} for data in pickles]


def _tars() -> list[Files]:
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


def _samples() -> list[Files]:
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


def _pictures() -> list[Files]:
    pixels = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    found = []
    for suffix in (".jpg", ".png", ".webp", ".bmp", ".tiff"):
        data = cv2.imencode(suffix, pixels)[1].tobytes()
        found.append({f"a{suffix}": data})
    return found


def _zips() -> list[Files]:
    found = []
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", method) as archive:
            for number in range(6):
                archive.writestr(f"Person {number // 3}/{number} é.jpg", jpeg(number))
        found.append({"a.zip": out.getvalue()})
    return found


# ---- readers -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reader:
    """A reader, valid files for it, and the compressors that go round them."""

    files: list[Files]
    read: Callable[[Path], Iterator[Entry]]
    packers: tuple[Callable[[bytes], bytes], ...] = ()


def readers() -> dict[str, Reader]:
    """By name."""
    return {
        "rec": Reader(_records(), read_records),
        "bin": Reader(_bins(), _pickled),
        "tar": Reader(_tars(), read_archive),
        "tar.gz": Reader(_tars(), read_archive, (gzip.compress,)),
        "tar.bz2, tar.xz": Reader(_tars(), read_archive, (bz2.compress, lzma.compress)),
        "zip": Reader(_zips(), read_archive),
        "WebDataset": Reader(_samples(), _sampled),
        "size of an image": Reader(_pictures(), _measured),
    }


def _pickled(path: Path) -> Iterator[Entry]:
    entries, pairs = read_pickled_pairs(path)
    seen = set()
    for entry in entries:
        seen.add(entry.name.rpartition(".")[0])
        yield entry
    assert set(pairs["a"]) | set(pairs["b"]) == seen, "the pairs name other images"


def _sampled(path: Path) -> Iterator[Entry]:
    for entry in read_samples(read_archive(path), source=path.name):
        assert entry.identity is None or isinstance(entry.identity, str)
        yield entry


def _measured(path: Path) -> Iterator[Entry]:
    data = path.read_bytes()
    width, height = image_size(data)
    assert min(width, height) >= 0, "a size is negative"
    assert isinstance(width, int), "a size is no number"
    if not width * height:
        raise DatasetError("it has no size")
    yield Entry(path.name, len(data), lambda: data)


# ---- mutation ----------------------------------------------------------------------------------

_NUMBERS = (0, 1, 2, 127, 128, 255, 256, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
_FORMS = ("<B", "<H", "<I", ">I", "<Q", "<f")
_TEXTS = (b"-1", b"0", b"99999999999999999999", b"nan", b"\n", b"\t", b"/../", b"\0", MAGIC)


def mutated(data: bytes, rng: random.Random) -> bytes:
    """`data` after one to four changes."""
    for _ in range(rng.choice((1, 1, 2, 4))):
        data = rng.choice(_CHANGES)(data, rng)
    return data


def _place(data: bytes, rng: random.Random) -> int:
    return rng.randrange(len(data) + 1)


def _flip(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8)) if data else 0):
        changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _cut(data: bytes, rng: random.Random) -> bytes:
    return data[: _place(data, rng)]


def _double(data: bytes, rng: random.Random) -> bytes:
    a, b = sorted((_place(data, rng), _place(data, rng)))
    at = _place(data, rng)
    return data[:at] + data[a:b] * rng.choice((1, 1, 2, 50)) + data[at:]


def _remove(data: bytes, rng: random.Random) -> bytes:
    at = _place(data, rng)
    return data[:at] + data[at + rng.choice((1, 2, 4, 8, 64, 512)) :]


def _number(data: bytes, rng: random.Random) -> bytes:
    form = rng.choice(_FORMS)
    number = rng.choice((*_NUMBERS, rng.getrandbits(32)))
    piece = struct.pack(form, number) if form == "<f" else struct.pack("<Q", number)
    size = struct.calcsize(form)
    piece = piece[:size][::-1] if form[0] == ">" else piece[:size]
    return _over(data, piece, rng)


def _text(data: bytes, rng: random.Random) -> bytes:
    return _over(data, rng.choice(_TEXTS), rng)


def _over(data: bytes, piece: bytes, rng: random.Random) -> bytes:
    at = _place(data, rng)
    return data[:at] + piece + data[at + len(piece) * rng.choice((0, 1, 1)) :]


def _length(data: bytes, rng: random.Random) -> bytes:
    """Change a small little-endian number, which most lengths are."""
    places = [
        at for at in range(len(data) - 3) if data[at] > 0 and data[at + 2 : at + 4] == b"\0\0"
    ]
    if not places:
        return _number(data, rng)
    at = rng.choice(places)
    value = int.from_bytes(data[at : at + 4], "little")
    value = rng.choice((value - 1, value + 1, value * 2, value ^ 3, value << 14, -value))
    return data[:at] + struct.pack("<I", value & 0xFFFFFFFF) + data[at + 4 :]


_CHANGES = (_flip, _cut, _double, _remove, _number, _text, _length)


# ---- the run -----------------------------------------------------------------------------------


@dataclass
class Outcome:
    """What one reader did with its inputs."""

    accepted: int = 0
    refused: int = 0
    crashes: int = 0
    slowest_s: float = 0.0


class TooSlow(BaseException):
    """Raised inside a reader, which may catch no more than it knows."""


def case(name: str, reader: Reader, number: int, *, seed: int) -> Files:
    """The files of input `number`."""
    rng = random.Random(f"{seed}/{name}/{number}")
    files = dict(rng.choice(reader.files))
    pack = rng.choice(reader.packers) if reader.packers else bytes
    if rng.random() < 0.5:
        files = {file: pack(data) for file, data in files.items()}
        pack = bytes
    chosen = rng.choice(sorted(files))
    files[chosen] = mutated(files[chosen], rng)
    return {file: pack(data) for file, data in files.items()}


def fuzz(name: str, reader: Reader, numbers: Iterator[int] | range, *, seed: int) -> Outcome:
    """Give the reader these inputs; each crash is told on standard error."""
    outcome = Outcome()
    with tempfile.TemporaryDirectory() as folder:
        for number in numbers:
            root = Path(folder) / "x"
            root.mkdir()
            files = case(name, reader, number, seed=seed)
            for file, data in files.items():
                (root / file).write_bytes(data)
            path = root if len(files) > 1 else root / next(iter(files))
            start = time.monotonic()
            try:
                with time_limit(TIME_LIMIT), redirect_stderr(io.StringIO()):
                    _read(reader, path)
                outcome.accepted += 1
            except DatasetError:
                outcome.refused += 1
            except (Exception, TooSlow):
                outcome.crashes += 1
                print(f"CRASH {name} {number} (seed {seed})", file=sys.stderr)
                traceback.print_exc()
            outcome.slowest_s = max(outcome.slowest_s, time.monotonic() - start)
            for file in files:
                (root / file).unlink()
            root.rmdir()
    return outcome


def _read(reader: Reader, path: Path) -> None:
    for entry in reader.read(path):
        assert ".." not in entry.name.split("/"), "a name leads outside"
        assert entry.name[:1] != "/", "a name leads outside"
        if entry.size < MEMORY:
            assert len(entry.read()) == entry.size, "an entry has not the size that it states"


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise TooSlow in this thread, which must be the first, when the time is over."""

    def stop(signum: int, frame: object) -> None:
        raise TooSlow

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY,) * 2)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    outcomes, known = {}, readers()
    for place, (name, reader) in enumerate(known.items()):
        share = len(range(place, arguments.inputs, len(known)))
        numbers = progress(range(share), total=share, label=f"fuzz {name}")
        outcomes[name] = fuzz(name, reader, numbers, seed=arguments.seed)
    total = {key: sum(vars(outcome)[key] for outcome in outcomes.values()) for key in _COUNTS}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result = {
        "inputs": total["accepted"] + total["refused"] + total["crashes"],
        **total,
        "slowest_s": round(max(outcome.slowest_s for outcome in outcomes.values()), 3),
        "peak_mb": round((peak - before) / 1024, 1),
        "readers": {
            name: {**vars(outcome), "slowest_s": round(outcome.slowest_s, 3)}
            for name, outcome in outcomes.items()
        },
    }
    print(json.dumps(result))
    sys.exit(1 if total["crashes"] else 0)


_COUNTS = ("accepted", "refused", "crashes")


if __name__ == "__main__":
    main()
