import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from facewright.errors import FacewrightError
from facewright.evaluation.record import write_record
from facewright.registry.decision import Rule, write_decision
from facewright.stages.shown import confusion, decision_text, roc_points
from tests.unit.registry.decisions import decided

from ...generated_answers import NAMES, generated, questions

FACTS: dict[str, Any] = {
    **{"pairs_digest": "p", "weights": {}, "rows": [], "flip": True, "notice": ""},
    **{"training_set": {}, "verification_set": {}, "licences": {}, "collected": {}},
    **{"engines_not_run": {}, "slices": [], "bootstrap": 100},
}


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evaluate")
    images = questions().images
    people = dict(zip(images["id"], images["identity"], strict=True))
    write_record(folder, generated()[0], identities=people, facts=FACTS)
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_the_curve_is_the_one_that_was_measured(evaluated: Path, name: str) -> None:
    points = roc_points(evaluated, name)
    json.dumps(points, allow_nan=False)  # Kubeflow keeps them as JSON
    fpr, tpr, threshold = (np.array(points[key]) for key in ("fpr", "tpr", "threshold"))
    assert (np.diff(fpr) >= 0).all()
    assert (np.diff(tpr) >= 0).all()
    assert (np.diff(threshold) <= 0).all()
    assert (fpr[0], fpr[-1]) == (0.0, 1.0)
    scores = generated()[0][name].scores
    compared = scores[scores["status"] == "ok"]
    for at in (len(fpr) // 3, len(fpr) // 2):
        accepted = compared[compared["similarity"] >= threshold[at]]
        impostors, genuine = (compared["label"] == 0).sum(), (scores["label"] == 1).sum()
        assert (accepted["label"] == 0).sum() / impostors == pytest.approx(fpr[at])
        assert (accepted["label"] == 1).sum() / genuine == pytest.approx(tpr[at])


@pytest.mark.parametrize("name", NAMES)
def test_counts_are_of_all_pairs_at_the_threshold_of_the_accuracy(
    evaluated: Path, name: str
) -> None:
    answer = generated()[0][name]
    counted = {(truth, told): 0 for truth in (1, 0) for told in (True, False)}
    for row in answer.scores.itertuples():
        found = row.status == "ok" and row.similarity >= answer.metrics["threshold_accuracy"]
        counted[row.label, found] += 1
    (kept, lost), (wrong, right) = confusion(evaluated, name)
    assert counted == {(1, True): kept, (1, False): lost, (0, True): wrong, (0, False): right}
    assert (answer.scores["status"] != "ok").any()


def test_a_recognizer_that_was_not_measured_is_refused(evaluated: Path) -> None:
    with pytest.raises(FacewrightError, match=r"roc\.csv has no engine: run evaluate again"):
        roc_points(evaluated, "engine")
    with pytest.raises(FacewrightError, match="is missing: run evaluate first"):
        roc_points(evaluated / "elsewhere", "teacher")


def test_a_decision_is_a_table_of_its_rules(tmp_path: Path) -> None:
    rules = (
        Rule("accuracy", "outcome", "pass", "student 0.9 [0.8, 0.95], at least 0.8"),
        Rule("data", "outcome", "fail", "a licence with a | in it"),
    )
    decision = decided("hold", "student", None, rules, folders={}, files=[], policy={"model": "m"})
    write_decision(tmp_path / "decision.json", decision)
    text = decision_text(tmp_path)
    assert text.startswith("## hold\n")
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) == 2 + len(rules)
    assert {row.count("|") for row in rows} == {4}
