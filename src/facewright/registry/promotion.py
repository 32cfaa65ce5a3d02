"""Which version serves: promote, roll back, and what the ledger and MLflow say of it.

The ledger's entry is the promotion; the alias `champion`, by which others load the version,
follows it. Where a process dies between the two, the next command moves the alias. `challenger`,
which points people to the version that was registered last, is asked by nothing here.

What MLflow says of a version (its tags, its decision, its files) counts only where it is what the
ledger's entries, signed by trusted keys, say of it.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from facewright.errors import RegistryError
from facewright.progress import say
from facewright.registry.chain import Draft, Ledger, named, shortened
from facewright.registry.decision import PASS, PROMOTE, Decision
from facewright.registry.gate import Champion, data_age
from facewright.registry.ledger import append, check_known, hint, model_exists, sound_ledger
from facewright.registry.ledger_keys import present_actor
from facewright.registry.registration import register
from facewright.registry.server import registry_errors
from facewright.registry.tracking import connect
from facewright.registry.tries import tries_against
from facewright.registry.versions import (
    CHAMPION,
    PAIRS,
    SERVED,
    Version,
    all_versions,
    decision_digest,
    get_aliases,
    get_decision,
    get_scores,
    get_version,
    set_alias,
)
from facewright.registry.vouching import check_files

__all__ = [
    "Version",
    "champion",
    "judged_against",
    "promote",
    "register",
    "rollback",
    "was_rolled_back",
]


def promote(
    model: str,
    version: int | None = None,
    *,
    actor: str | None = None,
    reason: str | None = None,
    policy: Mapping[str, Any] | None = None,
) -> Version:
    """Make a version champion, by default the one that the gate decided on last.

    Where another process promotes the same version at the same moment, that is the promotion.

    Args:
        actor: who does it; else `present_actor`.
        reason: why; else what the gate said.
        policy: the promotion policy as it is now, where there is one at hand.

    Raises:
        RegistryError: there is no such version, the gate held it, judged it by another policy or
            compared it with another champion than the one that serves now, its data have become
            too old, its decision is not in the ledger, somebody else
            promoted at the same moment, its tags, its files or the ledger were changed, or the
            alias was moved by other means than these.
    """
    client = connect()
    with registry_errors(f"{model} cannot be promoted"):
        ledger, alias = _moment(client, model)
        if version is None:
            if ledger.last_decision is None:
                raise RegistryError(f"the ledger of {model} has no version: register one first")
            version = ledger.last_decision.version
        chosen = get_version(client, model, version)
        check_known(ledger, chosen)
        serving = ledger.standing.champion
        if version == serving:
            check_files(client, chosen)
            if alias != serving:  # asked for by name: so one that was moved by hand comes back
                _follow(client, model)
            return get_version(client, model, version)
        _settle(client, ledger, alias)
        decision = _passed(client, chosen, ledger)
        if decision.champion != serving:
            raise RegistryError(
                f"the gate judged {model} version {version} when the champion was "
                f"{named(decision.champion)}; it is {named(serving)} now: run the gate again and "
                "register"
            )
        _still_holds(decision, chosen, policy)
        check_files(client, chosen)
        draft = Draft(
            action="promote",
            version=version,
            actor=actor or present_actor(),
            reason=shortened(decision.reason) if reason is None else reason,
            outcome=decision.outcome,
            evidence=decision_digest(decision),
            lineage=chosen.lineage,
        )

        def needed(now: Ledger) -> bool:
            check_known(now, chosen)
            return _unchanged(now, ledger, draft) and bool(_passed(client, chosen, now))

        append(client, model, draft, needed=needed)
        _follow(client, model)
        return get_version(client, model, version)


def rollback(model: str, *, actor: str | None = None, reason: str | None = None) -> Version | None:
    """Make the champion before the present one champion again; a second one goes further back.

    Versions that were deleted in MLflow are passed over, aloud.

    Where the present one was deleted in MLflow and none before it is left, it is retired: there is
    no champion then, and the value is None.

    Args:
        actor: who does it; else `present_actor`.
        reason: why.

    Raises:
        RegistryError: there is no champion, or none before it that is still registered, somebody
            else promoted or rolled back at the same moment, tags, files or the ledger were changed,
            or the alias was moved by other means than these.
    """
    client = connect()
    with registry_errors(f"{model} cannot be rolled back"):
        ledger, alias = _moment(client, model)
        there = all_versions(client, model)
        *before, left = ledger.standing.champions or (None,)
        deleted = left is not None and left not in there
        if not deleted:
            _settle(client, ledger, alias)
        if left is None:
            raise RegistryError(f"{model} has no champion to roll back from")
        back = None
        for number in reversed(before):
            if number in there and number != left:
                back = there[number]
                break
            if number not in there:
                say(f"{model}: version {number} was deleted in MLflow, and is passed over")
        if back is not None:
            check_known(ledger, back)
            check_files(client, back)
        elif not deleted:
            gone = f" that is still registered ({', '.join(map(str, before))})" if before else ""
            raise RegistryError(
                f"{model} version {left} replaced no champion{gone}: none to return to"
            )
        number = left if back is None else back.version
        promoted = [entry for entry in ledger.of(number) if entry.action == "promote"][-1]
        draft = Draft(
            action="retire" if back is None else "rollback",
            version=number,
            actor=actor or present_actor(),
            reason="no reason given" if reason is None else reason,
            outcome="",
            evidence=promoted.evidence,
            lineage=promoted.lineage,
        )
        append(client, model, draft, needed=lambda now: _unchanged(now, ledger, draft))
        _follow(client, model)
        return None if back is None else get_version(client, model, number)


def was_rolled_back(model: str, version: int) -> bool:
    """Whether a person took this version back; only a person brings it in again."""
    client = connect()
    with registry_errors(f"{model} version {version} cannot be read"):
        get_version(client, model, version)
        return version in sound_ledger(client, model).standing.rolled_back


def champion(model: str) -> Champion | None:
    """The version that serves, with its scores on the verification pairs; None before the first.

    Raises:
        RegistryError: the ledger does not verify, names another version, and no promotion under
            way explains it, or knows it with other tags; or it was deleted, or its scores or what
            MLflow loads of it were changed. The files that nobody loads, often a hundred times as
            large, are left to `promote`, `rollback` and `ledger verify --files`.
    """
    client = connect()
    with registry_errors(f"the champion of {model} cannot be read"):
        if not model_exists(client, sound_ledger(client, model)):
            return None
        ledger, alias = _moment(client, model)
        _explained(client, ledger, alias)
        number = ledger.standing.champion
        if alias != number:
            say(
                f"{model}: {named(alias)} is champion in MLflow, and {named(number)} in the "
                "ledger: the command that moved it has not finished, or the alias was moved back"
            )
        if number is None:
            return None
        return _as_champion(client, ledger, number)


def judged_against(model: str, decision: Decision) -> Champion | None:
    """The champion that a decision names; None for none.

    Raises:
        RegistryError: another one serves now, and the decision was not entered before; the ledger
            does not verify or knows that champion with other tags, it was deleted, or its scores
            or what MLflow loads of it were changed.
    """
    client, version = connect(), decision.champion
    with registry_errors(f"the champion of {model} cannot be read"):
        ledger = sound_ledger(client, model)
        entered = {entry.evidence for entry in ledger.entries}
        serving = ledger.standing.champion
        if version != serving and decision_digest(decision) not in entered:
            raise RegistryError(
                f"the gate judged {model} when the champion was {named(version)}; it is "
                f"{named(serving)} now: run the gate again"
            )
        return None if version is None else _as_champion(client, ledger, version)


def _as_champion(client: Any, ledger: Ledger, number: int) -> Champion:
    version = get_version(client, ledger.model, number)
    check_known(ledger, version)
    check_files(client, version, loaded=True)
    return Champion(
        version=version.version,
        serve=version.serve,
        served_digest=version.tags.get(SERVED, ""),
        pairs_digest=version.tags.get(PAIRS, ""),
        scores=get_scores(client, version),
        judged=tries_against(client, ledger, number),
    )


def _passed(client: Any, version: Version, ledger: Ledger) -> Decision:
    """The decision on a version, which lets it pass and was entered."""
    decision = get_decision(client, version)
    if decision.outcome != PROMOTE:
        raise RegistryError(f"the gate says {decision.outcome} to {version}: {decision.reason}")
    evidence = decision_digest(decision)
    if ledger.decided(version.version, evidence=evidence, outcome=PROMOTE):
        return decision
    if any(entry.evidence == evidence for entry in ledger.of(version.version)):
        last = ledger.decision(version.version)
        raise RegistryError(
            f"the decision on {version} ({evidence[:12]}) is not the ledger's last one "
            f"({last.action if last else 'none'}, entry {last.number if last else 0}): its tags "
            "were moved back, or a registration was killed; run gate and register again"
        )
    raise RegistryError(
        f"no entry of the ledger holds the decision on {version} ({evidence[:12]}): nobody "
        "whose key is trusted registered it; run gate and register again"
    )


def _still_holds(decision: Decision, version: Version, policy: Mapping[str, Any] | None) -> None:
    """Refuse a decision by a policy that has changed since, or on data that have grown too old."""
    again = "run the gate again and register"
    if policy is not None and decision.policy != policy:
        raise RegistryError(
            f"the gate judged {version} by another policy than mlflow/promotion.yaml is now: "
            f"{again}"
        )
    most = decision.policy.get("data", {}).get("max_age_days")
    if most is not None:
        age = data_age(decision.collected, most, today=datetime.now(UTC).date())
        if age.result != PASS:
            raise RegistryError(f"the data of {version} are too old now ({age.evidence}): {again}")


def _moment(client: Any, model: str) -> tuple[Ledger, int | None]:
    """The ledger, and the version that the alias named while it was so.

    Raises:
        RegistryError: the ledger does not verify, or there is no such model (any more).
    """
    now = sound_ledger(client, model)
    model_exists(client, now)
    while True:
        before, alias = now, get_aliases(client, model).get(CHAMPION)
        now = sound_ledger(client, model)
        if now.lines == before.lines:
            return now, alias


def _unchanged(now: Ledger, before: Ledger, draft: Draft) -> bool:
    """True as long as no champion was made since `before`; False if somebody made just this one."""
    move = now.last_move
    if move is None or move == before.last_move:
        return True
    who = f"a {move.action} by {move.actor} at {move.time}"
    if (move.action, move.version, move.previous_champion) == (
        draft.action,
        draft.version,
        before.standing.champion,
    ):
        say(f"{now.model}: {who} did just this at the same moment")
        return False
    then = "run this again" if draft.action == "rollback" else "run the gate again"
    raise RegistryError(
        f"somebody was faster: champion of {now.model} is {named(now.standing.champion)} since "
        f"{who}; nothing was done: {then}"
    )


def _settle(client: Any, ledger: Ledger, alias: int | None) -> None:
    """Move the alias where a process died before it could; refuse where that explains nothing."""
    _explained(client, ledger, alias)
    if alias == ledger.standing.champion:
        return
    _follow(client, ledger.model)
    say(
        f"{ledger.model}: {named(ledger.standing.champion)} is champion now, as the ledger says; "
        "the command that promoted it had not finished"
    )


def _explained(client: Any, ledger: Ledger, alias: int | None) -> None:
    """Refuse an alias that an unfinished move of the last champion does not explain, and a champion
    that was deleted, with which MLflow deletes the alias."""
    serving, move = ledger.standing.champion, ledger.last_move
    if alias == serving:
        return
    there = serving in all_versions(client, ledger.model)
    if there and move is not None and alias == move.previous_champion:
        return
    raise RegistryError(
        f"champion of {ledger.model} is {named(alias)} in MLflow, and {named(serving)} in the "
        f"ledger: {hint(serving, there=there)}"
    )


def _follow(client: Any, model: str) -> None:
    """Move the alias to the ledger's champion, and again if that changed meanwhile.

    Aliases are last-write-wins. Whoever sets one looks again afterwards, so that the last to set it
    has seen the last entry.
    """
    ledger = sound_ledger(client, model)
    while (wanted := ledger.standing.champion) is not None:
        check_known(ledger, get_version(client, model, wanted))
        set_alias(client, model, CHAMPION, wanted)
        ledger = sound_ledger(client, model)
        if ledger.standing.champion == wanted:
            return
