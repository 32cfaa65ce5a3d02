"""A few hundred mutated files through each reader of a binary format; `benchmarks/` runs more."""

import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import fuzz_readers
from benchmarks.fuzz_readers import Reader, case, fuzz, jpeg, mutated, readers
from facewright.datasets.readers import Entry

INPUTS = 300


@pytest.mark.parametrize("name", list(readers()))
def test_mutated_files_are_read_or_refused(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    outcome = fuzz(name, readers()[name], range(INPUTS), seed=20)
    assert not outcome.crashes, capsys.readouterr().err
    assert outcome.accepted + outcome.refused == INPUTS
    assert outcome.accepted > 0
    least = INPUTS / 20 if name == "size of an image" else INPUTS / 2  # pixels are not checked
    assert outcome.refused > least, "the mutations hardly touch what is checked"


@pytest.mark.parametrize("name", list(readers()))
def test_the_files_that_are_mutated_are_valid(name: str, tmp_path: Path) -> None:
    reader = readers()[name]
    for number, files in enumerate(reader.files):
        folder = tmp_path / str(number)
        folder.mkdir()
        for file, data in files.items():
            (folder / file).write_bytes(data)
        path = folder if len(files) > 1 else folder / next(iter(files))
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
