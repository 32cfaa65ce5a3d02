"""Fetch: the datasets of a DVC repository at a revision, checked against their hash."""

import errno
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from facewright.datasets.readers.s3 import explain_s3
from facewright.errors import DatasetError
from facewright.files import whole_directory
from facewright.progress import say

TRACKED = "data.dvc"


def pinned(repo: str, *, revision: str | None = None, expected_md5: str | None = None) -> str:
    """The hash of `data/`, as data.dvc of `repo` writes it, with `.dir`, at a git revision.

    Nothing of `data/` is read. Arguments are those of `fetch`.

    Raises:
        DatasetError: no such repository or revision, no data.dvc, or it says another hash.
    """
    _, recorded = _open(repo, revision, expected_md5)
    say(f"pin {_where(repo, revision)}: data/ {recorded}")
    return f"{recorded}.dir"


def fetch(
    repo: str, output: Path, *, revision: str | None = None, expected_md5: str | None = None
) -> str:
    """Get `data/` of the DVC repository `repo` (path or URL) at a git revision into `output`.

    Every file comes from the repository's cache or its default remote; without a revision, from
    the working tree. What arrives is hashed again and compared with `data.dvc`, and that with
    `expected_md5` (as written there, with or without `.dir`). Returns the hash without `.dir`.

    Raises:
        DatasetError: no such repository or revision, no data.dvc, a remote that does not answer,
            knows no such bucket or refuses the credentials, a file that is neither in the cache
            nor on the remote, or one that is not what data.dvc says.
    """
    where = _where(repo, revision)
    with whole_directory(output) as folder:
        files, recorded = _open(repo, revision, expected_md5)
        folder.rmdir()  # an existing folder would get data/ inside
        with _dvc_errors(where, files=files):
            files.get("data", str(folder), recursive=True)
        arrived = _files_md5(folder)
        if _listing_md5(arrived) != recorded:
            raise DatasetError(_difference(files, arrived, where=where, revision=revision))
    say(f"fetch {where}: data/ {recorded}")
    return recorded


def _where(repo: str, revision: str | None) -> str:
    return f"{repo} at {revision}" if revision else repo


def _open(repo: str, revision: str | None, expected_md5: str | None) -> tuple[Any, str]:
    """The files of the repository at the revision, and the hash of `data/` there, as expected."""
    from dvc.api import DVCFileSystem

    where = _where(repo, revision)
    with _dvc_errors(where):
        files = DVCFileSystem(repo, rev=revision)
        recorded = _recorded_md5(files.read_text(TRACKED), where=where)
    if expected_md5 is not None and recorded != expected_md5.removesuffix(".dir"):
        raise DatasetError(
            f"{where}: {TRACKED} says md5 {recorded}, and {expected_md5} was asked for: "
            "name the revision that has it"
        )
    return files, recorded


def directory_md5(folder: Path) -> str:
    """DVC's hash of a folder: md5 over the JSON list of its files' md5 and paths, by path."""
    return _listing_md5(_files_md5(folder))


def _files_md5(folder: Path) -> dict[str, str]:
    """The md5 of every file below `folder`, by its path there."""
    found = {}
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                md5 = hashlib.file_digest(file, "md5").hexdigest()
            found[path.relative_to(folder).as_posix()] = md5
    return dict(sorted(found.items()))


def _listing_md5(files: dict[str, str]) -> str:
    entries = [{"md5": md5, "relpath": path} for path, md5 in files.items()]
    return hashlib.md5(json.dumps(entries, sort_keys=True).encode()).hexdigest()


def _recorded_md5(text: str, *, where: str) -> str:
    try:
        return str(yaml.safe_load(text)["outs"][0]["md5"]).removesuffix(".dir")
    except (yaml.YAMLError, KeyError, IndexError, TypeError) as error:
        raise DatasetError(f"{where}: {TRACKED} records no md5: write it with `dvc add`") from error


@contextmanager
def _dvc_errors(where: str, *, files: Any = None) -> Iterator[None]:
    """Turn what DVC and the remote's client raise into one line; `files`: the repository."""
    import aiohttp
    from botocore.exceptions import BotoCoreError, ClientError  # type: ignore[import-untyped]
    from dvc.exceptions import DvcException
    from dvc_data.index import DataIndexDirError  # type: ignore[import-untyped]

    try:
        yield
    except (
        DvcException, DataIndexDirError, BotoCoreError, ClientError, aiohttp.ClientError, OSError
    ) as error:  # fmt: skip
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        lost = files is not None and isinstance(error, (FileNotFoundError, DataIndexDirError))
        # DVC takes a bucket that is not there for an empty one.
        if why := explain_s3((lost and _ask(files)) or error, silent=(aiohttp.ClientError,)):
            raise DatasetError(
                f"{where}: data/ cannot be fetched from {_remote_of(files)}: {why}"
            ) from error
        if lost:
            what = getattr(error, "filename", None) or "the list of its files (.dir)"
            raise DatasetError(
                f"{where}: data/ cannot be fetched: {what} is neither in the cache there nor in "
                f"{_remote_of(files)}: push it again (docs/guides/remote.md: an object is missing)"
            ) from error
        raise DatasetError(
            f"{where}: data/ cannot be fetched ({error.__cause__ or error}): check the repository, "
            "the revision and its DVC remote"
        ) from error


def _ask(files: Any) -> Exception | None:
    """List the remote, and return what that raises."""
    try:
        remote = files.repo.cloud.get_remote()
        remote.fs.ls(remote.path)
    except Exception as error:  # whatever it is, it is only asked what it says
        return error
    return None


def _remote_of(files: Any) -> str:
    """The default remote's URL, and its endpoint where it has one of its own."""
    from dvc.config import NoRemoteError  # type: ignore[import-untyped]

    if files is None:
        return "its DVC remote"
    try:
        remote = files.repo.cloud.get_remote()
    except NoRemoteError:
        return "a DVC remote, which the repository has not"
    endpoint = remote.config.get("endpointurl")
    url = remote.fs.unstrip_protocol(remote.path)
    return f"{url} at {endpoint}" if endpoint else str(url)


def _difference(files: Any, arrived: dict[str, str], *, where: str, revision: str | None) -> str:
    """Which file is not what data.dvc says, and what to do about it."""
    stated = {
        path.removeprefix("data/"): info.get("md5")
        for path, info in files.find("data", detail=True).items()
    }
    wrong = [path for path in stated if arrived.get(path) != stated[path]]
    if revision is None or not wrong:
        return f"{where}: data/ is not what {TRACKED} says: run `dvc add data`, or name a revision"
    return (
        f"{where}: data/{wrong[0]} is not what {TRACKED} says: its object {stated[wrong[0]]} in "
        f"{_remote_of(files)} is damaged (or in the cache there): delete it and push it again "
        "(docs/guides/remote.md: an object is missing)"
    )
