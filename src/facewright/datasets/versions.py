"""Every version of `data/` that DVC knows, what stages made from it, and the objects of both.

DVC keeps files by their md5, in a cache and on a remote; a folder is one more object, the list of
its files (`MD5.dir`). Versions are found in `data.dvc` and `dvc.lock` of every commit that git has,
in DVC's cache of runs, and among the lists in the project's own cache.
"""

import hashlib
import io
import json
import logging
import subprocess
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from facewright.datasets.erasing import CLEANING, Person, names_person
from facewright.datasets.form import CARD, MANIFEST, PAIRS
from facewright.errors import DatasetError
from facewright.files import storage_errors

THREADS = 16  # questions to a remote at a time
COLUMNS = ["id", "identity", "person", "shard", "length", "sha256", "photo_sha256"]

Tree = dict[str, str]  # md5 by path


@dataclass(frozen=True)
class Run:
    """One execution of a stage, as `dvc.lock` or the cache of runs has it."""

    deps: frozenset[str]  # md5
    outs: dict[str, str]  # md5 by path


@dataclass
class Copies:
    """The objects that hold a person, or were made from what holds them."""

    versions: list[str] = field(default_factory=list)  # md5 of folders that hold them
    unread: list[str] = field(default_factory=list)  # versions of which a manifest is nowhere
    objects: set[str] = field(default_factory=set)  # md5 of what is to be removed
    photos: set[str] = field(default_factory=set)  # sha256 of their photos in these versions
    stages: dict[str, str] = field(default_factory=dict)  # outputs in the folder, made from them
    crops: set[str] = field(default_factory=set)  # sha256 of manifests of crops made from them


class Project:
    """The DVC project that tracks `data`; see `open_project`."""

    def __init__(self, repo: Any, data: Path) -> None:
        self.repo = repo
        self.root = data.resolve().parent
        self.data = data.resolve().name
        self.local = repo.cache.local
        self.remote: Any = None
        self.unreached: list[str] = []
        self._trees: dict[str, Tree] = {}
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

    def tree(self, oid: str) -> Tree:
        """The files of a folder's object; of a file's, itself; none if it is nowhere."""
        if not oid.endswith(".dir"):
            return {"": oid}
        if oid not in self._trees:
            entries = json.loads(self.read(oid) or b"[]")
            self._trees[oid] = {entry["relpath"]: entry["md5"] for entry in entries}
        return self._trees[oid]

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
        """md5 of every folder that may be a version of `data/`."""
        found = [oid for text in self._texts(f"{self.data}.dvc") for oid in _pinned(text)]
        for text in self._texts("dvc.lock"):
            for stage in _mapping(text).get("stages", {}).values():
                found += [d["md5"] for d in stage.get("deps", []) if d["path"] == self.data]
        # A cache that several projects share holds folders that are none of our business.
        path = Path(self.local.path)
        if path.resolve().is_relative_to(self.root):
            found += sorted(f"{file.parent.name}{file.name}" for file in path.glob("??/*.dir"))
        return list(dict.fromkeys(oid for oid in found if oid.endswith(".dir")))

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


def find_copies(project: Project, person: Person) -> Copies:
    """Versions of `data/` that hold the person, what stages made from them, and all their objects.

    Of a version of `data/` these are the shards, manifests and pairs that hold them, the decisions
    that name them, and the list of its files. Of a stage's output they are all of its objects.
    """
    copies = Copies()
    folders = {oid: project.tree(oid) for oid in project.folders()}
    search = _Search(project, person)
    for tree in folders.values():  # first by name, so that the bytes are known in the second round
        copies.photos |= search.folder(tree).photos
    search = _Search(project, replace(person, photos=person.photos | copies.photos))
    for oid, tree in folders.items():
        part = search.folder(tree)
        copies.photos |= part.photos
        copies.objects |= part.objects
        if part.objects:
            copies.versions.append(oid)
            copies.objects.add(oid)
        if part.unread:
            copies.unread.append(oid)
    _follow(project, copies)
    return copies


def removable(project: Project, copies: Copies, *, also: Iterable[str] = ()) -> set[str]:
    """The objects of `copies` (and `also`) that nothing else needs.

    What the present `data.dvc` names stays, unless that version is still one that holds the person;
    so do present outputs of stages that were not made from one.
    """
    kept: set[str] = set()
    pinned = project.pinned()
    if pinned and pinned not in copies.versions:
        kept |= {pinned, *project.tree(pinned).values()}
    for run in project.stages().values():
        for path, oid in run.outs.items():
            if path not in copies.stages:
                kept |= {oid, *project.tree(oid).values()}
    return (copies.objects | set(also)) - kept


class _Search:
    """Looks for a person in folders, into each manifest once."""

    def __init__(self, project: Project, person: Person) -> None:
        self._project = project
        self._person = person
        self._rows: dict[tuple[str, str], pd.DataFrame | None] = {}

    def folder(self, tree: Tree) -> Copies:
        """The objects of one folder that hold the person, and the photos in them."""
        found = Copies()
        for path in sorted(tree):
            folder, slash, name = path.rpartition("/")
            if name == CLEANING:
                data = self._project.read(tree[path]) or b""
                if names_person(data.decode("utf-8-sig", "replace"), self._person):
                    found.objects.add(tree[path])
            if name != MANIFEST or f"{folder}{slash}{CARD}" not in tree:
                continue
            rows = self._found(tree[path], dataset=folder.rpartition("/")[2])
            if rows is None:
                found.unread.append(path)
                continue
            if rows.empty:
                continue
            found.photos |= set(rows.loc[rows["length"] > 0, "sha256"])
            found.objects.add(tree[path])
            shards = [f"{folder}{slash}{shard}" for shard in rows["shard"].unique() if shard]
            found.objects |= {tree[shard] for shard in shards if shard in tree}
            pairs = tree.get(f"{folder}{slash}{PAIRS}")
            if pairs and _pairs_name(self._project.read(pairs), set(rows["id"])):
                found.objects.add(pairs)
        return found

    def _found(self, oid: str, *, dataset: str) -> pd.DataFrame | None:
        """The person's rows in a manifest; None where it is nowhere."""
        if (dataset, oid) not in self._rows:
            data = self._project.read(oid)
            manifest = None if data is None else _table(data)
            if manifest is not None:
                manifest = manifest[self._person.rows(manifest, dataset=dataset)]
            self._rows[dataset, oid] = manifest
        return self._rows[dataset, oid]


def _table(data: bytes) -> pd.DataFrame:
    import pyarrow.parquet as pq

    there = pq.ParquetFile(io.BytesIO(data)).schema_arrow.names
    return pd.read_parquet(io.BytesIO(data), columns=[name for name in COLUMNS if name in there])


def _pairs_name(data: bytes | None, ids: set[str]) -> bool:
    if data is None:
        return False
    pairs = pd.read_parquet(io.BytesIO(data), columns=["a", "b"])
    return bool((pairs["a"].isin(ids) | pairs["b"].isin(ids)).any())


def _follow(project: Project, copies: Copies) -> None:
    """Add what stages made from the versions that hold the person, from that in turn, and so on."""
    runs = list(project.runs())
    made = set(copies.versions)
    while True:
        outs = {oid for run in runs if run.deps & made for oid in run.outs.values()}
        if outs <= made:
            break
        made |= outs
    for oid in sorted(made - set(copies.versions)):
        tree = project.tree(oid)
        copies.objects |= {oid, *tree.values()}
        copies.crops |= _digests(tree, project.read)
    for run in project.stages().values():
        if run.deps & made:
            copies.stages |= run.outs


def _digests(tree: Tree, read: Callable[[str], bytes | None]) -> set[str]:
    """sha256 of the manifests of datasets in a stage's output, as recognizers' cards have them."""
    found = (read(oid) for path, oid in tree.items() if path.rpartition("/")[2] == MANIFEST)
    return {hashlib.sha256(data).hexdigest() for data in found if data is not None}


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
