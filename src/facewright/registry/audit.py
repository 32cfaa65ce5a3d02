"""What is wrong with a ledger, and with MLflow where it says something else; and its exports."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from facewright.errors import FacewrightError, RegistryError, StorageError
from facewright.files import storage_errors
from facewright.progress import progress
from facewright.registry.chain import DECISIONS, Ledger, examine, named
from facewright.registry.decision import Decision
from facewright.registry.ledger import hint, read_ledger
from facewright.registry.ledger_keys import trusted_keys
from facewright.registry.server import registry_errors
from facewright.registry.tracking import connect
from facewright.registry.versions import (
    CHAMPION,
    OUTCOME,
    Version,
    all_versions,
    get_aliases,
    get_decision,
)
from facewright.registry.vouching import check_place, file_faults


def verify(model: str, *, extends: Path | None = None, files: bool = False) -> Ledger:
    """The ledger with all that is wrong with it, and with MLflow where it says something else.

    Beside the chain: the alias `champion` is the last entry's, all versions were entered and their
    present decision is the last that was, versions still say the origin that was entered with them
    and lie where they did, the gate's decisions are those that were, and what MLflow loads of the
    champion is what was registered.

    Args:
        extends: an earlier export, which the ledger must begin with: the chain alone cannot tell
            that its last entries were taken away.
        files: download all files of every version too.

    Raises:
        RegistryError: the server cannot be used, or there is no such model or file.
    """
    client = connect()
    with registry_errors(f"the ledger of {model} cannot be verified"):
        alias = get_aliases(client, model).get(CHAMPION)
        ledger = read_ledger(client, model)
        faults = [*ledger.faults]
        earlier = _read(extends)[0] if extends else []
        if extends and not earlier:
            faults.append(f"{extends} holds no entry")
        for number, line in enumerate(earlier, 1):
            if ledger.lines[number - 1 : number] != (line,):
                faults.append(f"entry {number}: it is not the one in {extends}")
        there = all_versions(client, model)
        serving = ledger.standing.champion
        if alias != serving:
            faults.append(
                f"champion is {named(alias)} in MLflow, and {named(serving)} by the ledger's last "
                f"entry: {hint(serving, there=serving in there)}"
            )
        faults += _unlike_entries(client, ledger, there)
        known = [version for version in there.values() if ledger.of(version.version)]
        for version in there.values():
            if version not in known:
                faults.append(
                    f"version {version.version} is in no entry: made without facewright, or by a "
                    "command that was killed: run gate and register again, or delete it"
                )
            elif not ledger.decided(
                version.version, evidence=version.evidence, outcome=version.tags.get(OUTCOME, "")
            ):
                faults.append(
                    f"version {version.version}: its present decision, "
                    f"{version.evidence[:12] or 'none'}…, is not the last one that was entered: "
                    "run gate and register again"
                )
        if files:
            label = f"{model}: versions verified"
            for version in progress(known, total=len(known), label=label):
                faults += _unlike_files(client, version)
        elif serving in there:
            faults += _unlike_files(client, there[serving], loaded=True)
        return replace(ledger, faults=tuple(faults))


def verify_file(path: Path) -> Ledger:
    """The same of an export, as far as a file can tell: numbers, chain, signatures, keys.

    Raises:
        RegistryError: there is no such file.
    """
    lines, cut_off = _read(path)
    ledger = examine(lines, model=None, trusted=trusted_keys())
    if not lines:
        return replace(ledger, faults=(f"{path} holds no entry",))
    if not cut_off:
        return ledger
    return replace(ledger, faults=(*ledger.faults, f"entry {len(lines)}: its line has no end"))


def export(model: str, path: Path) -> int:
    """Write all entries to a file, a line of JSON each; returns their number.

    They are written as they are: `verify_file` says what is wrong with them.

    Raises:
        RegistryError: the server cannot be used, or there is no ledger of that model.
        StorageError: the file cannot be written.
    """
    client = connect()
    with registry_errors(f"the ledger of {model} cannot be exported"):
        ledger = read_ledger(client, model)
    if not ledger.lines:
        raise RegistryError(f"{model} has no ledger: register a version first")
    if not path.parent.is_dir() or path.is_dir():
        raise StorageError(f"{path} cannot be written: name a file in a folder that is there")
    partial = path.with_name(f".{path.name}.partial")
    with storage_errors(path):
        partial.write_text("".join(f"{line}\n" for line in ledger.lines), encoding="ascii")
        partial.replace(path)
    return len(ledger.lines)


def _read(path: Path) -> tuple[list[str], bool]:
    """The lines of an export, and whether the last one lacks its end."""
    try:
        with storage_errors(path):
            text = path.read_bytes().decode("ascii", errors="replace")
    except OSError as error:
        raise RegistryError(f"{path} cannot be read ({error.strerror}): name an export") from error
    *lines, rest = text.split("\n")
    return ([*lines, rest], True) if rest else (lines, False)


def _unlike_entries(client: Any, ledger: Ledger, there: Mapping[int, Version]) -> list[str]:
    """Versions and decisions that are not as entered; versions that are gone pass."""
    faults: list[str] = []
    seen: dict[tuple[int, str, str], str] = {}  # the outcome of its decision, or ""
    for entry in ledger.entries:
        version = there.get(entry.version)
        if version is None:
            continue
        what = f"entry {entry.number}: version {entry.version}"
        if entry.action == "retire":
            faults.append(f"{what} is said to be deleted, and is there")
        this = entry.version, entry.lineage, entry.evidence
        known = this in seen
        if not known:
            seen[this], refused = _decided(client, version, entry.evidence)
        says = seen[this]
        if entry.action in (*DECISIONS, "promote") and says and says != entry.outcome:
            faults.append(f"{what} has the outcome {entry.outcome!r}, and its decision {says!r}")
        if known:
            continue
        if version.lineage != entry.lineage:
            faults.append(f"{what} says another origin now: its tags, or its run, were changed")
        elif entry == ledger.of(entry.version)[0]:
            faults += [f"{what}: {fault}" for fault in _refused(check_place, client, version)]
        for fault in refused:
            faults.append(f"{what} has not the decision {entry.evidence[:12]}…: {fault}")
    return faults


def _decided(client: Any, version: Version, evidence: str) -> tuple[str, list[str]]:
    """The outcome of a decision, or "" and what is wrong with it."""
    found: list[Decision] = []
    refused = _refused(lambda: found.append(get_decision(client, version, evidence)))
    return (found[0].outcome if found else ""), refused


def _unlike_files(client: Any, version: Version, *, loaded: bool = False) -> list[str]:
    """What is wrong with the files of a version, or with those that MLflow loads of it."""
    found: list[str] = []
    refused = _refused(lambda: found.extend(file_faults(client, version, loaded=loaded)))
    return [f"version {version.version}: {fault}" for fault in (*found, *refused)]


def _refused(check: Callable[..., object], *arguments: Any) -> list[str]:
    """What a check has against something, in a line or none."""
    try:
        with registry_errors("it cannot be read"):
            check(*arguments)
    except FacewrightError as error:
        return [str(error)]
    return []
