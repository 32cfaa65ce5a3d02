"""From the files of a source to photos of identities: who is on each, and what it is called."""

import posixpath
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from facewright.datasets.images import is_image_name
from facewright.datasets.readers import Entry
from facewright.datasets.readers.annotations import Landmarks, PhotoNames
from facewright.datasets.readers.protocols import AGEDB, CFP, FLAT, cfp_id
from facewright.errors import DatasetError
from facewright.progress import say

NAMED = 5  # folders without images that are named

Place = tuple[str, str, str, dict[str, Any]]  # folders above, id, identity, columns

_CONTROL = re.compile(r"[\x00-\x1f\x7f/\\]")


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
    required: bool = False  # landmarks were asked for, so that none at all is a mistake


class Placing:
    """Gives the photos of a source one after the other, and counts; `finish` tells what it saw."""

    def __init__(self, source: str, *, wanted: Wanted, flat: bool = False) -> None:
        self._source = source
        self._wanted = wanted
        self._layout = Layout(source, flat=flat)
        self._photos = self._with_points = self._listed = 0
        self._identities: set[str] = set()
        self._others = self._gifs = 0
        self._first_other = self._first_gif = ""
        self._bare: dict[str, None] = {}  # folders that hold something else, or nothing

    def photos(self, entries: Iterable[Entry]) -> Iterator[Photo]:
        """The images among `entries` that are wanted.

        Raises:
            DatasetError: an image lies where no identity can be told, or an identity could be no
                folder's name.
        """
        wanted = self._wanted
        for entry in entries:
            if not is_image_name(entry.name):
                self._count_other(entry.name)
                continue
            if wanted.images is not None:
                # Before its place: a list may pick one of several folders of identities.
                if wanted.images.find("/".join(entry.name.split("/")[-2:]), entry.name) is None:
                    continue
                self._listed += 1
            id, identity, columns = self._layout.place(entry)
            if identity not in self._identities:
                _check_identity(identity, source=self._source)
            if wanted.people is not None and identity not in wanted.people:
                continue
            if wanted.names is not None:
                columns |= wanted.names.get(identity, {})
            if wanted.landmarks is not None:
                points = wanted.landmarks.find(id, entry.name)
                if points is not None:
                    self._with_points += 1
                    columns["landmarks"] = points
            self._identities.add(identity)
            self._photos += 1
            yield Photo(id, identity, entry, columns)

    def _count_other(self, name: str) -> None:
        folder, _, file = name.rpartition("/")
        if folder and "__MACOSX" not in folder:
            self._bare[folder] = None
        if not file:
            return
        if file.lower().endswith(".gif"):
            self._gifs, self._first_gif = self._gifs + 1, self._first_gif or name
        else:
            self._others, self._first_other = self._others + 1, self._first_other or name

    def finish(self) -> None:
        """Say what was found and what was left out.

        Raises:
            DatasetError: nobody and nothing on a list is there, or no landmarks are those of a
                photo.
        """
        about = f"import {self._source}"
        wanted = self._wanted
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
        if bare := self._layout.identities(self._bare, but=self._identities):
            more = f" and {len(bare) - NAMED} more" if len(bare) > NAMED else ""
            say(f"{about}: no image in the folder of {', '.join(bare[:NAMED])}{more}")
        if wanted.images is not None:
            self._require(self._listed, of=len(wanted.images), what="images")
        if wanted.people is not None:
            self._require(len(self._identities), of=len(wanted.people), what="people")
        if wanted.landmarks is not None and self._photos:
            if wanted.required and not self._with_points:
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


def _check_identity(identity: str, *, source: str) -> None:
    """An identity becomes a folder's name once the dataset is exported."""
    if identity in (".", "..") or not identity.strip() or _CONTROL.search(identity):
        raise DatasetError(
            f"{source}: {identity!r} can be no identity, since it can be no folder's name: "
            "rename it in the source"
        )


class Layout:
    """Whose photo a file is: as its reader states it, or as all files of the source lie.

    - The folder that holds the photo is the identity, all at the same depth.
    - `001/frontal/01.jpg`, as in CFP: the folder above.
    - `12_Name_35_f.jpg`, as in AgeDB: part of the name, with the age and gender.
    - `NAME_0001.jpg` in one folder, where the protocol says that it lies so.

    The first photo decides which it is, and where; one that lies differently is refused.
    """

    def __init__(self, source: str, *, flat: bool) -> None:
        self._source = source
        self._flat = flat
        self._first = ""
        self._top = ""  # the folders above those of the identities
        self._how: Callable[[str], Place | None] | None = None

    def place(self, entry: Entry) -> tuple[str, str, dict[str, Any]]:
        """(id, identity, columns) of an image."""
        if entry.identity is not None:
            stem = _below(entry.identity, posixpath.splitext(entry.name)[0])
            return f"{entry.identity}/{stem}", entry.identity, dict(entry.columns)
        if self._how is None:
            self._first = entry.name
            self._how = self._choose(entry.name)
        placed = self._how(entry.name)
        if placed is None and self._how is _folder:
            raise DatasetError(
                f"{self._source}: {entry.name!r} lies in no identity's folder: put the photos of "
                "each person into a folder with their name"
            )
        if placed and entry.name == self._first:
            self._top = placed[0]
        if placed is None or placed[0] != self._top:
            raise DatasetError(
                f"{self._source}: {entry.name!r} does not lie like {self._first!r}: put the folder "
                "of each identity side by side, or name the folder that holds only those to import"
            )
        _, id, identity, columns = placed
        return id, identity, {**columns, **entry.columns}

    def identities(self, folders: Iterable[str], *, but: set[str]) -> list[str]:
        """The names of those folders that lie where the identities' do, without these, sorted."""
        if self._how is not _folder:
            return []
        parts = (folder.rpartition("/") for folder in folders)
        return sorted({name for top, _, name in parts if top == self._top} - but)

    def _choose(self, name: str) -> Callable[[str], Place | None]:
        if CFP.fullmatch(name):
            return _cfp
        if AGEDB.fullmatch(name):
            return _agedb
        return _flat if self._flat else _folder


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
    return "", f"{photo['identity']}/{photo['stem']}", photo["identity"], columns


def _flat(name: str) -> Place | None:
    photo = FLAT.fullmatch(name)
    if not photo:
        return None
    top = name.rpartition("/")[0]
    return top, f"{photo['identity']}/{photo['stem']}", photo["identity"], {}


def _below(identity: str, path: str) -> str:
    """What `path` says below the folder of the identity, or all of it, in one word."""
    parts = path.split("/")
    if identity in parts[:-1]:
        last = len(parts) - 2 - parts[-2::-1].index(identity)
        parts = parts[last + 1 :]
    return "-".join(parts)
