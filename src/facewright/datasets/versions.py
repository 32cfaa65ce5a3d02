"""Where a person is in earlier versions of `data/`, and what stages made from these."""

import hashlib
import io
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace

import pandas as pd

from facewright.datasets.card import CARD
from facewright.datasets.columns import DAMAGE
from facewright.datasets.decisions import CLEANING
from facewright.datasets.dvc_project import Project, Run, Tree
from facewright.datasets.erasing import Decisions, Person
from facewright.datasets.form import MANIFEST, PAIRS, TEMPLATES

COLUMNS = ["id", "identity", "person", "shard", "length", "sha256", "photo_sha256"]


@dataclass
class Traces:
    """The objects that hold a person, or were made from what holds them."""

    versions: list[str] = field(default_factory=list)  # md5 of folders that hold them
    objects: set[str] = field(default_factory=set)  # md5 of what is to be removed
    photos: set[str] = field(default_factory=set)  # sha256 of their photos in these versions
    stages: set[str] = field(default_factory=set)  # outputs in the folder, made from them
    crops: set[str] = field(default_factory=set)  # sha256 of manifests of crops made from them
    # Versions whose list or a manifest is nowhere: nobody can say whom they held.
    unread: list[str] = field(default_factory=list)
    unread_stages: set[str] = field(default_factory=set)  # as above, made from these alone
    unread_crops: set[str] = field(default_factory=set)
    strangers: list[str] = field(default_factory=list)  # lists that hold them, perhaps others'


def find_traces(
    project: Project, person: Person, *, decisions: Decisions, holding: Collection[str] = ()
) -> Traces:
    """Versions of `data/` that hold the person, what stages made from them, and all their objects.

    Of a version of `data/` these are the shards, manifests and pairs that hold them, the decisions
    that name them, and the list of its files. Of a stage's output they are all of its objects.
    `decisions` say which identities are meant by the names in earlier ones. `holding` are versions
    that an earlier run, which may have been killed, read and found to hold the person.
    """
    traces = Traces()
    folders = {oid: project.tree(oid) for oid in project.folders()}
    search = _Search(project, person, decisions)
    # First by name, so that the bytes are known in the second round.
    for known in filter(None, folders.values()):
        traces.photos |= search.folder(known).photos
    search = _Search(project, replace(person, photos=person.photos | traces.photos), decisions)
    for oid, tree in folders.items():
        part = Traces(unread=[oid]) if tree is None else search.folder(tree)
        traces.photos |= part.photos
        traces.objects |= part.objects
        if part.objects or oid in holding:
            traces.versions.append(oid)
            traces.objects.add(oid)
        elif part.unread:
            traces.unread.append(oid)
    traces.versions += sorted(set(holding) - set(traces.versions))
    for oid in project.strangers():
        part = search.folder(project.tree(oid) or {})
        if part.objects or part.unread:
            traces.strangers.append(oid)
    _follow(project, traces)
    return traces


def removable(project: Project, traces: Traces, *, also: Iterable[str] = ()) -> set[str]:
    """The objects of `traces` (and `also`) that nothing else needs.

    What the present `data.dvc` names stays, unless that version is still one that holds the person;
    so do present outputs of stages that were not made from one.
    """
    kept: set[str] = set()
    pinned = project.pinned()
    if pinned and pinned not in traces.versions:
        kept |= project.objects(pinned)
    for run in project.stages().values():
        for path, oid in run.outs.items():
            if path not in traces.stages:
                kept |= project.objects(oid)
    return (traces.objects | set(also)) - kept


class _Search:
    """Looks for a person in folders, into each manifest once."""

    def __init__(self, project: Project, person: Person, decisions: Decisions) -> None:
        self._project = project
        self._person = person
        self._decisions = decisions
        self._rows: dict[tuple[str, str], pd.DataFrame | None] = {}

    def folder(self, tree: Tree) -> Traces:
        """The objects of one folder that hold the person, and the photos in them."""
        found = Traces()
        images = set(self._person.images)
        for path in sorted(tree):
            folder, slash, name = path.rpartition("/")
            if name != MANIFEST or f"{folder}{slash}{CARD}" not in tree:
                continue
            rows = self._found(tree[path], dataset=folder)
            if rows is None:
                found.unread.append(path)
                continue
            if rows.empty:
                continue
            images |= {(folder, id) for id in rows["id"]}
            found.photos |= set(rows.loc[rows["length"] > 0, "sha256"])
            found.objects.add(tree[path])
            shards = [f"{folder}{slash}{shard}" for shard in rows["shard"].unique() if shard]
            found.objects |= {tree[shard] for shard in shards if shard in tree}
            named = set(rows["id"])
            templates = tree.get(f"{folder}{slash}{TEMPLATES}")
            pairs = tree.get(f"{folder}{slash}{PAIRS}")
            if templates:
                theirs = None
                with suppress(*DAMAGE):
                    theirs = _templates_of(self._project.read(templates), named)
                if theirs is None:  # nobody can say whose they are: both go
                    found.unread.append(path)
                    found.objects |= {oid for oid in (templates, pairs) if oid}
                    continue
                if theirs:
                    found.objects.add(templates)
                    named = theirs
            if pairs and _pairs_name(self._project.read(pairs), named):
                found.objects.add(pairs)
        if CLEANING in tree:
            data = self._project.read(tree[CLEANING]) or b""
            text = data.decode("utf-8-sig", "replace")
            if self._decisions.text_names(text, self._person, images=images):
                found.objects.add(tree[CLEANING])
        return found

    def _found(self, oid: str, *, dataset: str) -> pd.DataFrame | None:
        """The person's rows in a manifest; None where it is nowhere, or cannot be read."""
        if (dataset, oid) not in self._rows:
            data = self._project.read(oid)
            self._rows[dataset, oid] = None
            with suppress(*DAMAGE):  # another project's may be of another form
                if data is not None:
                    manifest = _table(data)
                    rows = self._person.rows(manifest, dataset=dataset)
                    self._rows[dataset, oid] = manifest[rows]
        return self._rows[dataset, oid]


def _table(data: bytes) -> pd.DataFrame:
    import pyarrow.parquet as pq

    there = pq.ParquetFile(io.BytesIO(data)).schema_arrow.names
    return pd.read_parquet(io.BytesIO(data), columns=[name for name in COLUMNS if name in there])


def _templates_of(data: bytes | None, ids: set[str]) -> set[str] | None:
    """The templates that have one of these images; None where the table is nowhere."""
    if data is None:
        return None
    rows = pd.read_parquet(io.BytesIO(data), columns=["id", "template"])
    return set(rows.loc[rows["id"].isin(ids), "template"])


def _pairs_name(data: bytes | None, ids: set[str]) -> bool:
    if data is None:
        return False
    pairs = pd.read_parquet(io.BytesIO(data), columns=["a", "b"])
    return bool((pairs["a"].isin(ids) | pairs["b"].isin(ids)).any())


def _follow(project: Project, traces: Traces) -> None:
    """Add what stages made from the versions that hold the person, from that in turn, and so on.

    What was made from versions that cannot be read is told apart.
    """
    runs = list(project.runs())
    made = _made_from(runs, traces.versions)
    # Crops that name the person are among the versions too; all of their objects go as well.
    for oid in made & {oid for run in runs for oid in run.outs.values()}:
        traces.objects |= project.objects(oid)
        traces.crops |= _digests(project.tree(oid) or {}, project.read)
    unread = _made_from(runs, traces.unread) - made
    for oid in unread:
        traces.unread_crops |= _digests(project.tree(oid) or {}, project.read)
    for run in project.stages().values():
        # Or crops that name the person, whatever they were made from.
        if run.deps & made or set(run.outs.values()) & set(traces.versions):
            traces.stages |= set(run.outs)
        elif run.deps & unread:
            traces.unread_stages |= set(run.outs)


def _made_from(runs: Iterable[Run], versions: Iterable[str]) -> set[str]:
    """`versions`, and all outputs to which they led."""
    made = set(versions)
    while outs := {oid for run in runs if run.deps & made for oid in run.outs.values()} - made:
        made |= outs
    return made


def _digests(tree: Tree, read: Callable[[str], bytes | None]) -> set[str]:
    """sha256 of the manifests of datasets in a stage's output, as recognizers' cards have them."""
    found = (read(oid) for path, oid in tree.items() if path.rpartition("/")[2] == MANIFEST)
    return {hashlib.sha256(data).hexdigest() for data in found if data is not None}
