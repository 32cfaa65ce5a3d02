"""Take a person out of everything: datasets, DVC's copies, what was made from them; with a receipt.

A receipt is a JSON file in `docs/erasures/`, to be committed with `data.dvc`: beside the data it could
not name the data's new hash, and `artifacts/` is rebuilt by every run. It holds no name, only a
salted scrypt hash of it (RFC 7914, n 2^14, r 8, p 1), by which whoever knows the name finds it.
It is written before anything is changed, so that the same command completes what was killed.
"""

import difflib
import hashlib
import json
import secrets
import shutil
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from facewright.datasets.erasing import (
    Found,
    Person,
    check_rest,
    cleaning_rows,
    find_person,
    find_rows,
    parse_person,
    recover,
    rewrite_cleaning,
    rewrite_dataset,
)
from facewright.datasets.form import Dataset, all_datasets
from facewright.datasets.versions import Copies, Project, find_copies, open_project, removable
from facewright.errors import DatasetError, RegistryError
from facewright.files import write_json
from facewright.progress import progress, say
from facewright.registry.descent import made_from

RECEIPTS = "docs/erasures"
ARTIFACTS = "artifacts"
ALWAYS_OUT_OF_REACH = (
    "git keeps the old commits of data.dvc; objects that were purged can no longer be pulled",
    "caches, clones and exports on other machines, backups, and versions that a bucket keeps",
    "MLflow: registered versions, and the scores and reports of runs, which name images",
    "models that are deployed: what they learned stays until they are replaced",
)
Receipt = dict[str, Any]


def erase(
    identity: str, *, data: Path = Path("data"), purge: bool = False, yes: bool = False
) -> str:
    """Find a person in everything that `data` and its DVC project hold, and take them out.

    Without `yes` nothing is changed. With it, the datasets are rewritten and `dvc add` pins them;
    with `purge` too, DVC's copies leave the cache and the default remote, and stage outputs that
    were made from the person go as well. Returns what was found and done, as text.

    Args:
        identity: a name, in any spelling that `names.comparable` takes for the same, or
            `DATASET/NUMBER` for identities that are numbers.

    Raises:
        DatasetError: nobody is so named, a dataset would be left empty, or DVC's cache or remote
            cannot be read.
    """
    asked = parse_person(identity)
    recover(data, clean=False)
    with open_project(data) as project:
        datasets = all_datasets(data)
        person = find_person(data, asked, datasets=datasets)
        old = _earlier(data, asked)
        photos = set(old.get("photos_sha256", ()))
        for dataset in datasets:
            rows = dataset.manifest[person.named(dataset.manifest, dataset=dataset.root.name)]
            photos |= set(rows.loc[rows["length"] > 0, "sha256"])
        person = replace(person, photos=frozenset(photos))
        copies = find_copies(project, person) if project else Copies()
        person = replace(person, photos=person.photos | copies.photos)
        found = find_rows(data, person, datasets=datasets)
        objects = removable(project, copies, also=old.get("objects", ())) if project else set()
        if not (found or objects or old):
            raise DatasetError(_nobody(identity, data, datasets))
        check_rest(found)
        if old and found and old["state"] == "done":
            old = {}  # they were brought in again
        receipt = _receipt(asked, person, found, copies, objects, old)
        receipt["cleaning_rows"] = max(receipt["cleaning_rows"], cleaning_rows(data, person, found))
        if project and not receipt["data_md5"]["before"]:
            receipt["data_md5"]["before"] = project.pinned()
        _add_models(receipt)
        sizes = _sizes(project, objects)
        told = _told(data, found, receipt, tracked=project is not None, sizes=sizes)
        there = any(sizes.values())
        if not yes:
            mend = "nothing was changed: add --yes to do it"
            if there and not purge:
                mend += ", and --purge to remove DVC's copies and the stage outputs too"
            return "\n".join([*told, mend])
        receipt["state"] = "begun"
        path = _write(data, receipt)
        recover(data, clean=True)
        # First what leads to the photos: their digests are in the receipt by now.
        rewrite_cleaning(data, person, found)
        for one in progress(found, total=len(found), label="erase: datasets"):
            rewrite_dataset(one)
        if project:
            receipt["data_md5"]["after"] = project.add()
            if purge:
                _purge(project, copies, receipt)
            if there and not purge:
                receipt["not_reached"].append("DVC's copies: the same command with --purge")
            receipt["not_reached"] += _left(project, copies)
        receipt["state"] = "done"
        _write(data, receipt)
        told += _next(path, receipt, tracked=project is not None, left=there and not purge)
    return "\n".join(told)


def _sizes(project: Project | None, objects: set[str]) -> dict[str, dict[str, int]]:
    """Bytes of the objects that are there, in the cache and on the default remote."""
    if project is None:
        return {}
    places = {"cache": project.local, "default remote": project.remote}
    return {name: project.sizes(odb, objects) for name, odb in places.items() if odb is not None}


def _purge(project: Project, copies: Copies, receipt: Receipt) -> None:
    """Remove the objects, on the remote first: the local ones tell what to look for there."""
    objects = removable(project, copies, also=receipt["objects"])
    for where, odb in (("remote", project.remote), ("local", project.local)):
        if odb is not None:
            gone = project.remove(odb, objects)
            done = receipt["removed"][where]
            done["objects"] += len(gone)
            done["bytes"] += sum(gone.values())
    for output in copies.stages:
        path = project.root / output
        if not path.resolve().parent.is_relative_to(project.root):
            continue
        # Beside an output may lie its checkpoints, and what a killed run left.
        for each in (path, *path.parent.glob(f".{path.name}.*")):
            if each.is_symlink() or each.is_file():
                each.unlink()
            elif each.exists():
                shutil.rmtree(each)


def _receipt(
    asked: Person,
    person: Person,
    found: list[Found],
    copies: Copies,
    objects: set[str],
    old: Receipt,
) -> Receipt:
    """The receipt of this run; what an earlier one that was not completed has seen stays in it."""
    salt = old["person"]["salt"] if old else secrets.token_hex(16)
    datasets = {
        one.name: {
            "images": int(one.gone.sum()),
            "identities": len(one.identities),
            "pairs": int(one.gone_pairs.sum()),
            "shards_rewritten": one.shards,
        }
        for one in found
    }
    photos = person.photos | {digest for one in found for digest in one.photos}
    nothing = {"objects": 0, "bytes": 0}
    return {
        "person": {"salt": salt, "scrypt": _hash(asked, salt)},
        "date": old.get("date") or datetime.now(UTC).date().isoformat(),
        "datasets": old.get("datasets", {}) | datasets,
        "cleaning_rows": old.get("cleaning_rows", 0),
        "photos_sha256": sorted(photos),
        "data_md5": {
            "holding": sorted({*old.get("data_md5", {}).get("holding", ()), *copies.versions}),
            "before": old.get("data_md5", {}).get("before", ""),
            "after": "",
        },
        "crops_sha256": sorted({*old.get("crops_sha256", ()), *copies.crops}),
        "objects": sorted(objects),
        "removed": old.get("removed") or {"local": dict(nothing), "remote": dict(nothing)},
        "stage_outputs": sorted({*old.get("stage_outputs", ()), *copies.stages}),
        "models": old.get("models", []),
        "retrain": old.get("retrain", []),
        "not_reached": list(ALWAYS_OUT_OF_REACH),
    }


def _add_models(receipt: Receipt) -> None:
    """Registered versions made from what held the person, and what to train again."""
    holding = receipt["data_md5"]["holding"]
    try:
        models = made_from(data_md5=holding, crops=receipt["crops_sha256"])
    except RegistryError as error:
        say(f"erase: {error}")
        receipt["not_reached"].append("MLflow could not be asked; the same command asks it again")
        return
    receipt["models"] = [asdict(model) for model in models]
    receipt["retrain"] = [f"{model.model} version {model.version}" for model in models]
    if receipt["stage_outputs"]:
        receipt["retrain"].append("the graph of stages: dvc repro")


def _left(project: Project, copies: Copies) -> list[str]:
    """What this project holds that was not touched."""
    left = list(project.unreached)
    if copies.unread:
        left.append(
            f"{len(copies.unread)} old versions of data/ whose manifests are neither in the cache "
            "nor on the remote"
        )
    known = {Path(out).name for run in project.stages().values() for out in run.outs}
    for folder in sorted((project.root / ARTIFACTS).glob("*/")):
        if folder.name.removeprefix(".").split(".")[0] not in known:
            left.append(f"{ARTIFACTS}/{folder.name}, of which dvc.lock does not say its origin")
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
        made = sorted(path.as_posix() for path in (data.parent / ARTIFACTS).glob("*/"))
        if made:
            lines.append(f"made from {data}, as far as can be told: {', '.join(made)}")
        return lines
    for where, there in sizes.items():
        lines.append(f"DVC {where}: {len(there)} objects, {sum(there.values()) / 1e6:.1f} MB")
    if receipt["stage_outputs"]:
        lines.append(f"made from them: {', '.join(receipt['stage_outputs'])}")
    for model in receipt["models"]:
        alias = f" ({', '.join(model['aliases'])})" if model["aliases"] else ""
        lines.append(f"registered: {model['model']} version {model['version']}{alias}")
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
        lines.append(f"next: commit data.dvc and {path} in git, dvc push, dvc repro")
    if left:
        lines.append("DVC's copies are still there: the same command with --purge removes them")
    return lines


def _write(data: Path, receipt: Receipt) -> Path:
    folder = data.parent / RECEIPTS
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{receipt['date']}-{receipt['person']['scrypt'][:8]}.json"
    write_json(path, receipt)
    return path


def _earlier(data: Path, asked: Person) -> Receipt:
    """The last receipt about this person; empty without one."""
    for path in sorted((data.parent / RECEIPTS).glob("*.json"), reverse=True):
        try:
            receipt: Receipt = json.loads(path.read_text(encoding="utf-8"))
            if _hash(asked, receipt["person"]["salt"]) == receipt["person"]["scrypt"]:
                return receipt
        except (ValueError, KeyError, TypeError) as error:
            raise DatasetError(f"{path} is no receipt ({error}): restore it from git") from error
    return {}


def _hash(asked: Person, salt: str) -> str:
    known = [*asked.names, *(f"{dataset}/{label}" for dataset, label in asked.labels)]
    return hashlib.scrypt(
        "\n".join(sorted(known)).encode(), salt=bytes.fromhex(salt), n=2**14, r=8, p=1, dklen=32
    ).hex()


def _nobody(identity: str, data: Path, datasets: list[Dataset]) -> str:
    names = {name for d in datasets for name in d.manifest["identity"].unique()}
    near = difflib.get_close_matches(identity, sorted(names), n=3)
    hint = f"; there is {', '.join(map(repr, near))}" if near else ""
    return f"nobody in {data} or its earlier versions is named {identity!r}{hint}: check the name"
