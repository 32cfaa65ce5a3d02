"""Verification pairs, of images or of templates: what every list of them must be.

A template is several images of one identity that stand for one: the frames of a video, stills. In a
set that has them a pair's `a` and `b` are templates; a table of `id` (an image), `template` and
`media` says which images each has, and which of these come from one medium.
"""

from collections.abc import Callable, Collection

import numpy as np
import pandas as pd

from facewright.errors import DatasetError

PAIR_COLUMNS = ["fold", "label", "a", "b"]
TEMPLATE_COLUMNS = ["id", "template", "media"]
FOLDS = 10  # of a protocol that states none


def check_pairs(
    pairs: pd.DataFrame, *, images: pd.DataFrame, templates: pd.DataFrame | None = None, where: str
) -> None:
    """Refuse no pairs, pairs of what is not there, senseless ones, and wrong templates.

    Of pairs see `pair_faults`.

    Args:
        images: the manifest's columns id and identity.
        templates: where the pairs are of templates; see `template_faults`.
    """
    if pairs.empty:
        raise DatasetError(f"{where}: no verification pair was found: check the pairs file")
    if templates is not None and (faults := template_faults(templates, images=images)):
        raise DatasetError(
            f"{where}: {faults[0]} ({len(faults)} faults): correct the list of templates"
        )
    what = "images" if templates is None else "templates"
    known = (images["id"] if templates is None else templates["template"]).unique()
    for side in ("a", "b"):
        missing = pairs.loc[~pairs[side].isin(known), side]
        if len(missing):
            raise DatasetError(
                f"{where}: the pairs name {len(missing)} {what} that are not there, "
                f"first {missing.iloc[0]!r}: check the pairs file against the {what}"
            )
    if faults := pair_faults(pairs):
        raise DatasetError(f"{where}: {faults[0]}: correct the pairs file")


def pair_faults(pairs: pd.DataFrame) -> list[str]:
    """What is senseless in a list of pairs, a line each: something with itself, a pair twice."""
    codes, names = pd.factorize(pd.concat([pairs["a"], pairs["b"]], ignore_index=True))
    first, second = codes.reshape(2, -1).astype(np.int64)
    faults = []
    itself = np.flatnonzero(first == second)
    if len(itself):
        name = names[first[itself[0]]]
        faults.append(f"{name!r} is paired with itself ({len(itself)} such pairs)")
    key = np.minimum(first, second) * len(names) + np.maximum(first, second)
    again = np.flatnonzero(pd.Series(key).duplicated())
    if len(again):
        a, b = names[first[again[0]]], names[second[again[0]]]
        faults.append(
            f"the pair {a!r}, {b!r} is there twice, in this order or the other ({len(again)} "
            "repeated pairs)"
        )
    return faults


def template_faults(templates: pd.DataFrame, *, images: pd.DataFrame) -> list[str]:
    """What is wrong with a table of templates, a line each.

    Every image must be there, once in a template at most, and all of a template of one identity.
    """
    of = images.drop_duplicates("id").set_index("id")["identity"]
    at = of.index.get_indexer(pd.Index(templates["id"]))
    unknown = templates["id"][at < 0].unique()
    faults = [f"a template names {id!r}, which is no image" for id in unknown]
    twice = templates[templates.duplicated(["id", "template"])]
    named = zip(twice["id"], twice["template"], strict=True)
    faults += [f"the image {id!r} is in template {name!r} twice" for id, name in named]
    people = pd.DataFrame(
        {"template": templates["template"][at >= 0], "who": of.to_numpy()[at[at >= 0]]}
    )
    people = people.drop_duplicates()
    several = people[people.duplicated("template", keep=False)].groupby("template", sort=False)
    for name, who in several["who"]:
        one, other = who.iloc[:2]
        faults.append(f"template {name!r} holds images of two identities, {one!r} and {other!r}")
    return faults


def check_labels(pairs: pd.DataFrame, identity_of: Callable[[str], str], *, where: str) -> None:
    """Genuine pairs come from one identity, impostor pairs from two; else a label is wrong.

    `identity_of` an image's id, or a template; `where`: what is to be corrected, such as the pairs
    file.
    """
    # Each name is looked up once: there may be millions of pairs of some thousand templates.
    codes, names = pd.factorize(pd.concat([pairs["a"], pairs["b"]], ignore_index=True))
    people = np.array([identity_of(name) for name in names], dtype=object)
    first, second = pd.factorize(people)[0][codes.reshape(2, -1)]
    wrong = pairs[(first == second) != (pairs["label"] == 1).to_numpy()]
    if len(wrong):
        pair = wrong.iloc[0]
        said = "one identity" if pair["label"] == 1 else "two identities"
        raise DatasetError(
            f"{where}: {pair['a']!r} and {pair['b']!r} are called {said}, and the "
            f"identities say otherwise ({len(wrong)} such pairs): correct it"
        )


def lost_rows(
    pairs: pd.DataFrame, templates: pd.DataFrame | None, *, gone: Collection[str]
) -> tuple["pd.Series[bool]", "pd.Series[bool]"]:
    """Which rows of `pairs` and of `templates` go with the images `gone`.

    A template is there as long as one of its images is.
    """
    if templates is None:
        return pairs["a"].isin(gone) | pairs["b"].isin(gone), pd.Series(dtype=bool)
    rows = templates["id"].isin(gone)
    left = templates["template"][~rows].unique()
    return ~(pairs["a"].isin(left) & pairs["b"].isin(left)), rows


def fold_of(k: int, n: int) -> int:
    """The fold of the k-th (from 0) of n pairs: ten folds of equal size, in the order given."""
    return k * FOLDS // n
