"""A few hundred mutated files through each reader of a binary format; `benchmarks/` runs more."""

import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import fuzz_readers
from benchmarks.fuzz_files import jpeg
from benchmarks.fuzz_readers import Reader, case, fuzz, mutated, readers, shares
from facewright.datasets.readers import Entry

INPUTS = 300
UNCHECKED = {"size of an image", "pixels of an image", "Parquet list"}  # most bytes may be any


@pytest.mark.parametrize("name", list(readers()))
def test_mutated_files_are_read_or_refused(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    outcome = fuzz(name, readers()[name], range(INPUTS), seed=20)
    assert not outcome.crashes, capsys.readouterr().err
    assert outcome.accepted + outcome.refused == INPUTS
    assert outcome.accepted > 0
    least = INPUTS / 20 if name in UNCHECKED else INPUTS / 2
    assert outcome.refused > least, "the mutations hardly touch what is checked"


@pytest.mark.parametrize("name", list(readers()))
def test_the_files_that_are_mutated_are_valid(name: str, tmp_path: Path) -> None:
    reader = readers()[name]
    for number, files in enumerate(reader.files):
        path = reader.write(tmp_path / str(number), files)
        assert sum(len(entry.read()) for entry in reader.read(path)) > 400


def broken(path: Path) -> Iterator[Entry]:
    raise KeyError(path)


def endless(path: Path) -> Iterator[Entry]:
    while True:
        time.sleep(0.01)


def lying(path: Path) -> Iterator[Entry]:
    yield Entry("a.jpg", 5, lambda: b"four")


def leading_outside(path: Path) -> Iterator[Entry]:
    yield Entry("../a.jpg", 0, lambda: b"")


def dying(path: Path) -> Iterator[Entry]:
    """As C code does where it writes beyond its memory, at every second input."""
    if path.read_bytes()[:1] == b"A":
        os.abort()
    yield Entry("a.jpg", 1, lambda: b"1")


def test_a_process_that_dies_is_a_crash_and_the_next_goes_on(
    capsys: pytest.CaptureFixture[str],
) -> None:
    files = [{"a": b"A" * 100}, {"a": b"B" * 100}]
    outcome = fuzz("x", Reader(files, dying, apart=True), range(6), seed=3)
    expected = [case("x", Reader(files, dying), n, seed=3)["a"][:1] == b"A" for n in range(6)]
    assert 0 < sum(expected) < 6
    assert outcome.crashes == sum(expected)
    assert outcome.accepted == 6 - sum(expected)
    assert f"CRASH x {expected.index(True)} (seed 3): it ended with -6" in capsys.readouterr().err


def test_every_reader_has_a_share_and_binary_formats_have_most() -> None:
    given = shares(readers(), 100_000)
    assert 100_000 <= sum(given.values()) <= 100_000 + len(given)
    assert min(given.values()) >= 4000
    binary = ("rec", "idx", "bin", "tar", "tar.gz", "tar.bz2, tar.xz", "zip")
    assert sum(given[name] for name in binary) > 75_000


@pytest.mark.parametrize("read", [broken, endless, lying, leading_outside])
def test_what_a_reader_must_not_do_is_counted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], read: object
) -> None:
    monkeypatch.setattr(fuzz_readers, "TIME_LIMIT", 0.1)
    outcome = fuzz("x", Reader([{"a": b"data"}], read), range(2), seed=0)  # type: ignore[arg-type]
    assert (outcome.accepted, outcome.refused, outcome.crashes) == (0, 0, 2)
    assert "CRASH x 1 (seed 0)" in capsys.readouterr().err


def test_the_same_seed_gives_the_same_inputs_and_they_differ() -> None:
    reader = readers()["rec"]
    inputs = [case("rec", reader, number, seed=1) for number in range(100)]
    assert inputs == [case("rec", reader, number, seed=1) for number in range(100)]
    assert len({str(files) for files in inputs}) > 90
    assert all(isinstance(mutated(b"", random.Random(k)), bytes) for k in range(50))
    assert mutated(jpeg(1), random.Random(1)) != jpeg(1)
