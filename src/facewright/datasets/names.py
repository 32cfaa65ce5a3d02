"""Identities as names: which are only labels, when two spell the same person, which none can be."""

import re
import unicodedata
from collections.abc import Iterable

from facewright.datasets.images import is_hidden
from facewright.errors import DatasetError

_NO_FOLDER = re.compile(r"[\x00-\x1f\x7f/\\]")


def is_label(identity: str) -> bool:
    """Whether `identity` is a number of its dataset (`0000045`, `n000123`) and no person's name.

    A name has two letters in succession, in any script, where a vowel sign counts as a letter; or
    one ideograph or syllable of a script that is written wide (`陳`).
    """
    bare = _unmarked(identity)
    letters = "".join("a" if c.isalpha() or _is_mark(c) else " " for c in bare)
    return "aa" not in letters and not any(map(_is_ideograph, bare))


def comparable(name: str) -> str:
    """`name` as it is compared: no accents, no case, one blank for all that is part of no word.

    `José_Müller` and `JOSE-MULLER` are one, `Jose Mueller` is another: accents are taken off
    (NFKD, Unicode Standard Annex 15), nothing is transcribed. So are the points of Hebrew, Arabic
    and Syriac, which most writing leaves out; the vowel signs of Indic scripts, Thai or Lao spell
    the name and stay. What is left may be empty.
    """
    folded = _unmarked(unicodedata.normalize("NFKD", name)).casefold()
    words = "".join(c if c.isalnum() or _is_mark(c) else " " for c in folded).split()
    return " ".join(word for word in words if any(map(str.isalnum, word)))


def tell_apart(stated: Iterable[tuple[str, str, str]]) -> dict[tuple[str, str], str]:
    """Whose a label is that stands in several datasets: (dataset, label) → one of the datasets.

    Args:
        stated: dataset, identity and the person's name if one is known, in the order of datasets.

    The person is that of the first dataset that has the label with the same name (compared as
    `comparable` does); without a name it is the dataset's own. Labels that are one person wherever
    they stand, and names, are left out.
    """
    labels: dict[str, dict[str, dict[str, None]]] = {}  # label → dataset → names
    for dataset, identity, person in stated:
        if is_label(identity):
            named = labels.setdefault(identity, {}).setdefault(dataset, {})
            if name := comparable(person):
                named[name] = None
    whose: dict[tuple[str, str], str] = {}
    for label, datasets in labels.items():
        first: dict[str, str] = {}
        theirs = {
            dataset: first.setdefault(min(named), dataset) if len(named) == 1 else dataset
            for dataset, named in datasets.items()
        }
        if len(set(theirs.values())) > 1:
            whose |= {(dataset, label): owner for dataset, owner in theirs.items()}
    return whose


def check_identity(identity: str, *, where: str) -> None:
    """Refuse an identity that could be no folder's name, or one that no import looks into."""
    if is_hidden(identity) or not identity.strip() or _NO_FOLDER.search(identity):
        raise DatasetError(
            f"{where}: {identity!r} can be no identity, since it can be no folder's name: rename it"
        )


def _unmarked(text: str) -> str:
    """`text` without the marks that do not spell it."""
    apart = unicodedata.normalize("NFD", text)
    return unicodedata.normalize("NFC", "".join(c for c in apart if not _is_added(c)))


def _is_added(c: str) -> bool:
    """Accents have combining classes from 200, the points of Semitic scripts 10 to 36."""
    combining = unicodedata.combining(c)
    return combining >= 200 or 10 <= combining <= 36


def _is_mark(c: str) -> bool:
    return unicodedata.category(c).startswith("M")


def _is_ideograph(c: str) -> bool:
    return unicodedata.category(c) == "Lo" and unicodedata.east_asian_width(c) == "W"


def named_among(names: Iterable[str], others: Iterable[str]) -> set[str]:
    """Those of `names` that are somebody of `others` in any spelling; labels are nobody's name."""
    known = {comparable(name) for name in set(others) if not is_label(name)} - {""}
    return {name for name in set(names) if not is_label(name) and comparable(name) in known}
