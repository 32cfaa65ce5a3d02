"""What the figures of an evaluation do not say, for the report and the model card alike."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from facewright.evaluation.table import percent

SUBJECTS = (IMAGES, TEMPLATES) = ("images", "templates")  # what a pair may be of
MEASURED = ("quality", "turn", "photos")  # columns that say nothing about groups of people
SAMPLE_NOTICE = (
    "These figures come from rendered people. They say that the pipeline works, and nothing about "
    "how well real people are recognized."
)
LFW = re.compile(r"(?<![a-z])lfw(?![a-z])", re.IGNORECASE)
LFW_TERMS = (
    "LFW is a research set of press photographs in which many groups of people hardly occur. Its "
    "authors say that a good result on it does not show that a system is fit for commercial use."
)
INTENDED = (
    "Meant for checking whether two photographs show one person, and for searches among people who "
    "agreed to be searched for. A match is a similarity above a threshold, never proof of who "
    "somebody is."
)
NOT_INTENDED = (
    "Not to be used to identify or track people without a legal basis, nor as the only ground for "
    "a decision about a person. Embeddings of faces are biometric data; many laws, the GDPR among "
    "them, treat those with special care."
)


@dataclass(frozen=True)
class Words:
    """How a text speaks of what was compared."""

    one: str = "photo"
    several: str = "photos"
    long: str = "photographs"
    lost: str = "a face was not found"
    lost_one: str = "a face that was not found"


def words_of(metrics: Mapping[str, Any]) -> Words:
    """Those for the figures of one recognizer, which say if they are of templates."""
    if TEMPLATES not in metrics:
        return Words()
    return Words(
        one="template",
        several="templates",
        long="templates (photos that stand together for one person)",
        lost="a template had no photo with a face",
        lost_one="a template in which no face was found",
    )


def notice_of(source: str) -> str:
    """What must stand above everything, by the source of the verification set; empty for nothing.

    Args:
        source: as the dataset's card has it.
    """
    return SAMPLE_NOTICE if source.startswith("sample:") else ""


def told_not_measured(reasons: Mapping[str, str]) -> list[str]:
    """What was asked for and has no figures, a line each."""
    return [f"Not measured: {what}: {reason}." for what, reason in reasons.items()]


def limits(
    data: Mapping[str, Mapping[str, Any]], metrics: Mapping[str, Any] | None = None
) -> list[str]:
    """What the cards of the data say against relying on the figures, a sentence or two each.

    Args:
        data: cards by use ("Training", "Verification"); `name`, `source`, `licence` and `consent`
            are read.
        metrics: of one recognizer, which say if they are of templates.
    """
    found = []
    if metrics and TEMPLATES in metrics:
        found.append(
            "All figures and thresholds are of templates, several photos that stand for one, and "
            "hold for no single photograph: between two of those there are more errors, at other "
            "thresholds."
        )
    for use, card in data.items():
        wanted = {"licence": "licence", "consent": "legal or ethical basis for the faces"}
        lacking = [words for key, words in wanted.items() if not card.get(key)]
        if lacking:
            found.append(f"{use} data: no {' and no '.join(lacking)} is stated on its card.")
    if any(LFW.search(f"{card.get('name')} {card.get('source')}") for card in data.values()):
        found.append(LFW_TERMS)
    return found


def composition(metrics: Mapping[str, Any], columns: Sequence[str]) -> str:
    """Whose faces the figures are of.

    Args:
        metrics: from `verification_metrics`.
        columns: by which errors were told apart.
    """
    pairs = metrics["pairs"]
    templates = ""
    if TEMPLATES in metrics:
        templates = (
            f"Pairs are of {metrics[TEMPLATES]:,.0f} templates, each of "
            f"{metrics['template_photos_least']:,.0f} to {metrics['template_photos_most']:,.0f} "
            f"photos, {metrics['template_photos_mean']:,.1f} on average. "
        )
    text = (
        f"The cohort is {metrics['identities']:,.0f} people in {pairs:,.0f} pairs, "
        f"{percent(metrics['genuine'] / pairs)} % of them genuine; in "
        f"{percent(metrics['failures'] / pairs)} % {words_of(metrics).lost}. {templates}"
    )
    groups = [name for name in columns if name not in MEASURED]
    if groups:
        return f"{text}Groups of people are told apart by {', '.join(groups)}, and by nothing else."
    return (
        f"{text}Nothing is known of the people's age, sex, origin or skin, so nothing is said on "
        "whether errors differ between groups: name a column of the manifest in evaluate.slices "
        "to measure it."
    )
