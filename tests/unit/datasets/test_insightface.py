"""InsightFace's training sets: every record as it was written, and no file that contradicts it."""

import struct
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.fuzz_files import MAGIC, Files, framed, jpeg, packed, record, record_set
from facewright.datasets.readers import MAX_IMAGE_BYTES, Entry, insightface
from facewright.datasets.readers.insightface import read_records
from facewright.errors import DatasetError

PEOPLE = [[jpeg(1), jpeg(2)], [jpeg(3)], [jpeg(4), jpeg(5, side=96)]]


def written(folder: Path, files: Files) -> Path:
    folder.mkdir(exist_ok=True)
    for name in ("train.rec", "train.idx", "property"):
        (folder / name).unlink(missing_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


def read(path: Path) -> list[tuple[Entry, bytes]]:
    return [(entry, entry.read()) for entry in read_records(path)]


def refused(folder: Path, files: Files) -> str:
    with pytest.raises(DatasetError) as caught:
        read(written(folder, files))
    message = str(caught.value)
    assert str(folder) in message
    assert "\n" not in message
    return message


def flat(people: list[list[bytes]]) -> list[tuple[int, bytes]]:
    return [(label, image) for label, images in enumerate(people) for image in images]


@pytest.mark.parametrize("two_labels", [True, False])
def test_every_image_has_its_label_its_key_and_its_bytes(tmp_path: Path, two_labels: bool) -> None:
    found = read(written(tmp_path, record_set(PEOPLE, two_labels=two_labels)))
    assert [data for _, data in found] == [image for _, image in flat(PEOPLE)]
    assert [entry.name for entry, _ in found] == [
        "0000000/000000001.jpg",
        "0000000/000000002.jpg",
        "0000001/000000003.jpg",
        "0000002/000000004.jpg",
        "0000002/000000005.jpg",
    ]
    assert [entry.identity for entry, _ in found] == [e.name.split("/")[0] for e, _ in found]
    assert [entry.columns["aligned"] for entry, _ in found] == [True] * 4 + [False]
    assert all(entry.size == len(data) for entry, data in found)


def test_sets_without_a_header_begin_with_key_0(tmp_path: Path) -> None:
    found = read(written(tmp_path, record_set(PEOPLE, header=False, two_labels=False)))
    assert [data for _, data in found] == [image for _, image in flat(PEOPLE)]
    assert [entry.name for entry, _ in found][:2] == [
        "0000000/000000000.jpg",
        "0000000/000000001.jpg",
    ]


def test_keys_come_from_the_index(tmp_path: Path) -> None:
    """A shuffled set keeps the old ids inside its records."""
    files = packed([(key, record([7], 1000 - key, jpeg(key), scalar=True)) for key in (5, 3, 4)])
    assert [entry.name for entry, _ in read(written(tmp_path, files))] == [
        "0000007/000000005.jpg",
        "0000007/000000003.jpg",
        "0000007/000000004.jpg",
    ]


def test_the_suffix_is_that_of_the_bytes(tmp_path: Path) -> None:
    heads = {
        b"\x89PNG\r\n\x1a\n": ".png",
        b"RIFF\0\0\0\0WEBP": ".webp",
        b"BM": ".bmp",
        b"\xff\xd8\xff": ".jpg",
        b"no image": ".jpg",
    }
    found = read(written(tmp_path, record_set([[head + b"rest" for head in heads]])))
    assert [Path(entry.name).suffix for entry, _ in found] == list(heads.values())


def test_a_record_lies_as_dmlc_core_writes_it(tmp_path: Path) -> None:
    """Written out by hand: cut at the word where MAGIC stands, padded to four bytes."""
    assert framed(b"abcde") == MAGIC + b"\x05\0\0\0" + b"abcde\0\0\0"
    head = struct.pack("<IfQQ", 0, 2.0, 9, 0)
    image = b"\xff\xd8" + MAGIC + b"ef" + MAGIC + b"gh" + MAGIC
    # At byte 24 + 2 it stands at no word; at 24 + 8 and after it does.
    rec = (
        MAGIC + struct.pack("<I", 1 << 29 | 32) + head + b"\xff\xd8" + MAGIC + b"ef"
        + MAGIC + struct.pack("<I", 3 << 29 | 6) + b"gh" + MAGIC + b"\0\0"
    )  # fmt: skip
    assert framed(head + image) == rec
    [(entry, data)] = read(written(tmp_path, {"train.rec": rec, "train.idx": b"9\t0\n"}))
    assert data == image
    assert entry.name == "0000002/000000009.jpg"


pieces = st.one_of(st.binary(max_size=9), st.just(MAGIC), st.just(MAGIC[:3]), st.just(b"\0" * 4))
images = st.lists(pieces, min_size=1, max_size=8).map(b"".join).filter(len)


@settings(deadline=None)
@given(people=st.lists(st.lists(images, max_size=4), min_size=1, max_size=4), header=st.booleans())
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, people: list[list[bytes]], header: bool
) -> None:
    folder = written(tmp_path_factory.getbasetemp() / "records", record_set(people, header=header))
    found = [(int(entry.identity or -1), data) for entry, data in read(folder)]
    assert found == flat(people)


def test_a_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    for header in (True, False):
        files = record_set(PEOPLE, header=header)
        rec = files["train.rec"]
        for size in range(len(rec)):
            message = refused(tmp_path, files | {"train.rec": rec[:size]})
            assert "cut short" in message
    idx = files["train.idx"]
    for size in range(len(idx) - 1):  # the last line's end may be missing
        refused(tmp_path, files | {"train.idx": idx[:size]})


def test_a_set_without_index_is_checked_by_its_header(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = record_set(PEOPLE)
    del files["train.idx"]
    found = read(written(tmp_path, files))
    assert [entry.name for entry, _ in found][-1] == "0000002/000000005.jpg"
    assert "no train.idx beside it" in capsys.readouterr().err
    rec = files["train.rec"]
    ends = [at for at in range(4, len(rec), 4) if rec[at : at + 4] == MAGIC]
    assert len(ends) == 8
    for end in ends[5:]:  # behind the header, which says how many there must be
        assert "announces 5 images in 9 records" in refused(tmp_path, {"train.rec": rec[:end]})


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (b"3\t", b"2\t", "lacks the key 3"),
        (b"3\t", b"99\t", "keys up to 99"),
        (b"3\t", b"-3\t", "is no KEY<tab>OFFSET"),
        (b"3\t", b"three\t", "is no KEY<tab>OFFSET"),
        (b"3\t", b"3 ", None),
        (b"1\t0\n", b"", "lists 8"),
        (b"1\t0\n", b"1\t0\n" * 2, "put its lines into the order"),
        (b"1\t0\n2\t112\n", b"2\t112\n1\t0\n", "put its lines into the order"),
        (b"\t112\n", b"\t116\n", "has a record at byte 112, and its .idx says 116"),
        (b"\t112\n", b"\t%d\n" % 10**30, "and the .rec file ends at"),
        (b"\t112\n", b"\t\n", "is no KEY<tab>OFFSET"),
        (b"\t112\n", b"\t112" + b" " * 10**5 + b"\n", "is no KEY<tab>OFFSET"),
    ],
)
def test_an_index_that_disagrees_is_refused(
    tmp_path: Path, old: bytes, new: bytes, says: str | None
) -> None:
    files = record_set(PEOPLE)
    assert old in files["train.idx"]
    files["train.idx"] = files["train.idx"].replace(old, new, 1)
    if says is None:
        assert len(read(written(tmp_path, files))) == 5
    else:
        assert says in refused(tmp_path, files)


def test_an_index_of_another_set_is_refused(tmp_path: Path) -> None:
    other = record_set([[jpeg(1, size=61), jpeg(2)], [jpeg(3)], [jpeg(4), jpeg(5)]])
    for header in (True, False):
        files = record_set(PEOPLE, header=header) | {"train.idx": other["train.idx"]}
        refused(tmp_path, files)


@pytest.mark.parametrize("line", [b"4,112,112", b"2,112,112", b"3", b"three,112,112", b""])
def test_a_property_that_contradicts_is_refused(tmp_path: Path, line: bytes) -> None:
    assert "property" in refused(tmp_path, record_set(PEOPLE) | {"property": line})


def test_labels_beyond_the_number_of_identities_are_refused(tmp_path: Path) -> None:
    files = record_set(PEOPLE, header=False) | {"property": b"2,112,112"}
    assert "the record 3 has the label 2, and property announces 2" in refused(tmp_path, files)


def test_a_missing_property_is_said_aloud(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(read(written(tmp_path, record_set(PEOPLE, stated=False)))) == 5
    assert "property is missing" in capsys.readouterr().err


def with_records(header: tuple[float, ...], ranges: list[tuple[float, ...]]) -> Files:
    """PEOPLE's images under keys 1 to 5 and labels 0, 0, 1, 2, 2, with these other records."""
    records = [
        (key + 1, record([label], key + 1, image, scalar=True))
        for key, (label, image) in enumerate(flat(PEOPLE))
    ]
    records.append((0, record(header, 0, b"")))
    records += [(6 + k, record(ends, 6 + k, b"")) for k, ends in enumerate(ranges)]
    return packed(records)


@pytest.mark.parametrize(
    ("header", "ranges", "says"),
    [
        ((6, 9), [(1, 3), (3, 4), (4, 6)], None),
        ((6, 9), [(4, 6), (1, 3), (3, 4)], None),
        ((6, 10), [(1, 3), (3, 4), (4, 4), (4, 6)], None),
        ((6, 8), [(1, 3), (3, 4), (4, 6)], "announces 8 records"),
        ((7, 9), [(1, 3), (3, 4), (4, 6)], "3 to 3, after 0"),
        ((5, 9), [(1, 3), (3, 4), (4, 6)], "is an image"),
        ((6, 9), [(1, 3), (3, 5), (4, 6)], "4 to 5, after 4"),
        ((6, 9), [(1, 3), (3, 4), (5, 6)], "5 to 5, after 3"),
        ((6, 9), [(1, 3), (3, 4), (4, 5)], "have 4 images, and the header announces 5"),
        ((6, 9), [(1, 4), (4, 5), (5, 6)], "the record 3 has the label 1, and others"),
        ((6, 9), [(1, 3), (3,), (4, 6)], "states no range"),
        ((6,), [(1, 3), (3, 4), (4, 6)], "states no range"),
        ((6, float("nan")), [(1, 3), (3, 4), (4, 6)], "nan"),
        ((-6, 9), [(1, 3), (3, 4), (4, 6)], "-6"),
        ((6, 9), [(1, 2.5), (3, 4), (4, 6)], "2.5"),
    ],
)
def test_ranges_that_contradict_are_refused(
    tmp_path: Path, header: tuple[float, ...], ranges: list[tuple[float, ...]], says: str | None
) -> None:
    files = with_records(header, ranges)
    if says is None:
        assert len(read(written(tmp_path, files))) == 5
    else:
        assert says in refused(tmp_path, files)


def test_ranges_that_float32_cannot_hold_are_not_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(insightface, "EXACT", 8)
    files = with_records((6, 9), [(1, 4), (4, 4), (4, 6)])
    assert len(read(written(tmp_path, files))) == 5
    assert "ranges are not checked" in capsys.readouterr().err


@pytest.mark.parametrize("label", [-1.0, 0.5, float("nan"), float("inf")])
def test_labels_that_number_nobody_are_refused(tmp_path: Path, label: float) -> None:
    files = packed([(4, record([label], 4, jpeg(1), scalar=True))])
    assert f"the record 4 has the label {label}" in refused(tmp_path, files)


@pytest.mark.parametrize(
    ("rec", "says"),
    [
        (b"not a .rec file at all", "damaged at byte 0"),
        (MAGIC, "cut short in the record at byte 0"),
        (MAGIC + b"\xff\xff\xff\x1f", "cut short in the record at byte 0"),
        (MAGIC + struct.pack("<I", 2 << 29), "damaged at byte 0"),
        (MAGIC + struct.pack("<I", 7 << 29), "damaged at byte 0"),
        (MAGIC + struct.pack("<I", 1 << 29), "cut short in the record at byte 0"),
        (MAGIC + struct.pack("<I", 1 << 29) + framed(b""), "damaged at byte 8"),
        (framed(b""), "no whole image header"),
        (framed(bytes(23)), "no whole image header"),
        (framed(struct.pack("<IfQQ", 2, 0, 0, 0) + bytes(7)), "no whole image header"),
        (framed(struct.pack("<IfQQ", 2**32 - 1, 0, 0, 0) + bytes(7)), "no whole image header"),
        (framed(record([2, 2], 3, b"")), "no header that announces them"),
    ],
)
def test_records_whose_lengths_lie_are_refused(tmp_path: Path, rec: bytes, says: str) -> None:
    assert says in refused(tmp_path, {"train.rec": rec})
    refused(tmp_path, {"train.rec": rec, "train.idx": b"1\t0\n"})


def test_records_larger_than_an_image_are_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "a.rec"
    with path.open("wb") as file:
        file.write(MAGIC + struct.pack("<I", MAX_IMAGE_BYTES))
        file.truncate(MAX_IMAGE_BYTES + 100)
    tracemalloc.start()
    try:
        with pytest.raises(DatasetError, match="larger than an image"):
            read(path)
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
    finally:
        tracemalloc.stop()


def test_memory_is_flat(tmp_path: Path) -> None:
    """Ten times the records take no more memory."""
    peaks = []
    for count in (400, 4000):
        people = [[jpeg(k, size=3000)] * 20 for k in range(count // 20)]
        written(tmp_path, record_set(people))
        del people
        tracemalloc.start()
        assert sum(1 for _ in read_records(tmp_path)) == count
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 100_000


def test_the_file_may_be_named_and_must_be_where_there_are_two(tmp_path: Path) -> None:
    written(tmp_path, record_set(PEOPLE))
    assert len(read(tmp_path / "train.rec")) == 5
    (tmp_path / "val.rec").write_bytes(b"")
    with pytest.raises(DatasetError, match=r"holds 2 \.rec files"):
        read(tmp_path)
    (tmp_path / "none").mkdir()
    with pytest.raises(DatasetError, match=r"holds 0 \.rec files"):
        read(tmp_path / "none")
