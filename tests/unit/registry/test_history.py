"""What people read of the registry says what is there, in lines that fit a terminal."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from facewright import cli
from facewright.evaluation.record import FACTS, METRICS, SCORES
from facewright.registry.decision import Rule
from facewright.registry.history import compare, explain
from facewright.registry.lineage import Lineage
from facewright.registry.promotion import promote, register, rollback
from facewright.registry.tracking import RECOGNIZER_TAG, START_TAG, connect, track
from facewright.registry.versions import PARENTS
from tests.unit.registry.decisions import decided, evaluation_files
from tests.unit.registry.evaluations import write_evaluation

MODEL = "facewright"
LONG = "student-int8 0.9123, and so much more to say of it than any table of a terminal can hold, "

Add = Callable[..., int]


@pytest.fixture
def add(store: Path, folders: Callable[..., dict[str, Path]]) -> Add:
    def run(
        seed: str,
        metrics: Mapping[str, float] | None = None,
        *,
        outcome: str = "promote",
        against: int | None = None,
        pairs: str = "a" * 64,
    ) -> int:
        rules = (
            Rule("int8_speed", "serve", "pass", "INT8 1.000 ms, FP32 2.000 ms"),
            Rule("min_accuracy", "outcome", "pass" if outcome == "promote" else "fail", LONG * 2),
        )
        made, files = folders(seed), evaluation_files(store / "evaluation")
        return register(
            model=MODEL,
            folders=made,
            metrics=metrics or {},
            evaluation_files=files,
            decision=decided(
                outcome, "student", against, rules, folders=made, files=files, pairs=pairs
            ),
            lineage=Lineage("m5.dir", "c0ffee", "p" * 64),
            actor="someone-with-a-long-address@example.org",
        ).version

    return run


def fits(text: str) -> list[str]:
    lines = text.splitlines()
    assert max(map(len, lines)) < 100
    return lines


def test_history_and_explain(add: Add, capsys: pytest.CaptureFixture[str]) -> None:
    add("one")
    promote(MODEL, actor="Ada", reason="the first")
    add("two", outcome="hold", against=1)
    add("three", against=1)
    promote(MODEL, actor="Ada")
    rollback(MODEL, actor="Bob", reason="complaints")
    assert cli.main(["history", "--model", MODEL]) == 0
    header, *lines = fits(capsys.readouterr().out)
    assert header.split() == ["#", "version", "when", "(UTC)", "who", "action", "gate"]
    cells = [line.split() for line in lines[::2]]
    assert [(row[0], row[1], row[5]) for row in cells] == [
        ("1", "1", "register"),
        ("2", "1", "promote"),
        ("3", "2", "register"),
        ("4", "2", "reject"),
        ("5", "3", "register"),
        ("6", "3", "promote"),
        ("7", "1", "rollback"),
    ]
    assert cells[3][-1] == "hold"
    assert (cells[5][4], cells[6][4]) == ("Ada", "Bob")
    assert lines[11].strip() == "[challenger] all rules passed"
    assert lines[13].strip() == "[champion] complaints"
    assert lines[3].strip() == "the first"  # an alias stands where its version came up last
    assert lines[7].strip().startswith("min_accuracy: student-int8 0.9123")

    text = explain(MODEL, 2)
    lines = fits(text)
    assert lines[0] == "facewright version 2, serves student"
    for line in ("data (md5)    m5.dir", "git commit    c0ffee", "started from  no registered ver"):
        assert f"\n  {line}" in text
    assert "Gate: hold, compared with version 1 (evidence " in text
    assert "  pass     int8_speed: INT8 1.000 ms, FP32 2.000 ms" in lines
    assert "  fail     min_accuracy: student-int8 0.9123" in text
    flat = " ".join(text.split())
    assert flat.count((LONG * 2).strip()) == 3  # whole, in the gate's rule and in two entries
    assert "reject by someone-with-a-long-address@example.org, key " in flat
    assert "Bob" not in text
    assert "rollback by Bob" in explain(MODEL, 1)

    connect().set_model_version_tag(MODEL, "2", "facewright.data_md5", "other")
    assert "THE TAGS OR THE RUN ABOVE ARE NOT THOSE THAT WERE ENTERED" in explain(MODEL, 2)


def test_figures_side_by_side_and_never_of_different_pairs(add: Add) -> None:
    one = {
        "student.accuracy": 0.9,
        "student.accuracy_low": 0.88,
        "student.accuracy_high": 0.92,
        "student.fnmr_at_fmr_0.01": float("nan"),
        "student.pairs": 3000,
        "teacher.eer": 0.05,
    }
    add("one", one)
    add("two", one | {"student.accuracy": 0.91, "student.eer": 0.1})
    add("three", one, pairs="b" * 64)
    lines = fits(compare(MODEL, 1, 2))
    assert lines[2] == f"both on the same pairs ({'a' * 12})"
    assert lines[3] == "not compared by pairs: no policy stands in a decision on version 2"
    rows = {line.split()[0]: line.split()[1:] for line in lines[6:]}
    assert rows == {
        "student.accuracy": ["0.9", "[0.88,", "0.92]", "0.91", "[0.88,", "0.92]", "+0.01"],
        "student.eer": ["none", "0.1"],
        "student.fnmr_at_fmr_0.01": ["nan", "nan"],
        "student.pairs": ["3000", "3000", "0"],
        "teacher.eer": ["0.05", "0.05", "0"],
    }
    lines = fits(compare(MODEL, 1, 3))
    assert lines[2].startswith(f"THE PAIRS DIFFER ({'a' * 12}, {'b' * 12})")
    assert lines[4].split() == ["figure", "version", "1", "version", "3"]
    assert lines[5].split() == [
        "student.accuracy",
        "0.9",
        "[0.88,",
        "0.92]",
        "0.9",
        "[0.88,",
        "0.92]",
    ]


@pytest.fixture
def add_scored(store: Path, folders: Callable[..., dict[str, Path]]) -> Add:
    """Register a version with an evaluation whose figures follow from its scores."""

    def run(seed: str, *, skill: float, fmr: float = 0.1, pairs: str = "a" * 64) -> int:
        made, evaluate = folders(seed), store / f"evaluate-{seed}"
        metrics = write_evaluation(evaluate, skill=skill, seed=seed, pairs=pairs)
        files = [evaluate / name for name in (SCORES, METRICS, FACTS)]
        policy = {"champion": {"fmr": fmr, "level": 0.05, "bootstrap": 200, "margin": 0.02}}
        decision = decided(
            "promote", "student", None, folders=made, files=files, pairs=pairs, policy=policy
        )
        return register(
            model=MODEL,
            folders=made,
            metrics=metrics,
            evaluation_files=files,
            decision=decision,
            lineage=Lineage("m5.dir", "c0ffee", "p" * 64),
        ).version

    return run


def test_two_versions_are_compared_pair_by_pair(add_scored: Add) -> None:
    add_scored("one", skill=3.0)
    add_scored("alike", skill=3.0)
    add_scored("strong", skill=3.6)
    add_scored("fine", skill=3.6, fmr=0.001)
    add_scored("elsewhere", skill=3.6, pairs="b" * 64)

    def said(first: int, second: int) -> list[str]:
        head, _, _ = "\n".join(fits(compare(MODEL, first, second))).partition("\n\n")
        flat = " ".join(head.split()).partition("both on the same pairs (aaaaaaaaaaaa) ")[2]
        return flat.replace(" version ", "\nversion ").splitlines()

    gain = r"gain ([-+]\d\.\d+) \[([-+]\d\.\d+), ([-+]\d\.\d+)\], (\d+) pairs won, (\d+) lost "
    gain += r"\(McNemar p \d\.\d{3}\)"
    for first, second, word, sign in (
        (1, 3, "better", 1),
        (3, 1, "worse", -1),
        (1, 2, "no evidence of a difference", 0),
    ):
        lines = said(first, second)
        assert len(lines) == 2
        for line, figure in zip(lines, ("accuracy", r"FNMR at FMR 0\.1"), strict=True):
            start = f"version {second} against {first} by pairs, {figure}: {word} at 95%: "
            found = re.fullmatch(start + gain, line)
            assert found, line
            value, low, high, won, lost = map(float, found.groups())
            assert low <= value <= high
            assert (low > 0) - (high < 0) == sign
            assert sign * (won - lost) > 0 or sign == 0
    assert said(1, 4)[1] == "version 4 against 1 by pairs, FNMR at FMR 0.001: too few pairs"
    assert said(1, 5) == []
    assert fits(compare(MODEL, 1, 5))[2].startswith("THE PAIRS DIFFER")


def test_a_version_names_the_version_that_its_training_started_from(
    add: Add, folders: Callable[..., dict[str, Path]]
) -> None:
    from facewright.models.recognizer import read_card

    add("one")
    first, second = (read_card(folders(seed)["teacher"]).weights_sha256 for seed in ("one", "two"))
    with track("train", params={}, tags={RECOGNIZER_TAG: second, START_TAG: first}):
        pass
    add("two")
    assert connect().get_model_version(MODEL, "2").tags[PARENTS] == f"{MODEL}/1"
    assert f"started from  {MODEL}/1" in explain(MODEL, 2)


def test_what_is_not_there_is_one_line(add: Add, capsys: pytest.CaptureFixture[str]) -> None:
    add("one")
    for command in (["explain", "7"], ["compare", "1", "7"]):
        assert cli.main([*command, "--model", MODEL]) == 2
        assert "facewright has no version 7: there are 1" in capsys.readouterr().err
    assert cli.main(["history", "--model", "other"]) == 2
    assert "no registered model 'other'" in capsys.readouterr().err
