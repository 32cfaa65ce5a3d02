"""Take a person out of everything: datasets, DVC's copies, what was made from them; with a receipt.

The receipt (see `datasets.receipts`) is written before anything is changed, so that the same
command completes what was killed.
"""

import difflib
import secrets
import shutil
from collections.abc import Collection
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

from facewright.datasets.dvc_project import Project, open_project
from facewright.datasets.elsewhere import find_elsewhere, without_name
from facewright.datasets.erasing import (
    Found,
    Person,
    check_rest,
    cleaning_lines,
    dataset_path,
    find_person,
    find_rows,
    parse_person,
    read_decisions,
    rewrite_cleaning,
)
from facewright.datasets.form import Dataset, all_datasets
from facewright.datasets.outputs import find_outputs, is_stage, stage_of, unreadable_tables
from facewright.datasets.receipts import Receipt, earlier_receipt, name_hash, write_receipt
from facewright.datasets.rewriting import check_whole, recover, remove_leftovers, rewrite_dataset
from facewright.datasets.versions import Traces, find_traces, removable
from facewright.errors import DatasetError, RegistryError
from facewright.progress import progress, say
from facewright.registry.descent import made_from, of_unknown_data, store_exists

ARTIFACTS = "artifacts"
ALWAYS_OUT_OF_REACH = (
    "git keeps the old commits of data.dvc; objects that were purged can no longer be pulled",
    "caches, clones and exports on other machines, backups, and versions that a bucket keeps",
    "MLflow: registered versions, and of runs the scores, which hold digests of photos and numbers "
    "for people, and the reports, which show faces where evaluate.show_faces was on",
    "Kubeflow: its object store keeps what every run put out (datasets, crops, models), and its "
    "cache gives that to later runs: delete the runs and their objects there",
    "photos of them that were encoded anew, cut or turned and stand under other names: only the "
    "same bytes are found; proposals.csv and its pages, which validate makes, show near copies",
    "models that are deployed: what they learned stays until they are replaced",
)
NO_STORE = "no MLflow store was found: set MLFLOW_TRACKING_URI and run the same command again"
ASSUMED = "made from a version that can no longer be read: assume that it held them"


def erase(
    identity: str,
    *,
    data: Path = Path("data"),
    purge: bool = False,
    yes: bool = False,
    ours: Collection[str] = (),
) -> str:
    """Find a person in everything that `data` and its DVC project hold, and take them out.

    Without `yes` nothing is changed. With it, the datasets are rewritten, `dvc add` pins them, and
    stage outputs that hold the person, or were made from them, are removed from the folder; with
    `purge` too, DVC's copies of all this leave the cache and the default remote. Returns what was
    found and done, as text.

    Args:
        identity: a name, in any spelling that `names.comparable` takes for the same, or
            `DATASET/NUMBER` for identities that are numbers.
        ours: md5 of lists of folders, in a cache or remote that others may share, which are
            versions of this `data` though git does not know them.

    Raises:
        DatasetError: nobody is so named, a dataset would be left empty, or DVC's cache or remote
            cannot be read.
    """
    if yes:
        recover(data)
    else:
        check_whole(data)
    with open_project(data) as project:
        if project:
            project.claim(ours)
        datasets = all_datasets(data)
        known = {dataset_path(data, dataset) for dataset in datasets}
        asked = parse_person(
            identity, data=data, known=known | (project.datasets() if project else set())
        )
        decisions = read_decisions(data, datasets=datasets)
        person = find_person(data, asked, datasets=datasets, decisions=decisions)
        old = earlier_receipt(data, asked)
        photos = set(old.get("photos_sha256", ()))
        for dataset in datasets:
            name = dataset_path(data, dataset)
            rows = dataset.manifest[person.named(dataset.manifest, dataset=name)]
            photos |= set(rows.loc[rows["length"] > 0, "sha256"])
        person = replace(person, photos=frozenset(photos))
        traces = Traces()
        if project:
            holding = old.get("data_md5", {}).get("holding", ())
            traces = find_traces(project, person, decisions=decisions, holding=holding)
        person = replace(person, photos=person.photos | traces.photos)
        found = find_rows(data, person, datasets=datasets)
        theirs = replace(person, photos=person.photos.union(*(one.photos for one in found)))
        root = data.parent  # where stages work, unless `data` is a link into a DVC project
        if project and project.root != root.resolve():
            root = project.root
        told_apart = _search_outputs(root / ARTIFACTS, project, theirs, traces, bool(found))
        objects = removable(project, traces, also=old.get("objects", ())) if project else set()
        if not (found or objects or old or traces.stages or told_apart):
            raise DatasetError(_nobody(identity, data, datasets))
        check_rest(found)
        if old and found and old["state"] == "done":
            old = {}  # they were brought in again
        receipt = _receipt(asked, person, found, traces, objects, old)
        lines = cleaning_lines(decisions, person, found)
        receipt["cleaning_rows"] = max(receipt["cleaning_rows"], len(lines))
        if project and not receipt["data_md5"]["before"]:
            receipt["data_md5"]["before"] = project.pinned()
        _add_models(receipt, traces, tracked=project is not None)
        receipt["not_reached"] += find_elsewhere(data, person, datasets=datasets, found=found)
        receipt["not_reached"] += [line for _, line in sorted(told_apart.items())]
        receipt["not_reached"] += [
            f"{without_name(file, theirs, below=root / ARTIFACTS)} cannot be read: make it anew"
            for file in unreadable_tables(root / ARTIFACTS)
        ]
        others = _others(root / ARTIFACTS, traces, told=told_apart)
        receipt["not_reached"] += _left(data, project, traces, receipt, others, theirs)
        sizes = _sizes(project, objects)
        told = _told(data, found, receipt, tracked=project is not None, sizes=sizes)
        there = any(sizes.values())
        if not yes:
            mend = "nothing was changed: add --yes to do it"
            if there and not purge:
                mend += ", and --purge to remove DVC's copies too"
            return "\n".join([*told, mend])
        if there and not purge:
            receipt["not_reached"].append("DVC's copies: the same command with --purge")
        receipt["state"] = "begun"
        path = write_receipt(data, receipt)
        remove_leftovers(data)
        # First what leads to the photos: their digests are in the receipt by now.
        rewrite_cleaning(decisions, lines)
        for one in progress(found, total=len(found), label="erase: datasets"):
            rewrite_dataset(one)
        if project:
            receipt["data_md5"]["after"] = project.add()
        _remove_outputs(root.resolve(), traces)
        if project and purge:
            _purge(project, traces, receipt)
        receipt["state"] = "done"
        write_receipt(data, receipt)
        told += _next(path, receipt, tracked=project is not None, left=there and not purge)
    return "\n".join(told)


def _sizes(project: Project | None, objects: set[str]) -> dict[str, dict[str, int]]:
    """Bytes of the objects that are there, in the cache and on the default remote."""
    if project is None:
        return {}
    places = {"cache": project.local, "default remote": project.remote}
    return {name: project.sizes(odb, objects) for name, odb in places.items() if odb is not None}


def _search_outputs(
    artifacts: Path, project: Project | None, person: Person, traces: Traces, in_data: bool
) -> dict[Path, str]:
    """Add to `traces` the stage outputs that are seen to hold the person; see `find_outputs`.

    Returns a line for each other folder in `artifacts` that does.
    """
    held, crops = find_outputs(artifacts, person, in_data=in_data)
    traces.crops |= crops
    locked = project.stages().values() if project else ()
    outs = {path: oid for run in locked for path, oid in run.outs.items()}
    others = {}
    for folder in held:
        output = f"{ARTIFACTS}/{stage_of(folder)}"
        if output in outs or is_stage(folder):
            traces.stages.add(output)
            traces.unread_stages.discard(output)
        else:
            shown = without_name(folder.relative_to(artifacts), person, below=artifacts)
            others[folder] = f"{shown}, which holds or names them: remove it by hand"
        if project and output in outs:
            traces.objects |= project.objects(outs[output])
    return others


def _remove_outputs(root: Path, traces: Traces) -> None:
    """Remove stage outputs that were made from the person; `dvc repro` makes them anew."""
    for output in sorted(traces.stages):
        path = root / output
        if not path.resolve().parent.is_relative_to(root):
            continue
        # Beside an output may lie its checkpoints, and what a killed run left.
        for each in (path, *path.parent.glob(f".{path.name}.*")):
            if each.is_symlink() or each.is_file():
                each.unlink()
            elif each.exists():
                shutil.rmtree(each)


def _purge(project: Project, traces: Traces, receipt: Receipt) -> None:
    """Remove the objects, on the remote first: the local ones tell what to look for there."""
    objects = removable(project, traces, also=receipt["objects"])
    for where, odb in (("remote", project.remote), ("local", project.local)):
        if odb is not None:
            gone = project.remove(odb, objects)
            done = receipt["removed"][where]
            done["objects"] += len(gone)
            done["bytes"] += sum(gone.values())


def _receipt(
    asked: Person,
    person: Person,
    found: list[Found],
    traces: Traces,
    objects: set[str],
    old: Receipt,
) -> Receipt:
    """The receipt of this run; what an earlier one that was not completed has seen stays in it."""
    salt = old["person"]["salt"] if old else secrets.token_hex(16)
    datasets = {
        one.name or ".": {
            "images": int(one.gone.sum()),
            "identities": len(one.identities),
            "pairs": int(one.gone_pairs.sum()),
            "shards_rewritten": one.shards,
        }
        for one in found
    }
    photos = person.photos | {digest for one in found for digest in one.photos}
    nothing = {"objects": 0, "bytes": 0}
    versions = old.get("data_md5", {})
    holding = {*versions.get("holding", ()), *traces.versions}
    return {
        "person": {"salt": salt, "scrypt": name_hash(asked, salt)},
        "date": old.get("date") or datetime.now(UTC).date().isoformat(),
        "datasets": old.get("datasets", {}) | datasets,
        "cleaning_rows": old.get("cleaning_rows", 0),
        "photos_sha256": sorted(photos),
        "data_md5": {
            "holding": sorted(holding),
            "unread": sorted({*versions.get("unread", ()), *traces.unread} - holding),
            "before": versions.get("before", ""),
            "after": "",
        },
        "crops_sha256": sorted({*old.get("crops_sha256", ()), *traces.crops}),
        "objects": sorted({*old.get("objects", ()), *objects}),
        "removed": old.get("removed") or {"local": dict(nothing), "remote": dict(nothing)},
        "stage_outputs": sorted({*old.get("stage_outputs", ()), *traces.stages}),
        "stage_outputs_of_unread": sorted(traces.unread_stages),
        "models": old.get("models"),  # None: MLflow was not asked
        "models_of_unread": old.get("models_of_unread"),
        "retrain": [],
        "not_reached": list(ALWAYS_OUT_OF_REACH),
    }


def _add_models(receipt: Receipt, traces: Traces, *, tracked: bool) -> None:
    """Registered versions made from what held the person, and what to train again."""
    versions, left = receipt["data_md5"], receipt["not_reached"]
    try:
        if store_exists():
            known = made_from(data_md5=versions["holding"], crops=receipt["crops_sha256"])
            assumed = made_from(data_md5=versions["unread"], crops=traces.unread_crops)
            receipt["models"] = [asdict(model) for model in known]
            receipt["models_of_unread"] = [asdict(one) for one in assumed if one not in known]
            why = "its data is unknown" if tracked else "without DVC its data is unknown"
            left += [f"{one}: {why}" for one in of_unknown_data() if one not in known + assumed]
        else:
            say(f"erase: {NO_STORE}")
            left.append(NO_STORE)
    except RegistryError as error:
        say(f"erase: {error}")
        left.append("MLflow could not be asked; the same command asks it again")
    retrain = [f"{one['model']} version {one['version']}" for one in receipt["models"] or ()]
    for one in receipt["models_of_unread"] or ():
        retrain.append(f"{one['model']} version {one['version']}, {ASSUMED}")
    if receipt["stage_outputs"] or receipt["stage_outputs_of_unread"]:
        retrain.append("the graph of stages: dvc repro")
    receipt["retrain"] = retrain


def _others(artifacts: Path, traces: Traces, *, told: Collection[Path]) -> list[Path]:
    """The folders there that stay, but for those `told` already."""
    return [
        folder
        for folder in sorted(artifacts.glob("*/"))
        if folder not in told and f"{ARTIFACTS}/{stage_of(folder)}" not in traces.stages
    ]


def _left(
    data: Path,
    project: Project | None,
    traces: Traces,
    receipt: Receipt,
    others: list[Path],
    person: Person,
) -> list[str]:
    """What lies here and was not touched; `others` are folders in `artifacts`."""
    shown = {
        folder: without_name(Path(folder.name), person, below=folder.parent) for folder in others
    }
    if project is None:
        return [
            f"{name}: without DVC nobody can tell from what it was made" for name in shown.values()
        ]
    left = list(project.unreached)
    if traces.strangers:
        left.append(
            "lists in DVC's cache or remote of folders that hold them too (or cannot be read), "
            f"unknown to git, so that they may be another project's; for versions of "
            f"{data.as_posix()} say so with --ours: {', '.join(traces.strangers)}"
        )
    unread = receipt["data_md5"]["unread"]
    if unread:
        left.append(
            f"earlier versions of {data.as_posix()} of which the list or a manifest is neither in "
            f"the cache nor on the remote: {len(unread)}"
        )
    left += [f"{output}, {ASSUMED}" for output in sorted(traces.unread_stages)]
    left += [f"{file}: what DVC tracks there was not searched" for file in project.also_tracked()]
    known = {Path(out).name for run in project.stages().values() for out in run.outs}
    for folder, name in shown.items():
        if stage_of(folder) not in known:
            left.append(f"{name}, of which dvc.lock does not say its origin")
    return left


def _told(
    data: Path,
    found: list[Found],
    receipt: Receipt,
    *,
    tracked: bool,
    sizes: dict[str, dict[str, int]],
) -> list[str]:
    """What was found, for a person to read; here names may stand."""
    lines = []
    for one in found:
        who = ", ".join(f"{name} ({count})" for name, count in one.identities.items())
        shards = one.dataset.manifest["shard"].replace("", None).nunique()
        pairs = f", {one.gone_pairs.sum()} of {len(one.gone_pairs)} pairs"
        lines.append(
            f"{data / one.name}: {one.gone.sum()} images as {who}, in {len(one.shards)} of "
            f"{shards} shards" + (pairs if len(one.gone_pairs) else "")
        )
    if not found:
        lines.append(f"{data}: nobody so named is left")
    if receipt["cleaning_rows"]:
        lines.append(f"{data / 'cleaning.csv'}: {receipt['cleaning_rows']} rows")
    if not tracked:
        lines.append(f"{data} is not tracked by DVC: no copies to look for")
    for where, there in sizes.items():
        lines.append(f"DVC {where}: {len(there)} objects, {sum(there.values()) / 1e6:.1f} MB")
    if receipt["stage_outputs"]:
        lines.append(f"made from them: {', '.join(receipt['stage_outputs'])}")
    for key, why in (("models", ""), ("models_of_unread", f", {ASSUMED}")):
        for model in receipt[key] or ():
            alias = f" ({', '.join(model['aliases'])})" if model["aliases"] else ""
            lines.append(f"registered: {model['model']} version {model['version']}{alias}{why}")
    lines += [
        f"not reached: {line}"
        for line in receipt["not_reached"]
        if line not in (*ALWAYS_OUT_OF_REACH, NO_STORE)  # that was said
    ]
    return lines


def _next(path: Path, receipt: Receipt, *, tracked: bool, left: bool) -> list[str]:
    lines = []
    for where, done in receipt["removed"].items():
        if done["objects"]:
            lines.append(
                f"purged, {where}: {done['objects']} objects, {done['bytes'] / 1e6:.1f} MB"
            )
    lines.append(f"receipt: {path}")
    if tracked:
        lines.append(f"next: commit data.dvc and {path} in git, dvc repro, dvc push")
    if left:
        lines.append("DVC's copies are still there: the same command with --purge removes them")
    return lines


def _nobody(identity: str, data: Path, datasets: list[Dataset]) -> str:
    names = {name for d in datasets for name in d.manifest["identity"].unique()}
    near = difflib.get_close_matches(identity, sorted(names), n=3)
    hint = f"; there is {', '.join(map(repr, near))}" if near else ""
    return f"nobody in {data} or its earlier versions is named {identity!r}{hint}: check the name"
