"""Which version serves: promote, roll back, and what the ledger and MLflow say of it.

The ledger's entry is the promotion; the alias `champion`, by which others load the version,
follows it. Where a process dies between the two, the next command moves the alias. `challenger` is
the version that was registered last.
"""

from typing import Any

from facewright.errors import RegistryError
from facewright.progress import say
from facewright.registry.chain import Draft, Ledger, named, shortened
from facewright.registry.gate import Champion, Decision
from facewright.registry.ledger import append, hint, read_ledger, sound_ledger
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
            champion than the one that serves now, somebody else promoted at the same moment, its
            tags or the ledger were changed, or the alias was moved by other means than these.
    """
    client = connect()
    with registry_errors(f"{model} cannot be promoted"):
        aliases = get_aliases(client, model)
        if version is None:
            if CHALLENGER not in aliases:
                raise RegistryError(f"{model} has no challenger: register a version first")
            version = aliases[CHALLENGER]
        chosen = get_version(client, model, version)
        ledger = sound_ledger(client, model)
        serving, alias = ledger.standing.champion, aliases.get(CHAMPION)
        begins = serving is None and alias == version  # champion from before there was a ledger
        if alias != serving and not begins:
            if version != serving:
                _settle(client, ledger, alias)
            else:  # asked for by name: this is how an alias that was moved by hand comes back
                _follow(client, model)
        if version == serving:
            return get_version(client, model, version)
        decision = _passed(client, chosen, ledger)
        if decision.champion != serving and not begins:
            raise RegistryError(
                f"the gate judged {model} version {version} when the champion was "
                f"{named(decision.champion)}; it is {named(serving)} now: run the gate again and "
                "register"
            )
        why = "it was champion before the ledger began" if begins else shortened(decision.reason)
        draft = Draft(
            action="promote",
            version=version,
            actor=actor or present_actor(),
            reason=why if reason is None else reason,
            outcome=decision.outcome,
            evidence=decision_digest(decision),
            lineage=chosen.lineage,
        )
        append(client, model, draft, needed=lambda now: _unchanged(now, serving))
        _follow(client, model)
        return get_version(client, model, version)


def rollback(model: str, *, actor: str | None = None, reason: str | None = None) -> Version:
    """Make the champion before the present one champion again; a second one goes further back.

    Args:
        actor: who does it; else `present_actor`.
        reason: why.

    Raises:
        RegistryError: there is no champion, or none before it that is still registered, somebody
            else promoted or rolled back at the same moment, the ledger was changed, or the alias
            was moved by other means than these.
    """
    client = connect()
    with registry_errors(f"{model} cannot be rolled back"):
        aliases = get_aliases(client, model)
        ledger = sound_ledger(client, model)
        _settle(client, ledger, aliases.get(CHAMPION))
        *before, left = ledger.standing.champions or (None,)
        if left is None:
            raise RegistryError(f"{model} has no champion to roll back from")
        there = all_versions(client, model)
        back = next((there[number] for number in reversed(before) if number in there), None)
        if back is None:
            gone = f" that is still registered ({', '.join(map(str, before))})" if before else ""
            raise RegistryError(
                f"{model} version {left} replaced no champion{gone}: none to return to"
            )
        draft = Draft(
            action="rollback",
            version=back.version,
            actor=actor or present_actor(),
            reason="no reason given" if reason is None else reason,
            outcome="",
            evidence=back.evidence,
            lineage=back.lineage,
        )
        append(client, model, draft, needed=lambda now: _unchanged(now, left))
        _follow(client, model)
        return get_version(client, model, back.version)


def was_rolled_back(model: str, version: int) -> bool:
    """Whether a person took this version back; only a person brings it in again."""
    client = connect()
    with registry_errors(f"{model} version {version} cannot be read"):
        get_version(client, model, version)
        return version in read_ledger(client, model).standing.rolled_back


def champion(model: str) -> Champion | None:
    """The version that serves, with its scores on the verification pairs; None before the first.

    Raises:
        RegistryError: the ledger names another version, and no promotion under way explains it; or
            its scores were edited.
    """
    client = connect()
    with registry_errors(f"the champion of {model} cannot be read"):
        if not client.search_registered_models(f"name='{model}'"):
            return None
        number = get_aliases(client, model).get(CHAMPION)
        ledger = read_ledger(client, model)
        if ledger.entries and number != ledger.standing.champion:
            _explained(ledger, number)
            number = ledger.standing.champion  # the alias is about to follow
        if number is None:
            return None
        version = get_version(client, model, number)
        return Champion(
            version=version.version,
            serve=version.serve,
            served_digest=version.tags.get(SERVED, ""),
            pairs_digest=version.tags.get(PAIRS, ""),
            scores=get_scores(client, version),
        )


def _passed(client: Any, version: Version, ledger: Ledger) -> Decision:
    """The decision on a version, which lets it pass."""
    where = f"{version.model} version {version.version}"
    for entry in ledger.entries:
        if entry.version == version.version and entry.lineage != version.lineage:
            raise RegistryError(
                f"tags of {where} are not those of ledger entry {entry.number}: somebody changed "
                "what it says of its origin; register it under another model"
            )
    decision = get_decision(client, version)
    if decision.outcome != "promote":
        raise RegistryError(f"the gate says {decision.outcome} to {where}: {decision.reason}")
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
    if alias == ledger.standing.champion:
        return
    _explained(ledger, alias)
    _follow(client, ledger.model)
    say(
        f"{ledger.model}: {named(ledger.standing.champion)} is champion now, as the ledger says; "
        "the command that promoted it had not finished"
    )


def _explained(ledger: Ledger, alias: int | None) -> None:
    """Refuse an alias that an unfinished move of the last champion does not explain."""
    move = ledger.last_move
    if move is not None and alias == move.previous_champion:
        return
    serving = ledger.standing.champion
    raise RegistryError(
        f"champion of {ledger.model} is {named(alias)} in MLflow, and {named(serving)} in the "
        f"ledger: {hint(serving, alias)}"
    )


def _follow(client: Any, model: str) -> None:
    """Move the alias to the ledger's champion, and again if that changed meanwhile.

    Aliases are last-write-wins. Whoever sets one looks again afterwards, so that the last to set it
    has seen the last entry.
    """
    wanted = sound_ledger(client, model).standing.champion
    while wanted is not None:
        set_alias(client, model, CHAMPION, wanted)
        now = read_ledger(client, model).standing.champion
        if now == wanted:
            return
        wanted = now
