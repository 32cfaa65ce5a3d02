"""Import: from any source to the dataset form, original bytes kept."""

import hashlib
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from facewright.datasets.card import DatasetCard, check_day
from facewright.datasets.form import Dataset, DatasetWriter, check_output
from facewright.datasets.images import image_size
from facewright.datasets.pairs import check_labels
from facewright.datasets.sources import Source, open_source
from facewright.errors import DatasetError
from facewright.files import file_digest, whole_directory
from facewright.progress import progress


def import_dataset(
    source: str | Path,
    output: Path,
    *,
    pairs: Path | None = None,
    templates: Path | None = None,
    people: Path | None = None,
    images: Path | None = None,
    names: Path | None = None,
    landmarks: Path | None = None,
    name: str | None = None,
    licence: str | None = None,
    consent: str | None = None,
    collected: str | None = None,
    endpoint_url: str | None = None,
) -> Dataset:
    """Write the dataset folder `output` from `source`.

    Args:
        source: what it is, is told by looking at it:
            a folder with a folder per identity, or a tar (plain, gzip, bzip2, xz) or zip of one;
            the folders of CFP, AgeDB, CALFW and CPLFW as they are published;
            WebDataset shards, one tar or a folder of them;
            InsightFace's folder with a `.rec`, or a `.bin` with pairs;
            a list of photos, `.parquet`, `.csv` or `.tsv` (see `readers.listing`);
            `s3://bucket/prefix` with folders of identities or WebDataset shards below the prefix,
            and of the files above an archive, a tar of WebDataset, a `.bin` or a list, each by its
            whole name;
            `sample:train` or `sample:verify`.
        output: the dataset's folder; a dataset that is there is replaced.
        pairs: a verification protocol (see `readers.protocols`): the set becomes a verification
            set. A `.bin` and the sample's verify half bring their own.
        templates: which images are in which template, of which `pairs` are then, as in IJB-B and
            IJB-C (see `readers.templates`): only those are imported. Where all photos lie in one
            folder, identities are what the lists connect (see `templates.TemplateLists`).
        people: a list of identities (see `readers.lfw.read_people`): only those are imported.
        images: a list of photos, such as VGGFace2's: only those are imported. A photo is named by
            its id (`IDENTITY/STEM`), its folder and name, or its path in the source.
        names: who the identities are (see `readers.annotations.read_names`), for the column
            `person`. VGGFace2's file is found in or beside the source, if that is named so or has
            its identities (`n000001`), and gives way to what the source itself states.
        landmarks: see `readers.annotations.Landmarks`. VGGFace2's is found as its names are.
        name, licence, consent, collected: for the card; the name is otherwise that of `output`.
        endpoint_url: of the S3 server, where AWS_ENDPOINT_URL does not say it.

    The same source gives the same bytes. Every image keeps its bytes; what cannot be decoded is
    imported too, and gets its verdict from `validate`.

    Raises:
        DatasetError: see the readers; also no image, two images of one name, pairs that name a
            missing image, are there twice or contradict the folders, an image of a template that
            is not there, a template of two identities, or an output that is something else.
    """
    if templates and not pairs:
        raise DatasetError(f"{templates} has no pairs: give the pairs of its templates, --pairs")
    if templates and (people or images):
        raise DatasetError(
            f"{templates} says itself which images are imported: leave out --people and --images"
        )
    if collected:
        check_day(collected, where="--collected")
    here = Path(source)  # and if there is none, it is a bucket, say
    check_output(output, sources=[here] if here.exists() else [])
    with open_source(
        source,
        pairs=pairs,
        templates=templates,
        people=people,
        images=images,
        names=names,
        landmarks=landmarks,
        endpoint_url=endpoint_url,
    ) as opened:
        if opened.pairs is not None and not (opened.brings_pairs or opened.templates):
            check_labels(opened.pairs, lambda id: id.rpartition("/")[0], where=str(pairs))
        with (
            whole_directory(output) as folder,
            ThreadPoolExecutor(1) as pool,
            DatasetWriter(folder) as writer,
        ):
            whole: Future[str] | None = None
            if opened.file:
                whole = pool.submit(file_digest, opened.file)
            named: set[str] = set()
            if opened.pairs is not None and (people or images):
                named |= {*opened.pairs["a"], *opened.pairs["b"]}
            digests: dict[str, str] = {}
            listed = _write(opened, writer, missing=named, digests=digests)
            if named:
                raise DatasetError(
                    f"{pairs or opened.name}: the pairs name {len(named)} images that are not "
                    f"there, first {min(named)!r}: --people and --images leave out what they do "
                    "not name, so name all of the pairs there, or import without them"
                )
            card = {
                "name": name or output.resolve().name,
                "kind": "identities" if opened.pairs is None else "verification",
                "source": opened.name,
                "source_digest": whole.result() if whole else listed,
                "licence": licence or opened.licence,
                "consent": consent or opened.consent,
                "collected": collected or "",
            }
            chosen, table = opened.pairs, None
            if opened.templates:
                chosen, table = opened.templates.tables(digests)
            writer.finish(card, pairs=chosen, templates=table)
    return Dataset(root=output, card=DatasetCard(**card))


def _write(
    source: Source, writer: DatasetWriter, *, missing: set[str], digests: dict[str, str]
) -> str:
    """Add every photo, take its id out of `missing`, and put its digest into those of templates.

    Returns sha256 over the names and digests of what was added, in order.
    """
    total = hashlib.sha256()
    for photo in progress(source.photos, total=None, label=f"import {source.name}, images"):
        data = photo.entry.read()
        width, height = image_size(data)
        digest = writer.add(
            id=photo.id,
            identity=photo.identity,
            data=data,
            suffix=photo.suffix,
            columns={
                "width": width, "height": height, "origin": photo.entry.origin, **photo.columns
            },
        )  # fmt: skip
        missing.discard(photo.id)
        if source.templates:
            digests[photo.id] = digest
        total.update(f"{photo.entry.origin}\0{digest}\n".encode())
    source.placing.finish()
    return total.hexdigest()
