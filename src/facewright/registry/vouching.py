"""Whether a version holds the files that were registered: all of them, unchanged, and no others.

`model/files.json`, written when it is registered, has the sha256 of every other file of `model/` by
its path. Its own sha256 is among the tags that the ledger's entries sign (`Version.lineage`), as is
where the version lies. So whoever holds no trusted key changes none of it unseen.
"""

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from facewright.errors import RegistryError
from facewright.files import file_digest, write_json
from facewright.registry.server import EVALUATION, MODEL, RECOGNIZERS, pages
from facewright.registry.versions import (
    FILES_DIGEST,
    RESTORE,
    Version,
    get_file,
    source_of,
)

FILES = "files.json"  # in `model/`


def write_list(path: Path, files: Mapping[str, Path]) -> str:
    """Write the list of a version's files; returns its sha256.

    Args:
        path: where the list is written.
        files: by their paths in the run, all in `model/`.
    """
    write_json(path, {_inside(name): file_digest(file) for name, file in files.items()})
    return file_digest(path)


def check_files(client: Any, version: Version, *, loaded: bool = False) -> None:
    """Refuse a version that does not hold just the files that were registered.

    Args:
        loaded: download only what MLflow loads, without evaluation and other recognizers.

    Raises:
        RegistryError: one is another, missing or too many, or MLflow would load it from elsewhere.
    """
    for fault in file_faults(client, version, loaded=loaded):
        raise RegistryError(f"{version}: {fault} in run {version.run_id}: {RESTORE}")


def file_faults(client: Any, version: Version, *, loaded: bool = False) -> list[str]:
    """The same as lines, of which each names a file.

    Raises:
        RegistryError: there is no list, or no file at all, or MLflow would load it from elsewhere.
    """
    check_place(client, version)
    with tempfile.TemporaryDirectory() as scratch:
        written = get_file(client, version, f"{MODEL}/{FILES}", scratch)
        if file_digest(written) != version.tags.get(FILES_DIGEST):
            return [f"{FILES} was changed"]
        listed: dict[str, str] = json.loads(written.read_bytes())
        if loaded:
            others = _inside(EVALUATION), _inside(RECOGNIZERS)
            served = f"{_inside(RECOGNIZERS)}/{version.serve}/"
            listed = {
                path: digest
                for path, digest in listed.items()
                if path.startswith(served) or not path.startswith(others)
            }
            found = {
                path: file_digest(get_file(client, version, f"{MODEL}/{path}", scratch))
                for path in listed
            }
        else:
            root = get_file(client, version, MODEL, scratch)
            found = {
                path.relative_to(root).as_posix(): file_digest(path)
                for path in root.rglob("*")
                if path.is_file()
            }
            del found[FILES]
    faults = [f"{path} is gone" for path in listed if path not in found]
    faults += [f"{path} was changed" for path in listed if found.get(path, "") != listed[path]]
    faults += [f"{path!r} was added" for path in found if path not in listed]
    return sorted(faults)


def check_place(client: Any, version: Version) -> None:
    """Refuse a version that MLflow would load from elsewhere than its own run.

    Raises:
        RegistryError: it would. MLflow's database holds that place twice, of which one is shown and
            one is used; and it lays a model that was logged under the folder's name over the run.
    """
    used = client.get_model_version_download_uri(version.model, str(version.version))
    for place in (version.source, used):
        if not version.run_id or place != source_of(version.run_id):
            raise RegistryError(
                f"{version} lies in {str(place)[:300]!r}, not in its run "
                f"{version.run_id or '(it has none)'}: {RESTORE}"
            )
    experiment = client.get_run(version.run_id).info.experiment_id
    for laid in pages(
        lambda token: client.search_logged_models(
            experiment_ids=[experiment], filter_string=f"name = '{MODEL}'", page_token=token
        )
    ):
        if laid.source_run_id == version.run_id:
            raise RegistryError(
                f"MLflow loads {version} with its model {laid.model_id} laid over it, which "
                "facewright did not make: delete that"
            )


def _inside(path: str) -> str:
    """A path in the run as one in `model/`."""
    return PurePosixPath(path).relative_to(MODEL).as_posix()
