"""Import: from a folder, an archive or the sample set to the dataset form, original bytes kept."""

import hashlib
import posixpath
import time
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path, PurePosixPath

import pandas as pd

from facewright.datasets.form import CARD, PAIR_COLUMNS, Dataset, DatasetWriter, open_dataset
from facewright.datasets.images import image_size, is_image_name
from facewright.datasets.readers import Entry
from facewright.datasets.readers.archives import read_archive
from facewright.datasets.readers.folder import read_folder
from facewright.datasets.readers.lfw import read_pairs, read_people
from facewright.errors import DatasetError
from facewright.files import file_digest, whole_directory
from facewright.progress import say
from facewright.workers import usable_cores

SAMPLE = "sample:"
PAUSE = 10.0  # seconds between lines about a long import


def import_dataset(
    source: str | Path,
    output: Path,
    *,
    pairs: Path | None = None,
    people: Path | None = None,
    name: str | None = None,
    licence: str | None = None,
    consent: str | None = None,
) -> Dataset:
    """Write the dataset folder `output` from `source`, and open it.

    Args:
        source: a folder with a folder per identity, a tar (plain, gzip, bzip2, xz) or zip of one,
            or `sample:train` or `sample:verify`. The identities may lie below one top folder.
        output: the dataset's folder; a dataset that is there is replaced.
        pairs: verification pairs (see `readers.lfw.read_pairs`): the set becomes a verification
            set. The sample's verify half brings its own.
        people: a list of names (see `readers.lfw.read_people`): only those are imported.
        name, licence, consent: for the card; the name is otherwise that of `output`.

    The same source gives the same bytes. Every image keeps its bytes; what cannot be decoded is
    imported too, and gets its verdict from `validate`.

    Raises:
        DatasetError: see the readers; also no image, two images of one name, pairs that name a
            missing image or contradict the folders, or an output that is something else.
    """
    _check_output(output, source=source)
    wanted = frozenset(read_people(people)) if people else None
    if str(source).startswith(SAMPLE):
        half = str(source).removeprefix(SAMPLE)
        entries, table = _sample(half)
        origin = str(source)
        licence = licence or "rendered by facewright, free to use"
        consent = consent or "none needed: rendered people, nobody is depicted"
    else:
        path = Path(source)
        if not path.exists():
            raise DatasetError(f"{path} does not exist: check the path")
        entries, table = read_folder(path) if path.is_dir() else read_archive(path), None
        origin = path.resolve().name
    if pairs:
        table = read_pairs(pairs)
    if table is not None:
        _check_labels(table, where=str(pairs or source))

    with (
        whole_directory(output) as folder,
        ThreadPoolExecutor(1) as pool,
        closing(entries),
        DatasetWriter(folder) as writer,
    ):
        whole: Future[str] | None = None
        if Path(source).is_file():
            whole = pool.submit(file_digest, Path(source))
        listed = _write(entries, writer, wanted=wanted, source=origin)
        card = {
            "name": name or output.name,
            "kind": "identities" if table is None else "verification",
            "source": origin,
            "source_digest": whole.result() if whole else listed,
            "licence": licence or "",
            "consent": consent or "",
        }
        writer.finish(card, pairs=table)
    return open_dataset(output)


def _check_output(output: Path, *, source: str | Path) -> None:
    """Replace nothing but a dataset, and never the source itself."""
    empty = output.is_dir() and not any(output.iterdir())
    if output.exists() and not empty and not (output / CARD).exists():
        raise DatasetError(
            f"{output} is there and is no dataset: name a new folder, such as {output}/NAME"
        )
    inside, outside = Path(source).resolve(), output.resolve()
    if inside == outside or outside in inside.parents or inside in outside.parents:
        raise DatasetError(f"{source} and {output} lie in one another: name a folder elsewhere")


def _sample(half: str) -> tuple[Generator[Entry], pd.DataFrame | None]:
    from facewright.datasets import sample

    if half not in ("train", "verify"):
        raise DatasetError(f"{SAMPLE}{half}: the sample set has sample:train and sample:verify")

    def entries() -> Generator[Entry]:
        for identity, file, data in sample.photos(half, workers=usable_cores()):
            yield Entry(f"{identity}/{file}", len(data), partial(bytes, data))

    if half == "train":
        return entries(), None

    def photo(file: str) -> str:
        stem = PurePosixPath(file).stem
        return f"{stem.rpartition('_')[0]}/{stem}"

    rows = [(fold, label, photo(a), photo(b)) for fold, label, a, b in sample.pairs()]
    return entries(), pd.DataFrame(rows, columns=PAIR_COLUMNS)


def _check_labels(pairs: pd.DataFrame, *, where: str) -> None:
    """Genuine pairs come from one folder, impostor pairs from two; else a label is wrong."""
    same = pairs["a"].str.rpartition("/")[0] == pairs["b"].str.rpartition("/")[0]
    wrong = pairs[same != (pairs["label"] == 1)]
    if len(wrong):
        first = wrong.iloc[0]
        said = "one identity" if first["label"] else "two identities"
        raise DatasetError(
            f"{where}: {first['a']!r} and {first['b']!r} are called {said}, and their folders say "
            f"otherwise ({len(wrong)} such pairs): correct the pairs file"
        )


def _write(
    entries: Iterator[Entry],
    writer: DatasetWriter,
    *,
    wanted: frozenset[str] | None,
    source: str,
) -> str:
    """Add every image; returns sha256 over the names and digests of what was added, in order."""
    total = hashlib.sha256()
    layout = _Layout(source)
    start = last = time.monotonic()
    images, others, first_other = 0, 0, ""
    found: set[str] = set()
    for entry in entries:
        if not is_image_name(entry.name):
            others, first_other = others + 1, first_other or entry.name
            continue
        identity, stem, suffix = layout.place(entry.name)
        if wanted is not None and identity not in wanted:
            continue
        data = entry.read()
        width, height = image_size(data)
        digest = writer.add(
            id=f"{identity}/{stem}",
            identity=identity,
            data=data,
            suffix=suffix.lower(),
            width=width,
            height=height,
            origin=entry.name,
        )
        total.update(f"{entry.name}\0{digest}\n".encode())
        found.add(identity)
        images += 1
        if time.monotonic() - last >= PAUSE:
            last = time.monotonic()
            say(f"import {source}: {images} images, {images / (last - start):.0f}/s")
    if others:
        say(f"import {source}: {others} files that are no images left out, first {first_other}")
    if wanted is not None:
        if not found:
            raise DatasetError(
                f"{source}: none of the {len(wanted)} people on the list is there: check the list"
            )
        say(f"import {source}: {len(found)} of the {len(wanted)} people on the list are there")
    say(f"import {source}: {images} images of {len(found)} identities")
    return total.hexdigest()


class _Layout:
    """Which folder is an identity: the one that holds the photo, all at the same depth."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._first: str | None = None

    def place(self, name: str) -> tuple[str, str, str]:
        """(identity, stem, suffix) of the photo `name`."""
        folder, _, file = name.rpartition("/")
        top, _, identity = folder.rpartition("/")
        if not identity:
            raise DatasetError(
                f"{self._source}: {name!r} lies in no identity's folder: put the photos of each "
                "person into a folder with their name"
            )
        first = self._first = self._first or name
        if "/" in top or top != "/".join(first.split("/")[:-2]):
            raise DatasetError(
                f"{self._source}: {name!r} does not lie like {first!r}: put the folder of "
                "each identity side by side, below one top folder at most"
            )
        return identity, *posixpath.splitext(file)
