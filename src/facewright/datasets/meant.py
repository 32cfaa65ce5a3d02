"""Which photos of a source a list of templates means, as people have them.

InsightFace hands IJB's aligned crops on as `loose_crop/1.jpg`, NIST the photos as `img/1.jpg` and
`frames/1.jpg`, and whoever converts them may change their suffix. A list may give as much of a
photo's path as it likes, from the name of the folder that is imported to the bare name.
"""

import posixpath
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from facewright.datasets.images import is_image_name
from facewright.datasets.readers import Entry
from facewright.datasets.readers.annotations import PhotoNames
from facewright.errors import DatasetError

NIST = frozenset({"img", "frames"})  # folders of IJB's photos, named after nobody
UNSEEN = 127  # worse than any match


def names_of(entry: Entry, id: str | None) -> list[str]:
    """What a list may call a photo: its id, its folder and name, or its path in the source."""
    names = [id, "/".join(entry.name.split("/")[-2:]), entry.name, entry.origin]
    return list(dict.fromkeys(name for name in names if name))


class Meant:
    """Tells for one file of a source after the other which image of the list it is.

    A file fits the better the more the list says of it: its folder and its suffix count one each.
    Of several that fit one image the best is taken, whatever order they come in, where the source
    can be looked through beforehand; two that fit alike are refused.
    """

    def __init__(self, names: Sequence[str], photos: PhotoNames, *, source: str, path: str) -> None:
        """`photos`: of `names`, which are as the list `path` gives them."""
        self._names, self._photos = names, photos
        self._source, self._path = source, path
        self._misfit = np.full(len(names), UNSEEN, np.int8)  # of the best file so far
        self._taken: dict[int, str] = {}
        self.folders: frozenset[str] = frozenset()  # of the best files, where they are known

    def names_of(self, entry: Entry, id: str | None = None) -> list[str]:
        """As `names_of`, and the source's name with the path, less of it each time; bare last."""
        parts = [self._source, *entry.name.split("/")]
        tails = ["/".join(parts[k:]) for k in range(len(parts))]
        return [*dict.fromkeys((*names_of(entry, id), *tails[:-1])), tails[-1]]

    def look_ahead(self, entries: Iterable[Entry]) -> None:
        """Learn from all files of the source how well the best of each image fits."""
        folder = np.full(len(self._names), -1, np.int64)
        folders: dict[str, int] = {}
        for entry in entries:
            if not is_image_name(entry.name):
                continue
            at, misfit = self._fit(entry, None)
            if at is not None and misfit < self._misfit[at]:
                self._misfit[at] = misfit
                folder[at] = folders.setdefault(posixpath.dirname(entry.name), len(folders))
        known = list(folders)
        self.folders = frozenset(known[code] for code in np.unique(folder[folder >= 0]))

    def find(self, entry: Entry, id: str | None) -> int | None:
        """The place of the image among the names; None where the list does not mean this file.

        Raises:
            DatasetError: it may as well mean another one.
        """
        at, misfit = self._fit(entry, id)
        if at is None or misfit > self._misfit[at]:
            return None
        if at in self._taken:
            raise DatasetError(
                f"{self._path}: {self._names[at]!r} may be {self._taken[at]!r} or {entry.origin!r} "
                f"of {self._source}: name each image by its folder and whole name, or keep one "
                "of the two elsewhere"
            )
        self._misfit[at] = misfit
        self._taken[at] = entry.origin
        return at

    def _fit(self, entry: Entry, id: str | None) -> tuple[int | None, int]:
        *paths, bare = self.names_of(entry, id)
        at, misfit = self._photos.find(*paths), 0
        if at is None:
            at, misfit = self._photos.find(bare), 1
        if at is None:
            return None, UNSEEN
        suffix = posixpath.splitext(entry.name)[1]
        return at, misfit + (not self._names[at].endswith(suffix))

    def place(
        self, number: Callable[[int], str]
    ) -> Callable[[str], tuple[str, str, str, dict[str, object]] | None] | None:
        """What gives (folders above, id, identity, columns) of a photo by its path.

        None where the folders of the photos say who is on them: where these lie in several, other
        than NIST's.

        Args:
            number: the identity on an image, by its place among the names.
        """
        several = len(self.folders) > 1
        above = {posixpath.dirname(folder) for folder in self.folders}
        own = {posixpath.basename(folder) for folder in self.folders}
        if several and (len(above) > 1 or not own <= NIST):
            return None

        def placed(name: str) -> tuple[str, str, str, dict[str, object]] | None:
            at, _ = self._fit(Entry(name, 0, bytes), None)
            if at is None:
                return None
            top, _, file = name.rpartition("/")
            stem = posixpath.splitext(file)[0]
            if several:
                top, _, folder = top.rpartition("/")
                stem = f"{folder}-{stem}"
            identity = number(at)
            return top, f"{identity}/{stem}", identity, {}

        return placed
