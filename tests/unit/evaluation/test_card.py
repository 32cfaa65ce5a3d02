import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from facewright.errors import EvaluationError
from facewright.evaluation.card import model_card, model_card_of
from facewright.evaluation.record import data_facts, write_record
from facewright.evaluation.table import bound_text, estimate
from facewright.evaluation.thresholds import write_thresholds

from ...generated_answers import CARDS, NAMES, generated, questions

FULL = {key: {"collected": "", "source_digest": "f" * 64} | card for key, card in CARDS.items()}
DECISION = {
    "outcome": "hold",
    "champion": 3,
    "rules": [
        {"name": "accuracy", "chooses": "outcome", "result": "fail", "evidence": "0.85 | at 0.9"}
    ],
}
RECOGNIZERS = {
    name: {"network": "mobilefacenet", "precision": "fp32", "weights_sha256": f"{n}" * 64}
    for n, name in enumerate(NAMES)
}


@pytest.fixture(scope="module")
def given() -> dict[str, Any]:
    answers, thresholds, _ = generated()
    return {
        "model": "facewright",
        "serve": "student",
        "rows": [{"recognizer": name, **answer.metrics} for name, answer in answers.items()],
        "recognizers": RECOGNIZERS,
        "thresholds": thresholds,
        "training": FULL["Training"],
        "verification": FULL["Verification"],
        "pairs_digest": "0123456789abcdef",
        "slices": pd.concat(
            [answer.slices.assign(recognizer=name) for name, answer in answers.items()]
        ),
        "notice": "Only *made up*.",
        "decision": DECISION,
        "lineage": {"git_commit": "c0ffee", "data_md5": "beef"},
    }


def test_thresholds_of_templates_say_so(given: dict[str, Any]) -> None:
    cohorts = [replace(one.cohort, subjects="templates") for one in given["thresholds"]]
    changed = [
        replace(one, cohort=cohort)
        for one, cohort in zip(given["thresholds"], cohorts, strict=True)
    ]
    assert "impostor pairs of templates" in model_card(**given | {"thresholds": changed})
    assert "impostor pairs of" not in model_card(**given)


def sections(card: str) -> dict[str, str]:
    parts = re.split(r"^## (.*)$", card, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_card_has_the_sections_in_order(given: dict[str, Any]) -> None:
    assert list(sections(model_card(**given))) == [
        "Model details",
        "Intended use",
        "Factors",
        "Metrics",
        "Evaluation data",
        "Training data",
        "Quantitative analyses",
        "Ethical considerations",
        "Caveats and recommendations",
        "Thresholds",
        "Decision of the gate",
        "Lineage",
    ]


def test_figures_stand_with_their_intervals(given: dict[str, Any]) -> None:
    found = sections(model_card(**given))
    for row in given["rows"]:
        name = f"**{row['recognizer']}** (served)" * (row["recognizer"] == "student")
        start = f"| {name or row['recognizer']} |"
        (line,) = (x for x in found["Metrics"].splitlines() if x.startswith(start))
        for key in ("accuracy", "fnmr_at_fmr_0.1", "fnmr_at_fmr_0.01", "fnmr_at_fmr_bound", "eer"):
            assert " ".join(estimate(row, key)) in line
    assert bound_text(given["rows"][1]) in found["Metrics"]
    assert "FNMR @ FMR 0.1 %" not in found["Metrics"]  # not supported
    student = given["thresholds"][1]
    for target in student.targets:
        assert (
            f"{target.threshold:.4f} [{target.low:.4f}, {target.high:.4f}]" in found["Thresholds"]
        )
    slices = given["slices"]
    north = slices[(slices["recognizer"] == "student") & (slices["value"] == "north")].iloc[0]
    assert (
        f"| group | north | {' '.join(estimate(north, 'fnmr'))} |" in found["Quantitative analyses"]
    )


def test_card_is_about_what_is_served(given: dict[str, Any]) -> None:
    details = sections(model_card(**given))["Model details"]
    assert "- Served: student\n" in details
    assert "Stored with it: teacher, student-int8" in details
    assert "**student** (served)" in model_card(**given)
    with pytest.raises(EvaluationError, match=r"no figures of 'other'.*teacher, student"):
        model_card(**given | {"serve": "other"})


def test_data_decision_and_lineage_are_told(given: dict[str, Any]) -> None:
    found = sections(model_card(**given))
    assert "none stated" in found["Training data"]
    assert "press photographs" in found["Evaluation data"]
    assert "fit for commercial use" in found["Caveats and recommendations"]
    overlap = given["rows"][1]["overlap_pairs"]
    assert f"{overlap:,} of" in found["Training data"]
    assert "**hold**. Champion then: version 3." in found["Decision of the gate"]
    assert "- git commit: `c0ffee`" in found["Lineage"]
    assert f"| student | `{'1' * 12}` |" in found["Lineage"]


def test_text_from_outside_is_no_markup(given: dict[str, Any]) -> None:
    card = model_card(**given)
    assert "> Only \\*made up\\*." in card
    assert "0.85 \\| at 0.9" in card
    assert "research \\<only\\>" in card
    split = given["verification"] | {"source": "a\n\n## Metrics\n<b>"}
    assert list(sections(model_card(**given | {"verification": split}))) == list(sections(card))
    for table in re.findall(r"(?:^\|.*\n)+", card, flags=re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1


def test_what_is_not_known_is_left_out(given: dict[str, Any]) -> None:
    bare = {k: v for k, v in given.items() if k not in ("slices", "decision", "lineage", "notice")}
    kept = ("recognizer", "pairs", "genuine", "impostor", "identities", "failures")
    row = {
        key: value
        for key, value in given["rows"][1].items()
        if key.startswith((*kept, "fmr_bound", "eer")) and not key.endswith("_without_overlap")
    }
    card = model_card(**bare | {"rows": [row], "thresholds": []})
    found = sections(card)
    assert "Quantitative analyses" not in found
    assert "Decision of the gate" not in found
    assert "Accuracy" not in card
    assert "Searches" not in card
    assert "age, sex, origin or skin" in found["Factors"]
    assert not re.search(r"\bnan\b|\bNone\b", card)


def test_card_from_the_files_is_the_same(tmp_path: Path, given: dict[str, Any]) -> None:
    answers, thresholds, _ = generated()
    images = questions().images
    facts = {
        "pairs_digest": given["pairs_digest"],
        "rows": given["rows"],
        "weights": {},
        "flip": True,
        "bootstrap": 100,
        "engines_not_run": {},
        "slices": [],
        **data_facts(training=FULL["Training"], verification=FULL["Verification"]),
    }
    people = dict(zip(images["id"], images["identity"], strict=True))
    write_record(tmp_path, answers, identities=people, facts=facts)
    write_thresholds(tmp_path / "thresholds.json", thresholds)
    told = {key: given[key] for key in ("model", "serve", "recognizers", "decision", "lineage")}
    assert model_card_of(tmp_path, **told) == model_card(**given | {"notice": ""})


def test_a_card_with_a_group_called_na_is_made_from_the_files(
    tmp_path: Path, given: dict[str, Any]
) -> None:
    answers, thresholds, _ = generated()
    images = questions().images
    named = {
        name: replace(
            answer,
            slices=answer.slices.assign(value=answer.slices["value"].replace({"north": "NA"})),
            not_measured={"identification": "nobody can be enrolled"},
        )
        for name, answer in answers.items()
    }
    facts = {
        "pairs_digest": given["pairs_digest"],
        "rows": given["rows"],
        "weights": {},
        "flip": True,
        "bootstrap": 100,
        "engines_not_run": {},
        "slices": [],
        **data_facts(training=FULL["Training"], verification=FULL["Verification"]),
    }
    people = dict(zip(images["id"], images["identity"], strict=True))
    write_record(tmp_path, named, identities=people, facts=facts)
    write_thresholds(tmp_path / "thresholds.json", thresholds)
    told = {key: given[key] for key in ("model", "serve", "recognizers")}
    found = sections(model_card_of(tmp_path, **told))
    north = given["slices"].query("recognizer == 'student' and value == 'north'").iloc[0]
    shown = f"| group | NA | {' '.join(estimate(north, 'fnmr'))} |"
    assert shown in found["Quantitative analyses"]
    line = "- Not measured: identification: nobody can be enrolled."
    assert line in found["Caveats and recommendations"]


def test_data_of_one_name_are_both_kept() -> None:
    one, other = ({**FULL["Training"], "name": "sample", "licence": x} for x in ("free", ""))
    facts = data_facts(training=one, verification=other | {"source": "sample:verify"})
    assert facts["licences"] == {"train/sample": "free", "verify/sample": ""}
    assert facts["training_set"]["licence"] == "free"
    assert "rendered people" in facts["notice"]
