"""The DVC project that tracks `data/`: its versions in all of git's history, and their objects.

DVC keeps files by their md5, in a cache and on a remote; a folder is one more object, the list of
its files (`MD5.dir`). Versions are found in `data.dvc` and `dvc.lock` of every commit that git has,
and among the lists in the cache and on the default remote, where those lie that nobody committed.
"""

import json
import logging
import subprocess
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from facewright.datasets.card import CARD
from facewright.datasets.form import MANIFEST
from facewright.errors import DatasetError
from facewright.files import storage_errors

THREADS = 16  # questions to a remote at a time

Tree = dict[str, str]  # md5 by path


@dataclass(frozen=True)
class Run:
    """One execution of a stage, as `dvc.lock` or the cache of runs has it."""

    deps: frozenset[str]  # md5
    outs: dict[str, str]  # md5 by path


class Project:
    """The DVC project that tracks `data`; see `open_project`."""

    def __init__(self, repo: Any, data: Path) -> None:
        self.repo = repo
        self.root = data.resolve().parent
        self.data = data.resolve().name
        self.local = repo.cache.local
        self.remote: Any = None
        self.unreached: list[str] = []
        self._trees: dict[str, Tree | None] = {}
        self._listed: tuple[list[str], list[str]] | None = None
        self._stated: list[str] = []
        self._remote()

    def _remote(self) -> None:
        from dvc.config import RemoteConfigError

        config = self.repo.config
        default = config["core"].get("remote")
        others = sorted(set(config["remote"]) - {default})
        self.unreached += [f"DVC remote {name!r}, which is not the default" for name in others]
        if default is None:
            return
        try:
            self.remote = self.repo.cloud.get_remote_odb(None, "erase", hash_name="md5")
        except RemoteConfigError:  # a bucket's own versions are the cloud's to remove
            self.unreached.append(f"DVC remote {default!r}: cloud versioning keeps its own copies")

    def pinned(self) -> str | None:
        """md5 of `data/` in `data.dvc` as it is now."""
        found = _pinned((self.root / f"{self.data}.dvc").read_text(encoding="utf-8"))
        return found[0] if found else None

    def add(self) -> str:
        """`dvc add` for `data/`; returns its new md5."""
        from dvc.logger import set_loggers_level

        failed = f"`dvc add {self.data}` failed"
        quiet = set_loggers_level(logging.WARNING)  # its hints would go among our results
        with _dvc_errors(failed), storage_errors(self.root), quiet:
            self.repo.add(str(self.root / self.data))
        pinned = self.pinned()
        assert pinned is not None
        return pinned

    def read(self, oid: str) -> bytes | None:
        """The bytes of an object, from the cache or else from the remote; None where neither is."""
        for odb in filter(None, (self.local, self.remote)):
            try:
                with (
                    _dvc_errors("the DVC cache or remote cannot be read"),
                    odb.fs.open(odb.oid_to_path(oid), "rb") as file,
                ):
                    return bytes(file.read())
            except FileNotFoundError:
                continue
        return None

    def tree(self, oid: str) -> Tree | None:
        """The files of a folder's object; of a file's, itself; None where the list is nowhere."""
        if not oid.endswith(".dir"):
            return {"": oid}
        if oid not in self._trees:
            self._trees[oid] = None
            data = self.read(oid)
            # Another project's list may be damaged, or of another kind of hash.
            with suppress(ValueError, KeyError, TypeError):
                if data is not None:
                    entries = json.loads(data)
                    self._trees[oid] = {entry["relpath"]: entry["md5"] for entry in entries}
        return self._trees[oid]

    def objects(self, oid: str) -> set[str]:
        """A folder's object with those of its files, as far as they can be told."""
        return {oid, *(self.tree(oid) or {}).values()}

    def datasets(self) -> set[str]:
        """The paths of all datasets that versions of `data/` have."""
        trees = filter(None, map(self.tree, self.folders()))
        cards = {path for tree in trees for path in tree if path.rpartition("/")[2] == CARD}
        return {path.rpartition("/")[0] for path in cards}

    def also_tracked(self) -> list[str]:
        """The other `*.dvc` files of the project."""
        own = self.root / f"{self.data}.dvc"
        with _dvc_errors("the DVC project cannot be read"):
            paths = {Path(stage.path) for stage in self.repo.index.stages}
        found = [path for path in paths if path.suffix == ".dvc" and path != own]
        return sorted(path.relative_to(self.repo.root_dir).as_posix() for path in found)

    def runs(self) -> Iterator[Run]:
        """Stages that were run: by `dvc.lock` of now and of every commit, and the cache of runs."""
        for text in self._texts("dvc.lock"):
            for stage in _mapping(text).get("stages", {}).values():
                yield _run(stage)
        folder = Path(self.repo.stage_cache.cache_dir)
        for file in sorted(folder.glob("??/*/*")):
            if file.is_file():
                yield _run(_mapping(file.read_text(encoding="utf-8")))

    def stages(self) -> dict[str, Run]:
        """The stages of `dvc.lock` as it is now."""
        path = self.root / "dvc.lock"
        values = _mapping(path.read_text(encoding="utf-8")) if path.exists() else {}
        return {name: _run(stage) for name, stage in values.get("stages", {}).items()}

    def folders(self) -> list[str]:
        """md5 of every folder that may be a version of `data/`; see `strangers`."""
        return self._folders()[0]

    def strangers(self) -> list[str]:
        """md5 of folders that look like a `data/` and may be another project's.

        A remote, and a cache outside the project, may be shared, and two projects may have the
        very same dataset: of the lists there that git does not know, those are ours that a person
        says are. Of the others that have datasets nobody can tell.
        """
        return self._folders()[1]

    def _folders(self) -> tuple[list[str], list[str]]:
        found = [oid for text in self._texts(f"{self.data}.dvc") for oid in _pinned(text)]
        for text in self._texts("dvc.lock"):
            for stage in _mapping(text).get("stages", {}).values():
                found += [d["md5"] for d in stage.get("deps", []) if d["path"] == self.data]
        if self._listed is None:
            self._listed = self._lists()
        own, shared = self._listed
        ours = [oid for oid in [*found, *own, *self._stated] if oid.endswith(".dir")]
        others = [oid for oid in shared if oid not in set(ours) and self._has_datasets(oid)]
        return list(dict.fromkeys(ours)), others

    def claim(self, lists: Iterable[str]) -> None:
        """Take these lists of folders, md5 as `strangers` gives them, for this project's.

        Raises:
            DatasetError: one is neither in the cache nor on the remote.
        """
        for oid in lists:
            name = f"{oid.removesuffix('.dir')}.dir"
            if self.tree(name) is None:
                raise DatasetError(
                    f"no list {name} is in DVC's cache or remote: name it as `not reached` tells it"
                )
            self._stated.append(name)

    def _lists(self) -> tuple[list[str], list[str]]:
        """The lists of folders in a cache that is ours alone, and those where others' may lie."""
        path = Path(self.local.path)
        here = sorted(f"{file.parent.name}{file.name}" for file in path.glob("??/*.dir"))
        there: list[str] = []
        if self.remote is not None:
            with _dvc_errors("the DVC remote cannot be listed"), suppress(FileNotFoundError):
                there = sorted(oid for oid in self.remote.all() if oid.endswith(".dir"))
        if path.resolve().is_relative_to(self.root):
            return here, there
        return [], list(dict.fromkeys(here + there))

    def _has_datasets(self, oid: str) -> bool:
        """Whether there are datasets below `train/` or `verify/`."""
        tree = self.tree(oid) or {}
        return any(
            path.startswith(("train/", "verify/"))
            and path.endswith(f"/{MANIFEST}")
            and f"{path.removesuffix(MANIFEST)}{CARD}" in tree
            for path in tree
        )

    def _texts(self, name: str) -> Iterator[str]:
        """A file as it is now, and as it was in every commit that git still has."""
        path = self.root / name
        if path.exists():
            yield path.read_text(encoding="utf-8")
        # All of history: git's simplified one leaves out branches that were merged.
        listed = ["rev-list", "--all", "--reflog", "--full-history", "--", name]
        for commit in (self._git(*listed) or "").split():
            text = self._git("show", f"{commit}:./{name}")
            if text is not None:
                yield text

    def _git(self, *arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", *arguments], cwd=self.root, capture_output=True, text=True
            )
        except OSError:
            return None
        return done.stdout if done.returncode == 0 else None

    def sizes(self, odb: Any, oids: Iterable[str]) -> dict[str, int]:
        """Bytes of those objects that are in `odb` (`local` or `remote`)."""

        def size(oid: str) -> int | None:
            try:
                return int(odb.fs.info(odb.oid_to_path(oid))["size"])
            except FileNotFoundError:
                return None

        wanted = sorted(oids)
        where = "the DVC cache or remote cannot be read"
        with _dvc_errors(where), ThreadPoolExecutor(THREADS) as pool:
            found = dict(zip(wanted, pool.map(size, wanted), strict=True))
        return {oid: size for oid, size in found.items() if size is not None}

    def remove(self, odb: Any, oids: Iterable[str]) -> dict[str, int]:
        """Remove objects from `odb`; returns the bytes of those that were there."""
        from dvc_data.hashfile.db import get_index  # type: ignore[import-untyped]

        there = self.sizes(odb, oids)
        where = "objects cannot be removed from the DVC cache or remote"
        with _dvc_errors(where), self.repo.lock:
            if there:
                odb.fs.remove([odb.oid_to_path(oid) for oid in sorted(there)])
            if odb is self.remote:
                get_index(odb).clear()  # else DVC takes for granted that folders are there
        return there


@contextmanager
def open_project(data: Path) -> Iterator[Project | None]:
    """The DVC project whose `data.dvc` lies beside `data`; None without one.

    Raises:
        DatasetError: the project is there and cannot be read.
    """
    root = data.resolve().parent
    if not (root / f"{data.resolve().name}.dvc").exists():
        yield None
        return
    from dvc.repo import Repo

    with _dvc_errors(f"the DVC project of {root} cannot be opened"):
        repo = Repo(str(root))
    with repo:
        yield Project(repo, data)


def _run(stage: dict[str, Any]) -> Run:
    return Run(
        deps=frozenset(str(dep["md5"]) for dep in stage.get("deps", []) if "md5" in dep),
        outs={str(o["path"]): str(o["md5"]) for o in stage.get("outs", []) if "md5" in o},
    )


def _pinned(text: str) -> list[str]:
    outs = _mapping(text).get("outs", [])
    return [str(out["md5"]) for out in outs if isinstance(out, dict) and "md5" in out]


def _mapping(text: str) -> dict[str, Any]:
    """YAML that DVC wrote; an old commit may hold anything, a merge's marks among them."""
    try:
        values = yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError:
        return {}
    return values if isinstance(values, dict) else {}


@contextmanager
def _dvc_errors(what: str) -> Iterator[None]:
    from botocore.exceptions import BotoCoreError, ClientError  # type: ignore[import-untyped]
    from dvc.exceptions import DvcException
    from dvc_objects.errors import ObjectDBError  # type: ignore[import-untyped]

    try:
        yield
    except (FileNotFoundError, DatasetError):
        raise
    except (DvcException, ObjectDBError, BotoCoreError, ClientError, OSError) as error:
        raise DatasetError(
            f"{what} ({error}): check the project, its cache and its remote, then run the same "
            "command again"
        ) from error
