"""Which tests a champion has stood on its pairs: each is another chance that luck wins.

What makes two tests one, `try_of` says. Which there were, the decisions say whose digests the
ledger's entries hold.
"""

from collections.abc import Callable, Collection
from typing import Any

from facewright.errors import RegistryError
from facewright.registry.chain import DECISIONS, Ledger
from facewright.registry.decision import Decision, others
from facewright.registry.versions import all_versions, get_decision


def tries_against(client: Any, ledger: Ledger, champion: int) -> frozenset[str]:
    """The tries of all challengers that were registered beside a champion.

    A decision that cannot be read any more, since its version was deleted or it was edited, counts
    as one of its own.
    """
    versions = all_versions(client, ledger.model)
    found: dict[tuple[int, str], str] = {}
    for entry in ledger.entries:
        beside = entry.action in DECISIONS and entry.previous_champion == champion
        decided = entry.version, entry.evidence
        if not beside or entry.version == champion or decided in found:
            continue
        found[decided] = f"version {entry.version}, decision {entry.evidence}"
        if (version := versions.get(entry.version)) is not None:
            try:
                found[decided] = get_decision(client, version, entry.evidence).tried
            except RegistryError:
                continue
    return frozenset(found.values())


def unchanged_tries(
    client: Any, decision: Decision, judged: Collection[str]
) -> Callable[[Ledger], None]:
    """What refuses a decision whose level no longer is what the ledger asks for.

    Args:
        judged: the tries that its level was divided by.
    """
    own, champion = decision.tried, decision.champion

    def check(ledger: Ledger) -> None:
        if champion is None:
            return
        before, now = others(judged, own), others(tries_against(client, ledger, champion), own)
        if before != now:
            raise RegistryError(
                f"somebody was faster: other tests that {ledger.model} version {champion} has "
                f"stood: {now}, and the gate knew of {before}: run the gate again"
            )

    return check
