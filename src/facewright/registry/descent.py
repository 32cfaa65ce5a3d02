"""Which registered versions were made from given data."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facewright.registry.lineage import UNKNOWN
from facewright.registry.server import registry_errors, tracking_uri
from facewright.registry.tracking import connect
from facewright.registry.versions import search_versions

DATA_TAG = "facewright.data_md5"
CROPS_TAG = "facewright.data_digest"


@dataclass(frozen=True)
class Descendant:
    """A registered version that was made from data that was asked for."""

    model: str
    version: int
    aliases: tuple[str, ...]  # `champion` serves now

    def __str__(self) -> str:
        return f"{self.model} version {self.version}"


def store_exists() -> bool:
    """Whether there is a store that can be asked; asking makes none."""
    uri = tracking_uri()
    file = Path(uri.removeprefix("sqlite:///").split("?")[0])
    return not uri.startswith("sqlite:///") or file.exists()


def made_from(*, data_md5: Collection[str], crops: Collection[str]) -> list[Descendant]:
    """The versions of all models whose tags name one of the digests.

    Args:
        data_md5: DVC's hashes of `data/`, as in data.dvc.
        crops: sha256 of manifests of crops, as in a recognizer's card.

    Raises:
        RegistryError: the store cannot be read.
    """
    wanted = [(DATA_TAG, value) for value in sorted(data_md5)]
    wanted += [(CROPS_TAG, value) for value in sorted(crops)]
    client = connect()
    with registry_errors("registered versions cannot be searched"):
        found = [
            version
            for tag, value in wanted
            for version in search_versions(client, f"tags.`{tag}`='{value}'")
        ]
        return _descendants(client, found)


def of_unknown_data() -> list[Descendant]:
    """The versions of which the tags do not say from what `data/` they were made.

    Raises:
        RegistryError: the store cannot be read.
    """
    client = connect()
    with registry_errors("registered versions cannot be searched"):
        found = [v for v in search_versions(client, "") if v.tags.get(DATA_TAG, UNKNOWN) == UNKNOWN]
        return _descendants(client, found)


def _descendants(client: Any, found: list[Any]) -> list[Descendant]:
    names = sorted({(version.name, int(version.version)) for version in found})
    versions = [client.get_model_version(name, str(number)) for name, number in names]
    return [Descendant(v.name, int(v.version), tuple(v.aliases)) for v in versions]
