"""Which version serves: promote, roll back, and what the ledger and MLflow say of it.

The ledger's entry is the promotion; the alias `champion`, by which others load the version,
follows it. Where a process dies between the two, the next command moves the alias. `challenger` is
the version that was registered last.

What MLflow says of a version (its tags, its decision, its files) counts only where it is what the
ledger's entries, signed by trusted keys, say of it.
"""

from typing import Any

from facewright.errors import RegistryError
from facewright.progress import say
from facewright.registry.chain import Draft, Ledger, named, shortened
from facewright.registry.gate import PROMOTE, Champion, Decision
from facewright.registry.ledger import append, check_known, hint, model_exists, sound_ledger
from facewright.registry.ledger_keys import present_actor
from facewright.registry.registration import register
from facewright.registry.server import registry_errors
from facewright.registry.tracking import connect
from facewright.registry.versions import (
    CHALLENGER,
    CHAMPION,
    PAIRS,
    SERVED,
    Version,
    all_versions,
    check_served,
    decision_digest,
    get_aliases,
    get_decision,
    get_scores,
    get_version,
    set_alias,
)

__all__ = ["Version", "champion", "promote", "register", "rollback", "was_rolled_back"]


def promote(
    model: str, version: int | None = None, *, actor: str | None = None, reason: str | None = None
) -> Version:
    """Make a version champion, by default the challenger.

    Args:
        actor: who does it; else `present_actor`.
        reason: why; else what the gate said.

    Raises:
        RegistryError: there is no such version, the gate held it or compared it with another
            champion than the one that serves now, its decision is not in the ledger, somebody else
            promoted at the same moment, its tags, its weights or the ledger were changed, or the
            alias was moved by other means than these.
    """
    client = connect()
    with registry_errors(f"{model} cannot be promoted"):
        ledger = sound_ledger(client, model)
        model_exists(client, ledger)
        aliases = get_aliases(client, model)
        if version is None:
            if CHALLENGER not in aliases:
                raise RegistryError(f"{model} has no challenger: register a version first")
            version = aliases[CHALLENGER]
        chosen = get_version(client, model, version)
        check_known(ledger, chosen)
        serving, alias = ledger.standing.champion, aliases.get(CHAMPION)
        if version == serving:
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
        check_served(client, chosen)
        draft = Draft(
            action="promote",
            version=version,
            actor=actor or present_actor(),
            reason=shortened(decision.reason) if reason is None else reason,
            outcome=decision.outcome,
            evidence=decision_digest(decision),
            lineage=chosen.lineage,
        )
        append(client, model, draft, needed=lambda now: _unchanged(now, serving))
        _follow(client, model)
        return get_version(client, model, version)


def rollback(model: str, *, actor: str | None = None, reason: str | None = None) -> Version | None:
    """Make the champion before the present one champion again; a second one goes further back.

    Where the present one was deleted in MLflow and none before it is left, it is retired: there is
    no champion then, and the value is None.

    Args:
        actor: who does it; else `present_actor`.
        reason: why.

    Raises:
        RegistryError: there is no champion, or none before it that is still registered, somebody
            else promoted or rolled back at the same moment, tags or the ledger were changed, or
            the alias was moved by other means than these.
    """
    client = connect()
    with registry_errors(f"{model} cannot be rolled back"):
        ledger = sound_ledger(client, model)
        model_exists(client, ledger)
        aliases, there = get_aliases(client, model), all_versions(client, model)
        *before, left = ledger.standing.champions or (None,)
        deleted = left is not None and left not in there
        if not deleted:
            _settle(client, ledger, aliases.get(CHAMPION))
        if left is None:
            raise RegistryError(f"{model} has no champion to roll back from")
        back = next((there[number] for number in reversed(before) if number in there), None)
        if back is not None:
            check_known(ledger, back)
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
        append(client, model, draft, needed=lambda now: _unchanged(now, left))
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
            way explains it, or knows it with other tags; or it was deleted, or its scores edited.
    """
    client = connect()
    with registry_errors(f"the champion of {model} cannot be read"):
        ledger = sound_ledger(client, model)
        if not model_exists(client, ledger):
            return None
        _explained(client, ledger, get_aliases(client, model).get(CHAMPION))
        number = ledger.standing.champion  # the alias may be about to follow
        if number is None:
            return None
        version = get_version(client, model, number)
        check_known(ledger, version)
        return Champion(
            version=version.version,
            serve=version.serve,
            served_digest=version.tags.get(SERVED, ""),
            pairs_digest=version.tags.get(PAIRS, ""),
            scores=get_scores(client, version),
        )


def _passed(client: Any, version: Version, ledger: Ledger) -> Decision:
    """The decision on a version, which lets it pass and was entered."""
    decision = get_decision(client, version)
    if decision.outcome != PROMOTE:
        raise RegistryError(f"the gate says {decision.outcome} to {version}: {decision.reason}")
    evidence = decision_digest(decision)
    if not ledger.holds(version.version, evidence=evidence, outcome=PROMOTE):
        raise RegistryError(
            f"no entry of the ledger holds the decision on {version} ({evidence[:12]}): nobody "
            "whose key is trusted registered it; run gate and register again"
        )
    return decision


def _unchanged(ledger: Ledger, serving: int | None) -> bool:
    """True as long as the champion is the one that was compared with."""
    if ledger.standing.champion == serving:
        return True
    move = ledger.last_move
    by = f" by {move.actor} at {move.time}" if move else ""
    raise RegistryError(
        f"somebody was faster: champion of {ledger.model} is {named(ledger.standing.champion)} "
        f"since a {move.action if move else 'change'}{by}; nothing was done: run the gate again"
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
