"""Fetch: the datasets of a DVC repository at a revision, checked against their hash."""

import errno
import hashlib
import json
from pathlib import Path

import yaml

from facewright.errors import DatasetError
from facewright.files import whole_directory
from facewright.progress import say

TRACKED = "data.dvc"


def fetch(
    repo: str, output: Path, *, revision: str | None = None, expected_md5: str | None = None
) -> str:
    """Get `data/` of the DVC repository `repo` (path or URL) at a git revision into `output`.

    Every file comes from the repository's cache or its default remote; without a revision, from
    the working tree. What arrives is hashed again and compared with `data.dvc`, and that with
    `expected_md5` (as written there, with or without `.dir`). Returns the hash without `.dir`.

    Raises:
        DatasetError: no such repository or revision, no data.dvc, data that is neither in the
            cache nor on the remote, or a hash that differs.
    """
    where = f"{repo} at {revision}" if revision else repo
    with whole_directory(output) as folder:
        recorded = _download(repo, folder, where=where, revision=revision, expected=expected_md5)
        if (arrived := directory_md5(folder)) != recorded:
            raise DatasetError(
                f"{where}: data/ has md5 {arrived} and {TRACKED} says {recorded}: "
                f"run `dvc add data` there, or name a revision"
            )
    say(f"fetch {where}: data/ {recorded}")
    return recorded


def _download(
    repo: str, folder: Path, *, where: str, revision: str | None, expected: str | None
) -> str:
    from botocore.exceptions import BotoCoreError, ClientError  # type: ignore[import-untyped]
    from dvc.api import DVCFileSystem
    from dvc.exceptions import DvcException
    from dvc_data.index import DataIndexDirError  # type: ignore[import-untyped]

    try:
        files = DVCFileSystem(repo, rev=revision)
        recorded = _recorded_md5(files.read_text(TRACKED), where=where)
        if expected is not None and recorded != expected.removesuffix(".dir"):
            raise DatasetError(
                f"{where}: {TRACKED} says md5 {recorded}, and {expected} was asked for: "
                "name the revision that has it"
            )
        folder.rmdir()  # an existing folder would get data/ inside
        files.get("data", str(folder), recursive=True)
    except (DvcException, DataIndexDirError, BotoCoreError, ClientError, OSError) as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        why = error.__cause__ or error
        raise DatasetError(
            f"{where}: data/ cannot be fetched ({why}): check the repository, the revision and "
            "its DVC remote"
        ) from error
    return recorded


def _recorded_md5(text: str, *, where: str) -> str:
    try:
        return str(yaml.safe_load(text)["outs"][0]["md5"]).removesuffix(".dir")
    except (yaml.YAMLError, KeyError, IndexError, TypeError) as error:
        raise DatasetError(f"{where}: {TRACKED} records no md5: write it with `dvc add`") from error


def directory_md5(folder: Path) -> str:
    """DVC's hash of a folder: md5 over the JSON list of its files' md5 and paths, by path."""
    entries = []
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                md5 = hashlib.file_digest(file, "md5").hexdigest()
            entries.append({"md5": md5, "relpath": path.relative_to(folder).as_posix()})
    entries.sort(key=lambda entry: entry["relpath"])
    return hashlib.md5(json.dumps(entries, sort_keys=True).encode()).hexdigest()
