"""InsightFace's two formats: training sets in RecordIO files, and pickled verification pairs.

A training set is a folder with `train.rec`, `train.idx` and `property`; see `recordio` for the
first two. Every record has a key. InsightFace numbers the images from 1; the record with key 0
holds no image but two labels, the key of the first identity's record and the key after the last,
and an identity's record those of its first image and after its last. Sets that were shuffled later
have images only, from 0. `property` is a line `IDENTITIES,HEIGHT,WIDTH`.

A verification set is one file, `lfw.bin` and the like: a pickled pair of lists, the images' bytes
(two for each pair) and whether each pair is genuine. See `plain_pickle` for how it is read.

Layout: InsightFace, `recognition/arcface_mxnet/image_iter.py` and `verification.py`.
"""

import bisect
import hashlib
import math
from collections.abc import Generator, Iterator
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pandas as pd

from facewright.datasets.components import components
from facewright.datasets.images import image_format, image_size
from facewright.datasets.pairs import PAIR_COLUMNS, fold_of
from facewright.datasets.readers import Entry, readable
from facewright.datasets.readers.plain_pickle import Array, Text, load_plain, read_bytes
from facewright.datasets.readers.recordio import BUFFER, read_index, read_parts, unpack, whole
from facewright.errors import DatasetError
from facewright.progress import say

CROP = (112, 112)  # px; the size of ArcFace's aligned crops, and of no other picture in these sets
EXACT = 1 << 24  # float32, in which labels are kept, holds every whole number up to here

_SUFFIXES = {"PNG": ".png", "WEBP": ".webp", "BMP": ".bmp", "TIFF": ".tif"}


def read_records(path: Path) -> Generator[Entry]:
    """Every image of the set `path`, a folder with one `.rec` file or that file, in its order.

    Names are `LABEL/KEY.jpg` (7 and 9 digits; the suffix is that of the bytes), the identity is
    LABEL. Pictures of 112 × 112 px are marked as aligned, which they are in these sets. The `.rec`
    is read once, from its first byte to its last.

    Before the first image the index is compared with what the header and the identities' records
    state; while reading, each record with its line of the index. Without an `.idx` beside it the
    keys are those that the records state, and ranges are not compared; without `property` the
    number of identities is not. Both are said aloud.

    Raises:
        DatasetError: there is not exactly one `.rec`, one of the files is damaged, cut short or
            cannot be read, or they contradict each other.
    """
    rec = _record_file(path)
    idx = rec.with_suffix(".idx")
    identities = _property(rec.parent / "property")
    indexed = idx.is_file()
    if not indexed:
        say(f"{rec}: no {idx.name} beside it: its keys are taken as they stand in the records")
    with readable(rec), rec.open("rb", buffering=BUFFER) as file:
        starts = _announced(file, rec, idx, identities=identities) if indexed else []
        file.seek(0)
        yield from _images(file, rec, idx if indexed else None, starts, identities=identities)


def _record_file(path: Path) -> Path:
    if path.is_file():
        return path
    found = sorted(path.glob("*.rec"))
    if len(found) != 1 or not found[0].is_file():
        raise DatasetError(
            f"{path} holds {len(found)} .rec files: name the one to read, with its .idx beside it"
        )
    return found[0]


def _property(path: Path) -> int | None:
    """The number of identities, or None where nobody states it."""
    if not path.is_file():
        say(f"{path} is missing: the number of identities is not checked")
        return None
    try:
        with path.open("rb") as file:
            line = file.read(256)
        identities, _, _ = (int(value) for value in line.split(b","))
    except (OSError, ValueError) as error:
        raise DatasetError(
            f"{path} is no line IDENTITIES,HEIGHT,WIDTH: correct it, or take it away"
        ) from error
    return identities


def _announced(file: BinaryIO, rec: Path, idx: Path, *, identities: int | None) -> list[int]:
    """The first key of each identity that has images, ascending; empty without a header."""
    count, top, header_at = 0, -1, None
    end = rec.stat().st_size
    for key, offset in read_index(idx, end=end):
        count, top = count + 1, max(top, key)
        if key == 0:
            header_at = offset
    if header_at is None:
        return []
    header, content = _record_at(file, rec, header_at)
    if content:
        return []
    first, last = _header(header, where=f"{rec}: the header")
    if not _same(last, count) or not 0 < first <= last or top != count - 1:
        raise DatasetError(
            f"{rec} announces {last} records, and {idx.name} lists {count}, keys up to {top}: "
            "get both again"
        )
    if identities is not None and last - first != identities and last < EXACT:
        raise DatasetError(
            f"{rec} announces {last - first} identities, and property {identities}: "
            "correct property, or get the set again"
        )
    seen, records = bytearray(count), []
    for key, offset in read_index(idx, end=end):
        if key < count:
            seen[key] = 1
            if key >= first:
                records.append(offset)
    if 0 in seen:
        raise DatasetError(f"{idx} lacks the key {seen.index(0)}: get it again")
    if last >= EXACT:
        say(f"{rec}: too many records for float32 labels: the identities' ranges are not checked")
        return []
    return list(_ranges(file, rec, records, first=first))


def _record_at(file: BinaryIO, rec: Path, offset: int) -> tuple[tuple[float, ...], bytes]:
    file.seek(offset)
    _, record = next(read_parts(file, source=str(rec)))
    labels, _, content = unpack(record, where=f"{rec}: the record at byte {offset}")
    return labels, content


def _header(labels: tuple[float, ...], *, where: str) -> tuple[int, int]:
    if len(labels) < 2:
        raise DatasetError(f"{where} holds no image and states no range: get it again")
    return whole(labels[0], where=where), whole(labels[1], where=where)


def _same(label: int, count: int) -> bool:
    """Whether a count, once it was written as float32, is `label`."""
    return label == int(np.float32(count))


def _ranges(file: BinaryIO, rec: Path, records: list[int], *, first: int) -> Iterator[int]:
    """The first key of each identity; together they must have the keys from 1 to `first`."""
    ranges = []
    for offset in records:
        labels, content = _record_at(file, rec, offset)
        where = f"{rec}: the identity at byte {offset}"
        if content:
            raise DatasetError(f"{where} is an image: get the set again")
        ranges.append(_header(labels, where=where))
    end = 1
    for a, b in sorted(ranges):
        if a != end or b < a:
            raise DatasetError(
                f"{rec}: an identity's images are {a} to {b - 1}, after {end - 1}: "
                "get the set again"
            )
        end = b
        if b > a:
            yield a
    if end != first:
        raise DatasetError(
            f"{rec}: the identities have {end - 1} images, and the header announces {first - 1}: "
            "get the set again"
        )


def _images(
    file: BinaryIO, rec: Path, idx: Path | None, starts: list[int], *, identities: int | None
) -> Generator[Entry]:
    index = read_index(idx, end=rec.stat().st_size) if idx else None
    header: tuple[float, ...] = ()
    label_of: list[int | None] = [None] * len(starts)
    images = records = 0
    for offset, record in read_parts(file, source=str(rec)):
        labels, key, data = unpack(record, where=f"{rec}: the record at byte {offset}")
        records += 1
        if index:
            key, stated = next(index, (key, None))
            if stated != offset:
                says = "nothing more" if stated is None else stated
                raise _disagree(rec, f"has a record at byte {offset}, and its .idx says {says}")
        if not data:
            header = labels if key == 0 else header
            continue
        images += 1
        label = whole(labels[0], where=f"{rec}: the record {key}")
        if identities is not None and label >= identities:
            raise DatasetError(
                f"{rec}: the record {key} has the label {label}, and property announces "
                f"{identities} identities: correct property, or get the set again"
            )
        if starts:
            place = bisect.bisect_right(starts, key) - 1
            if label_of[place] is None:
                label_of[place] = label
            if label_of[place] != label:
                raise DatasetError(
                    f"{rec}: the record {key} has the label {label}, and others of the same "
                    f"identity have {label_of[place]}: get the set again"
                )
        yield _crop(f"{label:07d}", f"{key:09d}", data)
    if index and (left := next(index, None)):
        raise _disagree(rec, f"ends, and its .idx goes on with a record at byte {left[1]}")
    if images < records and not header:
        raise DatasetError(
            f"{rec} holds {records - images} records without an image, and no header that "
            "announces them: get it again"
        )
    if header:
        first, last = _header(header, where=f"{rec}: the record of key 0")
        if not (_same(first, images + 1) and _same(last, records)):
            raise DatasetError(
                f"{rec} announces {first - 1} images in {last} records, and holds {images} in "
                f"{records}: get it again"
            )


def _disagree(rec: Path, what: str) -> DatasetError:
    return DatasetError(f"{rec} {what}: one of them is cut short or of another set, get both again")


def _crop(identity: str, key: str, data: bytes) -> Entry:
    # What is no picture is imported as well: it gets its verdict where all pictures are decoded.
    suffix = _SUFFIXES.get(image_format(data[:12]) or "", ".jpg")
    aligned = {"aligned": image_size(data) == CROP}
    return Entry(f"{identity}/{key}{suffix}", len(data), partial(bytes, data), identity, aligned)


def read_pickled_pairs(path: Path) -> tuple[Generator[Entry], pd.DataFrame]:
    """The images of a `.bin` file, each distinct one once, and its pairs.

    The file names nobody. Identities are what the genuine pairs connect, numbered in the order in
    which they appear; an image's name is `IDENTITY/NUMBER.jpg`, 6 digits each (the suffix is that
    of the bytes), where NUMBER counts the file's images from 0 up to where it first appears.
    Impostor pairs of one identity contradict genuine ones; they stay as they are labelled, and
    their number is said aloud. Pictures of 112 × 112 px are marked as aligned.

    The pairs have the columns fold, label (1 genuine, 0 impostor), a, b. The k-th of n pairs goes
    to fold 10 k // n, as in InsightFace's own evaluation.

    The file is read twice, one image at a time: for the digests, and for the entries.

    Raises:
        DatasetError: the file asks for anything but lists, tuples, bytes and booleans, is damaged
            or cut short, cannot be read, or has not two images for each pair.
    """
    source = str(path)
    with readable(path), path.open("rb", buffering=BUFFER) as file:
        images, labels = _pairs_in(load_plain(file, source=source), source=source)
        firsts: dict[bytes, int] = {}  # by digest
        places: dict[Text, int] = {}  # where the same bytes appear first
        for place, text in enumerate(images):
            if text not in places:
                digest = hashlib.sha256(read_bytes(file, text, source=source)).digest()
                places[text] = firsts.setdefault(digest, place)
    ends = [places[text] for text in images]
    pairs = list(zip(ends[::2], ends[1::2], labels, strict=True))
    genuine = [(a, b) for a, b, label in pairs if label]
    edges = np.array(genuine, np.int64).reshape(-1, 2)
    groups = components(edges, count=len(images)).tolist()
    inside = sum(not label and groups[a] == groups[b] for a, b, label in pairs)
    if inside:
        say(f"{path}: {inside} impostor pairs are of one identity by the genuine pairs; kept so")
    numbers: dict[int, int] = {}
    ids = {
        place: f"{numbers.setdefault(groups[place], len(numbers)):06d}/{place:06d}"
        for place in sorted(firsts.values())
    }
    rows = [
        (fold_of(number, len(pairs)), int(label), ids[a], ids[b])
        for number, (a, b, label) in enumerate(pairs)
    ]
    found = {ids[place]: images[place] for place in ids}
    return _distinct(path, found), pd.DataFrame(rows, columns=PAIR_COLUMNS)


def _pairs_in(value: Any, *, source: str) -> tuple[list[Text], list[bool]]:
    """The strings that hold the images, two for each pair, and whether each pair is genuine."""
    match value:
        case (list() | tuple() as images, list() | tuple() as labels):
            pass
        case _:
            raise DatasetError(f"{source} holds no list of images and list of booleans: check it")
    if not labels or len(images) != 2 * len(labels):
        raise DatasetError(
            f"{source} has {len(images)} images and {len(labels)} pairs, which take two images "
            "each: get it again"
        )
    for place, label in enumerate(labels):
        if not isinstance(label, int) or label not in (0, 1):
            raise DatasetError(
                f"{source}: whether pair {place} is genuine is not told by a boolean: check it"
            )
    return [
        _image(image, where=f"{source}: image {place}") for place, image in enumerate(images)
    ], [bool(label) for label in labels]


def _image(value: Any, *, where: str) -> Text:
    if isinstance(value, Array) and value.data is not None:
        flat = value.kind == "u1" and max(value.shape, default=0) == math.prod(value.shape)
        if not flat:
            raise DatasetError(
                f"{where} is an array {value.shape} of {value.kind}, and no image file: "
                "write the images as JPEG or PNG"
            )
        value = value.data
    if not isinstance(value, Text):
        raise DatasetError(f"{where} is no bytes: check the file")
    return value


def _distinct(path: Path, found: dict[str, Text]) -> Generator[Entry]:
    with readable(path), path.open("rb", buffering=BUFFER) as file:
        for id, text in found.items():
            identity, number = id.split("/")
            yield _crop(identity, number, read_bytes(file, text, source=str(path)))
