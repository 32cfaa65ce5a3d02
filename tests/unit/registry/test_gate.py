"""The gate's table of cases, and that nothing unclear ever promotes."""

import json
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from facewright.errors import RegistryError
from facewright.evaluation.comparison import Comparison, Difference
from facewright.registry.decision import Decision, Rule, read_decision, write_decision
from facewright.registry.gate import Champion, Evidence, decide

PAIRS = "a" * 64
TODAY = date(2026, 6, 30)
NAN = float("nan")
PARITY = ("min_cosine", "max_threshold_shift", "max_accuracy_drop", "max_fnmr_rise", "min_speedup")


def policy(**sections: Any) -> dict[str, Any]:
    """Limits that the evidence below keeps, with changes."""
    whole: dict[str, Any] = {
        "model": "facewright",
        "parity": {
            "min_cosine": 0.9,
            "max_threshold_shift": 0.05,
            "max_accuracy_drop": 0.02,
            "max_fnmr_rise": None,
            "min_speedup": 1.0,
        },
        "distilled": dict.fromkeys(PARITY),
        "engines_must_run": False,
        "at_least": {"accuracy": 0.85},
        "at_most": {},
        "champion": {"figure": "accuracy", "fmr": 0.1, "margin": 0.0, "level": 0.05},
        "slices": {"max_fnmr_ratio": None, "max_fmr_ratio": None},
        "data": {"max_age_days": None, "licences": None},
    }
    return {
        key: value | sections.get(key, {}) if isinstance(value, dict) else value
        for key, value in whole.items()
    }


def difference(gain: float, verdict: str, *, spread: float = 0.005) -> Difference:
    return Difference(
        challenger=0.92 + gain,
        champion=0.92,
        gain=gain,
        low=gain - 1.2 * spread,
        high=gain + 1.2 * spread,
        lower=gain - spread,
        upper=gain + spread,
        trials=3000,
        won=40,
        lost=30,
        mcnemar_p=0.28,
        verdict=verdict,
    )


def comparison(gain: float, verdict: str = "unclear", *, spread: float = 0.005) -> Comparison:
    found = difference(gain, verdict, spread=spread)
    return Comparison(
        level=0.05, margin=0.0, fmr_target=0.1, identities=50, accuracy=found, fnmr=None
    )


def metrics(**changes: float) -> dict[str, float]:
    values = {
        "student.accuracy": 0.92,
        "student.accuracy_low": 0.90,
        "student.accuracy_high": 0.94,
        "student.latency_ms": 4.0,
        "student-int8.accuracy": 0.918,
        "student-int8.accuracy_low": 0.898,
        "student-int8.accuracy_high": 0.938,
        "student-int8.latency_ms": 2.0,
        "student-int8.cosine": 0.97,
        "student-int8.threshold_shift": 0.01,
    }
    return values | {f"student-int8.{key}": value for key, value in changes.items()}


def evidence(**changes: Any) -> Evidence:
    return replace(
        Evidence(
            metrics=metrics(),
            pairs_digest=PAIRS,
            files={"scores.parquet": "e" * 64},
            weights={"student": "s" * 64, "student-int8": "i" * 64},
            forms=("student-int8",),
            parity={"student-int8": comparison(-0.002)},
            collected={"train": "2026-01-01", "verify": "2026-06-01"},
            licences={"train": "CC0; own photos", "verify": "CC0"},
        ),
        **changes,
    )


def serving(**changes: Any) -> Champion:
    best = Champion(version=3, serve="student", served_digest="c" * 64, pairs_digest=PAIRS)
    return replace(best, **changes)


def judged(given: Evidence, **sections: Any) -> Decision:
    return decide(given, policy=policy(**sections), today=TODAY)


def rule_of(decision: Decision, name: str) -> Rule:
    return next(rule for rule in decision.rules if rule.name == name)


def test_first_version_that_keeps_all_limits_is_promoted() -> None:
    decision = judged(evidence())
    assert (decision.outcome, decision.serve) == ("promote", "student-int8")
    assert decision.champion is None
    assert decision.reason == "all rules passed"


@pytest.mark.parametrize(
    ("change", "blamed"),
    [
        ({"metrics": metrics(cosine=0.899)}, "cosine"),
        ({"metrics": metrics(cosine=NAN)}, "cosine"),
        ({"metrics": metrics(threshold_shift=0.0501)}, "threshold_shift"),
        ({"metrics": metrics(latency_ms=4.1)}, "speed"),
        ({"metrics": metrics(latency_ms=NAN)}, "speed"),
        # The worst that the pairs leave open counts, not what was seen.
        ({"parity": {"student-int8": comparison(-0.002, spread=0.0181)}}, "accuracy"),
        ({"parity": {"student-int8": comparison(NAN)}}, "accuracy"),
        ({"parity": {}}, "accuracy"),
    ],
)
def test_a_form_that_does_otherwise_is_not_served(change: dict[str, Any], blamed: str) -> None:
    decision = judged(evidence(**change))
    assert decision.serve == "student"
    blocking = [rule.name for rule in decision.rules if rule.result != "pass"]
    assert blocking == [f"student-int8 {blamed}"]
    assert decision.outcome == "promote"  # the choice alone holds nothing back


def test_limits_met_exactly_are_met() -> None:
    given = evidence(
        metrics=metrics(cosine=0.9, threshold_shift=0.05, latency_ms=4.0),
        parity={"student-int8": comparison(-0.002, spread=0.018)},
    )
    assert judged(given).serve == "student-int8"


def test_null_switches_rules_off() -> None:
    given = evidence(metrics=metrics(cosine=0.1, latency_ms=9.0))
    off = {"min_cosine": None, "min_speedup": None}
    assert judged(given, parity=off).serve == "student-int8"


@pytest.mark.parametrize(
    ("low", "value", "high", "outcome"),
    [
        (0.85, 0.87, 0.89, "promote"),  # all of the interval keeps the limit
        (0.849, 0.87, 0.89, "insufficient evidence"),
        (0.83, 0.84, 0.8501, "insufficient evidence"),
        (0.80, 0.82, 0.849, "hold"),
        (NAN, NAN, NAN, "hold"),
    ],
)
def test_floor_asks_for_the_whole_interval(
    low: float, value: float, high: float, outcome: str
) -> None:
    changed = metrics(accuracy=value, accuracy_low=low, accuracy_high=high)
    decision = judged(evidence(metrics=changed))
    assert decision.outcome == outcome
    if outcome != "promote":
        assert decision.reason.startswith("accuracy: student-int8 ")


def test_ceiling_is_the_mirror_of_a_floor() -> None:
    for limit, outcome in ((2.0, "promote"), (1.99, "hold")):
        assert judged(evidence(), at_most={"latency_ms": limit}).outcome == outcome
    changed = metrics(eer=0.08, eer_low=0.06, eer_high=0.1)
    for limit, outcome in ((0.1, "promote"), (0.09, "insufficient evidence"), (0.05, "hold")):
        given = evidence(metrics=changed)
        assert judged(given, at_most={"eer": limit}).outcome == outcome


@pytest.mark.parametrize("section", ["at_least", "at_most"])
def test_unknown_figure_is_refused_and_known_ones_are_named(section: str) -> None:
    with pytest.raises(RegistryError, match=r"'student-int8\.acuracy'.*accuracy, cosine"):
        judged(evidence(), **{section: {"acuracy": 0.9}})


@pytest.mark.parametrize(
    ("verdict", "gain", "outcome"),
    [
        ("better", 0.02, "promote"),
        ("not_worse", 0.0, "promote"),
        ("unclear", 0.001, "insufficient evidence"),
        ("worse", -0.02, "hold"),
        ("nonsense", 0.02, "hold"),
    ],
)
def test_champion_is_replaced_only_on_evidence(verdict: str, gain: float, outcome: str) -> None:
    against = {"student-int8": comparison(gain, verdict), "student": comparison(-0.5, "worse")}
    decision = judged(evidence(champion=serving(), against=against))
    assert (decision.outcome, decision.champion) == (outcome, 3)
    text = rule_of(decision, "champion").evidence
    assert "version 3" in text
    assert f"{gain:+.4f}" in text
    assert "\n" not in text


@pytest.mark.parametrize(
    ("best", "outcome", "told"),
    [
        (serving(pairs_digest="b" * 64), "hold", "other pairs (bbbbbbbbbbbb, now aaaaaaaaaaaa)"),
        (serving(pairs_digest=""), "hold", "other pairs (unknown"),
        (serving(), "insufficient evidence", "no scores, or too few pairs"),
        (serving(served_digest="i" * 64), "insufficient evidence", "no scores"),  # run otherwise
        (serving(served_digest="i" * 64, pairs_digest="b" * 64), "hold", "other pairs"),
        (serving(served_digest="s" * 64), "insufficient evidence", "no scores"),  # not what serves
    ],
)
def test_what_cannot_be_compared_is_not_promoted(best: Champion, outcome: str, told: str) -> None:
    decision = judged(evidence(champion=best))
    assert decision.outcome == outcome
    assert told in rule_of(decision, "champion").evidence


def test_the_champion_itself_passes_and_its_weights_alone_do_not() -> None:
    """The same weights may have been fed otherwise: mirrored, aligned or run in another way."""
    given = evidence(
        champion=serving(served_digest="i" * 64),
        against={"student-int8": comparison(-0.02, "worse")},
    )
    assert judged(given).outcome == "hold"
    assert judged(replace(given, same=("student",))).outcome == "hold"
    decision = judged(replace(given, same=("student-int8",)))
    assert decision.outcome == "promote"
    told = "these are the weights of champion version 3, and its scores"
    assert rule_of(decision, "champion").evidence == told
    other = replace(given, champion=serving(), same=("student-int8",))
    assert judged(other).outcome == "hold"  # as good on these pairs, but another one


def test_it_is_told_how_many_others_were_compared_with_the_champion() -> None:
    compared = replace(comparison(0.02, "better"), level=0.0125)
    given = evidence(
        champion=serving(), against={"student-int8": compared}, judged_before={"student-int8": 3}
    )
    told = "must be better at 98.75% (level 0.05 ÷ 4: other tests before: 3)"
    assert rule_of(judged(given), "champion").evidence.endswith(told)


@pytest.mark.parametrize(
    ("limit", "figure", "outcome"),
    [
        ("at_least", {"auc": 0.99}, "insufficient evidence"),
        ("at_least", {"auc": 0.89}, "hold"),
        ("at_most", {"calibration_error": 0.1}, "insufficient evidence"),
        ("at_most", {"fnmr_at_fmr_0.1": 0.1}, "insufficient evidence"),
        ("at_most", {"fnmr_at_fmr_0.1": 0.1, "fnmr_at_fmr_0.1_low": 0.1}, "insufficient evidence"),
        ("at_least", {"genuine": 3000}, "promote"),
        ("at_most", {"overlap_pairs": 0}, "promote"),
        ("at_most", {"megabytes": 0.5}, "promote"),
    ],
)
def test_a_figure_of_a_sample_without_interval_promotes_nothing(
    limit: str, figure: dict[str, float], outcome: str
) -> None:
    given = evidence(metrics=metrics(**figure))
    decision = judged(given, **{limit: {next(iter(figure)): 0.9}})
    assert decision.outcome == outcome
    if outcome != "promote":
        assert "it has no interval" in decision.reason


def test_figure_that_the_pairs_do_not_support_is_unclear() -> None:
    given = evidence(champion=serving(), against={"student-int8": comparison(0.1, "better")})
    assert judged(given).outcome == "promote"
    assert judged(given, champion={"figure": "fnmr"}).outcome == "insufficient evidence"


def ratios(rate: str = "fnmr", **columns: tuple[float, ...]) -> dict[str, float]:
    """Of each column the largest ratio, and where they are given its lower and upper end."""
    return {
        f"{rate}_ratio_{column}{end}": value
        for column, values in columns.items()
        for end, value in zip(("", "_low", "_high"), values, strict=False)
    }


@pytest.mark.parametrize(
    ("found", "outcome"),
    [
        (ratios(quality=(1.5, 1.2, 1.9), turn=(1.8, 1.5, 2.0)), "promote"),
        (ratios(quality=(1.5, 1.2, 1.9), turn=(1.8, 1.5, 2.1)), "insufficient evidence"),
        (ratios(quality=(1.5, 1.2, 1.9), turn=(2.3, 1.9, 2.8)), "insufficient evidence"),
        (ratios(quality=(1.5, 1.2, 1.9), turn=(2.5, 2.1, 2.9)), "hold"),
        # Without an error in the best slice there is no interval.
        (ratios(quality=(1.5, 1.2, 1.9), turn=(1.8,)), "insufficient evidence"),
        (ratios(quality=(1.5, 1.2, 1.9), turn=(2.1,)), "hold"),
        (ratios(quality=(NAN,), turn=(1.2, 1.1, 1.3)), "hold"),
        (ratios(quality=(1.2, 1.1, 1.3), turn=(NAN, 1.0, 1.1)), "hold"),
        (ratios("fmr", quality=(1.5, 1.2, 1.9), turn=(1.5, 1.2, 1.9)), "insufficient evidence"),
        ({}, "insufficient evidence"),
    ],
)
def test_slices_may_not_differ_too_much(found: dict[str, float], outcome: str) -> None:
    given = evidence(metrics=metrics(**found), slices=("quality", "turn"))
    assert judged(given, slices={"max_fnmr_ratio": 2.0}).outcome == outcome


def test_slices_that_were_asked_for_and_cannot_be_told_are_unclear() -> None:
    given = evidence(metrics=metrics(**ratios(quality=(1.2, 1.1, 1.3))), slices=("quality", "turn"))
    decision = judged(given, slices={"max_fnmr_ratio": 2.0})
    assert decision.outcome == "insufficient evidence"
    assert decision.reason.endswith("cannot be told of turn: too few errors, or one value for all")
    nothing = judged(evidence(), slices={"max_fnmr_ratio": 2.0})
    assert nothing.outcome == "insufficient evidence"
    assert nothing.reason.endswith("evaluate.slices names no column")


@pytest.mark.parametrize(
    ("gain", "spread", "outcome"),
    [
        (-0.01, 0.01, "promote"),
        (-0.01, 0.02, "insufficient evidence"),
        (-0.04, 0.009, "hold"),
        (NAN, 0.01, "hold"),
    ],
)
def test_a_student_must_not_lose_too_much_against_its_teacher(
    gain: float, spread: float, outcome: str
) -> None:
    parity = {**evidence().parity, "student": comparison(gain, spread=spread)}
    decision = judged(evidence(parity=parity), distilled={"max_accuracy_drop": 0.02})
    assert decision.outcome == outcome
    rule = rule_of(decision, "student accuracy")
    assert (rule.chooses, "against teacher" in rule.evidence) == ("outcome", True)
    without = judged(evidence(), distilled={"max_accuracy_drop": 0.02})
    assert without.outcome == "insufficient evidence"


ENGINE = "student-int8-sm89"


def with_engine(name: str = ENGINE, *, compared: bool = True, **changes: float) -> Evidence:
    measured = {"cosine": 0.99, "threshold_shift": 0.0, "latency_ms": 9.0} | changes
    return evidence(
        metrics=metrics() | {f"{name}.{key}": value for key, value in measured.items()},
        engines=(name,),
        parity=evidence().parity | ({name: comparison(-0.001)} if compared else {}),
    )


@pytest.mark.parametrize(
    ("given", "outcome"),
    [
        (with_engine(), "promote"),  # however slow it is where this runs
        (with_engine(cosine=0.5), "hold"),
        (with_engine(threshold_shift=0.2), "hold"),
        (with_engine(compared=False), "insufficient evidence"),
        (with_engine("student-sm89", cosine=0.5), "promote"),  # INT8 is served
    ],
)
def test_an_engine_of_what_is_served_must_do_the_same(given: Evidence, outcome: str) -> None:
    decision = judged(given)
    assert (decision.outcome, decision.serve) == (outcome, "student-int8")


def test_an_int8_engine_does_not_hold_back_fp32() -> None:
    given = with_engine(cosine=0.5)
    bad = dict(given.metrics) | {"student-int8.cosine": 0.5}
    decision = judged(replace(given, metrics=bad))
    assert (decision.outcome, decision.serve) == ("promote", "student")


def test_engines_that_must_run_and_did_not_leave_the_evidence_insufficient() -> None:
    asked = policy() | {"engines_must_run": True}
    idle = evidence(engines_not_run={ENGINE: "no GPU here", "student-sm89": "no GPU here"})
    assert judged(idle).outcome == "promote"
    for given, told in (
        (idle, f"not run: {ENGINE}: no GPU here"),
        (evidence(), "there is none of student-int8"),
    ):
        decision = decide(given, policy=asked, today=TODAY)
        assert decision.outcome == "insufficient evidence"
        assert rule_of(decision, "engines").evidence == told
    decision = decide(with_engine(), policy=asked, today=TODAY)
    assert decision.outcome == "promote"
    assert rule_of(decision, "engines").evidence == "all of student-int8 were run"


def test_the_policy_goes_with_the_decision() -> None:
    assert judged(evidence(), at_least={"accuracy": 0.8}).policy["at_least"] == {"accuracy": 0.8}


@pytest.mark.parametrize(
    ("days", "collected", "outcome"),
    [
        (180, {"train": "2026-01-01", "verify": "2026-06-01"}, "promote"),
        (179, {"train": "2026-01-01", "verify": "2026-06-01"}, "hold"),
        (180, {"train": "", "verify": "2026-06-01"}, "insufficient evidence"),
        (20, {"train": "", "verify": "2026-06-01"}, "hold"),
        (180, {}, "insufficient evidence"),
        (180, {"train": "2026-07-01", "verify": "2026-06-01"}, "hold"),  # still to come
    ],
)
def test_data_may_be_too_old(days: int, collected: dict[str, str], outcome: str) -> None:
    given = evidence(collected=collected)
    assert judged(given, data={"max_age_days": days}).outcome == outcome


@pytest.mark.parametrize(
    ("licences", "outcome"),
    [
        (["CC0", "own photos"], "promote"),
        (["CC0"], "hold"),  # training is of two, one of them not accepted
        ([], "hold"),
    ],
)
def test_every_licence_must_be_accepted(licences: list[str], outcome: str) -> None:
    decision = judged(evidence(), data={"licences": licences})
    assert decision.outcome == outcome
    assert judged(evidence(licences={}), data={"licences": ["CC0"]}).outcome == "hold"


def test_failing_outweighs_unclear() -> None:
    given = evidence(champion=serving(), licences={"train": "unknown"})
    decision = judged(given, data={"licences": ["CC0"]})
    assert decision.outcome == "hold"
    assert decision.reason.startswith("data licence: not accepted: train: unknown")


def test_decision_survives_its_file(tmp_path: Path) -> None:
    decision = judged(evidence(champion=serving()))
    path = tmp_path / "decision.json"
    write_decision(path, decision)
    assert read_decision(path) == decision


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"rules": []}',
        '{"rules": [{"name": "x"}]}',
    ],
)
def test_file_without_a_decision_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "decision.json"
    path.write_text(text)
    with pytest.raises(RegistryError, match="holds no decision"):
        read_decision(path)
    with pytest.raises(RegistryError, match="run the gate first"):
        read_decision(tmp_path / "none.json")


@pytest.mark.parametrize("left_out", ["weights", "files", "collected", "policy"])
def test_a_decision_that_lacks_what_it_is_on_is_refused(tmp_path: Path, left_out: str) -> None:
    path = tmp_path / "decision.json"
    values = judged(evidence()).values()
    del values[left_out]
    path.write_text(json.dumps(values))
    with pytest.raises(RegistryError, match="holds no decision: run the gate again"):
        read_decision(path)


@pytest.mark.parametrize(
    ("given", "edited", "told"),
    [
        (evidence(metrics=metrics(accuracy_low=0.8)), {"outcome": "promote"}, "insufficient evid"),
        (evidence(champion=serving(pairs_digest="")), {"outcome": "promote"}, "hold: run gate ag"),
        (evidence(), {"outcome": "hold"}, "was edited: it says hold, and its rules promote"),
        (evidence(), {"rules": []}, "no rule was judged"),
    ],
)
def test_an_outcome_that_does_not_follow_from_the_rules_is_refused(
    tmp_path: Path, given: Evidence, edited: dict[str, Any], told: str
) -> None:
    path = tmp_path / "decision.json"
    path.write_text(json.dumps(judged(given).values() | edited))
    with pytest.raises(RegistryError, match=told) as error:
        read_decision(path)
    assert "\n" not in str(error.value)
