"""The ledger: who registered, rejected, promoted or rolled back which version, when and why.

A ledger is a chain of signed entries (see `chain`) in MLflow's database, one per registered model:

    experiment facewright-ledger/MODEL    its name is unique, so there is one
    its one run                           parameter 000001, 000002, …: an entry each, as JSON

MLflow sets a run's parameter once and never changes it, whoever asks, in one step of the database.
Entry N is therefore written by one of all who try, and the others are told. Why so, and what it
cannot do: docs/decisions/ledger.md.
"""

import secrets
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from facewright.errors import RegistryError, StorageError
from facewright.files import storage_errors
from facewright.progress import say
from facewright.registry.chain import REASON_LENGTH, Draft, Entry, Ledger, examine, named, sign
from facewright.registry.ledger_keys import Signer, signer, trust, trusted_keys, untrusted
from facewright.registry.server import registry_errors
from facewright.registry.tracking import connect
from facewright.registry.versions import CHAMPION, all_versions, get_aliases, get_decision

PREFIX = "facewright-ledger"  # of the experiment's name
TAG = "facewright.ledger"  # on the run: the model
LARGEST_GAP = 100  # missing entries that are told one by one
TRIES = 100  # to find a number that nobody else takes at the same moment
CHECK = "look with `facewright ledger verify`"


def read_ledger(client: Any, model: str) -> Ledger:
    """The ledger of a model, examined; empty where nothing was written yet.

    Raises:
        RegistryError: MLflow says that it was deleted, or holds two.
    """
    found = _find(client, model)
    if found is None:
        return examine((), model=model, trusted={})
    params = dict(found.data.params)
    known = {_key(n): n for n in range(1, len(params) + LARGEST_GAP) if _key(n) in params}
    lines = [params.get(_key(n), "") for n in range(1, max(known.values(), default=0) + 1)]
    ledger = examine(lines, model=model, trusted=trusted_keys(), run_id=found.info.run_id)
    strange = sorted(set(params) - set(known))
    if not strange:
        return ledger
    fault = f"parameter {strange[0]!r} of the ledger's run is no entry's number"
    return replace(ledger, faults=(*ledger.faults, fault))


def sound_ledger(client: Any, model: str) -> Ledger:
    """The same, or the first fault as an error: nothing is built on a ledger that was changed.

    Raises:
        RegistryError: as above, or the ledger does not verify.
    """
    ledger = read_ledger(client, model)
    if ledger.faults:
        raise RegistryError(f"the ledger of {model} does not verify: {ledger.faults[0]}; {CHECK}")
    return ledger


def append(
    client: Any, model: str, draft: Draft, *, needed: Callable[[Ledger], bool]
) -> Entry | None:
    """Write an entry as the next one, however many others write at the same moment.

    Args:
        needed: is asked before each try with the ledger as it is then: False writes nothing, an
            error refuses.

    Returns:
        The entry, or None where it was not needed.

    Raises:
        RegistryError: the ledger does not verify, this person's key is not trusted, the reason is
            too long, or `needed` refuses.
    """
    if len(draft.reason) > REASON_LENGTH:
        raise RegistryError(
            f"the reason has {len(draft.reason)} characters: write at most {REASON_LENGTH}"
        )
    for _ in range(TRIES):
        ledger = sound_ledger(client, model)
        if not needed(ledger):
            return None
        mine = _allowed_signer(ledger)
        run_id = ledger.run_id or _begin(client, model)
        entry = sign(draft, ledger, mine)
        if _claimed(client, run_id, entry):
            return entry
    raise RegistryError(f"{TRIES} others wrote the ledger of {model} first: run this again")


def verify(model: str, *, extends: Path | None = None) -> Ledger:
    """The ledger with all that is wrong with it, and with MLflow where it says something else.

    Beside the chain: the alias `champion` is the last entry's, versions still say the origin that
    was entered with them, and the gate's decisions are those that were.

    Args:
        extends: an earlier export, which the ledger must begin with: the chain alone cannot tell
            that its last entries were taken away.

    Raises:
        RegistryError: the server cannot be used, or there is no such model or file.
    """
    client = connect()
    with registry_errors(f"the ledger of {model} cannot be verified"):
        alias = get_aliases(client, model).get(CHAMPION)
        ledger = read_ledger(client, model)
        faults = [*ledger.faults]
        for number, line in enumerate(_read(extends)[0] if extends else (), 1):
            if ledger.lines[number - 1 : number] != (line,):
                faults.append(f"entry {number}: it is not the one in {extends}")
        serving = ledger.standing.champion
        if alias != serving:
            faults.append(
                f"champion is {named(alias)} in MLflow, and {named(serving)} by the ledger's last "
                f"entry: {hint(serving, alias)}"
            )
        faults += _strangers(client, ledger)
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


def hint(serving: int | None, alias: int | None) -> str:
    """What to do where the ledger and the alias disagree on the champion."""
    if serving is not None:
        return f"`facewright promote {serving}` puts the alias back"
    return f"`facewright promote {alias}` enters it, if the gate let it pass"


def _read(path: Path) -> tuple[list[str], bool]:
    """The lines of an export, and whether the last one lacks its end."""
    try:
        with storage_errors(path):
            text = path.read_bytes().decode("ascii", errors="replace")
    except OSError as error:
        raise RegistryError(f"{path} cannot be read ({error.strerror}): name an export") from error
    *lines, rest = text.split("\n")
    return ([*lines, rest], True) if rest else (lines, False)


def _strangers(client: Any, ledger: Ledger) -> list[str]:
    """Versions and decisions that are not those of their entries; versions that are gone pass."""
    there = all_versions(client, ledger.model)
    faults, seen = [], set()
    for entry in ledger.entries:
        version = there.get(entry.version)
        if version is None or (entry.version, entry.lineage, entry.evidence) in seen:
            continue
        seen.add((entry.version, entry.lineage, entry.evidence))
        what = f"entry {entry.number}: version {entry.version}"
        if version.lineage != entry.lineage:
            faults.append(f"{what} says another origin now: its tags were changed")
        try:
            with registry_errors("it is missing"):
                get_decision(client, version, entry.evidence)
        except RegistryError as error:
            faults.append(f"{what} has not the decision {entry.evidence[:12]}…: {error}")
    return faults


def _allowed_signer(ledger: Ledger) -> Signer:
    """This person's key, if it is trusted; the first one of all is, from its first use on."""
    mine, trusted = signer(), trusted_keys()
    if mine.id not in trusted:
        if trusted or ledger.entries:
            raise untrusted(mine, trusted)
        path = trust(mine)
        say(f"ledger: {ledger.model} has no ledger yet; {path} is trusted from now on: commit it")
    return mine


def _find(client: Any, model: str) -> Any:
    """The run of the ledger with its parameters, or None."""
    from mlflow.entities import ViewType

    found = client.get_experiment_by_name(f"{PREFIX}/{model}")
    if found is None:
        return None
    if found.lifecycle_stage != "active":
        raise RegistryError(
            f"the ledger of {model} was deleted in MLflow: restore it with "
            f"`mlflow experiments restore --experiment-id {found.experiment_id}`"
        )
    runs = client.search_runs([found.experiment_id], run_view_type=ViewType.ALL)
    ledgers = [run for run in runs if run.data.tags.get(TAG) == model]
    if len(ledgers) != 1:
        raise RegistryError(
            f"MLflow experiment {found.name!r} holds {len(ledgers)} ledgers in place of one: "
            "somebody added or removed one"
        )
    if ledgers[0].info.lifecycle_stage != "active":
        raise RegistryError(
            f"the ledger of {model} was deleted in MLflow: restore it with "
            f"`mlflow runs restore --run-id {ledgers[0].info.run_id}`"
        )
    return ledgers[0]


def _begin(client: Any, model: str) -> str:
    """The id of the ledger's run. Made under another name; one of all who do takes the name."""
    from mlflow.exceptions import MlflowException

    name = f"{PREFIX}/{model}"
    note = f"Who promoted which version of {model}: `facewright history`. Never delete this."
    apart = client.create_experiment(
        f"{name}, being made ({secrets.token_hex(4)})", tags={"mlflow.note.content": note}
    )
    run = client.create_run(apart, run_name="ledger", tags={TAG: model})
    client.set_terminated(run.info.run_id, "FINISHED")
    try:
        client.rename_experiment(apart, name)
    except MlflowException:  # another was first, or the server's answer was lost
        if (found := _find(client, model)) is None:
            raise
        if found.info.run_id != run.info.run_id:
            client.delete_experiment(apart)
        return str(found.info.run_id)
    return str(run.info.run_id)


def _claimed(client: Any, run_id: str, entry: Entry) -> bool:
    """Write an entry under its number; False where another one is there."""
    from mlflow.exceptions import MlflowException

    problem: Exception | None = None
    try:
        client.log_param(run_id, _key(entry.number), entry.line())
    except MlflowException as error:  # another was first, or the server's answer was lost
        problem = error
    there = client.get_run(run_id).data.params.get(_key(entry.number))
    if there is None and problem is not None:
        raise problem
    return bool(there == entry.line())


def _key(number: int) -> str:
    return f"{number:06d}"
