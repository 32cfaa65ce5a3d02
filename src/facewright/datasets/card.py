"""The card of a dataset, `dataset.yaml`: where images come from and what may be done with them."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from datetime import date
from pathlib import Path

import yaml

from facewright.errors import DatasetError
from facewright.files import write_yaml

CARD = "dataset.yaml"


@dataclass(frozen=True)
class DatasetCard:
    """Where a dataset comes from and what may be done with it."""

    name: str
    kind: str  # "identities" (for training) or "verification" (has pairs)
    source: str  # file name of the archive or folder, or "sample:train" and "sample:verify"
    source_digest: str  # sha256 of the archive, or over the folder's names and digests
    licence: str
    consent: str  # the legal or ethical basis on which the faces are used
    collected: str = ""  # YYYY-MM-DD, the day of the oldest photos; not in the file where unknown


def write_card(root: Path, card: DatasetCard) -> None:
    """Write the card of the dataset in `root`; what is not known of `collected` is left out."""
    values = asdict(card)
    if not card.collected:
        del values["collected"]
    write_yaml(root / CARD, values)


def read_card(root: Path) -> DatasetCard:
    """The card of the dataset in `root`, which people may have edited.

    Raises:
        DatasetError: its keys are others, or a value is no text or no day.
        OSError, yaml.YAMLError: it cannot be read.
    """
    values = yaml.safe_load((root / CARD).read_text(encoding="utf-8"))
    names = {f.name for f in fields(DatasetCard)}
    if not isinstance(values, dict) or not names - {"collected"} <= set(values) <= names:
        raise DatasetError(f"{root / CARD}: its keys must be {', '.join(sorted(names))}")
    card = DatasetCard(**{key: _text(root, key, values[key]) for key in values})
    if card.collected:
        check_day(card.collected, where=str(root / CARD))
    return card


def _text(root: Path, key: str, value: object) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise DatasetError(f"{root / CARD}: {key} must be text: put it into quotes")
    return value


def joined_card(
    cards: Sequence[DatasetCard], *, kind: str, name: str | None = None
) -> dict[str, str]:
    """The card of what is made from several datasets: sources, licences and consents of all.

    Its name is `name`, else theirs joined; it is as old as the oldest, where all say how old.
    """
    values = {
        key: "+".join(getattr(card, key) for card in cards)
        for key in ("name", "source", "source_digest")
    }
    for key in ("licence", "consent"):
        values[key] = "; ".join(sorted({getattr(card, key) for card in cards} - {""}))
        missing = [card.name for card in cards if not getattr(card, key)]
        if values[key] and missing:
            values[key] += f"; none stated for {', '.join(missing)}"
    days = [card.collected for card in cards]
    oldest = min(days) if all(days) else ""
    return values | {"name": name or values["name"], "kind": kind, "collected": oldest}


def check_day(text: str, *, where: str) -> None:
    """Refuse what is no day.

    Raises:
        DatasetError: `text` is not of the form YYYY-MM-DD.
    """
    try:
        day = date.fromisoformat(text)
    except ValueError:
        day = None
    if day is None or day.isoformat() != text:
        raise DatasetError(f"{where}: {text!r} is no day: write it as 2026-03-31")
