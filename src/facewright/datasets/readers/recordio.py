"""RecordIO files (`.rec`) as dmlc-core writes them for MXNet, and their index (`.idx`).

A record lies in one part or in several. A part is the word MAGIC, a word with the part's kind in
its upper 3 bits and its length in the lower 29, the bytes, and zeros up to a multiple of 4. Where a
record holds MAGIC at a multiple of 4, it is cut there, and MAGIC is left out: kind 0 is a whole
record, 1 the first part, 2 a further one, 3 the last. All words are little-endian. The index is a
text with a line `KEY<tab>OFFSET` per record.

Layout: dmlc-core, `include/dmlc/recordio.h`; MXNet, `python/mxnet/recordio.py`.
"""

import math
import os
import struct
from collections.abc import Generator
from pathlib import Path
from typing import BinaryIO

from facewright.datasets.readers import MAX_IMAGE_BYTES, readable
from facewright.errors import DatasetError

MAGIC = struct.pack("<I", 0xCED7230A)
BUFFER = 1 << 20  # bytes read at a time

_PART = struct.Struct("<4sI")
_HEADER = struct.Struct("<IfQQ")  # flag, label, id, id2
_LENGTH = (1 << 29) - 1
_FIRST, _FURTHER = (0, 1), (2, 3)
_LINE = 64  # bytes that a line of the index may have


def read_parts(file: BinaryIO, *, source: str) -> Generator[tuple[int, bytes]]:
    """(offset, bytes) of every record from where `file` stands to its end, parts joined.

    No more than one record is held, and none is larger than an image can be.

    Raises:
        DatasetError: the file is cut short, or holds something else where a record must begin.
    """
    end = os.fstat(file.fileno()).st_size
    at = file.tell()
    while at < end:
        start, total = at, 0
        parts: list[bytes] = []
        while True:
            head = file.read(_PART.size)
            if len(head) < _PART.size:
                raise _cut(source, start)
            magic, word = _PART.unpack(head)
            kind, length = word >> 29, word & _LENGTH
            if magic != MAGIC or kind not in (_FURTHER if parts else _FIRST):
                raise DatasetError(f"{source} is damaged at byte {at}: get it again")
            padded = (length + 3) & ~3
            at += _PART.size + padded
            if at > end:
                raise _cut(source, start)
            total += length + len(MAGIC)
            if total > MAX_IMAGE_BYTES:
                raise DatasetError(
                    f"{source}: the record at byte {start} is larger than an image can be "
                    f"({MAX_IMAGE_BYTES / 1e6:.0f} MB): get it again"
                )
            data = file.read(padded)
            if len(data) < padded:
                raise _cut(source, start)
            parts.append(data if length == padded else data[:length])
            if kind in (0, 3):
                break
        yield start, parts[0] if len(parts) == 1 else MAGIC.join(parts)


def _cut(source: str, start: int) -> DatasetError:
    return DatasetError(f"{source} is cut short in the record at byte {start}: get it again")


def unpack(record: bytes, *, where: str) -> tuple[tuple[float, ...], int, bytes]:
    """(labels, id, content) of a record with MXNet's image header (IRHeader).

    The header's flag says how many float32 labels follow it; 0 stands for the one inside it.

    Raises:
        DatasetError: the record is too short for the header or for the labels.
    """
    if len(record) >= _HEADER.size:
        flag, label, number, _ = _HEADER.unpack_from(record)
        if not flag:
            return (label,), number, record[_HEADER.size :]
        end = _HEADER.size + 4 * flag
        if end <= len(record):
            return struct.unpack_from(f"<{flag}f", record, _HEADER.size), number, record[end:]
    raise DatasetError(f"{where} has no whole image header: it is no set of images, or damaged")


def whole(label: float, *, where: str) -> int:
    """A label as the whole number that it must be.

    Raises:
        DatasetError: it is negative, broken, infinite or no number.
    """
    if not (math.isfinite(label) and label >= 0 and label == int(label)):
        raise DatasetError(f"{where} has the label {label}, which numbers nobody: get it again")
    return int(label)


def read_index(path: Path, *, end: int) -> Generator[tuple[int, int]]:
    """(key, offset) of every line of an `.idx` file to a `.rec` file of `end` bytes.

    Raises:
        DatasetError: the file cannot be read or holds another line, or the offsets do not ascend
            or lead beyond `end`.
    """
    last, line = -1, b""
    try:
        with readable(path), path.open("rb") as file:
            for line in iter(lambda: file.readline(_LINE), b""):
                key, offset = map(int, line.split())
                if key < 0:
                    raise ValueError
                if offset <= last:
                    raise DatasetError(
                        f"{path}: the offset {offset} comes after {last}: put its lines into "
                        "the order of the .rec file (sort -n -k 2,2)"
                    )
                if offset >= end:
                    raise DatasetError(
                        f"{path} lists a record at byte {offset}, and the .rec file ends at "
                        f"{end}: one of them is cut short or of another set, get both again"
                    )
                last = offset
                yield key, offset
    except ValueError as error:
        raise DatasetError(f"{path}: {line!r} is no KEY<tab>OFFSET: get it again") from error
