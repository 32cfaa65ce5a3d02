"""Sources: what a user points at, told apart by looking, opened as a stream of photos."""

import re
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

import pandas as pd

from facewright.datasets.card import CARD
from facewright.datasets.images import is_image_name
from facewright.datasets.pairs import PAIR_COLUMNS
from facewright.datasets.placing import Photo, Placing, Wanted
from facewright.datasets.readers import Entry, listing, readable, s3
from facewright.datasets.readers.annotations import read_landmarks, read_names, read_photo_names
from facewright.datasets.readers.archives import read_archive
from facewright.datasets.readers.folder import read_folder
from facewright.datasets.readers.lfw import read_people
from facewright.datasets.readers.protocols import read_protocol
from facewright.datasets.readers.webdataset import (
    find_shards,
    read_samples,
    read_shards,
    shards_among,
)
from facewright.datasets.templates import TemplateLists
from facewright.errors import DatasetError
from facewright.progress import say
from facewright.workers import usable_cores

SAMPLE = "sample:"
NAMES = "identity_meta.csv"  # of VGGFace2
_VGGFACE2 = re.compile(r"n\d{6}|(?:.*/)?n\d{6}/[^/]+")  # an identity, or a photo's path
ARCHIVES = (".tar", ".tgz", ".tar.gz", ".tbz2", ".tar.bz2", ".txz", ".tar.xz", ".zip")
AHEAD = 64  # photos of a bucket that are fetched before they are needed,
BEFORE = 1000  # entries looked at for the first photo
AHEAD_BYTES = 64 * 1024 * 1024  # and no more than these bytes of them, or one photo


@dataclass(frozen=True)
class Source:
    """An opened source. Go through `photos` once, then call `placing.finish`."""

    name: str  # for the card: a file's or folder's name, the URL of a bucket, sample:…
    photos: Iterator[Photo]
    placing: Placing
    file: Path | None = None  # that holds all of the source: then its digest is the source's
    pairs: pd.DataFrame | None = None
    brings_pairs: bool = False  # the source itself, so that its labels are all there is to know
    templates: TemplateLists | None = None  # that the pairs are of
    licence: str = ""
    consent: str = ""


@dataclass(frozen=True)
class _Found:
    """What a look at the source gave."""

    name: str
    entries: Generator[Entry]
    again: Callable[[], Iterable[Entry]] = tuple  # where a folder's name may be an identity
    file: Path | None = None
    pairs: pd.DataFrame | None = None
    near: Path | None = None  # where files about the photos may lie
    remote: bool = False
    licence: str = ""
    consent: str = ""


@contextmanager
def open_source(
    source: str | Path,
    *,
    pairs: Path | None = None,
    templates: Path | None = None,
    people: Path | None = None,
    images: Path | None = None,
    names: Path | None = None,
    landmarks: Path | None = None,
    endpoint_url: str | None = None,
) -> Iterator[Source]:
    """Open `source`; see `import_dataset` for what it and the files beside it may be.

    Raises:
        DatasetError: there is no such source, or a file cannot be read; while `photos` is gone
            through, see the readers.
    """
    listed = TemplateLists(templates, pairs=pairs) if templates and pairs else None
    protocol = read_protocol(pairs) if pairs and not listed else None
    with ExitStack() as stack:
        if str(source).startswith(SAMPLE):
            found = _sample(str(source).removeprefix(SAMPLE))
        elif str(source).startswith(s3.SCHEME):
            found = _bucket(str(source), stack, endpoint_url=endpoint_url)
        else:
            found = _local(Path(source), choosing=images is not None or listed is not None)
        stack.enter_context(closing(found.entries))
        folder = found.near if found.near == Path(source) else None
        wanted = Wanted(
            people=frozenset(read_people(people)) if people else None,
            images=read_photo_names(images, below=folder) if images else None,
            templates=listed,
        )
        if listed:
            wanted = replace(wanted, images=listed.photos)
        entries, near = _vggface2(found)
        if table := names or _names_near(near):
            wanted = replace(wanted, names=read_names(table), names_asked=names is not None)
        if points := [landmarks] if landmarks else _landmarks_near(near, found.name, images):
            wanted = replace(
                wanted, landmarks=read_landmarks(points), landmarks_asked=landmarks is not None
            )
        placing = Placing(
            found.name,
            wanted=wanted,
            flat=protocol is not None and protocol.flat,
            again=found.again,
        )
        photos = placing.photos(entries)
        if found.remote:
            photos = stack.enter_context(closing(_read_ahead(photos)))
        yield Source(
            name=found.name,
            photos=photos,
            placing=placing,
            file=found.file,
            pairs=stated.pairs if (stated := listed or protocol) else found.pairs,
            brings_pairs=pairs is None and found.pairs is not None,
            templates=listed,
            licence=found.licence,
            consent=found.consent,
        )


def _local(path: Path, *, choosing: bool) -> _Found:
    if not path.exists():
        raise DatasetError(f"{path} does not exist: check the path")
    name = path.resolve().name
    if path.is_dir():
        read = _folder(path, choosing=choosing)
        return _Found(name, read(), again=read, near=path)
    return replace(_file(path, name=name), near=path.parent)


def _folder(path: Path, *, choosing: bool) -> Callable[[], Generator[Entry]]:
    """What reads the folder."""
    if any(path.glob("*.rec")):
        from facewright.datasets.readers.insightface import read_records

        return partial(read_records, path)
    if (path / CARD).is_file():
        raise DatasetError(
            f"{path} is a dataset already: use it as it is, or import its folder {path / 'shards'}"
        )
    if shards := find_shards(path):
        return partial(read_shards, shards, source=path.resolve().name)
    if not choosing and (path / "train").is_dir() and (path / "test").is_dir():
        raise DatasetError(
            f"{path} holds train/ and test/: import {path / 'train'} or {path / 'test'}, or name "
            "the list of one with --images"
        )
    return partial(read_folder, path)


def _file(path: Path, *, name: str) -> _Found:
    kind = path.name.lower()
    if kind.endswith(".bin"):
        from facewright.datasets.readers.insightface import read_pickled_pairs

        entries, pairs = read_pickled_pairs(path)
        return _Found(name, entries, file=path, pairs=pairs)
    if kind.endswith(".rec"):
        from facewright.datasets.readers.insightface import read_records

        return _Found(name, read_records(path))
    if kind.endswith(listing.SUFFIXES):
        return _Found(name, listing.read_list(path))
    if path.parent.name == "shards" and (path.parent.parent / CARD).is_file():
        read = partial(read_shards, [path], source=path.name)  # one of our own
        return _Found(name, read(), again=read, file=path)
    entries = read_archive(path)
    if not _is_zip(path):
        entries = read_samples(entries, source=path.name)
    return _Found(name, entries, again=partial(read_archive, path), file=path)


def _is_zip(path: Path) -> bool:
    with readable(path), path.open("rb") as file:
        return file.read(2) == b"PK"


def _bucket(url: str, stack: ExitStack, *, endpoint_url: str | None) -> _Found:
    bucket = s3.open_bucket(url, endpoint_url=endpoint_url)
    if bucket.prefix.lower().endswith(".rec"):
        raise DatasetError(
            f"{bucket.url}: records are not read from a bucket: copy it with its .idx and property "
            "into a folder here, and import that"
        )
    if not bucket.prefix.lower().endswith((*ARCHIVES, *listing.SUFFIXES, ".bin")):
        again = partial(s3.read_bucket, bucket)
        if names := shards_among(entry.name for entry in again()):
            read = partial(_bucket_shards, bucket, names, _temporary(stack))
            return _Found(bucket.url, read(), again=read)
        return _Found(bucket.url, again(), again=again, remote=True)
    file = s3.download(bucket, _temporary(stack))
    if file.name.lower().endswith(listing.SUFFIXES):
        entries = listing.read_list(file, find=partial(s3.object_entry, bucket))
        return _Found(bucket.url, entries, remote=True)
    return _file(file, name=bucket.url)


def _bucket_shards(bucket: s3.Bucket, names: Sequence[str], folder: Path) -> Generator[Entry]:
    """What the shards `names` below the prefix hold; one at a time lies in `folder`."""

    def files() -> Iterator[Path]:
        for name in names:
            prefix = f"{bucket.prefix}/{name}".lstrip("/")
            file = s3.download(replace(bucket, prefix=prefix), folder)
            yield file
            file.unlink()

    return read_shards(files(), source=bucket.url)


def _temporary(stack: ExitStack) -> Path:
    return Path(stack.enter_context(TemporaryDirectory(prefix="facewright-")))


def _sample(half: str) -> _Found:
    from facewright.datasets import sample

    if half not in ("train", "verify"):
        raise DatasetError(f"{SAMPLE}{half}: the sample set has sample:train and sample:verify")

    def entries() -> Generator[Entry]:
        for identity, file, data in sample.photos(half, workers=usable_cores()):
            yield Entry(f"{identity}/{file}", len(data), partial(bytes, data))

    def photo(file: str) -> str:
        stem = PurePosixPath(file).stem
        return f"{stem.rpartition('_')[0]}/{stem}"

    table = None
    if half == "verify":
        rows = [(fold, label, photo(a), photo(b)) for fold, label, a, b in sample.pairs()]
        table = pd.DataFrame(rows, columns=PAIR_COLUMNS)
    return _Found(
        SAMPLE + half,
        entries(),
        pairs=table,
        licence="rendered by facewright, free to use",
        consent="none needed: rendered people, nobody is depicted",
    )


def _vggface2(found: _Found) -> tuple[Iterator[Entry], Path | None]:
    """The entries, and the folder beside which VGGFace2's files may lie, if it may be VGGFace2.

    Its name or that of its first identity says so: files of that set may lie anywhere.
    """
    if not found.near or "vggface2" in found.name.lower():
        return found.entries, found.near
    before: list[Entry] = []
    for entry in found.entries:
        before.append(entry)
        if is_image_name(entry.name) or len(before) == BEFORE:
            break
    named = any(_VGGFACE2.fullmatch(entry.identity or entry.name) for entry in before[-1:])
    return chain(before, found.entries), found.near if named else None


def _names_near(folder: Path | None) -> Path | None:
    """VGGFace2's names, in the folder of the photos or beside it."""
    for place in _near(folder):
        for path in (place / NAMES, place / "meta" / NAMES):
            if path.is_file():
                say(f"import: names of people are taken from {path}")
                return path
    return None


def _landmarks_near(folder: Path | None, name: str, images: Path | None) -> list[Path]:
    """VGGFace2's landmarks: those of the half that a name speaks of, else of both."""
    said = f"{name} {images.name if images else ''}"
    halves = [half for half in ("train", "test") if half in said] or ["train", "test"]
    for place in _near(folder):
        files = [place / "bb_landmark" / f"loose_landmark_{half}.csv" for half in halves]
        if found := [path for path in files if path.is_file()]:
            say(f"import: landmarks are taken from {', '.join(map(str, found))}")
            return found
    return []


def _near(folder: Path | None) -> list[Path]:
    return [folder, folder.resolve().parent] if folder else []


def _read_ahead(photos: Iterable[Photo]) -> Generator[Photo]:
    """The same photos in the same order, fetched by a few threads before they are needed."""
    waiting: deque[tuple[Photo, Future[bytes]]] = deque()
    size = 0
    with ThreadPoolExecutor(s3.THREADS, thread_name_prefix="s3") as pool:
        try:
            for photo in photos:
                waiting.append((photo, pool.submit(photo.entry.read)))
                size += _expected(photo)
                while len(waiting) > AHEAD or (size > AHEAD_BYTES and len(waiting) > 1):
                    first, data = waiting.popleft()
                    size -= _expected(first)
                    yield replace(first, entry=replace(first.entry, read=data.result))
            for first, data in waiting:
                yield replace(first, entry=replace(first.entry, read=data.result))
        finally:
            pool.shutdown(cancel_futures=True)


def _expected(photo: Photo) -> int:
    """Bytes that a photo will take; an eighth of all that may wait, where its size is unknown."""
    return photo.entry.size or AHEAD_BYTES // 8
