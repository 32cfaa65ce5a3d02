"""Which registered versions were made from given data."""

import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from facewright.registry.tracking import connect, registry_errors


@dataclass(frozen=True)
class Descendant:
    """A registered version that was made from data that was asked for."""

    model: str
    version: int
    aliases: tuple[str, ...]  # `champion` serves now


def made_from(*, data_md5: Collection[str], crops: Collection[str]) -> list[Descendant]:
    """The versions of all models whose tags name one of the digests; none without a store.

    Args:
        data_md5: DVC's hashes of `data/`, as in data.dvc.
        crops: sha256 of manifests of crops, as in a recognizer's card.

    Raises:
        RegistryError: there is a store, and it cannot be read.
    """
    if not os.environ.get("MLFLOW_TRACKING_URI") and not Path("mlflow.db").exists():
        return []
    client = connect()
    wanted = [("facewright.data_md5", value) for value in sorted(data_md5)]
    wanted += [("facewright.data_digest", value) for value in sorted(crops)]
    found: set[tuple[str, int]] = set()
    with registry_errors("registered versions cannot be searched"):
        for tag, value in wanted:
            token = None
            while True:
                page = client.search_model_versions(f"tags.`{tag}`='{value}'", page_token=token)
                found |= {(version.name, int(version.version)) for version in page}
                token = page.token
                if not token:
                    break
        versions = [client.get_model_version(name, str(number)) for name, number in sorted(found)]
    return [Descendant(v.name, int(v.version), tuple(v.aliases)) for v in versions]
