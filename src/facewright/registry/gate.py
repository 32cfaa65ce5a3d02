"""The gate: from metrics and a policy to a decision that can be checked line by line.

Two rules choose what is served, INT8 or FP32; the others say whether that may become champion. A
number that is missing is an error, and one that is NaN passes no rule: neither ever promotes.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from facewright.errors import RegistryError
from facewright.files import write_json

FP32 = "student"
INT8 = "student-int8"
ROUNDING = 1e-9  # 0.92 - 0.91 is a little more than 0.01: a margin met exactly counts as met


@dataclass(frozen=True)
class Rule:
    """One rule and what it found."""

    name: str
    chooses: str  # "serve": which recognizer is served; "outcome": whether it may be promoted
    passed: bool
    evidence: str  # one line with the numbers compared


@dataclass(frozen=True)
class Champion:
    """The registered version that serves now, with the metrics it was registered with."""

    version: int
    serve: str  # the recognizer that is served of it
    metrics: Mapping[str, float]
    pairs_digest: str  # of the verification pairs that gave the metrics


@dataclass(frozen=True)
class Decision:
    """`promote` or `hold`, and why."""

    outcome: str
    serve: str
    champion: int | None  # the version it was compared with
    pairs_digest: str
    rules: tuple[Rule, ...]

    @property
    def reason(self) -> str:
        """One line: the rules that hold it back, or that all passed."""
        failed = [rule for rule in self.rules if rule.chooses == "outcome" and not rule.passed]
        return "; ".join(f"{rule.name}: {rule.evidence}" for rule in failed) or "all rules passed"

    def values(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def decide(
    metrics: Mapping[str, float],
    *,
    pairs_digest: str,
    policy: Mapping[str, Any],
    champion: Champion | None,
) -> Decision:
    """Decide which recognizer is served and whether it may become champion.

    `metrics` holds `student.accuracy`, `student.latency_ms` and the same of `student-int8`:
    ten-fold verification accuracy (share of pairs) and milliseconds per crop. `policy` holds the
    keys of `mlflow/promotion.yaml`.

    Raises:
        RegistryError: a metric that a rule needs is missing.
    """
    choosing = [
        _int8_accuracy(metrics, margin=policy["max_int8_accuracy_drop"]),
        _int8_speed(metrics, least=policy["min_int8_speedup"]),
    ]
    serve = INT8 if all(rule.passed for rule in choosing) else FP32
    judging = [
        _floor(metrics, serve, least=policy["min_accuracy"]),
        _against_champion(
            metrics,
            serve,
            champion,
            pairs_digest=pairs_digest,
            margin=policy["max_accuracy_drop_from_champion"],
        ),
    ]
    return Decision(
        outcome="promote" if all(rule.passed for rule in judging) else "hold",
        serve=serve,
        champion=champion.version if champion else None,
        pairs_digest=pairs_digest,
        rules=(*choosing, *judging),
    )


def write_decision(path: Path, decision: Decision) -> None:
    """Write a decision as JSON."""
    write_json(path, decision.values())


def read_decision(path: Path) -> Decision:
    """Read what `write_decision` wrote.

    Raises:
        RegistryError: the file is missing or holds no decision.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        rules = tuple(Rule(**rule) for rule in values.pop("rules"))
        decision = Decision(rules=rules, **values)
    except FileNotFoundError as error:
        raise RegistryError(f"{path} is missing: run the gate first") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise RegistryError(f"{path} holds no decision: run the gate again") from error
    if decision.outcome not in ("promote", "hold"):
        raise RegistryError(f"{path}: outcome {decision.outcome!r} is neither promote nor hold")
    return decision


def _int8_accuracy(metrics: Mapping[str, float], *, margin: float) -> Rule:
    fp32, int8 = _metric(metrics, f"{FP32}.accuracy"), _metric(metrics, f"{INT8}.accuracy")
    drop = fp32 - int8
    evidence = (
        f"INT8 {int8:.4f}, FP32 {fp32:.4f}: drop {drop:.4f}, at most {margin:.4f} for INT8 to serve"
    )
    return Rule("int8_accuracy", "serve", drop <= margin + ROUNDING, evidence)


def _int8_speed(metrics: Mapping[str, float], *, least: float) -> Rule:
    fp32, int8 = _metric(metrics, f"{FP32}.latency_ms"), _metric(metrics, f"{INT8}.latency_ms")
    # Compared as a product: no division by a latency that was rounded to zero.
    passed = fp32 >= least * int8 - ROUNDING
    evidence = (
        f"INT8 {int8:.3f} ms, FP32 {fp32:.3f} ms: "
        f"INT8 must be at least {least:.2f} times as fast to serve"
    )
    return Rule("int8_speed", "serve", passed, evidence)


def _floor(metrics: Mapping[str, float], serve: str, *, least: float) -> Rule:
    accuracy = _metric(metrics, f"{serve}.accuracy")
    evidence = f"{serve} {accuracy:.4f}{_interval(metrics, serve)}, at least {least:.4f}"
    return Rule("min_accuracy", "outcome", accuracy >= least - ROUNDING, evidence)


def _against_champion(
    metrics: Mapping[str, float],
    serve: str,
    champion: Champion | None,
    *,
    pairs_digest: str,
    margin: float,
) -> Rule:
    if champion is None:
        return Rule("champion", "outcome", True, "there is no champion yet")
    theirs = f"champion version {champion.version}"
    if champion.pairs_digest != pairs_digest:
        evidence = (
            f"{theirs} was evaluated on other pairs ({champion.pairs_digest[:12] or 'unknown'}, "
            f"now {pairs_digest[:12]}): register under another `model` in the policy to begin anew"
        )
        return Rule("champion", "outcome", False, evidence)
    key = f"{champion.serve}.accuracy"
    if key not in champion.metrics:
        return Rule("champion", "outcome", False, f"{theirs} has no metric {key}")
    mine, best = _metric(metrics, f"{serve}.accuracy"), champion.metrics[key]
    drop = best - mine
    evidence = (
        f"{serve} {mine:.4f}, {theirs} ({champion.serve}) {best:.4f}: "
        f"drop {drop:.4f}, at most {margin:.4f}"
    )
    return Rule("champion", "outcome", drop <= margin + ROUNDING, evidence)


def _metric(metrics: Mapping[str, float], key: str) -> float:
    try:
        return float(metrics[key])
    except KeyError as error:
        raise RegistryError(f"the metrics lack {key!r}: run evaluate again") from error


def _interval(metrics: Mapping[str, float], serve: str) -> str:
    low, high = (metrics.get(f"{serve}.accuracy_{side}") for side in ("low", "high"))
    return "" if low is None or high is None else f" [{low:.4f}, {high:.4f}]"
