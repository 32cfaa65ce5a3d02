"""Templates while a set is imported: which photo a list means, and whose it is if nobody says."""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from facewright.datasets.components import components
from facewright.datasets.meant import Meant
from facewright.datasets.pairs import check_labels, pair_faults
from facewright.datasets.readers.annotations import PhotoNames
from facewright.datasets.readers.templates import read_template_pairs, read_templates, with_folds
from facewright.errors import DatasetError
from facewright.progress import say

Ints = npt.NDArray[np.int64]


class TemplateLists:
    """The templates of a list and the pairs of them, while the photos are gone through.

    How a photo may be named, says `meant`. Where the source says of no photo whose it is (see
    `placing.Layout`), identities are what images that are in several templates, and genuine pairs,
    connect, numbered in the order in which they appear in the list.

    Pairs that measure nothing are set aside, and counted aloud: two templates of the very same
    photos, and impostor pairs of one such identity, which contradict genuine ones.
    """

    def __init__(self, path: Path, *, pairs: Path) -> None:
        """Read both lists.

        Raises:
            DatasetError: see `readers.templates`; also a pair of a template that is not listed, or
                a senseless one (see `pairs.pair_faults`).
        """
        self._path, self._pairs_path = path, pairs
        rows = read_templates(path)
        image, self._names = pd.factorize(rows["image"])
        template, self._templates = pd.factorize(rows["template"])
        self._image, self._template = image.astype(np.int64), template.astype(np.int64)
        self._rows = rows[["template", "media"]]
        self._ids = np.full(len(self._names), "", dtype=object)  # by image, once it was found
        self._numbered = False
        self.photos = PhotoNames(self._names)
        self.pairs = read_template_pairs(pairs)
        if faults := pair_faults(self.pairs):  # before any photo is read
            raise DatasetError(f"{pairs}: {faults[0]}: remove what is too much")
        self._sides = [self._of(self.pairs[side]) for side in ("a", "b")]

    def _of(self, side: "pd.Series[str]") -> Ints:
        """The number of the template on one side of each pair."""
        # Arrow makes no objects of the names, of which there are sixteen million in IJB-C.
        found = pc.index_in(pa.array(side), value_set=pa.array(self._templates))
        if found.null_count:
            first = side.iloc[pc.index(pc.is_null(found), True).as_py()]
            raise DatasetError(
                f"{self._pairs_path}: {found.null_count} pairs name a template that is not in "
                f"{self._path}, first {first!r}: give the two lists of one set"
            )
        return np.asarray(found.to_numpy(), np.int64)

    def meant(self, source: str) -> Meant:
        """What tells the images of the list among the files of the source so named."""
        return Meant(self._names.tolist(), self.photos, source=source, path=str(self._path))

    def number(self, at: int) -> str:
        """The identity on the image at this place among `photos`, where nobody says whose it is."""
        return f"{self._people[at]:06d}"

    @cached_property
    def _people(self) -> Ints:
        """The number of the identity on each image."""
        self._numbered = True
        images = len(self._names)
        genuine = (self.pairs["label"] == 1).to_numpy()
        a, b = self._sides
        held = np.stack([self._image, images + self._template], axis=1)
        same = np.stack([images + a[genuine], images + b[genuine]], axis=1)
        joined = components(np.concatenate([held, same]), count=images + len(self._templates))
        # The least node of each is an image: every template has one, and they come first.
        _, people = np.unique(joined[:images], return_inverse=True)
        return people.astype(np.int64)

    def found(self, at: int, id: str) -> None:
        """Tell the id of the photo that stands at this place among `photos`."""
        self._ids[at] = id

    def tables(self, digests: Mapping[str, str]) -> tuple[pd.DataFrame, pd.DataFrame]:
        """The pairs that stay, and columns id, template, media, once all photos were gone through.

        Args:
            digests: sha256 of each photo by its id.

        Raises:
            DatasetError: a photo was not found, or the folders of identities contradict a label.
        """
        missing = np.flatnonzero(self._ids == "")
        if len(missing):
            raise DatasetError(
                f"{self._path}: {len(missing)} of its {len(self._names)} images are not in the "
                f"source, first {self._names[missing[0]]!r}: get both again, or name the folder "
                "that holds all of them"
            )
        table = self._rows.assign(id=self._ids[self._image])[["id", "template", "media"]]
        if not self._numbered:
            first = table.drop_duplicates("template")
            people = (id.rpartition("/")[0] for id in first["id"])
            of = dict(zip(first["template"], people, strict=True))
            check_labels(self.pairs, of.__getitem__, where=str(self._pairs_path))
        return self._sensible_pairs(digests), table

    def _sensible_pairs(self, digests: Mapping[str, str]) -> pd.DataFrame:
        a, b = self._sides
        photos = self._photo_sets(digests)
        same = photos[a] == photos[b]
        inside = np.zeros(len(a), dtype=bool)
        if self._numbered:
            person = np.empty(len(self._templates), np.int64)
            person[self._template] = self._people[self._image]
            inside = (person[a] == person[b]) & (self.pairs["label"] == 0).to_numpy() & ~same
        for gone, why in (
            (same, "pairs are of two templates of the very same images"),
            (inside, "impostor pairs are of one identity by the genuine pairs and shared images"),
        ):
            if count := int(gone.sum()):
                say(f"{self._pairs_path}: {count} of {len(a)} {why}; set aside")
        return with_folds(self.pairs[~(same | inside)]) if (same | inside).any() else self.pairs

    def _photo_sets(self, digests: Mapping[str, str]) -> Ints:
        """A number per template, the same for two that have the same photos, whatever their names.

        How photos are told apart into media does not count.
        """
        photo, _ = pd.factorize(np.array([digests[id] for id in self._ids], dtype=object))
        held = np.unique(np.stack([self._template, photo[self._image]], axis=1), axis=0)
        parts = np.split(held[:, 1], np.flatnonzero(np.diff(held[:, 0])) + 1)
        numbers: dict[bytes, int] = {}
        return np.array([numbers.setdefault(part.tobytes(), len(numbers)) for part in parts])
