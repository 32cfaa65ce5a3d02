"""Archives that claim little and unfold to much are refused before they fill the memory."""

import bz2
import gzip
import lzma
import random
import struct
import tarfile
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from facewright.datasets.readers import archives, inflate
from facewright.datasets.readers.archives import MAX_HEADER_BYTES, read_archive
from facewright.errors import DatasetError

BOMB = 64 * 1024 * 1024  # bytes once inflated
LIMIT = 16 * 1024 * 1024  # bytes that reading may take
PAX, GLOBAL = tarfile.XHDTYPE, tarfile.XGLTYPE

Part = tuple[bytes, str, bytes]  # type of a tar member, name, content


def read(path: Path) -> dict[str, bytes]:
    """Every member, if reading takes no more memory than `LIMIT`."""
    tracemalloc.start()
    try:
        return {entry.name: entry.read() for entry in read_archive(path)}
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < LIMIT


def refused(path: Path) -> str:
    with pytest.raises(DatasetError) as caught:
        read(path)
    message = str(caught.value)
    assert path.name in message
    assert "\n" not in message
    return message


def header(kind: bytes, name: str, size: int) -> bytes:
    member = tarfile.TarInfo(name)
    member.type, member.size = kind, size
    return member.tobuf(tarfile.GNU_FORMAT)


def packed(path: Path, *parts: Part) -> Path:
    with gzip.open(path, "wb", compresslevel=1) as file:
        for kind, name, content in parts:
            file.write(header(kind, name, len(content)))
            file.write(content + bytes(-len(content) % tarfile.BLOCKSIZE))
        file.write(bytes(2 * tarfile.BLOCKSIZE))
    return path


def record(key: str, value: str) -> bytes:
    """A pax record: its own length in seven digits, a blank, key=value and a line's end."""
    rest = f" {key}={value}\n".encode()
    return f"{len(rest) + 7:07d}".encode() + rest


FILE = (tarfile.REGTYPE, "A/1.jpg", b"photo")


def changed_zip(path: Path, content: bytes, *, size: int) -> Path:
    """One deflated member whose directory states `size`, and the checksum of so many bytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("A/1.jpg", content)
    data = bytearray(path.read_bytes())
    entry = data.index(b"PK\x01\x02")
    struct.pack_into("<L", data, entry + 16, zlib.crc32(content[:size]))
    struct.pack_into("<L", data, entry + 24, size)
    path.write_bytes(data)
    return path


def test_zip_members_inflate_to_what_they_state_and_no_further(tmp_path: Path) -> None:
    for size in (0, 5, 1000):
        content = b"x" * size
        assert read(changed_zip(tmp_path / "a.zip", content, size=size)) == {"A/1.jpg": content}
    for content, size in ((bytes(BOMB), 1000), (b"x" * 1000, 999), (b"x" * 1000, 1001)):
        path = changed_zip(tmp_path / "a.zip", content, size=size)
        assert "'A/1.jpg'" in refused(path)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_zip_methods_without_a_limit_are_refused(tmp_path: Path, method: int) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", method) as archive:
        archive.writestr("A/1.jpg", bytes(1000))
    assert "'A/1.jpg' is neither stored nor deflated" in refused(tmp_path / "a.zip")


@pytest.mark.parametrize(("at", "local", "value"), [(6, None, 255), (8, 6, 1 << 5)])
def test_zip_forms_that_python_does_not_know_are_one_line(
    tmp_path: Path, at: int, local: int | None, value: int
) -> None:
    """A version to come, and patched data: `zipfile` has an exception of its own for these."""
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("A/1.jpg", b"photo")
    data = bytearray(path.read_bytes())
    struct.pack_into("<H", data, data.index(b"PK\x01\x02") + at, value)
    if local is not None:
        struct.pack_into("<H", data, local, value)
    path.write_bytes(data)
    assert "read to its end" in refused(path)


def test_stored_zip_members_are_read(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("A/1.jpg", b"photo")
    assert read(tmp_path / "a.zip") == {"A/1.jpg": b"photo"}


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, PAX, GLOBAL])
def test_tar_headers_beyond_a_megabyte_are_refused(tmp_path: Path, kind: bytes) -> None:
    path = packed(tmp_path / "a.tgz", (kind, "x", bytes(BOMB)), FILE)
    assert "the header of a member at byte 0 has no end" in refused(path)
    path = packed(tmp_path / "a.tgz", (kind, "x", bytes(MAX_HEADER_BYTES + 1)), FILE)
    assert "has no end" in refused(path)


def test_long_names_and_pax_records_are_read(tmp_path: Path) -> None:
    name = "A/" + "n" * 300 + ".jpg"
    for part in (
        (tarfile.GNUTYPE_LONGNAME, "x", name.encode() + b"\0"),
        (PAX, "x", record("path", name)),
    ):
        assert read(packed(tmp_path / "a.tgz", part, FILE)) == {name: b"photo"}


def test_headers_without_end_before_one_member_are_refused(tmp_path: Path) -> None:
    links = [(tarfile.GNUTYPE_LONGNAME, "x", bytes(MAX_HEADER_BYTES))] * 64
    assert "has no end" in refused(packed(tmp_path / "a.tgz", *links, FILE))


def test_global_headers_do_not_add_up(tmp_path: Path) -> None:
    parts: list[Part] = []
    for k in range(64):
        parts.append((GLOBAL, "x", record(f"key{k}", "v" * 10**6)))
        parts.append((tarfile.REGTYPE, f"A/{k}.jpg", b"photo"))
    assert len(read(packed(tmp_path / "a.tgz", *parts))) == 64


def test_maps_of_sparse_files_are_refused_unread(tmp_path: Path) -> None:
    pax = record("GNU.sparse.major", "1") + record("GNU.sparse.minor", "0")
    numbers = b"100000000\n" + b"0\n" * (BOMB // 16)
    path = packed(tmp_path / "a.tgz", (PAX, "x", pax), (tarfile.REGTYPE, "A/1.jpg", numbers))
    assert "'A/1.jpg' is a link or a special file" in refused(path)
    first = bytearray(header(tarfile.GNUTYPE_SPARSE, "A/1.jpg", 0))
    first[482] = 1  # more of the map follows in the next block, and so on
    first[148:156] = b" " * 8
    first[148:156] = b"%06o\0 " % sum(first)
    block = b"00000000001\0" * 42 + b"\1" + bytes(7)
    (tmp_path / "b.tgz").write_bytes(gzip.compress(bytes(first) + block * (BOMB // 8192)))
    assert "'A/1.jpg' is a link or a special file" in refused(tmp_path / "b.tgz")


def test_numbers_that_are_none_are_damage(tmp_path: Path) -> None:
    for parts in (
        [(PAX, "x", record("size", "-4096")), FILE],
        [(PAX, "x", record("GNU.sparse.size", "many")), FILE],
    ):
        assert "read to its end" in refused(packed(tmp_path / "a.tgz", *parts))
    for kind in (tarfile.REGTYPE, tarfile.GNUTYPE_LONGNAME):
        path = tmp_path / "a.tar"
        path.write_bytes(header(kind, "A/1.jpg", -4096) + bytes(10240))
        assert "read to its end" in refused(path)


def test_xz_is_read_in_all_its_streams(tmp_path: Path) -> None:
    photos = {f"A/{k}.jpg": bytes([k]) * 400_000 for k in range(20)}
    packed(tmp_path / "a.tgz", *((tarfile.REGTYPE, name, data) for name, data in photos.items()))
    tar = gzip.decompress((tmp_path / "a.tgz").read_bytes())
    path = tmp_path / "a.tar.xz"
    for size in (len(tar), 1_000_000):
        streams = [lzma.compress(tar[at : at + size]) for at in range(0, len(tar), size)]
        whole = bytes(4).join(streams) + bytes(8)
        path.write_bytes(whole)
        assert {entry.name: entry.read() for entry in read_archive(path)} == photos
        path.write_bytes(whole[: len(whole) * 2 // 3])
        assert "cut short" in refused(path)


def test_xz_dictionaries_without_bounds_are_refused(tmp_path: Path) -> None:
    """The header's byte for the size of the dictionary says 3 GB, under a correct checksum."""
    data = bytearray(lzma.compress(bytes(10240)))
    end = 12 + (data[12] + 1) * 4
    at = data.index(b"\x21\x01", 12, end) + 2
    data[at] = 39
    data[end - 4 : end] = struct.pack("<L", zlib.crc32(data[12 : end - 4]))
    assert lzma.decompress(data) == bytes(10240)
    (tmp_path / "a.tar.xz").write_bytes(data)
    assert "Memory usage limit" in refused(tmp_path / "a.tar.xz")


def test_zip_members_that_inflate_like_no_photo_are_refused_unread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("A/notes.txt", bytes(20_000))  # is never read
        archive.writestr("A/1.jpg", bytes(20_000))
    assert len(read(path)["A/1.jpg"]) == 20_000
    monkeypatch.setattr(archives, "BOMB_BYTES", 10_000)
    assert "'A/1.jpg' has 36 bytes and claims to inflate to 0 MB" in refused(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("A/1.jpg", bytes(range(256)) * 2 + random.Random(0).randbytes(9_700))
    assert len(read(path)["A/1.jpg"]) == 10_212


@pytest.mark.parametrize("shift", [0, 40])
def test_zip_members_that_share_bytes_are_refused(tmp_path: Path, shift: int) -> None:
    """`shift` 0: both names mean the same bytes; else one begins inside the other."""
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("A/1.jpg", b"photo" * 100)
        archive.writestr("A/2.jpg", b"photo" * 100)
    data = bytearray(path.read_bytes())
    second = data.rindex(b"PK\x01\x02")
    struct.pack_into("<L", data, second + 42, shift)
    path.write_bytes(data)
    assert "'A/1.jpg' and 'A/2.jpg' share bytes" in refused(path)


@pytest.mark.parametrize(("pack", "suffix"), [
    (gzip.compress, "tgz"), (bz2.compress, "tar.bz2"), (lzma.compress, "tar.xz"),
])  # fmt: skip
def test_streams_that_inflate_like_no_photos_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pack: Callable[[bytes], bytes], suffix: str
) -> None:
    def tar(content: bytes) -> bytes:
        end = bytes(-len(content) % tarfile.BLOCKSIZE + 2 * tarfile.BLOCKSIZE)
        return header(tarfile.REGTYPE, "A/1.jpg", len(content)) + content + end

    path = tmp_path / f"a.{suffix}"
    path.write_bytes(pack(tar(bytes(1_500_000))))
    assert len(read(path)["A/1.jpg"]) == 1_500_000
    monkeypatch.setattr(inflate, "BOMB_BYTES", 1_000_000)
    assert "inflates to more than 100 times its size" in refused(path)
    path.write_bytes(pack(tar(bytes(1_300_000) + random.Random(0).randbytes(200_000))))
    assert len(read(path)["A/1.jpg"]) == 1_500_000


def test_bzip2_is_read_in_all_its_streams(tmp_path: Path) -> None:
    photos = {f"A/{k}.jpg": bytes([k]) * 100_000 for k in range(9)}
    packed(tmp_path / "a.tgz", *((tarfile.REGTYPE, name, data) for name, data in photos.items()))
    tar = gzip.decompress((tmp_path / "a.tgz").read_bytes())
    streams = [bz2.compress(tar[at : at + 250_000]) for at in range(0, len(tar), 250_000)]
    path = tmp_path / "a.tar.bz2"
    path.write_bytes(b"".join(streams))
    assert read(path) == photos
    path.write_bytes(b"".join(streams)[:-30])
    assert "cut short" in refused(path)
