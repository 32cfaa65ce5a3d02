"""The ledger: who registered, rejected, promoted or rolled back which version, when and why.

A ledger is a chain of signed entries (see `chain`) in MLflow's database, one per registered model:

    experiment facewright-ledger/MODEL    its name is unique, so there is one
    its one run                           parameter 000001, 000002, …: an entry each, as JSON

MLflow sets a run's parameter once and never changes it, whoever asks, in one step of the database.
Entry N is therefore written by one of all who try, and the others are told. Why so, and what it
cannot do: docs/decisions/ledger.md.
"""

import secrets
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

from facewright.errors import RegistryError
from facewright.progress import say
from facewright.registry.chain import (
    REASON_LENGTH,
    Draft,
    Entry,
    Ledger,
    examine,
    parse,
    sign,
    unsigned,
)
from facewright.registry.ledger_keys import Signer, signer, trust, trusted_keys, untrusted
from facewright.registry.seen import cut_off, keep_mark, read_mark
from facewright.registry.server import pages
from facewright.registry.versions import Version

PREFIX = "facewright-ledger"  # of the experiment's name
BEING_MADE = ", being made"  # after it, in the name of one that is no ledger yet
TAG = "facewright.ledger"  # on the run: the model
LARGEST_GAP = 100  # missing entries that are told one by one
TRIES = 100  # to find a number that nobody else takes at the same moment
CHECK = "look with `facewright ledger verify`"


def read_ledger(client: Any, model: str) -> Ledger:
    """The ledger of a model, examined; empty where nothing was written yet.

    What was seen of it is noted (see `seen`): later it must not lack that.

    Raises:
        RegistryError: MLflow says that it was deleted or renamed, or holds two.
    """
    mark = read_mark(model)
    found = _find(client, model)
    params = {} if found is None else dict(found.data.params)
    known = {_key(n): n for n in range(1, len(params) + LARGEST_GAP) if _key(n) in params}
    lines = [params.get(_key(n), "") for n in range(1, max(known.values(), default=0) + 1)]
    run_id = "" if found is None else found.info.run_id
    ledger = examine(lines, model=model, trusted=trusted_keys(), run_id=run_id)
    faults = list(ledger.faults)
    if strange := sorted(set(params) - set(known)):
        faults.append(f"parameter {strange[0]!r} of the ledger's run is no entry's number")
    if fault := cut_off(ledger, mark):
        faults.append(fault)
    if ledger.entries and not faults:
        keep_mark(ledger.entries[-1])
    return replace(ledger, faults=tuple(faults))


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
            keep_mark(entry)
            return entry
    raise RegistryError(f"{TRIES} others wrote the ledger of {model} first: run this again")


def hint(serving: int | None, *, there: bool) -> str:
    """What to do where MLflow has another champion than the ledger.

    Args:
        serving: the ledger's.
        there: whether MLflow has that version.
    """
    if serving is None:
        return "remove that alias in MLflow, which follows a promotion and makes none"
    if not there:
        return (
            f"version {serving} was deleted in MLflow, and `facewright rollback` returns to the "
            "champion before"
        )
    return f"`facewright promote {serving}` puts the alias back"


def check_known(ledger: Ledger, version: Version) -> None:
    """Refuse a version that is not what the ledger's entries say of it.

    Raises:
        RegistryError: its tags were changed, or it is another one with the same number.
    """
    for entry in ledger.of(version.version):
        if entry.lineage != version.lineage:
            raise RegistryError(
                f"the ledger knows {version} with other content (entry {entry.number}): its tags "
                "were changed, or the model was deleted and made anew: put the tags back, or "
                "register under another `model` in mlflow/promotion.yaml"
            )


def model_exists(client: Any, ledger: Ledger) -> bool:
    """Whether there is a registered model.

    Raises:
        RegistryError: there is none any more. It would give numbers that the ledger knows to other
            versions.
    """
    if client.search_registered_models(f"name='{ledger.model}'"):
        return True
    if ledger.entries:
        raise RegistryError(
            f"the registered model {ledger.model} was deleted in MLflow, and its ledger knows "
            f"version {ledger.entries[-1].version} with what it held: register under another "
            "`model` in mlflow/promotion.yaml"
        )
    return False


def check_signer(ledger: Ledger) -> None:
    """Refuse somebody whose key is not trusted, before anything is made that could not be entered.

    Raises:
        RegistryError: others are trusted, or have written the ledger, and this person is not.
    """
    trusted = trusted_keys()
    if (trusted or ledger.entries) and (mine := signer()).id not in trusted:
        raise untrusted(mine, trusted)


def _allowed_signer(ledger: Ledger) -> Signer:
    """This person's key, if it is trusted; the first one of all is, from its first use on."""
    check_signer(ledger)
    mine = signer()
    if mine.id not in trusted_keys():
        path = trust(mine)
        say(f"ledger: {ledger.model} has no ledger yet; {path} is trusted from now on: commit it")
    return mine


def _find(client: Any, model: str) -> Any:
    """The run of the ledger with its parameters, or None.

    Anybody can take its name away and give it to a copy that lacks the end, or to an empty one. So
    it is looked for by what it holds too.
    """
    name = f"{PREFIX}/{model}"
    found = client.get_experiment_by_name(name)
    run = None if found is None else _run_in(client, found, model)
    here = set() if run is None else set(run.data.params.values())
    trusted = trusted_keys()
    for other in _runs(client, _experiments(client), f"params.`{_key(1)}` LIKE '{{%'"):
        lost = [entry for entry in _entries(other, model) if entry.line() not in here]
        if here:  # a copy of these entries, or what somebody else made up, takes nothing away
            lost = [entry for entry in lost if not unsigned(entry, trusted)]
        if not lost or (run is not None and other.info.run_id == run.info.run_id):
            continue
        there = client.get_experiment(other.info.experiment_id)
        if there.name == name:  # somebody began it at this moment
            return _find(client, model)
        raise _renamed(model, there, name, empty=None if found is None else not here)
    return run


def _renamed(model: str, there: Any, name: str, *, empty: bool | None) -> RegistryError:
    """The line for a ledger whose name was taken away.

    Args:
        there: its experiment.
        empty: whether what has its name holds no entry; None where nothing has it.
    """
    steps = []
    if empty is not None:
        steps.append(f"give the {'empty' if empty else 'other'} one that has its name another")
    if there.lifecycle_stage != "active":
        steps.append(f"`{_restore(there.experiment_id)}`")
    rename = f"mlflow experiments rename --experiment-id {there.experiment_id} --new-name {name}"
    return RegistryError(
        f"the ledger of {model} was renamed in MLflow, to {there.name!r}; to mend that: "
        f"{', then '.join([*steps, f'`{rename}`'])}"
    )


def _run_in(client: Any, found: Any, model: str) -> Any:
    """The one run of an experiment that is the ledger, or is to become it."""
    if found.lifecycle_stage != "active":
        raise RegistryError(
            f"the ledger of {model} was deleted in MLflow: restore it with "
            f"`{_restore(found.experiment_id)}`"
        )
    runs = _runs(client, [found.experiment_id])
    ledgers = [r for r in runs if r.data.tags.get(TAG) == model or any(_entries(r, model))]
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


def _entries(run: Any, model: str) -> Iterator[Entry]:
    """What among a run's parameters has the form of an entry of a model's ledger."""
    for line in run.data.params.values():
        with suppress(ValueError):
            entry = parse(line)
            if entry.model == model:
                yield entry


def _runs(client: Any, experiments: list[str], condition: str = "") -> list[Any]:
    """All runs of experiments, deleted ones too."""
    from mlflow.entities import ViewType

    return pages(
        lambda token: client.search_runs(
            experiments, condition, run_view_type=ViewType.ALL, page_token=token
        )
    )


def _experiments(client: Any) -> list[str]:
    """The ids of all experiments, deleted ones too."""
    from mlflow.entities import ViewType

    found = pages(lambda token: client.search_experiments(view_type=ViewType.ALL, page_token=token))
    return [one.experiment_id for one in found]


def _restore(experiment: str) -> str:
    return f"mlflow experiments restore --experiment-id {experiment}"


def _begin(client: Any, model: str) -> str:
    """The id of the ledger's run. Made under another name; one of all who do takes the name.

    Others that were being made are deleted then: those of whoever was killed while at it. Whoever
    still is finds the name taken, as if theirs were there.
    """
    from mlflow.exceptions import MlflowException

    name = f"{PREFIX}/{model}"
    note = f"Who promoted which version of {model}: `facewright history`. Never delete this."
    apart = client.create_experiment(
        f"{name}{BEING_MADE} ({secrets.token_hex(4)})", tags={"mlflow.note.content": note}
    )
    try:  # any of these fails where another was first, who deletes this experiment
        run = client.create_run(apart, run_name="ledger", tags={TAG: model})
        run_id = str(run.info.run_id)
        client.set_terminated(run_id, "FINISHED")
        client.rename_experiment(apart, name)
    except MlflowException:  # or the server's answer was lost
        if (found := _find(client, model)) is None:
            raise
        run_id = str(found.info.run_id)
    for left in client.search_experiments(filter_string=f"name LIKE '{name}{BEING_MADE}%'"):
        if left.name.startswith(f"{name}{BEING_MADE}"):  # `_` of a name stands for any character
            with suppress(MlflowException):  # another did
                client.delete_experiment(left.experiment_id)
    return run_id


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
