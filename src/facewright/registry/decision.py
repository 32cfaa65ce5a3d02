"""What the gate decided: the rules, what follows from them, and the file that holds both.

The outcome follows from the rules, and the rules from the evidence. A file that says otherwise was
edited, and is refused: `read_decision` derives the outcome anew, `confirm` compares everything with
what the gate says to the same evidence now.
"""

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from facewright.errors import RegistryError
from facewright.evaluation.record import SCORES
from facewright.files import values_digest, write_json

PROMOTE, HOLD, INSUFFICIENT = "promote", "hold", "insufficient evidence"
PASS, FAIL, UNCLEAR = "pass", "fail", "unclear"
SERVE, OUTCOME = "serve", "outcome"  # what a rule chooses


@dataclass(frozen=True)
class Rule:
    """One rule and what it found."""

    name: str
    chooses: str  # SERVE: which recognizer is served; OUTCOME: whether it may be promoted
    result: str  # PASS, FAIL, UNCLEAR
    evidence: str  # one line with the numbers compared


def outcome_of(rules: Iterable[Rule]) -> str:
    """What follows from the rules: one that fails holds back, one that is unclear is too little.

    Raises:
        RegistryError: no rule is on the outcome, or the result of one is unknown.
    """
    judged = [rule for rule in rules if rule.chooses == OUTCOME]
    results = {rule.result for rule in judged}
    if not results or not results <= {PASS, FAIL, UNCLEAR}:
        unknown = ", ".join(sorted(map(repr, results - {PASS, FAIL, UNCLEAR})))
        what = f"a rule says {unknown}" if unknown else "no rule was judged"
        raise RegistryError(f"the gate's decision follows from nothing ({what}): run gate again")
    return HOLD if FAIL in results else INSUFFICIENT if UNCLEAR in results else PROMOTE


def try_of(*, scores: str, serve: str, policy: Mapping[str, Any]) -> str:
    """The name of a test that a champion stands.

    It is known by the scores, the form of them that is served, and how the policy compares. Any of
    these changed asks the same pairs another question; the exact same test once more is none.

    Args:
        scores: sha256 of the file of scores.
        serve: the recognizer that is served of them.
        policy: the keys of `mlflow/promotion.yaml`.
    """
    return values_digest([scores, serve, policy.get("champion")])


def others(tries: Collection[str], own: str) -> int:
    """How many of the tries are other ones."""
    return len(set(tries) - {own})


@dataclass(frozen=True)
class Decision:
    """What may happen with a recognizer, and why."""

    outcome: str  # promote, hold, insufficient evidence
    serve: str
    champion: int | None  # the version it was compared with
    pairs_digest: str
    rules: tuple[Rule, ...]
    weights: Mapping[str, str]  # sha256 of each form that was judged
    files: Mapping[str, str]  # sha256 of the files of the evaluation that was judged, by name
    collected: Mapping[str, str]  # per dataset the day of its oldest photo, or ""
    policy: Mapping[str, Any]  # as it was then

    @property
    def model(self) -> str:
        """The registered model that the policy names.

        Raises:
            RegistryError: it names none.
        """
        if not self.policy.get("model"):
            raise RegistryError("the gate's decision names no model: run gate again")
        return str(self.policy["model"])

    @property
    def tried(self) -> str:
        """The name of the test that it is on, see `try_of`."""
        return try_of(scores=self.files.get(SCORES, ""), serve=self.serve, policy=self.policy)

    @property
    def reason(self) -> str:
        """One line: the rules that stand in the way, or that all passed."""
        judged = [rule for rule in self.rules if rule.chooses == OUTCOME]
        result = FAIL if self.outcome == HOLD else UNCLEAR
        blocking = [rule for rule in judged if rule.result == result]
        return "; ".join(f"{rule.name}: {rule.evidence}" for rule in blocking) or "all rules passed"

    def values(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def write_decision(path: Path, decision: Decision) -> None:
    """Write a decision as JSON."""
    write_json(path, decision.values())


def read_decision(path: Path) -> Decision:
    """Read what `write_decision` wrote.

    Raises:
        RegistryError: the file is missing or holds no decision, or one that does not follow from
            its own rules.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        rules = tuple(Rule(**rule) for rule in values.pop("rules"))
        decision = Decision(rules=rules, **values)
    except FileNotFoundError as error:
        raise RegistryError(f"{path} is missing: run the gate first") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise RegistryError(f"{path} holds no decision: run the gate again") from error
    outcomes = (PROMOTE, HOLD, INSUFFICIENT)
    if decision.outcome not in outcomes:
        raise RegistryError(
            f"{path}: outcome {decision.outcome!r} is none of {', '.join(outcomes)}"
        )
    check_outcome(decision, what=str(path))
    return decision


def check_outcome(decision: Decision, *, what: str) -> None:
    """Refuse an outcome that is not the one that the rules give.

    Args:
        what: where it was read, for the error.

    Raises:
        RegistryError: as said, or see `outcome_of`.
    """
    follows = outcome_of(decision.rules)
    if decision.outcome != follows:
        raise RegistryError(
            f"{what} was edited: it says {decision.outcome}, and its rules {follows}: run gate "
            "again"
        )


def confirm(found: Decision, again: Decision, *, path: Path) -> None:
    """Refuse a decision that is not what the gate says to the same evidence now.

    Sentences are not compared, since they tell how old the data are today.

    Args:
        found: as read from `path`.
        again: as decided anew.

    Raises:
        RegistryError: with what differs.
    """

    def compared(decision: Decision) -> dict[str, Any]:
        results = [(rule.name, rule.chooses, rule.result) for rule in decision.rules]
        return vars(decision) | {"rules": results}

    old, new = compared(found), compared(again)
    if differing := [name for name in old if old[name] != new[name]]:
        raise RegistryError(
            f"{path} is not what the gate says to this evaluation and policy ("
            f"{', '.join(differing)} differ): run gate again"
        )
