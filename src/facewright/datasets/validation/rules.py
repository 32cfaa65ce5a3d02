"""What validation asks of photos, identities and sets: one definition for verdicts and for suites.

A rule is a column and the range its values must lie in. The verdict of a row is the reason of the
first rule that it breaks; the Great Expectations suites state the very same ranges. A value that
is missing breaks nothing: what could not be measured was rejected by an earlier rule.
"""

from dataclasses import dataclass

import pandas as pd

FAR_MORE = 10.0  # times the median number of photos: often several people of one name
NEARLY_ALL = 0.9  # share of one source: who is learnt may be the camera
SOME = 5  # photos, of which a share says something


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
    hard: bool = False  # a person's `keep` in cleaning.csv does not lift it
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


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What photos, identities and sets must reach; see `params.yaml`. None asks for nothing."""

    min_side: int
    max_aspect: float
    min_sharpness: float
    min_brightness: float
    max_brightness: float
    min_colour: float | None
    min_images_per_identity: int
    max_images_per_identity: int | None
    max_source_share: float | None
    max_overlap: float
    max_drift: float


def photo_rules(limits: Limits) -> list[Rule]:
    """Rules on one photo by itself, the first that is broken names the reason.

    In a verification set only what no detector could use is rejected. Dark or blurred photos stay:
    without them the result would be kinder than the recognizer deserves.
    """
    rules = [
        Rule(
            "undecodable",
            "decodable",
            "The file is a whole image.",
            low=1,
            in_verify=True,
            hard=True,
        ),
        Rule("too_small", "side", "The shorter side, px.", low=limits.min_side, in_verify=True),
        Rule("aspect", "aspect", "Longer ÷ shorter side.", high=limits.max_aspect),
        Rule(
            "blurred", "sharpness", "Variance of the Laplacian on grey.", low=limits.min_sharpness
        ),
        Rule("dark", "brightness", "Mean grey, 0–255.", low=limits.min_brightness),
        Rule("bright", "brightness", "Mean grey, 0–255.", high=limits.max_brightness),
        Rule(
            "animated",
            "animated",
            "The file has more pictures than the first, which is used.",
            high=0,
            in_train=False,
        ),
    ]
    if limits.min_colour is not None:
        rules.append(Rule("grey", "colour", "Colourfulness, 0 for grey.", low=limits.min_colour))
    return rules


def cleaning_rule() -> Rule:
    """The rule on a training photo that a person has decided upon."""
    return Rule("cleaning", "cleaned", "Dropped by a person, in data/cleaning.csv.", high=0)


def copy_rules() -> list[Rule]:
    """Rules on one photo beside the others of its set."""
    return [
        Rule("label_conflict", "names", "People that claim the same bytes.", high=1),
        Rule("duplicate", "earlier_copies", "Copies before it, same person.", high=0),
    ]


def overlap_rules() -> list[Rule]:
    """Rules on a training photo that keep training and verification apart."""
    return [
        Rule(
            "identity_overlap",
            "identity_in_verify",
            "The verification set has the same person, by name.",
            high=0,
            hard=True,
        ),
        Rule(
            "content_overlap",
            "content_in_verify",
            "The verification set has the same photo, by its bytes.",
            high=0,
            hard=True,
        ),
        Rule(
            "near_overlap",
            "near_in_verify",
            "The verification set has the same photo, by its look.",
            high=0,
            hard=True,
        ),
    ]


def identity_rules(limits: Limits) -> list[Rule]:
    """Rules on a training identity; one that breaks them loses all its photos, or is noticed."""
    rules = [
        Rule(
            "few_images",
            "usable",
            "Photos that no other rule rejects.",
            low=limits.min_images_per_identity,
        )
    ]
    # Without a limit nothing is rejected, and what is far from the others is noticed.
    many, share = limits.max_images_per_identity, limits.max_source_share
    if many is not None:
        says = "Photos that no other rule rejects."
        rules.append(Rule("many_images", "usable", says, high=many))
    else:
        says = "Usable photos ÷ the median of the identities that have two or more."
        rules.append(Rule("many_images", "times_median", says, high=FAR_MORE, in_train=False))
    if share is not None:
        says = "Share of the photos that come from one source, of those with a source."
        rules.append(Rule("one_source", "source_share", says, high=share))
    else:
        says = f"The same of identities with {SOME} or more photos that have a source."
        rules.append(Rule("one_source", "main_source_share", says, high=NEARLY_ALL, in_train=False))
    return rules


def drift_rule(limits: Limits) -> Rule:
    """The rule on a measure of a set against the previous version of the set."""
    return Rule(
        "drift",
        "drift",
        "Stability index, or relative change of a count, against data/reference.json.",
        low=-limits.max_drift,
        high=limits.max_drift,
    )


def set_rules(limits: Limits) -> list[Rule]:
    """Rules on the training and the verification set as a whole; breaking one stops the run."""
    return [
        Rule(
            "too_much_overlap",
            "overlap",
            "Share of training identities that verification also holds.",
            high=limits.max_overlap,
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


@dataclass(frozen=True)
class Rules:
    """All rules by the table that they are asked of, in the order in which they name a reason."""

    train: list[Rule]
    verify: list[Rule]
    identities: list[Rule]
    sets: list[Rule]
    drift: list[Rule]

    @property
    def noticed(self) -> list[Rule]:
        """Those on identities that reject nothing."""
        return [rule for rule in self.identities if not rule.in_train]

    @property
    def of_training(self) -> list[Rule]:
        """Those that a training photo may be rejected for."""
        return [*self.train, *self.identities]

    @property
    def every(self) -> list[Rule]:
        """All of them; a rule on photos of both halves comes twice."""
        return [*self.of_training, *self.verify, *self.sets, *self.drift]


def all_rules(limits: Limits) -> Rules:
    """The rules with these limits."""
    photos = photo_rules(limits)
    return Rules(
        # Quality first, then overlap: a photo's first reason is its own fault where it has one.
        train=[*photos, cleaning_rule(), *overlap_rules(), *copy_rules()],
        verify=[*photos, *copy_rules()],
        identities=identity_rules(limits),
        sets=set_rules(limits),
        drift=[drift_rule(limits)],
    )
