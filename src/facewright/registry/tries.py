"""Which tests a champion has stood on its pairs: each is another chance that luck wins.

A test is known by the scores, the form of them that is served, and how the policy compares. Any of
these changed asks the same pairs another question. The exact same test once more gives the same
answer, and is none. Which tests there were, the decisions say whose digests the ledger's entries
hold.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Any

from facewright.errors import RegistryError
from facewright.evaluation.record import SCORES
from facewright.files import values_digest
from facewright.registry.chain import DECISIONS, Ledger
from facewright.registry.decision import Decision
from facewright.registry.versions import all_versions, get_decision


def try_of(*, scores: str, serve: str, policy: Mapping[str, Any]) -> str:
    """The name of a test.

    Args:
        scores: sha256 of the file of scores.
        serve: the recognizer that is served of them.
        policy: the keys of `mlflow/promotion.yaml`.
    """
    return values_digest([scores, serve, policy.get("champion")])


def others(tries: Collection[str], own: str) -> int:
    """How many of the tries are other ones."""
    return len(set(tries) - {own})


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
                found[decided] = _try_of(get_decision(client, version, entry.evidence))
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
    own, champion = _try_of(decision), decision.champion

    def check(ledger: Ledger) -> None:
        if champion is None:
            return
        before, now = others(judged, own), others(tries_against(client, ledger, champion), own)
        if before != now:
            raise RegistryError(
                f"somebody was faster: other tests that {ledger.model} version {champion} has stood: "
                f"{now}, and the gate knew of {before}: run the gate again"
            )

    return check


def _try_of(decision: Decision) -> str:
    return try_of(
        scores=decision.files.get(SCORES, ""), serve=decision.serve, policy=decision.policy
    )
