"""Templates: several photos of a person that stand for one, as in the IJB protocols.

The frames of one video are nearly one photo. So the embeddings of a template are averaged within
each medium (a still, or the frames of a video) first, then over media, and the mean is brought to
length 1 (Crosswhite et al., Template Adaptation for Face Verification and Identification, FG 2017).
"""

import hashlib
from collections.abc import Callable, Collection, Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pandas as pd

from facewright.errors import EvaluationError
from facewright.evaluation.limits import IMAGES, TEMPLATES
from facewright.evaluation.pairs import OK, Ints, pairs_digest
from facewright.evaluation.slices import with_derived

ROWS = 16_384  # of embeddings gathered at a time: 64 MiB of float64 at 512 values
SHORTEST = 1e-6  # a mean of embeddings this short points nowhere
# Columns of a manifest that say something of one image alone.
OF_ONE = {
    *("id", "identity", "status", "reason", "origin", "photo_sha256", "photos"),
    *("shard", "offset", "length", "sha256", "width", "height", "box", "landmarks"),
}

Crops = npt.NDArray[np.uint8]  # (B, S, S, 3), or one without B


@dataclass(frozen=True)
class Subjects:
    """What the pairs of a verification set are of: its images, or templates of them."""

    images: pd.DataFrame  # a manifest: id, identity, status, photo_sha256 and more
    templates: pd.DataFrame | None  # id (of an image), template, media, in any order

    @cached_property
    def table(self) -> pd.DataFrame:
        """A row per image, or per template; see `template_table`."""
        if self.templates is None:
            return self.images
        return template_table(self.images, self.templates)

    @property
    def identities(self) -> dict[str, str]:
        """Who each subject is, by its id."""
        return dict(zip(self.table["id"], self.table["identity"], strict=True))

    def of(self, people: Collection[str]) -> frozenset[str]:
        """The ids of all subjects of these people."""
        return frozenset(self.table.loc[self.table["identity"].isin(people), "id"])

    def digest(self, pairs: pd.DataFrame) -> str:
        """sha256 over the pairs and the photos of all that they name; see `pairs_digest`."""
        photos = zip(self.table["id"], self.table["photo_sha256"], strict=True)
        return pairs_digest(pairs, photos=dict(photos))

    @property
    def photos(self) -> pd.DataFrame | None:
        """Of templates which photos each has: columns id (of the template) and photo (digest)."""
        if self.templates is None:
            return None
        digests = self.images.drop_duplicates("id").set_index("id")["photo_sha256"]
        photo = digests.reindex(self.templates["id"]).to_numpy(dtype=object)
        return pd.DataFrame(
            {"id": self.templates["template"].to_numpy(dtype=object), "photo": photo}
        )

    @property
    def kind(self) -> str:
        """`images` or `templates`."""
        return IMAGES if self.templates is None else TEMPLATES

    def counts(self) -> dict[str, float]:
        """Of templates how many there are, and their photos; nothing of images."""
        if self.templates is None:
            return {}
        photos = self.templates.groupby("template").size()
        return {
            TEMPLATES: len(photos),
            "template_photos_least": int(photos.min()),
            "template_photos_most": int(photos.max()),
            "template_photos_mean": float(photos.mean()),
        }

    def embeddings(
        self, ids: Sequence[str], embeddings: npt.NDArray[np.float32]
    ) -> tuple[Sequence[str], npt.NDArray[np.float32]]:
        """Those of images (`ids`, and a row each) as those of subjects; see `pool_templates`."""
        if self.templates is None:
            return ids, embeddings
        columns = (self.templates[name].tolist() for name in ("id", "template", "media"))
        image, template, media = columns
        return pool_templates(
            embeddings, ids=ids, image=image, image_template=template, image_media=media
        )

    def faces(
        self, ids: Sequence[str], crops: Callable[[list[int]], Crops]
    ) -> Callable[[str], Crops]:
        """What gives the crop of a subject: the first of its images whose face was found.

        Args:
            ids: the images that have a crop.
            crops: gives the crops at places in `ids`.
        """
        place = dict(zip(ids, range(len(ids)), strict=True))
        if self.templates is not None:
            rows = self.templates[self.templates["id"].isin(place)].drop_duplicates("template")
            named = zip(rows["template"], rows["id"], strict=True)
            place = {template: place[id] for template, id in named}
        return lambda id: crops([place[id]])[0]


def template_table(images: pd.DataFrame, templates: pd.DataFrame) -> pd.DataFrame:
    """A row per template, in the order of their first rows, as `images` has one per image.

    - `id` is the template, `identity` that of its images, `status` is `ok` where a face was found
      in one of them, else `failure`; `photos`: how many images it has, found or not.
    - `photo_sha256`: over the digests of its photos, medium by medium, both sorted, so that it
      changes with what is pooled and with nothing else, such as the names of media.
    - A column of numbers holds the mean over images with a face, one of anything else its value
      where all images have the same one. What is derived from landmarks (see `with_derived`) is
      derived from those of each image.

    Args:
        images: id, identity, status, photo_sha256 and columns to slice by.
        templates: id (of an image), template, media.

    Raises:
        EvaluationError: a template names an image that is not there.
    """
    images = with_derived(images)
    at = pd.Index(images["id"]).get_indexer(pd.Index(templates["id"]))
    if (at < 0).any():
        name = templates["id"].iloc[int((at < 0).argmax())]
        raise EvaluationError(
            f"image {name!r} of a template is not among the images: check the manifest against "
            "the templates"
        )
    template, names = pd.factorize(templates["template"])
    _, first = np.unique(template, return_index=True)
    found = (images["status"] == OK).to_numpy()[at]
    columns: dict[str, object] = {
        "id": np.asarray(names, dtype=object),
        "identity": images["identity"].to_numpy(dtype=object)[at[first]],
        "status": np.where(np.bincount(template, weights=found) > 0, OK, "failure"),
        "photos": np.bincount(template),
        "photo_sha256": _digests(
            template, templates["media"], images["photo_sha256"].to_numpy(dtype=object)[at]
        ),
    }
    for name in images.columns:
        values = images[name]
        if name in OF_ONE:
            continue
        if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
            numbers = np.asarray(values.to_numpy(np.float64, na_value=np.nan), np.float64)[at]
            columns[name] = _mean_of(numbers, template, counted=found)
        elif all(isinstance(value, Hashable) for value in values.dropna()[:1]):
            columns[name] = _shared(values.iloc[at], template, first)
    return pd.DataFrame(columns)


def _mean_of(
    numbers: npt.NDArray[np.float64], template: Ints, *, counted: npt.NDArray[np.bool_]
) -> npt.NDArray[np.float64]:
    """The mean of those numbers of each template that count and are known; NaN where none is."""
    known = counted & np.isfinite(numbers)
    sums = np.bincount(template, weights=np.where(known, numbers, 0.0))
    counts = np.bincount(template, weights=known)
    means = np.full(len(sums), np.nan)
    np.divide(sums, counts, out=means, where=counts > 0)
    return means


def _shared(values: "pd.Series[str]", template: Ints, first: Ints) -> "pd.Series[str]":
    """The value that all images of a template have; missing where they differ."""
    codes, _ = pd.factorize(values, use_na_sentinel=False)
    same = np.bincount(template, weights=codes != codes[first][template]) == 0
    return values.iloc[first].reset_index(drop=True).where(same, None)


def _digests(template: Ints, media: "pd.Series[str]", photos: npt.NDArray[np.object_]) -> list[str]:
    """sha256 over each template's media, sorted lines of the sorted digests of their photos."""
    table = pd.DataFrame({"template": template, "media": media.to_numpy(), "photo": photos})
    table = table.sort_values("photo", kind="stable")
    lines = table.groupby(["template", "media"])["photo"].agg(" ".join).reset_index()
    lines = lines.sort_values(["template", "photo"], kind="stable")
    texts = lines.groupby("template")["photo"].agg("\n".join)  # in the order of the numbers
    return [hashlib.sha256(text.encode()).hexdigest() for text in texts]


def pool_templates(
    embeddings: npt.NDArray[np.float32],
    *,
    ids: Sequence[str],
    image: Sequence[str],
    image_template: Sequence[str],
    image_media: Sequence[str],
) -> tuple[list[str], npt.NDArray[np.float32]]:
    """One embedding per template.

    Of a template in which only some faces were found, those count. One in which none was found is
    left out: `score_pairs` then marks its pairs as failures, and FNMR counts them.

    Args:
        embeddings: `(len(ids), E)`, finite. Their lengths are weights: of length 1 they count
            alike.
        ids: the images that have an embedding, without repetition.
        image, image_template, image_media: one row per image in a template, in any order, as
            `datasets.readers.templates.read_templates` gives them; an image may be in several
            templates. A medium is one only within its template.

    Returns:
        The templates in the order of their first rows that have an embedding, and `(T, E)`
        float32, each of length 1.

    Raises:
        EvaluationError: no image of any template has an embedding, an id is repeated, an embedding
            is not finite, or the embeddings of a template cancel out.
    """
    index = pd.Index(ids)
    if len(index) != len(embeddings):
        raise ValueError(f"{len(index)} ids for {len(embeddings)} embeddings")
    if not len(image) == len(image_template) == len(image_media):
        raise ValueError("image, image_template and image_media must have the same length")
    if not index.is_unique:
        repeated = index[index.duplicated()][0]
        raise EvaluationError(f"two embeddings for image {repeated!r}: embed each image once")
    rows = index.get_indexer(pd.Index(image))
    found = rows >= 0
    if not found.any():
        raise EvaluationError(
            f"none of the {len(rows)} images of the templates has an embedding: check the list of "
            "templates against the images"
        )
    template, names = pd.factorize(np.asarray(image_template, dtype=object)[found])
    media, _ = pd.factorize(np.asarray(image_media, dtype=object)[found])
    order = np.lexsort((rows[found], media, template))
    rows, template, media = rows[found][order], template[order], media[order]

    pooled = np.empty((len(names), embeddings.shape[1]), np.float32)
    for start, stop in _parts(template):
        here, ours = slice(start, stop), template[start:stop]
        values = np.asarray(embeddings[rows[here]], np.float64)
        if not np.isfinite(values).all():
            wrong = int(np.flatnonzero(~np.isfinite(values).all(axis=1))[0])
            raise EvaluationError(
                f"the embedding of image {index[rows[here][wrong]]!r} is not finite: the "
                "recognizer is broken"
            )
        means, firsts = _means(values, _changes(ours) | _changes(media[here]))
        means, last = _means(means, _changes(ours[firsts]))
        lengths = np.sqrt(np.einsum("te,te->t", means, means))
        if (lengths < SHORTEST).any():
            name = names[ours[firsts[last[int(lengths.argmin())]]]]
            raise EvaluationError(
                f"the embeddings of template {name!r} cancel out, or have length 0: the "
                "recognizer is broken"
            )
        pooled[ours[firsts[last]]] = means / lengths[:, None]
    return [str(name) for name in names], pooled


def _changes(values: npt.NDArray[np.intp]) -> npt.NDArray[np.bool_]:
    """`(N,)`: whether a value differs from the one before; true for the first."""
    return np.concatenate(([True], values[1:] != values[:-1]))


def _means(
    values: npt.NDArray[np.float64], starts: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.float64], Ints]:
    """Means of runs of rows, and where each run starts."""
    firsts = np.flatnonzero(starts)
    sums = np.add.reduceat(values, firsts, axis=0)
    return sums / np.diff(np.append(firsts, len(values)))[:, None], firsts


def _parts(template: npt.NDArray[np.intp]) -> Iterator[tuple[int, int]]:
    """(start, stop) of rows, about ROWS at a time, none of which divides a template."""
    firsts = np.append(np.flatnonzero(_changes(template)), len(template))
    start = 0
    while start < len(template):
        after = int(np.searchsorted(firsts, start + ROWS, side="right")) - 1
        stop = int(firsts[after])
        if stop <= start:  # a template with more images than ROWS
            stop = int(firsts[after + 1])
        yield start, stop
        start = stop
