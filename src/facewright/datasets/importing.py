"""Import: from any source to the dataset form, original bytes kept."""

import hashlib
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pandas as pd

from facewright.datasets.form import CARD, Dataset, DatasetWriter, open_dataset
from facewright.datasets.images import image_size
from facewright.datasets.sources import Source, open_source
from facewright.errors import DatasetError
from facewright.files import file_digest, whole_directory
from facewright.progress import progress


def import_dataset(
    source: str | Path,
    output: Path,
    *,
    pairs: Path | None = None,
    people: Path | None = None,
    images: Path | None = None,
    names: Path | None = None,
    landmarks: Path | None = None,
    name: str | None = None,
    licence: str | None = None,
    consent: str | None = None,
    endpoint_url: str | None = None,
) -> Dataset:
    """Write the dataset folder `output` from `source`, and open it.

    Args:
        source: what it is, is told by looking at it:
            a folder with a folder per identity, or a tar (plain, gzip, bzip2, xz) or zip of one;
            the folders of CFP, AgeDB, CALFW and CPLFW as they are published;
            WebDataset shards, one tar or a folder of them;
            InsightFace's folder with a `.rec`, or a `.bin` with pairs;
            a list of photos, `.parquet`, `.csv` or `.tsv` (see `readers.listing`);
            `s3://bucket/prefix`, with folders of identities below the prefix, or one of the files
            above; `sample:train` or `sample:verify`.
        output: the dataset's folder; a dataset that is there is replaced.
        pairs: a verification protocol (see `readers.protocols`): the set becomes a verification
            set. A `.bin` and the sample's verify half bring their own.
        people: a list of identities (see `readers.lfw.read_people`): only those are imported.
        images: a list of photos, such as VGGFace2's: only those are imported.
        names: who the identities are (see `readers.annotations.read_names`), for the column
            `person`. VGGFace2's file is found in or beside the source.
        landmarks: see `readers.annotations.Landmarks`. VGGFace2's is found as its names are.
        name, licence, consent: for the card; the name is otherwise that of `output`.
        endpoint_url: of the S3 server, where AWS_ENDPOINT_URL does not say it.

    The same source gives the same bytes. Every image keeps its bytes; what cannot be decoded is
    imported too, and gets its verdict from `validate`.

    Raises:
        DatasetError: see the readers; also no image, two images of one name, pairs that name a
            missing image or contradict the folders, or an output that is something else.
    """
    _check_output(output, source=source)
    with open_source(
        source,
        pairs=pairs,
        people=people,
        images=images,
        names=names,
        landmarks=landmarks,
        endpoint_url=endpoint_url,
    ) as opened:
        if opened.pairs is not None and not opened.brings_pairs:
            _check_labels(opened.pairs, where=str(pairs))
        with (
            whole_directory(output) as folder,
            ThreadPoolExecutor(1) as pool,
            DatasetWriter(folder) as writer,
        ):
            whole: Future[str] | None = None
            if opened.file:
                whole = pool.submit(file_digest, opened.file)
            listed = _write(opened, writer)
            card = {
                "name": name or output.name,
                "kind": "identities" if opened.pairs is None else "verification",
                "source": opened.name,
                "source_digest": whole.result() if whole else listed,
                "licence": licence or opened.licence,
                "consent": consent or opened.consent,
            }
            writer.finish(card, pairs=opened.pairs)
    return open_dataset(output)


def _check_output(output: Path, *, source: str | Path) -> None:
    """Replace nothing but a dataset, and never the source itself."""
    empty = output.is_dir() and not any(output.iterdir())
    if output.exists() and not empty and not (output / CARD).exists():
        raise DatasetError(
            f"{output} is there and is no dataset: name a new folder, such as {output}/NAME"
        )
    if not Path(source).exists():  # a bucket, say
        return
    inside, outside = Path(source).resolve(), output.resolve()
    if inside == outside or outside in inside.parents or inside in outside.parents:
        raise DatasetError(f"{source} and {output} lie in one another: name a folder elsewhere")


def _check_labels(pairs: pd.DataFrame, *, where: str) -> None:
    """Genuine pairs come from one identity, impostor pairs from two; else a label is wrong."""
    same = pairs["a"].str.rpartition("/")[0] == pairs["b"].str.rpartition("/")[0]
    wrong = pairs[same != (pairs["label"] == 1)]
    if len(wrong):
        first = wrong.iloc[0]
        said = "one identity" if first["label"] else "two identities"
        raise DatasetError(
            f"{where}: {first['a']!r} and {first['b']!r} are called {said}, and their folders say "
            f"otherwise ({len(wrong)} such pairs): correct the pairs file"
        )


def _write(source: Source, writer: DatasetWriter) -> str:
    """Add every photo; returns sha256 over the names and digests of what was added, in order."""
    total = hashlib.sha256()
    for photo in progress(source.photos, total=None, label=f"import {source.name}, images"):
        data = photo.entry.read()
        width, height = image_size(data)
        digest = writer.add(
            id=photo.id,
            identity=photo.identity,
            data=data,
            suffix=photo.suffix,
            width=width,
            height=height,
            origin=photo.entry.name,
            **photo.columns,
        )
        total.update(f"{photo.entry.name}\0{digest}\n".encode())
    source.placing.finish()
    return total.hexdigest()
