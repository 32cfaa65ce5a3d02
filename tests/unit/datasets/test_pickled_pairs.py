"""Pickled verification sets: what Python 2 and 3 write is read, and nothing is ever run."""

import os
import pickle
import pickletools
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from benchmarks.fuzz_files import jpeg, python2
from facewright.datasets.readers import plain_pickle
from facewright.datasets.readers.insightface import read_pickled_pairs
from facewright.errors import DatasetError

IMAGES = [jpeg(number) for number in (0, 1, 2, 3, 1, 4, 5, 5, 0, 4, 6, 7)]
CROP = jpeg(0, size=0)  # how a picture of 112 × 112 px begins
LABELS = [True, False, True, True, False, False]
PROTOCOLS = range(6)
STEPS = 100_000  # instructions: enough for a recursive reader to fall over


def written(folder: Path, data: bytes) -> Path:
    path = folder / "lfw.bin"
    path.write_bytes(data)
    return path


def read(path: Path) -> tuple[dict[str, bytes], pd.DataFrame]:
    entries, pairs = read_pickled_pairs(path)
    found = {}
    for entry in entries:
        data = entry.read()
        assert entry.size == len(data)
        assert entry.identity == entry.name.split("/")[0]
        assert entry.columns == {"aligned": data.startswith(CROP)}
        assert entry.name not in found
        found[entry.name.rpartition(".")[0]] = data
    return found, pairs


def refused(folder: Path, data: bytes, *, limit: int = 8_000_000) -> str:
    """The message, if the refusal took no more than `limit` bytes."""
    path = written(folder, data)
    tracemalloc.start()
    try:
        with pytest.raises(DatasetError) as caught:
            read(path)
        assert tracemalloc.get_traced_memory()[1] < limit
    finally:
        tracemalloc.stop()
    message = str(caught.value)
    assert message.startswith(str(path))
    assert message.isprintable()
    return message


def check(path: Path) -> None:
    """That `path` is read as IMAGES and LABELS."""
    found, pairs = read(path)
    assert list(found) == [
        "000000/000000",
        "000000/000001",
        "000001/000002",
        "000002/000003",
        "000000/000005",
        "000003/000006",
        "000004/000010",
        "000005/000011",
    ]
    assert list(found.values()) == [IMAGES[int(id.split("/")[1])] for id in found]
    assert pairs["fold"].tolist() == [0, 1, 3, 5, 6, 8]
    assert pairs["label"].tolist() == [1, 0, 1, 1, 0, 0]
    for side in (0, 1):
        assert [found[id] for id in pairs["ab"[side]]] == IMAGES[side::2]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_python_3_pickles_of_every_protocol(tmp_path: Path, protocol: int) -> None:
    check(written(tmp_path, pickle.dumps((IMAGES, LABELS), protocol)))
    check(written(tmp_path, pickle.dumps([tuple(IMAGES), tuple(map(int, LABELS))], protocol)))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_numpy_arrays_of_bytes_and_numpy_booleans(tmp_path: Path, protocol: int) -> None:
    """As `cv2.imencode` gives them: of one dimension, or of two with one column."""
    labels = [np.bool_(label) for label in LABELS]
    for shape in ((-1,), (-1, 1), (1, -1)):
        arrays = [np.frombuffer(image, np.uint8).reshape(shape) for image in IMAGES]
        check(written(tmp_path, pickle.dumps((arrays, labels), protocol)))
        copies = [array.copy() for array in arrays]
        data = pickle.dumps((copies, labels), protocol)
        check(written(tmp_path, data))
    if protocol < 4:  # as NumPy 1 named its module; without lengths before the names
        old = data.replace(b"cnumpy._core.", b"cnumpy.core.")
        assert old != data
        check(written(tmp_path, old))


@pytest.mark.parametrize("protocol", [0, 2])
def test_python_2_pickles(tmp_path: Path, protocol: int) -> None:
    data = python2(IMAGES, LABELS, protocol=protocol)
    assert pickle.loads(data, encoding="bytes") == (IMAGES, LABELS)
    check(written(tmp_path, data))


contents = st.one_of(
    st.binary(max_size=20), st.sampled_from([b"", b"'\"\\\n\r\0\x1a", b"\\x41\\u0041", bytes(300)])
)


@settings(deadline=None)
@given(
    images=st.lists(contents, min_size=2, max_size=12),
    labels=st.lists(st.booleans(), min_size=6, max_size=6),
    protocol=st.integers(0, 7),
)
@example(images=[b"", b"\xff\xd8\xff"], labels=[False] * 6, protocol=0)  # how a JPEG begins
def test_any_bytes_come_back(
    tmp_path_factory: pytest.TempPathFactory,
    images: list[bytes],
    labels: list[bool],
    protocol: int,
) -> None:
    images, labels = images[: len(images) // 2 * 2], labels[: len(images) // 2]
    value = (images, labels)
    old = protocol - 6 if protocol == 6 else 2
    data = pickle.dumps(value, protocol) if protocol < 6 else python2(*value, protocol=old)
    found, pairs = read(written(tmp_path_factory.getbasetemp(), data))
    assert [found[id] for row in zip(pairs["a"], pairs["b"], strict=True) for id in row] == images
    assert pairs["label"].tolist() == labels
    assert list(found.values()) == list(dict.fromkeys(images))
    for a, b, label in zip(pairs["a"], pairs["b"], labels, strict=True):
        assert not label or a.split("/")[0] == b.split("/")[0]


def test_folds_are_those_of_ten_blocks_in_order(tmp_path: Path) -> None:
    images = [jpeg(number) for number in range(120)]
    _, pairs = read(written(tmp_path, pickle.dumps((images, [True] * 60))))
    assert pairs["fold"].tolist() == [fold for fold in range(10) for _ in range(6)]


def test_identities_are_what_genuine_pairs_connect(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """0-1 and 2-1 are one identity, so the impostor pair 0-2 contradicts them; 3 stands alone."""
    images = [jpeg(number) for number in (0, 1, 3, 0, 2, 1, 0, 2)]
    path = written(tmp_path, pickle.dumps((images, [True, False, True, False])))
    found, pairs = read(path)
    assert list(found) == ["000000/000000", "000000/000001", "000001/000002", "000000/000004"]
    assert pairs["label"].tolist() == [1, 0, 1, 0]
    assert f"{path}: 1 impostor pairs are of one identity" in capsys.readouterr().err
    read(written(tmp_path, pickle.dumps((images[:6], [True, False, True]))))
    assert not capsys.readouterr().err


# ---- attacks -----------------------------------------------------------------------------------


class Runs:
    """Pickled, it asks for `function(*arguments)`."""

    def __init__(self, function: Callable[..., Any], *arguments: object) -> None:
        self.wanted = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[object, ...]]:
        return self.wanted


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_hostile_pickles_run_nothing_and_are_named(tmp_path: Path, protocol: int) -> None:
    mark = tmp_path / "run"
    for attack, name in (
        (Runs(os.system, f"touch {mark}"), "posix.system"),
        (Runs(eval, f"open({str(mark)!r}, 'w')"), ".eval"),
        (Runs(exec, f"open({str(mark)!r}, 'w')"), ".exec"),
        (Runs(getattr, Runs(__import__, "os"), "system"), ".getattr"),
        (Runs(np.load, str(mark)), "numpy.load"),
    ):
        for value in (
            attack,
            ([*IMAGES, attack], LABELS),
            (IMAGES, [attack]),
            (IMAGES, LABELS, attack),
        ):
            message = refused(tmp_path, pickle.dumps(value, protocol))
            assert "asks for " in message
            assert f"{name}, and only lists" in message
    data = pickle.dumps(Runs(os.system, f"touch {mark}"), protocol)
    pickle.loads(data)
    assert mark.exists(), "the attack is none: it would not run with pickle either"


def op(name: str) -> bytes:
    [found] = [o.code for o in pickletools.opcodes if o.name == name]
    return found.encode("latin-1")


# What pickle writes for lists, tuples, bytes, booleans, arrays, and Python 2's strings.
KNOWN = """
    PROTO FRAME STOP MARK NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 BINBYTES
    SHORT_BINBYTES BINBYTES8 BYTEARRAY8 STRING BINSTRING SHORT_BINSTRING UNICODE BINUNICODE
    SHORT_BINUNICODE BINUNICODE8 EMPTY_LIST LIST APPEND APPENDS EMPTY_TUPLE TUPLE TUPLE1 TUPLE2
    TUPLE3 PUT BINPUT LONG_BINPUT MEMOIZE GET BINGET LONG_BINGET GLOBAL STACK_GLOBAL REDUCE BUILD
"""
UNKNOWN = sorted({opcode.name for opcode in pickletools.opcodes} - {*KNOWN.split(), "INST"})


@pytest.mark.parametrize("name", UNKNOWN)
def test_every_other_instruction_is_refused_by_name(tmp_path: Path, name: str) -> None:
    message = refused(tmp_path, b"\x80\4]" + op(name) + b"a\na\n0000.")
    assert f"asks for the instruction {name}," in message


def test_names_in_every_form_are_refused_by_name(tmp_path: Path) -> None:
    for data in (
        b"cos\nsystem\n.",
        b"(S'ls'\nios\nsystem\n.",
        b"\x80\4\x8c\2os\x8c\6system\x93.",
        b"\x80\2U\2osU\6system\x93.",
    ):
        assert "asks for os.system, and only" in refused(tmp_path, data)
    assert r"asks for 'os.\x1b[31m'" in refused(tmp_path, b"cos\n\x1b[31m\n.")
    assert "the unknown instruction b'\\xff'" in refused(tmp_path, b"\xff")
    for data in (b"c" + b"x" * 10**6, b"\x80\4X\0\x10\0\0" + b"x" * 4096 + b"\x8c\1x\x93."):
        assert "can be read" in refused(tmp_path, data)


def test_escapes_are_those_of_python_2(tmp_path: Path) -> None:
    """`'` and `"` stand plain in the other's quotes, or escaped; other escapes are damage."""
    string = rb"\'a\\n\n\r\t\x00\xff\x41" + b'"'
    data = b"((lS'%s'\naS\"%s\"\na(lI01\nat." % (string, string[:-1])
    assert pickle.loads(data, encoding="bytes")[0][0] == b"'a\\n\n\r\t\0\xffA\""
    found, _ = read(written(tmp_path, data))
    assert list(found.values()) == [b"'a\\n\n\r\t\0\xffA\"", b"'a\\n\n\r\t\0\xffA"]
    for bad in (rb"\q", rb"\x4", rb"\xgg", b"\\"):
        refused(tmp_path, data.replace(string, bad))


@pytest.mark.parametrize(
    "data",
    [
        b"c_codecs\nencode\n(Vabc\nVrot13\ntR.",
        b"c_codecs\nencode\n(Vabc\ntR.",
        b"c_codecs\nencode\nVabc\nR.",
        b"c__builtin__\nbytes\n(I9999999999\ntR.",
        b"cnumpy._core.multiarray\n_reconstruct\n(cnumpy\ndtype\n(I0\ntS'b'\ntR.",
        b"cnumpy._core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I9999999\ntS'b'\ntR.",
        b"cnumpy\nndarray\n(I9999999\ntR.",
        b"cnumpy._core.multiarray\nscalar\n(cnumpy\ndtype\n(S'O8'\nI0\nI1\ntRS'x'\ntR.",
        b"cnumpy\ndtype\n(S'u1'\nI0\nI1\ntR(d.",
        b"]]b.",
    ],
)
def test_known_names_do_only_what_they_are_known_for(tmp_path: Path, data: bytes) -> None:
    refused(tmp_path, data)


def test_arrays_that_are_no_files_are_refused(tmp_path: Path) -> None:
    for array in (
        np.zeros((112, 112, 3), np.uint8),
        np.zeros(9, np.uint16),
        np.zeros(9, np.int8),
    ):
        message = refused(tmp_path, pickle.dumps(([array, array], [True])))
        assert f"image 0 is an array {array.shape} of {array.dtype.str[1:]}" in message
    objects = np.array([{}, {}], dtype=object)
    structured = np.zeros(2, [("a", "u1")])
    for array in (objects, structured):
        refused(tmp_path, pickle.dumps(([array, array], [True])))


# ---- damage, and lengths that lie ----------------------------------------------------------------


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_file_cut_anywhere_is_refused(tmp_path: Path, protocol: int) -> None:
    images = [np.frombuffer(image[:20], np.uint8) for image in IMAGES[:2]]
    for value in ((IMAGES[:2], [True]), (images, [np.bool_(True)])):
        data = pickle.dumps(value, protocol)
        for size in range(len(data)):
            path = written(tmp_path, data[:size])
            with pytest.raises(DatasetError, match="can be read to its end"):
                read(path)
        assert "goes on after its end" in refused(tmp_path, data + b"x")


@pytest.mark.parametrize(
    "string",
    [
        b"B\xff\xff\xff\xff",
        b"B\xff\xff\xff\x7f",
        b"\x8e" + b"\xff" * 8,
        b"\x8e\0\0\0\0\1\0\0\0",
        b"\x96" + b"\xff" * 8,
        b"T\xff\xff\xff\xff",
        b"T\xff\xff\xff\x7f",
        b"X\xff\xff\xff\xff",
        b"\x8d" + b"\xff" * 8,
        b"C\xff",
        b"\x95" + b"\xff" * 8,
    ],
)
def test_lengths_beyond_the_file_are_refused(tmp_path: Path, string: bytes) -> None:
    assert "claims" in (message := refused(tmp_path, b"\x80\4]" + string + b"xxx")) or (
        "a frame is cut short" in message
    )


def test_strings_larger_than_an_image_are_refused_unread(tmp_path: Path) -> None:
    path = written(tmp_path, b"")
    for code, length in ((b"B", 1 << 30), (b"X", 1 << 27)):
        with path.open("wb") as file:
            file.write(b"\x80\4]" + code + struct.pack("<I", length))
            file.truncate(length + 100)
        tracemalloc.start()
        with pytest.raises(DatasetError, match="larger than an image can be"):
            read(path)
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
        tracemalloc.stop()


@pytest.mark.parametrize(
    "data",
    [
        b"(" * STEPS + b"t" * STEPS + b".",  # depth
        b"]" * STEPS + b"a" * STEPS + b".",
        b")" + b"\x85" * STEPS + b".",
        b"]" + b"\x94" * STEPS + b".",  # the memo
        b"C\0" * STEPS + b".",  # the stack
    ],
    ids=["marks", "lists", "tuples", "memo", "stack"],
)
def test_endless_instructions_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: bytes
) -> None:
    """The limit bounds the memory: less than 200 bytes for each instruction."""
    monkeypatch.setattr(plain_pickle, "MAX_STEPS", STEPS)
    message = refused(tmp_path, b"\x80\4" + data, limit=200 * STEPS)
    assert f"more than {STEPS} pickle instructions" in message


def test_depth_below_the_limit_is_refused_for_what_it_is(tmp_path: Path) -> None:
    data = b"]" * STEPS + b"a" * (STEPS - 1)
    assert "holds no list of images" in refused(tmp_path, data + b".", limit=200 * 2 * STEPS)


def test_nested_copies_do_not_unfold(tmp_path: Path) -> None:
    """Each list holds the one before twice: 2^40 elements, if anyone walked them."""
    doubled = b"".join(b"]q%c(h%ch%ce" % (n + 1, n, n) for n in range(40))
    for data in (
        b"\x80\4]q\0" + doubled + b"].",
        b"\x80\4]q\0" + doubled + b"\x86.",
        b"\x80\4]q\0" + doubled + b"(\x88\x88e\x86.",
        b"\x80\4(]q\0" + doubled + b"l](\x88e\x86.",
        b"\x80\4]q\0h\0a](\x88e\x86.",  # a list within itself
    ):
        refused(tmp_path, data)


def test_one_image_many_times_is_read_once(tmp_path: Path) -> None:
    count = 20_000
    data = b"\x80\4](B" + struct.pack("<I", 1 << 20) + bytes(1 << 20) + b"q\0"
    data += b"h\0" * (2 * count - 1) + b"e](" + b"\x88" * count + b"e\x86."
    found, pairs = read_all(written(tmp_path, data))
    assert (len(found), len(pairs)) == (1, count)


def read_all(path: Path) -> tuple[list[str], pd.DataFrame]:
    entries, pairs = read_pickled_pairs(path)
    return [entry.name for entry in entries], pairs


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ((IMAGES, LABELS[:-1]), "12 images and 5 pairs"),
        ((IMAGES[:-1], LABELS), "11 images and 6 pairs"),
        (([], []), "0 images and 0 pairs"),
        ((IMAGES, [*LABELS[:-1], 2]), "whether pair 5 is genuine"),
        ((IMAGES, [*LABELS[:-1], None]), "whether pair 5 is genuine"),
        ((IMAGES, [*LABELS[:-1], b"1"]), "whether pair 5 is genuine"),
        (([*IMAGES[:-1], None], LABELS), "image 11 is no bytes"),
        (([*IMAGES[:-1], [IMAGES[0]]], LABELS), "image 11 is no bytes"),
        (([*IMAGES[:-1], "text"], LABELS), "text in place of bytes"),
        ((IMAGES, LABELS, LABELS), "holds no list of images"),
        (IMAGES, "holds no list of images"),
        (True, "holds no list of images"),
        (({1: 2}, LABELS), "asks for the instruction EMPTY_DICT"),
    ],
)
def test_what_is_no_verification_set_is_refused(tmp_path: Path, value: object, says: str) -> None:
    assert says in refused(tmp_path, pickle.dumps(value, 4))


def test_a_file_that_changes_between_the_passes_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, pickle.dumps((IMAGES, LABELS), 4))
    entries, _ = read_pickled_pairs(path)
    next(entries).read()
    entries.close()
    entries, _ = read_pickled_pairs(path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DatasetError, match="it became shorter"):
        list(entries)
    with pytest.raises(DatasetError, match="cannot be read"):
        read(tmp_path)
