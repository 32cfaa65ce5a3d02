"""The sample set as photographs and verification pairs.

Two halves with different people: `train` to learn from, `verify` to be asked about. Its accuracy
says that a pipeline works, and nothing about recognizing real people.
"""

import hashlib
import io
from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from PIL import Image

from facewright.datasets.sample.people import Person, person
from facewright.datasets.sample.render import Rendered, render
from facewright.datasets.sample.takes import take
from facewright.workers import worker_pool

TRAIN_IDENTITIES = 120
VERIFY_IDENTITIES = 50
PHOTOS_PER_IDENTITY = 12
FOLDS = 10
PAIRS_PER_FOLD = 300  # half genuine, half impostor

_PER_FOLD = VERIFY_IDENTITIES // FOLDS


def identities(half: str) -> list[str]:
    """The names of one half's people, `sample-0000` on for train, the next ones for verify."""
    if half == "train":
        numbers = range(TRAIN_IDENTITIES)
    elif half == "verify":
        numbers = range(TRAIN_IDENTITIES, TRAIN_IDENTITIES + VERIFY_IDENTITIES)
    else:
        raise ValueError(f"half is {half!r}; the sample set has 'train' and 'verify'")
    return [identity_name(n) for n in numbers]


def identity_name(number: int) -> str:
    return f"sample-{number:04d}"


def photo_name(identity: str, photo: int) -> str:
    return f"{identity}_{photo:02d}.jpg"


@lru_cache(maxsize=8)
def _person(identity: str) -> Person:
    return person(identity)


def render_scene(identity: str | int, photo: int) -> Rendered:
    """A photo together with the true places of its five points."""
    name = identity if isinstance(identity, str) else identity_name(identity)
    return render(_person(name), take(name, photo))


def render_photo(identity: str | int, photo: int) -> npt.NDArray[np.uint8]:
    """Photo number `photo` of an identity, by name or number.

    Returns (224, 224, 3) uint8 RGB. A pure function: the same pixels on every machine.
    """
    return render_scene(identity, photo).image


def jpeg(image: npt.NDArray[np.uint8]) -> bytes:
    """JPEG at quality 92 without chroma subsampling; bytes follow the version of Pillow."""
    out = io.BytesIO()
    Image.fromarray(image).save(out, "JPEG", quality=92, subsampling=0)
    return out.getvalue()


def _photos_of(identity: str) -> list[bytes]:
    return [jpeg(render_photo(identity, k)) for k in range(PHOTOS_PER_IDENTITY)]


def photos(half: str, *, workers: int) -> Iterator[tuple[str, str, bytes]]:
    """(identity, file name, JPEG bytes) of one half, sorted by file name.

    `workers`: processes that render; 1 renders in this one. The bytes do not depend on it.
    Raises ValueError for a half other than 'train' or 'verify', or fewer than one worker.
    """
    names = identities(half)
    if workers < 1:
        raise ValueError(f"workers is {workers}; rendering needs at least 1")
    if workers == 1:
        for name in names:
            yield from _named(name, _photos_of(name))
        return
    with worker_pool(f"rendering {half}", workers=workers) as pool:
        for name, files in zip(names, pool.map(_photos_of, names), strict=True):
            yield from _named(name, files)


def _named(identity: str, files: list[bytes]) -> Iterator[tuple[str, str, bytes]]:
    for k, data in enumerate(files):
        yield identity, photo_name(identity, k), data


def pairs() -> list[tuple[int, int, str, str]]:
    """The verify half's pairs: (fold 0…9, 1 genuine or 0 impostor, file name a, file name b).

    As in LFW's View 2: the folds share no identity, and each holds as many genuine as impostor
    pairs. Pairs are drawn by the digest of their names, so the list never changes.
    """
    names = identities("verify")
    out = []
    for fold in range(FOLDS):
        files = [
            (name, photo_name(name, k))
            for name in names[fold * _PER_FOLD : (fold + 1) * _PER_FOLD]
            for k in range(PHOTOS_PER_IDENTITY)
        ]
        drawn: dict[int, list[tuple[bytes, str, str]]] = {1: [], 0: []}
        for i, (who, a) in enumerate(files):
            for other, b in files[i + 1 :]:
                order = hashlib.sha256(f"facewright sample pair 1/{a}/{b}".encode()).digest()
                drawn[int(who == other)].append((order, a, b))
        for label in (1, 0):
            chosen = sorted(drawn[label])[: PAIRS_PER_FOLD // 2]
            out += [(fold, label, a, b) for a, b in sorted((a, b) for _, a, b in chosen)]
    return out
