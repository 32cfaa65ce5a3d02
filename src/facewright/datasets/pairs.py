"""Verification pairs: what every list of them must be, wherever it comes from."""

from collections.abc import Callable

import pandas as pd

from facewright.errors import DatasetError

PAIR_COLUMNS = ["fold", "label", "a", "b"]
FOLDS = 10  # of a protocol that states none


def check_pairs(pairs: pd.DataFrame, *, known: set[str], where: str) -> None:
    """Refuse an empty list, pairs of an image with itself, and pairs that name an unknown image."""
    if pairs.empty:
        raise DatasetError(f"{where}: no verification pair was found: check the pairs file")
    same = (pairs["a"] == pairs["b"]).to_numpy()
    if same.any():
        first = int(same.argmax())
        raise DatasetError(
            f"{where}: pair {first + 1} is of the image {pairs['a'].iloc[first]!r} with itself "
            f"({int(same.sum())} such pairs): take it out of the pairs file"
        )
    for side in ("a", "b"):
        missing = pairs.loc[~pairs[side].isin(known), side]
        if len(missing):
            raise DatasetError(
                f"{where}: the pairs name {len(missing)} images that are not there, "
                f"first {missing.iloc[0]!r}: check the pairs file against the images"
            )


def check_labels(pairs: pd.DataFrame, identity_of: Callable[[str], str], *, where: str) -> None:
    """Genuine pairs come from one identity, impostor pairs from two; else a label is wrong.

    `identity_of` an image's id; `where`: what is to be corrected, such as the pairs file.
    """
    same = pairs["a"].map(identity_of) == pairs["b"].map(identity_of)
    wrong = pairs[same != (pairs["label"] == 1)]
    if len(wrong):
        first = wrong.iloc[0]
        said = "one identity" if first["label"] == 1 else "two identities"
        raise DatasetError(
            f"{where}: {first['a']!r} and {first['b']!r} are called {said}, and the "
            f"identities say otherwise ({len(wrong)} such pairs): correct it"
        )


def fold_of(k: int, n: int) -> int:
    """The fold of the k-th (from 0) of n pairs: ten folds of equal size, in the order given."""
    return k * FOLDS // n
