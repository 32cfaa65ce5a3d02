"""Identities as names: which are only labels, and when two spell the same person."""

import re
import unicodedata

_TWO_LETTERS = re.compile(r"[^\W\d_]{2}")


def is_label(identity: str) -> bool:
    """Whether `identity` is a number of its dataset (`0000045`, `n000123`) and no person's name.

    A name has two letters in succession, in any script.
    """
    return _TWO_LETTERS.search(unicodedata.normalize("NFC", identity)) is None


def comparable(name: str) -> str:
    """`name` as it is compared: no marks, no case, one blank for all that is no letter or digit.

    `José_Müller` and `JOSE-MULLER` are one, `Jose Mueller` is another: marks are taken off (NFKD,
    Unicode Standard Annex 15), nothing is transcribed. What is left may be empty.
    """
    bare = (c for c in unicodedata.normalize("NFKD", name) if not unicodedata.combining(c))
    folded = unicodedata.normalize("NFKC", "".join(bare)).casefold()
    return " ".join("".join(c if c.isalnum() else " " for c in folded).split())
