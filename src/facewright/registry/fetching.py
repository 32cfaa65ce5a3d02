"""Getting a registered recognizer back, as a start for another training."""

import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from facewright.errors import RegistryError
from facewright.files import whole_directory
from facewright.models.recognizer import WEIGHTS, read_card
from facewright.registry.server import RECOGNIZERS, registry_errors
from facewright.registry.tracking import connect

REFERENCE = re.compile(r"models:/(?P<model>[^/@'\"`]+)(?:@(?P<alias>[^/@]+)|/(?P<version>\d+))")


def fetch_recognizer(reference: str, folder: Path, *, name: str) -> Path:
    """Download the PyTorch recognizer `name` of a registered version; returns its folder.

    Args:
        reference: `models:/MODEL@ALIAS` or `models:/MODEL/VERSION`. An alias may name another
            version tomorrow: what depends on the recognizer goes by `weights_sha256` of its card.
        folder: where it is put, as `folder/name`, whole or not at all; what was there is replaced.
        name: such as `teacher` or `student-torch`.

    Raises:
        RegistryError: the reference is not of that form, the server cannot be reached, or there is
            no such model, alias, version or PyTorch recognizer.
        EngineError: what was downloaded is damaged.
        StorageError: `folder` cannot be written.
    """
    parts = REFERENCE.fullmatch(reference)
    if parts is None:
        raise RegistryError(
            f"{reference!r} names no registered version: write models:/MODEL@ALIAS or "
            "models:/MODEL/VERSION"
        )
    client = connect()
    with registry_errors(f"{reference} cannot be fetched"):
        found = _version(client, parts["model"], alias=parts["alias"], version=parts["version"])
        where = f"{found.name} version {found.version}"
        if not found.run_id:
            raise RegistryError(f"{where} holds no recognizers: it was not made by `register`")
        names = _folders(client, found.run_id, RECOGNIZERS)
        if name not in names:
            raise RegistryError(
                f"{where} has no recognizer {name!r}: there are {', '.join(names) or 'none'}"
            )
        path = f"{RECOGNIZERS}/{name}"
        if WEIGHTS["torch"] not in _folders(client, found.run_id, path):
            raise RegistryError(
                f"{name!r} of {where} is no PyTorch recognizer: name another, such as teacher"
            )
        with whole_directory(folder / name) as partial:
            with TemporaryDirectory(dir=partial) as apart:  # where in it depends on the store
                got = Path(client.download_artifacts(found.run_id, path, apart))
                for file in got.iterdir():
                    file.rename(partial / file.name)
            read_card(partial)  # the weights are the ones that the card was written for
    return folder / name


def _version(client: Any, model: str, *, alias: str | None, version: str | None) -> Any:
    """The version as MLflow has it."""
    if not client.search_registered_models(f"name='{model}'"):
        known = ", ".join(sorted(found.name for found in client.search_registered_models()))
        raise RegistryError(f"no registered model {model!r}: there are {known or 'none'}")
    if alias is not None:
        aliases = client.get_registered_model(model).aliases
        if alias not in aliases:
            known = ", ".join(sorted(aliases))
            raise RegistryError(f"{model} has no alias {alias!r}: there are {known or 'none'}")
        return client.get_model_version(model, str(aliases[alias]))
    there = {int(found.version): found for found in client.search_model_versions(f"name='{model}'")}
    if int(version or 0) not in there:
        known = ", ".join(map(str, sorted(there)))
        raise RegistryError(f"{model} has no version {version}: there are {known or 'none'}")
    return there[int(version or 0)]


def _folders(client: Any, run_id: str, path: str) -> list[str]:
    """The names of what lies in a folder of a run's files."""
    return sorted(file.path.rpartition("/")[2] for file in client.list_artifacts(run_id, path))
