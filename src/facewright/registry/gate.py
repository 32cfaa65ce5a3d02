"""The gate: from evidence and a policy to a decision that can be checked line by line.

Each rule says `pass`, `fail` or `unclear`, with the numbers that it compared. One that fails holds
the recognizer back; if none fails but one is unclear, the evidence is insufficient; else it may
become champion. What is missing or no number never passes.

Some rules choose what is served, a compressed form or FP32; the others judge what was chosen, and
what it was made of and comes with: the student against its teacher, and its engines.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import pandas as pd

from facewright.errors import RegistryError
from facewright.evaluation.comparison import Comparison, Difference
from facewright.registry.decision import FAIL, PASS, UNCLEAR, Decision, Rule, outcome_of

TEACHER = "teacher"  # what the student is compared with
REFERENCE = "student"  # what all other forms are compared with, and what is served without one
ROUNDING = 1e-9  # 0.92 - 0.91 is a little more than 0.01: a margin met exactly counts as met
EXACT = {  # counts, sizes and times, and bounds that are themselves at 95 %: no luck of the sample
    *("pairs", "genuine", "impostor", "identities", "overlap_pairs"),
    *("failures", "failures_genuine", "failures_impostor", "fmr_bound", "fpir_bound"),
    *("gallery_people", "probes_mated", "probes_unenrolled", "probes_shared"),
    *("failures_gallery", "failures_mated", "failures_unenrolled"),
    *("templates", "template_photos_least", "template_photos_most", "template_photos_mean"),
    *("latency_ms", "megabytes"),
}
RESULTS = {"better": PASS, "not_worse": PASS, "worse": FAIL, "unclear": UNCLEAR}


@dataclass(frozen=True)
class Champion:
    """The registered version that serves now, and how it did when it was registered."""

    version: int
    serve: str  # the recognizer that is served of it
    served_digest: str  # sha256 of its weights
    pairs_digest: str  # of the verification pairs that it was scored on
    scores: pd.DataFrame | None = None  # of what it serves; None where none were kept
    judged: Collection[str] = ()  # the tests that it stood, see `tries`


@dataclass(frozen=True)
class Evidence:
    """All that a decision rests on, of the recognizer that asks to be champion."""

    metrics: Mapping[str, float]  # flat, of evaluate: `student.accuracy`, `student-int8.cosine` …
    pairs_digest: str
    weights: Mapping[str, str]  # sha256 of the weights of each form
    files: Mapping[str, str]  # sha256 of the files that all this was read from, by name
    forms: Sequence[str]  # compressed forms that may be served, the one to prefer first
    parity: Mapping[str, Comparison]
    """On the same pairs: REFERENCE against TEACHER, each form and engine against REFERENCE."""
    engines: Sequence[str] = ()  # that ran where this was measured
    engines_not_run: Mapping[str, str] = field(default_factory=dict)  # and why
    slices: Sequence[str] = ()  # columns that were asked for
    collected: Mapping[str, str] = field(default_factory=dict)  # per dataset, a day or ""
    licences: Mapping[str, str] = field(default_factory=dict)  # per dataset, as its card says
    champion: Champion | None = None
    against: Mapping[str, Comparison] = field(default_factory=dict)
    """Per form, its comparison with the champion; empty where the pairs are others."""
    same: Collection[str] = ()  # forms whose similarities are the champion's, pair by pair
    judged_before: Mapping[str, int] = field(default_factory=dict)
    """Per form, how many other tests this champion has stood."""


def decide(evidence: Evidence, *, policy: Mapping[str, Any], today: date) -> Decision:
    """Decide which recognizer is served and whether it may become champion.

    Args:
        policy: the keys of `mlflow/promotion.yaml`, which explains them.
        today: against which the age of the data is reckoned.

    Raises:
        RegistryError: the policy asks for a figure that evaluate does not measure.
    """
    choosing: list[Rule] = []
    serve = REFERENCE
    for form in evidence.forms:
        rules = _parity(evidence, form, policy["parity"], chooses="serve")
        choosing += rules
        if all(rule.result == PASS for rule in rules):
            serve = form
            break
    judging = [
        *_parity(evidence, REFERENCE, policy["distilled"], chooses="outcome", reference=TEACHER),
        *_engines(evidence, serve, policy),
        *_limits(evidence.metrics, serve, policy["at_least"], least=True),
        *_limits(evidence.metrics, serve, policy["at_most"], least=False),
        _against_champion(evidence, serve, policy["champion"]),
        *_slices(evidence, serve, policy["slices"]),
        *_data(evidence, policy["data"], today=today),
    ]
    return Decision(
        outcome=outcome_of(judging),
        serve=serve,
        champion=evidence.champion.version if evidence.champion else None,
        pairs_digest=evidence.pairs_digest,
        rules=(*choosing, *judging),
        weights=dict(evidence.weights),
        files=dict(evidence.files),
        collected=dict(evidence.collected),
        policy=dict(policy),
    )


def _parity(
    evidence: Evidence,
    form: str,
    limits: Mapping[str, float | None],
    *,
    chooses: str,
    reference: str = REFERENCE,
) -> list[Rule]:
    """Whether a form does what the one that it was made of does, and is worth it."""
    metrics, compared = evidence.metrics, evidence.parity.get(form)
    rules = []

    def rule(name: str, result: str, text: str) -> None:
        rules.append(Rule(f"{form} {name}", chooses, result, text))

    if (least := limits["min_cosine"]) is not None:
        cosine = _metric(metrics, f"{form}.cosine")
        text = f"{cosine:.4f} to {reference} in the mean, at least {least:g}"
        rule("cosine", PASS if cosine >= least - ROUNDING else FAIL, text)
    if (most := limits["max_threshold_shift"]) is not None:
        shift = _metric(metrics, f"{form}.threshold_shift")
        text = f"threshold moves by {shift:.4f}, at most {most:g}"
        rule("threshold_shift", PASS if shift <= most + ROUNDING else FAIL, text)
    for figure, key in (("accuracy", "max_accuracy_drop"), ("fnmr", "max_fnmr_rise")):
        if (most := limits[key]) is None:
            continue
        difference: Difference | None = getattr(compared, figure) if compared else None
        if compared is None or difference is None:
            text = f"no comparison of {figure} with {reference}: too few pairs"
            rule(figure, UNCLEAR, text)
            continue
        text = (
            f"loses {-difference.gain:.4f} of {figure} against {reference}, at most "
            f"{-difference.lower:.4f} at {1 - compared.level:.0%}; allowed {most:g}"
        )
        sure = -difference.lower <= most + ROUNDING
        # What is no number is lost.
        rule(figure, _result(sure, not -difference.upper <= most + ROUNDING), text)
    if (least := limits["min_speedup"]) is not None:
        slow, fast = (_metric(metrics, f"{name}.latency_ms") for name in (reference, form))
        # Compared as a product: no division by a latency that was rounded to zero.
        text = f"{fast:.3f} ms, {reference} {slow:.3f} ms: at least {least:g} times as fast"
        rule("speed", PASS if slow >= least * fast - ROUNDING else FAIL, text)
    return rules


def _engines(evidence: Evidence, serve: str, policy: Mapping[str, Any]) -> list[Rule]:
    """Engines go with the version, so each of what is served that ran must do what REFERENCE does.

    Those of other forms are judged by nobody: such a form is not what the version stands for.
    """
    ours = [name for name in evidence.engines if _form_of(name) == serve]
    limits = {**policy["parity"], "min_speedup": None}  # it runs on another device
    rules = []
    for engine in ours:
        rules += _parity(evidence, engine, limits, chooses="outcome")
    if policy["engines_must_run"]:
        not_run = evidence.engines_not_run
        idle = [f"{name}: {why}" for name, why in not_run.items() if _form_of(name) == serve]
        text = f"not run: {'; '.join(idle)}" if idle else f"all of {serve} were run"
        if not (idle or ours):
            text = f"there is none of {serve}"
        sure = bool(ours) and not idle
        rules.append(Rule("engines", "outcome", PASS if sure else UNCLEAR, text))
    return rules


def _form_of(engine: str) -> str:
    """`student-int8` for `student-int8-sm89`, as `compile` names engines."""
    return engine.rpartition("-")[0]


def _limits(
    metrics: Mapping[str, float], serve: str, limits: Mapping[str, float], *, least: bool
) -> list[Rule]:
    """Each figure of what is served against a limit that its whole 95 % interval must keep.

    One that was measured on a sample and has no interval is unclear where it seems to keep it.
    """
    rules = []
    for figure, limit in limits.items():
        value = _metric(metrics, f"{serve}.{figure}")
        ends = [f"{serve}.{figure}_{end}" for end in ("low", "high")]
        low, high = (metrics.get(end, value) for end in ends)
        known = value == value and (figure in EXACT or all(end in metrics for end in ends))
        sure = known and (low >= limit - ROUNDING if least else high <= limit + ROUNDING)
        lost = high < limit - ROUNDING if least else low > limit + ROUNDING
        interval = f" [{low:.4f}, {high:.4f}]" if (low, high) != (value, value) else ""
        evidence = f"{serve} {value:.4f}{interval}, {'at least' if least else 'at most'} {limit:g}"
        evidence += "" if known else "; it has no interval, so luck cannot be told from skill"
        rules.append(Rule(figure, "outcome", _result(sure, lost or value != value), evidence))
    return rules


def gain_of(difference: Difference) -> str:
    """A paired difference in words, but for its verdict."""
    return (
        f"gain {difference.gain:+.4f} [{difference.low:+.4f}, {difference.high:+.4f}], "
        f"{difference.won} pairs won, {difference.lost} lost (McNemar p {difference.mcnemar_p:.3f})"
    )


def _against_champion(evidence: Evidence, serve: str, policy: Mapping[str, Any]) -> Rule:
    champion = evidence.champion
    if champion is None:
        return Rule("champion", "outcome", PASS, "there is no champion yet")
    theirs = f"champion version {champion.version}"
    if champion.pairs_digest != evidence.pairs_digest:
        text = (
            f"{theirs} was evaluated on other pairs ({champion.pairs_digest[:12] or 'unknown'}, "
            f"now {evidence.pairs_digest[:12]}): register under another `model` in the policy to "
            "begin anew"
        )
        return Rule("champion", "outcome", FAIL, text)
    same_weights = champion.served_digest == evidence.weights.get(serve)
    if champion.served_digest and same_weights and serve in evidence.same:
        text = f"these are the weights of {theirs}, and its scores"
        return Rule("champion", "outcome", PASS, text)
    figure, compared = policy["figure"], evidence.against.get(serve)
    difference: Difference | None = getattr(compared, figure) if compared else None
    if compared is None or difference is None:
        text = f"{figure} cannot be compared with {theirs}: no scores, or too few pairs"
        return Rule("champion", "outcome", UNCLEAR, text)
    asked = f"not worse by more than {policy['margin']:g}" if policy["margin"] else "better"
    text = (
        f"{figure} of {serve} {difference.challenger:.4f}, {theirs} ({champion.serve}) "
        f"{difference.champion:.4f}: {gain_of(difference)}; must be {asked} at "
        f"{100 * (1 - compared.level):.4g}%"
    )
    if before := evidence.judged_before.get(serve, 0):
        text += f" (level {policy['level']:g} ÷ {before + 1}: other tests before: {before})"
    return Rule("champion", "outcome", RESULTS.get(difference.verdict, FAIL), text)


def _slices(evidence: Evidence, serve: str, limits: Mapping[str, float | None]) -> list[Rule]:
    """The largest ratio along each column that was asked for, against a limit of its interval."""
    rules = []
    for rate in ("fnmr", "fmr"):
        if (most := limits[f"max_{rate}_ratio"]) is None:
            continue
        figures = {f"{rate}_ratio_{column}": column for column in evidence.slices}
        told = {figure: most for figure in figures if f"{serve}.{figure}" in evidence.metrics}
        rules += _limits(evidence.metrics, serve, told, least=False)
        untold = [column for figure, column in figures.items() if figure not in told]
        if untold or not told:
            why = f"cannot be told of {', '.join(untold)}: too few errors, or one value for all"
            text = why if untold else "evaluate.slices names no column"
            rules.append(Rule(f"{rate} ratio of slices", "outcome", UNCLEAR, text))
    return rules


def data_age(collected: Mapping[str, str], most: int, *, today: date) -> Rule:
    """Whether all photos are young enough.

    Args:
        collected: per dataset the day of its oldest photo, or "".
        most: days.
    """
    ages: dict[str, int | None] = {
        name: (today - date.fromisoformat(day)).days if day else None
        for name, day in collected.items()
    }
    # A day that is still to come is a mistake, and no proof of youth.
    old = [name for name, age in ages.items() if age is not None and not 0 <= age <= most]
    unknown = [name for name, age in ages.items() if age is None]
    text = ", ".join(
        f"{name} {'of unknown age' if age is None else f'{age} days old'}"
        for name, age in ages.items()
    )
    result = _result(not (old or unknown or not ages), bool(old))
    return Rule("data age", "outcome", result, f"{text}; at most {most} days")


def _data(evidence: Evidence, policy: Mapping[str, Any], *, today: date) -> list[Rule]:
    rules = []
    if (most := policy["max_age_days"]) is not None:
        rules.append(data_age(evidence.collected, most, today=today))
    if (accepted := policy["licences"]) is not None:
        others = {
            name: text
            for name, text in evidence.licences.items()
            if not set(text.split("; ")) <= set(accepted)  # as the cards of several are joined
        }
        text = ", ".join(f"{name}: {licence or 'none stated'}" for name, licence in others.items())
        passed = bool(evidence.licences) and not others
        told = "all are accepted" if passed else f"not accepted: {text or 'no dataset is known'}"
        rules.append(Rule("data licence", "outcome", PASS if passed else FAIL, told))
    return rules


def _result(sure: bool, lost: bool) -> str:
    return PASS if sure else FAIL if lost else UNCLEAR


def _metric(metrics: Mapping[str, float], key: str) -> float:
    if key in metrics:
        return float(metrics[key])
    form = key.partition(".")[0] + "."
    there = sorted(name.removeprefix(form) for name in metrics if name.startswith(form))
    known = ", ".join(name for name in there if not name.endswith(("_low", "_high")))
    raise RegistryError(
        f"the policy asks for {key!r}, which evaluate did not measure: it has {known or 'nothing'}"
    )
