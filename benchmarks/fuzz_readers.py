"""Mutated files through every reader of a binary format: it reads them or refuses them in a line.

Each input is a small valid file in which bits are flipped, pieces cut, doubled or moved, numbers
replaced by those at which arithmetic breaks, and lengths changed. Whatever a reader does with it
other than entries or a DatasetError is a crash, and so are more than TIME_LIMIT seconds and more
than MEMORY bytes. Where a library of C parses (Parquet, pixels) it does so in a process of its
own, whose death is a crash of that input. The same seed gives the same inputs.

    python -m benchmarks.fuzz_readers [--inputs 100000] [--seed 0]

The last line on standard output is one JSON object.
"""

import argparse
import bz2
import gzip
import io
import json
import lzma
import multiprocessing
import random
import resource
import shutil
import signal
import struct
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from benchmarks import fuzz_files
from benchmarks.fuzz_files import MAGIC, Files
from facewright.datasets.checking import verify_datasets
from facewright.datasets.form import open_dataset, read_bytes
from facewright.datasets.images import decode_rgb, image_size
from facewright.datasets.readers import Entry
from facewright.datasets.readers.archives import read_archive
from facewright.datasets.readers.insightface import read_pickled_pairs, read_records
from facewright.datasets.readers.listing import read_list
from facewright.datasets.readers.webdataset import read_samples
from facewright.datasets.validation.measuring import quiet_opencv
from facewright.errors import DatasetError
from facewright.progress import progress

TIME_LIMIT = 5.0  # seconds for one input of some kilobytes
SILENCE = 60.0  # seconds after which a process of its own is taken to hang, its start included
MEMORY = 1 << 30  # bytes of address space beyond what the program has when it starts

# ---- readers -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reader:
    """A reader, valid files for it, which of them are damaged, and what is packed round them."""

    files: list[Files]
    read: Callable[[Path], Iterator[Entry]]
    packers: tuple[Callable[[bytes], bytes], ...] = ()
    damaged: tuple[str, ...] = ()  # names of files; any where there is none
    start: str = ""  # the file to read among several; else their folder
    apart: bool = False  # in a process of its own
    weight: int = 4  # its part of all inputs

    def write(self, root: Path, files: Files) -> Path:
        """Write them into the new folder `root`; returns what is to be read."""
        for name, data in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(data)
        return root / (self.start or ("" if len(files) > 1 else next(iter(files))))


def readers() -> dict[str, Reader]:
    """By name; most inputs go to what parses bytes by itself: records, pickles, archives."""
    records, tars, pictures = fuzz_files.records(), fuzz_files.tars(), fuzz_files.pictures()
    indexed = [files for files in records if "train.idx" in files]
    index, table = ("train.idx", "property"), ("list.parquet",)
    form = ("dataset.yaml", "manifest.parquet", "pairs.parquet", "shards/00000.tar")
    return {
        "rec": Reader(records, read_records, damaged=("train.rec",), weight=14),
        "idx": Reader(indexed, read_records, damaged=index, weight=8),
        "bin": Reader(fuzz_files.bins(), _pickled, weight=14),
        "tar": Reader(tars, read_archive, weight=12),
        "tar.gz": Reader(tars, read_archive, (gzip.compress,), weight=8),
        "tar.bz2, tar.xz": Reader(tars, read_archive, (bz2.compress, lzma.compress), weight=8),
        "zip": Reader(fuzz_files.zips(), read_archive, weight=14),
        "WebDataset": Reader(fuzz_files.samples(), _sampled),
        "Parquet list": Reader(
            fuzz_files.lists(), read_list, damaged=table, start=table[0], apart=True, weight=5
        ),
        "dataset": Reader(fuzz_files.datasets(), _opened, damaged=form, apart=True, weight=5),
        "size of an image": Reader(pictures, _measured),
        "pixels of an image": Reader(pictures, _decoded, apart=True),
    }


def shares(known: dict[str, Reader], inputs: int) -> dict[str, int]:
    """How many inputs each reader gets; rounded up, so that they are never fewer in all."""
    total = sum(reader.weight for reader in known.values())
    return {name: -(-inputs * reader.weight // total) for name, reader in known.items()}


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


def _opened(path: Path) -> Iterator[Entry]:
    """Our own form: what is not as the manifest says is a fault in a line, and no entry."""
    dataset = open_dataset(path)
    if faults := verify_datasets(path):
        raise DatasetError(faults[0])
    for row in dataset.manifest.itertuples():
        data = read_bytes(path, shard=row.shard, offset=row.offset, length=row.length)
        yield Entry(f"{row.Index}.jpg", row.length, lambda data=data: data)


def _decoded(path: Path) -> Iterator[Entry]:
    data = path.read_bytes()
    with quiet_opencv():
        pixels = decode_rgb(data)
    assert pixels.ndim == 3, "no picture"
    assert pixels.shape[2] == 3, "no colours"
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
    chosen = rng.choice([file for file in sorted(files) if file in (reader.damaged or files)])
    files[chosen] = mutated(files[chosen], rng)
    return {file: pack(data) for file, data in files.items()}


def fuzz(name: str, reader: Reader, numbers: range, *, seed: int) -> Outcome:
    """Give the reader these inputs; each crash is told on standard error."""
    outcome = Outcome()
    results = (_apart if reader.apart else _here)(name, reader, numbers, seed)
    for kind, seconds in progress(results, total=len(numbers), label=f"fuzz {name}"):
        setattr(outcome, kind, getattr(outcome, kind) + 1)
        outcome.slowest_s = max(outcome.slowest_s, seconds)
    return outcome


def _here(name: str, reader: Reader, numbers: range, seed: int) -> Iterator[tuple[str, float]]:
    """For each input what became of it (a field of Outcome), and in how many seconds."""
    with tempfile.TemporaryDirectory() as folder:
        for number in numbers:
            root = Path(folder) / "x"
            path = reader.write(root, case(name, reader, number, seed=seed))
            start = time.monotonic()
            try:
                with time_limit(TIME_LIMIT), redirect_stderr(io.StringIO()):
                    _read(reader, path)
                kind = "accepted"
            except DatasetError:
                kind = "refused"
            except (Exception, TooSlow):
                kind = "crashes"
                print(f"CRASH {name} {number} (seed {seed})", file=sys.stderr)
                traceback.print_exc()
            yield kind, time.monotonic() - start
            shutil.rmtree(root)


def _apart(name: str, reader: Reader, numbers: range, seed: int) -> Iterator[tuple[str, float]]:
    """The same in a process of its own, and in a new one after each that died or hung."""
    context = multiprocessing.get_context("spawn")
    while numbers:
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=_child, args=(theirs, name, reader, numbers, seed))
        process.start()
        theirs.close()
        try:
            while numbers and ours.poll(SILENCE):
                result: tuple[str, float] = ours.recv()
                numbers = numbers[1:]
                yield result
        except EOFError:
            pass
        finally:
            if numbers:
                process.kill()
            process.join()
        if numbers:
            died = f"it ended with {process.exitcode}"
            print(f"CRASH {name} {numbers[0]} (seed {seed}): {died}", file=sys.stderr)
            numbers = numbers[1:]
            yield "crashes", 0.0


def _child(results: Connection, name: str, reader: Reader, numbers: range, seed: int) -> None:
    limited, most = resource.getrlimit(resource.RLIMIT_AS)
    if limited != most:  # what libraries and their threads take once is no blow-up
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        with tempfile.TemporaryDirectory() as folder:
            _read(reader, reader.write(Path(folder) / "x", reader.files[0]))
        limit_memory()
    for result in _here(name, reader, numbers, seed):
        results.send(result)


def _read(reader: Reader, path: Path) -> None:
    for entry in reader.read(path):
        assert ".." not in entry.name.split("/"), "a name leads outside"
        assert entry.name[:1] != "/", "a name leads outside"
        if entry.size < MEMORY:
            assert len(entry.read()) == entry.size, "an entry has not the size that it states"


def limit_memory() -> None:
    """Let this process have no more than MEMORY bytes of address space beyond what it has."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY, most))


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
    known = readers()
    limit_memory()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    outcomes = {
        name: fuzz(name, known[name], range(share), seed=arguments.seed)
        for name, share in shares(known, arguments.inputs).items()
    }
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
