import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from facewright.errors import EvaluationError
from facewright.evaluation.calibration import calibrate
from facewright.evaluation.thresholds import (
    Cohort,
    Target,
    Thresholds,
    backend_of,
    read_thresholds,
    targets_of,
    threshold_for,
    thresholds_for,
    thresholds_of,
    write_thresholds,
)
from facewright.files import values_digest

TEACHER = Thresholds(
    recognizer="teacher",
    weights_sha256="a" * 64,
    backend="torch",
    date="2026-03-01",
    cohort=Cohort(dataset="lfw", pairs_digest="b" * 64, impostors=3000),
    targets=(
        Target(fmr=0.1, threshold=0.21, low=0.2, high=0.22, fnmr=0.01),
        Target(fmr=0.01, threshold=0.3, low=0.27, high=0.33, fnmr=0.04),
    ),
)
STUDENT = replace(TEACHER, recognizer="student-int8", backend="openvino", weights_sha256="c" * 64)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "thresholds.json"
    write_thresholds(path, [TEACHER, STUDENT])
    return path


def test_what_is_written_is_read(path: Path, make_scores: Callable) -> None:
    assert read_thresholds(path) == (TEACHER, STUDENT)
    scores, _ = make_scores(gap=1.0)
    both = [
        replace(one, calibration=calibrate(scores, kind=kind))
        for one, kind in ((TEACHER, "logistic"), (STUDENT, "isotonic"))
    ]
    before = path.read_bytes()
    write_thresholds(path, both)
    assert read_thresholds(path) == tuple(both)
    write_thresholds(path, [TEACHER, STUDENT])
    assert path.read_bytes() == before


def test_whether_embeddings_were_averaged_with_mirror_images_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "thresholds.json"
    for flip in (True, False, None):
        write_thresholds(path, [replace(TEACHER, flip=flip)])
        assert json.loads(path.read_text())["recognizers"][0]["flip"] is flip
        assert read_thresholds(path)[0].flip is flip
        metrics = {"impostor": 3000, "failures_impostor": 0}
        made = thresholds_of(
            metrics,
            recognizer="x",
            weights_sha256="0" * 64,
            backend="torch",
            dataset="lfw",
            pairs_digest="1" * 64,
            flip=flip,
        )
        assert made.flip is flip


def test_what_ran_a_recognizer_is_named() -> None:
    engine = {"builder": "tensorrt", "builder_version": "10.3", "target": "sm86"}
    assert backend_of("engine", runtime="openvino", engine=engine) == "tensorrt sm86"
    assert backend_of("engine", runtime="x", engine=engine | {"builder": "tensorrt-rtx"}) == (
        "tensorrt-rtx sm86"
    )
    assert backend_of("onnx", runtime="openvino", engine={}) == "openvino"
    assert backend_of("torch", runtime="openvino", engine={}) == "torch"


def test_a_threshold_belongs_to_one_recognizer_and_target(path: Path) -> None:
    assert threshold_for(path, "teacher", 0.01) == 0.3
    assert threshold_for(path, "teacher", 0.1, weights_sha256="a" * 64) == 0.21
    assert thresholds_for(path, "student-int8").backend == "openvino"
    with pytest.raises(EvaluationError, match=r"for FMR 0\.001; it has 0\.1, 0\.01: choose one"):
        threshold_for(path, "teacher", 0.001)
    with pytest.raises(EvaluationError, match="no thresholds for 'student'; it has teacher, stu"):
        threshold_for(path, "student", 0.01)
    with pytest.raises(EvaluationError, match=r"found with weights cccccccccccc, not a+:"):
        threshold_for(path, "student-int8", 0.01, weights_sha256="a" * 64)
    write_thresholds(path, [replace(TEACHER, targets=())])
    with pytest.raises(EvaluationError, match=r"it has none: .* more than 3000 impostor pairs"):
        threshold_for(path, "teacher", 0.1)
    write_thresholds(path, [])
    with pytest.raises(EvaluationError, match="it has none"):
        threshold_for(path, "teacher", 0.1)


def test_thresholds_of_templates_are_asked_for(path: Path) -> None:
    with pytest.raises(EvaluationError, match="are of images, not of templates: run evaluate on"):
        threshold_for(path, "teacher", 0.1, subjects="templates")
    write_thresholds(path, [replace(TEACHER, cohort=replace(TEACHER.cohort, subjects="templates"))])
    assert threshold_for(path, "teacher", 0.1, subjects="templates") == 0.21
    with pytest.raises(EvaluationError, match="are of templates, not of images: run evaluate on"):
        threshold_for(path, "teacher", 0.1)
    with pytest.raises(EvaluationError, match="thresholds of 'faces', which is none of images, t"):
        write_thresholds(path, [replace(TEACHER, cohort=replace(TEACHER.cohort, subjects="faces"))])


def test_targets_come_from_the_figures() -> None:
    figures = {"accuracy": 0.9, "threshold_accuracy": 0.4, "fmr_bound": 0.001}
    for name, threshold in (("1e-05", 0.5), ("0.1", 0.2), ("0.001", 0.4), ("bound", 0.6)):
        for end, shift in (("", 0), ("_low", -0.05), ("_high", 0.05)):
            figures[f"threshold_at_fmr_{name}{end}"] = threshold + shift
            figures[f"fnmr_at_fmr_{name}{end}"] = threshold / 10 + shift
    targets = targets_of(figures)
    assert [target.fmr for target in targets] == [0.1, 0.001, 1e-5]
    assert targets[1] == Target(0.001, 0.4, 0.4 - 0.05, 0.4 + 0.05, 0.4 / 10)
    assert targets_of({"accuracy": 0.9}) == ()


def test_one_changed_character_is_caught(path: Path) -> None:
    text = path.read_text()
    places = [k for k, character in enumerate(text) if character.isdigit()]
    for k in places[:: len(places) // 20]:
        path.write_text(text[:k] + str((int(text[k]) + 1) % 10) + text[k + 1 :])
        with pytest.raises(EvaluationError, match=r"digest disagrees|of format"):
            read_thresholds(path)
    path.write_text(text.replace("openvino", "openvin0"))
    with pytest.raises(EvaluationError, match="digest disagrees"):
        read_thresholds(path)
    path.write_text(text)
    read_thresholds(path)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", "3", '{"digest": "x"}', '{"digest": 1, "format": 2}', "\xff"]
)
def test_other_files_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "thresholds.json"
    with pytest.raises(EvaluationError, match="is missing: run evaluate"):
        read_thresholds(path)
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(EvaluationError, match=r"holds no thresholds|is of format 2"):
        read_thresholds(path)


@pytest.mark.parametrize(
    "change",
    [
        {"targets": [{"fmr": 0.1}]},
        {"targets": [{"fmr": "0.1", "threshold": 0, "low": 0, "high": 0, "fnmr": 0}]},
        {"cohort": {}},
        {"calibration": {"kind": "magic"}},
        {"extra": 1},
    ],
)
def test_content_of_another_form_is_refused_although_its_digest_agrees(
    path: Path, change: dict
) -> None:
    content = json.loads(path.read_text())
    del content["digest"]
    content["recognizers"][0] |= change
    path.write_text(json.dumps(content | {"digest": values_digest(content)}))
    with pytest.raises(EvaluationError, match="holds no thresholds: run evaluate again"):
        read_thresholds(path)


def test_impossible_thresholds_are_not_written(tmp_path: Path) -> None:
    path = tmp_path / "thresholds.json"
    with pytest.raises(EvaluationError, match="two sets of thresholds for 'teacher'"):
        write_thresholds(path, [TEACHER, TEACHER])
    with pytest.raises(EvaluationError, match=r"'1\.3\.2026' of 'teacher' is no date"):
        write_thresholds(path, [replace(TEACHER, date="1.3.2026")])
    first = TEACHER.targets[0]
    for change in (
        {"threshold": np.nan},
        {"high": np.inf},
        {"fmr": 0.0},
        {"fnmr": 1.5},
        {"low": 0.3},
    ):
        with pytest.raises(EvaluationError, match="the threshold of 'teacher' for FMR"):
            write_thresholds(path, [replace(TEACHER, targets=(replace(first, **change),))])
    assert not path.exists()
