"""What validation asks of photos, identities and sets: one definition for verdicts and for suites.

A rule is a column and the range its values must lie in. The verdict of a row is the reason of the
first rule that it breaks; the Great Expectations suites state the very same ranges. A value that
is missing breaks nothing: what could not be measured was rejected by an earlier rule.
"""

from dataclasses import dataclass

import pandas as pd


@dataclass(frozen=True)
class Rule:
    """`low` ≤ column ≤ `high`; None leaves a side open."""

    reason: str
    column: str
    says: str  # one sentence for Data Docs and error messages
    low: float | None = None
    high: float | None = None
    in_train: bool = True  # a training photo that breaks it is rejected
    in_verify: bool = False  # so is a verification photo; else it is only counted
    mend: str = ""  # how to mend a set that breaks it

    def broken(self, table: pd.DataFrame) -> "pd.Series[bool]":
        """Which rows of `table` break the rule."""
        values = table[self.column]
        broken = pd.Series(False, index=table.index)
        if self.low is not None:
            broken |= values < self.low
        if self.high is not None:
            broken |= values > self.high
        return broken


def image_rules(
    *,
    min_side: int,
    max_aspect: float,
    min_sharpness: float,
    min_brightness: float,
    max_brightness: float,
) -> list[Rule]:
    """Rules on one photo, the first that is broken names the reason.

    In a verification set only what no detector could use is rejected. Dark or blurred photos stay:
    without them the result would be kinder than the recognizer deserves.
    """
    return [
        Rule("undecodable", "decodable", "The file is a whole image.", low=1, in_verify=True),
        Rule("too_small", "side", "The shorter side, px.", low=min_side, in_verify=True),
        Rule("aspect", "aspect", "Longer ÷ shorter side.", high=max_aspect),
        Rule("blurred", "sharpness", "Variance of the Laplacian on grey.", low=min_sharpness),
        Rule("dark", "brightness", "Mean grey, 0–255.", low=min_brightness),
        Rule("bright", "brightness", "Mean grey, 0–255.", high=max_brightness),
        Rule("label_conflict", "names", "Identities that claim the same bytes.", high=1),
        Rule("duplicate", "earlier_copies", "Copies before it, same identity.", high=0),
    ]


def overlap_rules() -> list[Rule]:
    """Rules on a training photo that keep training and verification apart."""
    return [
        Rule(
            "identity_overlap",
            "identity_in_verify",
            "The verification set has the same person, by name.",
            high=0,
        ),
        Rule(
            "content_overlap",
            "content_in_verify",
            "The verification set has the same photo, by its bytes.",
            high=0,
        ),
    ]


def identity_rules(*, min_images_per_identity: int) -> list[Rule]:
    """Rules on a training identity; one that breaks them loses all its photos."""
    return [
        Rule(
            "few_images",
            "usable",
            "Photos that no other rule rejects.",
            low=min_images_per_identity,
        )
    ]


def set_rules(*, max_overlap: float) -> list[Rule]:
    """Rules on the training and the verification set as a whole; breaking one stops the run."""
    return [
        Rule(
            "too_much_overlap",
            "overlap",
            "Share of training identities that verification also holds.",
            high=max_overlap,
            mend="choose other sets, or raise validate.max_overlap in params.yaml",
        ),
        Rule(
            "few_identities",
            "identities",
            "Identities with usable photos.",
            low=2,
            mend="import more people, or relax the limits of validate in params.yaml",
        ),
        Rule(
            "no_pairs",
            "pairs",
            "Verification pairs.",
            low=1,
            mend="import the set with --pairs FILE",
        ),
    ]
