"""From the files of a source to photos of identities: who is on each, and what it is called."""

import posixpath
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from facewright.datasets.images import is_hidden, is_image_name
from facewright.datasets.meant import Meant, names_of
from facewright.datasets.names import check_identity
from facewright.datasets.readers import Entry
from facewright.datasets.readers.annotations import Landmarks, PhotoNames
from facewright.datasets.readers.lfw import AGEDB, FLAT
from facewright.datasets.readers.protocols import CFP, cfp_id
from facewright.datasets.templates import TemplateLists
from facewright.errors import DatasetError
from facewright.progress import say

NAMED = 5  # folders without images that are named
PACKED = (".tar", ".tar.gz", ".tgz", ".zip", ".rec")

Place = tuple[str, str, str, dict[str, Any]]  # folders above, id, identity, columns


@dataclass(frozen=True)
class Photo:
    """One photo of a source with its place in the dataset."""

    id: str  # IDENTITY/STEM
    identity: str
    entry: Entry
    columns: Mapping[str, Any]  # for the manifest

    @property
    def suffix(self) -> str:
        return posixpath.splitext(self.entry.name)[1].lower()


@dataclass(frozen=True)
class Wanted:
    """What the user's files say: whom and what to keep, and what is known of them."""

    people: frozenset[str] | None = None
    images: PhotoNames | None = None
    names: Mapping[str, Mapping[str, str]] | None = None  # identity → columns
    landmarks: Landmarks | None = None
    templates: TemplateLists | None = None  # of which `images` are the photos then
    # Whether they were asked for: what was only found beside the source gives way to its rows.
    names_asked: bool = True
    landmarks_asked: bool = True


class Placing:
    """Gives the photos of a source one after the other, and counts; `finish` tells what it saw."""

    def __init__(
        self,
        source: str,
        *,
        wanted: Wanted,
        flat: bool = False,
        again: Callable[[], Iterable[Entry]] = tuple,
    ) -> None:
        """`flat`: a protocol says that all photos lie in one folder; `again` gives all entries."""
        self._source = source
        self._wanted = wanted
        self._meant: Meant | None = None
        numbered = None
        if wanted.templates:
            self._meant = wanted.templates.meant(source)
            self._meant.look_ahead(again())
            numbered = self._meant.place(wanted.templates.number)
        self._layout = Layout(source, flat=flat, again=again, numbered=numbered)
        self._seen = False  # any image, wanted or not
        self._photos = self._with_points = self._pointed = self._listed = self._strays = 0
        self._identities: set[str] = set()
        self._others = self._gifs = self._packed = self._elsewhere = 0
        self._first_other = self._first_gif = self._first_packed = self._first_elsewhere = ""
        self._first_stray = ""
        self._bare: dict[str, None] = {}  # folders that hold something else, or nothing

    def photos(self, entries: Iterable[Entry]) -> Iterator[Photo]:
        """The images among `entries` that are wanted.

        Raises:
            DatasetError: an image lies where no identity can be told, an identity could be no
                folder's name, or two images may be one of a list of templates.
        """
        wanted = self._wanted
        for entry in entries:
            if not is_image_name(entry.name):
                self._count_other(entry.name)
                continue
            self._seen = True
            at = None
            if wanted.images is not None:
                # Before its place: a list may pick one of several folders of identities.
                at = self._find(entry, wanted.images)
                if at is None:
                    self._strays += 1
                    self._first_stray = self._first_stray or entry.origin
                    continue
                self._listed += 1
            id, identity, columns = self._layout.place(entry)
            if identity not in self._identities:
                check_identity(identity, where=f"{self._source}, {entry.origin!r}")
            if wanted.people is not None and identity not in wanted.people:
                continue
            if wanted.templates is not None and at is not None:
                wanted.templates.found(at, id)
            if wanted.names is not None:
                for name, value in wanted.names.get(identity, {}).items():
                    if wanted.names_asked or columns.get(name) is None:
                        columns[name] = value
            if wanted.landmarks is not None:
                columns = self._with_landmarks(entry, id, columns, wanted.landmarks)
            if entry.identity is not None:
                self._count_elsewhere(entry)
            self._identities.add(identity)
            self._photos += 1
            yield Photo(id, identity, entry, columns)

    def _find(self, entry: Entry, images: PhotoNames) -> int | None:
        id = self._layout.id_of(entry)
        return self._meant.find(entry, id) if self._meant else images.find(*names_of(entry, id))

    def _with_landmarks(
        self, entry: Entry, id: str, columns: dict[str, Any], landmarks: Landmarks
    ) -> dict[str, Any]:
        stated = columns.get("landmarks")
        points = None
        if stated is None or self._wanted.landmarks_asked:
            points = landmarks.find(*(self._meant.names_of if self._meant else names_of)(entry, id))
            self._pointed += points is not None
        if points is None:
            points = stated
        if points is None:
            return columns
        self._with_points += 1
        return {**columns, "landmarks": points}

    def _count_elsewhere(self, entry: Entry) -> None:
        folder = posixpath.basename(posixpath.dirname(entry.name))
        if folder and folder != entry.identity:
            self._elsewhere += 1
            self._first_elsewhere = self._first_elsewhere or entry.origin

    def _count_other(self, name: str) -> None:
        folder, _, file = name.rpartition("/")
        if folder and not is_hidden(folder):
            self._bare[folder] = None
        if not file:
            return
        if file.lower().endswith(PACKED):
            self._packed, self._first_packed = self._packed + 1, self._first_packed or name
        if file.lower().endswith(".gif"):
            self._gifs, self._first_gif = self._gifs + 1, self._first_gif or name
        else:
            self._others, self._first_other = self._others + 1, self._first_other or name

    def finish(self) -> None:
        """Say what was found and what was left out.

        Raises:
            DatasetError: nobody and nothing on a list is there, no landmarks are those of a photo,
                or there are archives in place of photos.
        """
        about = f"import {self._source}"
        wanted = self._wanted
        if self._packed and not self._seen:
            raise DatasetError(
                f"{self._source} holds no image, and {self._packed} files such as "
                f"{self._first_packed}: name one of them, or copy them into a folder here and "
                "import that"
            )
        if self._others:
            say(
                f"{about}: {self._others} files that are no images left out, "
                f"first {self._first_other}"
            )
        if self._gifs:
            say(
                f"{about}: {self._gifs} GIF files left out, first {self._first_gif}: "
                "save them as PNG to have them"
            )
        if self._elsewhere:
            say(
                f"{about}: {self._elsewhere} images have another identity than their folder, as "
                f"is stated beside them, first {self._first_elsewhere}"
            )
        if bare := self._layout.identities(self._bare, but=self._identities):
            more = f" and {len(bare) - NAMED} more" if len(bare) > NAMED else ""
            say(f"{about}: no image in the folder of {', '.join(bare[:NAMED])}{more}")
        if wanted.images is not None:
            self._require(self._listed, of=len(wanted.images), what="images")
            if self._strays:
                say(
                    f"{about}: {self._strays} images that the list does not mean left out, "
                    f"first {self._first_stray}"
                )
        if wanted.people is not None:
            self._require(len(self._identities), of=len(wanted.people), what="people")
        if wanted.landmarks is not None and self._photos:
            if wanted.landmarks_asked and not self._pointed:
                raise DatasetError(
                    f"{self._source}: the landmarks name none of its images: check the file"
                )
            say(f"{about}: {self._with_points} of {self._photos} images have landmarks")
        if wanted.names is not None:
            named = len(self._identities & wanted.names.keys())
            say(f"{about}: {named} of {len(self._identities)} identities have a name")
        say(f"{about}: {self._photos} images of {len(self._identities)} identities")

    def _require(self, found: int, *, of: int, what: str) -> None:
        if not found:
            raise DatasetError(
                f"{self._source}: none of the {of} {what} on the list is there: check the list"
            )
        say(f"import {self._source}: {found} of the {of} {what} on the list are there")


class Layout:
    """Whose photo a file is: as its reader states it, or as all files of the source lie.

    - The folder that holds the photo is the identity, all at the same depth.
    - `001/frontal/01.jpg`, as in CFP: the folder above.
    - `12_Name_35_f.jpg`, as in AgeDB: part of the name, with the age and gender, where all photos
      lie in one folder or in none.
    - `NAME_0001.jpg` in one folder, where the protocol says that it lies so.
    - `1.jpg` in one folder, where a list of templates says what belongs together (see `Meant`).

    The first photo decides which it is, and where; one that lies differently is refused.
    """

    def __init__(
        self,
        source: str,
        *,
        flat: bool,
        again: Callable[[], Iterable[Entry]],
        numbered: Callable[[str], Place | None] | None = None,
    ) -> None:
        """`numbered`: gives the place of a photo where its folder does not say who it is."""
        self._source = source
        self._flat = flat
        self._again = again
        self._numbered = numbered
        self._together: bool | None = None  # whether all photos lie in one folder, once asked
        self._first = ""
        self._top = ""  # the folders above those of the identities
        self._how: Callable[[str], Place | None] | None = None

    def place(self, entry: Entry) -> tuple[str, str, dict[str, Any]]:
        """(id, identity, columns) of an image."""
        if entry.identity is not None:
            return _stated_id(entry, entry.identity), entry.identity, dict(entry.columns)
        first = self._how is None
        how = self._how or self._choose(entry.name)
        placed = how(entry.name)
        if placed is None and (first or how is _folder):
            raise DatasetError(
                f"{self._source}: {entry.origin!r} lies in no identity's folder: put the photos of "
                "each person into a folder with their name"
            )
        if placed and first:
            self._how, self._first, self._top = how, entry.origin, placed[0]
        if placed is None or placed[0] != self._top:
            raise DatasetError(
                f"{self._source}: {entry.origin!r} does not lie like {self._first!r}: put the "
                "folder of each identity side by side, or name the folder that holds only those "
                "to import"
            )
        _, id, identity, columns = placed
        return id, identity, {**columns, **entry.columns}

    def id_of(self, entry: Entry) -> str | None:
        """The id that `place` would give, if a list may name it so; None where it would refuse."""
        if entry.identity is not None:
            return _stated_id(entry, entry.identity)
        how = self._how or self._choose(entry.name)
        placed = how(entry.name) if how is not self._numbered else None  # nobody knows our numbers
        return placed[1] if placed else None

    def identities(self, folders: Iterable[str], *, but: set[str]) -> list[str]:
        """The names of those folders that lie where the identities' do, without these, sorted."""
        if self._how is not _folder:
            return []
        parts = (folder.rpartition("/") for folder in folders)
        return sorted({name for top, _, name in parts if top == self._top} - but)

    def _choose(self, name: str) -> Callable[[str], Place | None]:
        if CFP.fullmatch(name):
            return _cfp
        if AGEDB.fullmatch(name) and ("/" not in name or self._in_one_folder()):
            return _agedb
        if self._numbered:
            return self._numbered
        photo = FLAT.fullmatch(name) if self._flat else None
        in_own = photo and posixpath.basename(posixpath.dirname(name)) == photo["identity"]
        return _flat if photo and not in_own else _folder

    def _in_one_folder(self) -> bool:
        """Whether all photos of the source do, for which its names are gone through once more."""
        if self._together is None:
            names = (entry.name for entry in self._again())
            folders = (posixpath.dirname(name) for name in names if is_image_name(name))
            first = next(folders, "")
            self._together = all(folder == first for folder in folders)
        return self._together


def _folder(name: str) -> Place | None:
    folder, _, file = name.rpartition("/")
    top, _, identity = folder.rpartition("/")
    stem = posixpath.splitext(file)[0]
    return (top, f"{identity}/{stem}", identity, {}) if identity else None


def _cfp(name: str) -> Place | None:
    photo = CFP.fullmatch(name)
    top = "/".join(name.split("/")[:-3])
    return (top, cfp_id(photo), photo["identity"], {}) if photo else None


def _agedb(name: str) -> Place | None:
    photo = AGEDB.fullmatch(name)
    if not photo:
        return None
    columns = {"age": int(photo["age"]), "gender": photo["gender"].lower()}
    top = name.rpartition("/")[0]
    return top, f"{photo['identity']}/{photo['stem']}", photo["identity"], columns


def _flat(name: str) -> Place | None:
    photo = FLAT.fullmatch(name)
    if not photo:
        return None
    top = name.rpartition("/")[0]
    return top, f"{photo['identity']}/{photo['stem']}", photo["identity"], {}


def _stated_id(entry: Entry, identity: str) -> str:
    return f"{identity}/{_below(identity, posixpath.splitext(entry.origin)[0])}"


def _below(identity: str, path: str) -> str:
    """What `path` says below the folder of the identity, or all of it, in one word."""
    parts = path.strip("/").split("/")
    if identity in parts[:-1]:
        last = len(parts) - 2 - parts[-2::-1].index(identity)
        parts = parts[last + 1 :]
    return "-".join(parts)
