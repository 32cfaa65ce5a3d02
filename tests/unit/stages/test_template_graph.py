"""A set laid out as IJB is, from its import through validate and align to evaluate's figures.

Then what rests on those: the gate, and taking a person out.
"""

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from facewright import cli
from facewright.datasets.crops import Crops
from facewright.datasets.form import open_dataset
from facewright.datasets.sample import render_photo
from facewright.erasure import erase
from facewright.errors import EvaluationError
from facewright.evaluation.assess import Answers, Questions, assess
from facewright.evaluation.card import model_card_of
from facewright.evaluation.identification import GALLERY, split_gallery
from facewright.evaluation.record import read_facts, read_scores
from facewright.evaluation.thresholds import read_thresholds
from facewright.params import Align, Evaluate, Gate, Validate, check
from facewright.registry.decision import read_decision
from facewright.registry.gate import Champion
from facewright.stages import align, evaluate, gate, validate

from .test_align import png

ROOT = Path(__file__).parents[3]
PEOPLE, EACH = 6, 3
IMAGES = range(1, PEOPLE * EACH + 1)
INSIDE = "80 95 144 95 112 130 88 160 136 160 0.99"
OUTSIDE = "900 10 " * 5 + "0.5"
FACELESS = (2, 18)  # an image beside others in its templates, and one that is alone in one
# Of each person the first two images are one template, of a video, and the third is another; a
# third template has all of them, of two media.
MEDIA = "vvs"
TEMPLATES = [
    (image, f"{(image - 1) // EACH}{'aab'[(image - 1) % EACH]}", MEDIA[(image - 1) % EACH])
    for image in IMAGES
]
TEMPLATES += [(image, f"{(image - 1) // EACH}c", MEDIA[(image - 1) % EACH]) for image in IMAGES]
LOST = "5b"
PAIRS = [(f"{k}a", f"{k}b", 1) for k in range(PEOPLE)]
PAIRS += [(f"{k}a", f"{other}b", 0) for k in range(PEOPLE) for other in range(k)]
PAIRS += [(f"{k}c", f"{k - 1}c", 0) for k in range(1, PEOPLE)]


def values_of(section: str) -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load((ROOT / "params.yaml").read_text())[section]
    return values


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("ijb")
    for person in range(2):
        for photo in range(2):
            file = root / "train" / f"p{person}" / f"{photo}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(png(render_photo(person + 1, photo)))
    (root / "loose_crop").mkdir()
    for image in IMAGES:
        person, photo = divmod(image - 1, EACH)
        data = png(render_photo(100 + person, photo))
        (root / "loose_crop" / f"{image}.png").write_bytes(data)
    lists = {
        "templates": [f"{image}.png {name} {media}" for image, name, media in TEMPLATES],
        "pairs": [" ".join(map(str, pair)) for pair in PAIRS],
        "landmarks": [f"{k}.png {OUTSIDE if k in FACELESS else INSIDE}" for k in IMAGES],
    }
    verify = [str(root / "loose_crop"), str(root / "data" / "verify" / "ijb")]
    for name, lines in lists.items():
        (root / name).write_text("\n".join(lines))
        verify += [f"--{name}", str(root / name)]
    train = [str(root / "train"), str(root / "data" / "train" / "own")]
    for words in (train, verify):
        assert cli.main(["dataset", "import", *words, "--licence", "x", "--consent", "x"]) == 0
    crop(root)
    return root


def crop(root: Path) -> None:
    """From `data/` to crops."""
    artifacts = root / "artifacts"
    options = check(Validate, values_of("validate") | {"thumbnails": 0}, where="validate")
    validate.run(data=root / "data", output=artifacts / "validate", params=options)
    align.run(
        data=root / "data",
        validate=artifacts / "validate",
        output=artifacts / "align",
        params=check(Align, values_of("align"), where="align"),
    )


def embed(recognizer: Any, crops: Crops, *, flip: bool) -> np.ndarray:
    """A vector per crop that is nearly its person's."""
    vectors = np.random.default_rng(4).normal(size=(len(crops), 32))
    vectors += 2 * np.random.default_rng(5).normal(size=(PEOPLE, 32))[crops.labels]
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def compare(root: Path) -> Questions:
    """From crops to figures, without networks; returns what was asked."""
    asked: list[Questions] = []

    def asking(questions: Questions, **embedded: Any) -> Answers:
        asked.append(questions)
        return assess(questions, **embedded)

    artifacts = root / "artifacts"
    for stage in ("quantize", "compile"):
        (artifacts / stage).mkdir(exist_ok=True)
    (artifacts / "quantize" / "metrics.json").write_text("{}")
    card = SimpleNamespace(weights_sha256="0" * 64, format="torch", engine={})
    recognizer = SimpleNamespace(card=card, model_bytes=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluate, "load_recognizer", lambda *_, **__: recognizer)
        patch.setattr(evaluate, "embed_all", embed)
        patch.setattr(evaluate, "latency", lambda *_, **__: 1.0)
        patch.setattr(evaluate, "assess", asking)
        params = values_of("evaluate") | {"bootstrap": 100, "show_faces": True}
        evaluate.run(
            align=artifacts / "align",
            train=artifacts / "train",
            quantize=artifacts / "quantize",
            compile=artifacts / "compile",
            output=artifacts / "evaluate",
            params=check(Evaluate, params, where="evaluate"),
        )
    return asked[0]


@pytest.fixture(scope="module")
def asked(project: Path) -> Questions:
    return compare(project)


def test_templates_reach_the_crops_with_photos_that_show_nobody(project: Path) -> None:
    crops = open_dataset(project / "artifacts" / "align" / "verify")
    there = open_dataset(project / "data" / "verify" / "ijb")
    assert crops.templates is not None
    assert crops.templates.equals(there.templates)
    assert crops.templates["template"].tolist() == [name for _, name, _ in TEMPLATES]
    assert crops.pairs is not None
    assert crops.pairs[["a", "b"]].to_numpy().tolist() == [[a, b] for a, b, _ in PAIRS]
    rows = crops.manifest.assign(image=crops.manifest["origin"].str.removesuffix(".png"))
    rows = rows.set_index(rows["image"].astype(int)).sort_index()
    assert rows["identity"].tolist() == [f"{(k - 1) // EACH:06d}" for k in IMAGES]
    assert rows.index[rows["status"] == "no_face"].tolist() == list(FACELESS)


def test_evaluate_compares_templates(project: Path, asked: Questions) -> None:
    artifacts = project / "artifacts"
    scores = pd.read_parquet(artifacts / "evaluate" / "scores.parquet")
    scores = scores[scores["recognizer"] == "student"]
    assert scores["label"].tolist() == [label for _, _, label in PAIRS]
    assert (scores["status"] == "failure").tolist() == [LOST in pair for pair in PAIRS]

    crops = Crops(artifacts / "align" / "verify")
    of = dict(zip(crops.ids, embed(None, crops, flip=True), strict=True))
    of = {id.rpartition("/")[2]: vector for id, vector in of.items()}
    pooled = {}
    for _, name, _ in TEMPLATES:
        media: dict[str, list[np.ndarray]] = {}
        for image, other, medium in TEMPLATES:
            if other == name and str(image) in of:
                media.setdefault(medium, []).append(of[str(image)].astype(np.float64))
        if media:
            mean = np.mean([np.mean(found, axis=0) for found in media.values()], axis=0)
            pooled[name] = mean / np.linalg.norm(mean)
    expected = [pooled[a] @ pooled[b] if LOST not in (a, b) else np.nan for a, b, _ in PAIRS]
    np.testing.assert_allclose(scores["similarity"], expected, atol=1e-6)

    metrics = json.loads((artifacts / "evaluate" / "metrics.json").read_text())
    assert metrics["student.pairs"] == len(PAIRS)
    assert metrics["student.identities"] == PEOPLE
    # Of each person one template is enrolled and two are probes, of some none is enrolled.
    enrolled = metrics["student.gallery_people"]
    assert 0 < enrolled < PEOPLE
    assert metrics["student.probes_unenrolled"] == 3 * (PEOPLE - enrolled)
    # The third template shares photos with both others, which share none.
    identities = dict(zip(asked.images["id"], asked.images["identity"], strict=True))
    split = split_gallery(identities, unenrolled_share=asked.unenrolled_share, seed=asked.seed)
    of_both = split.loc[split["role"] == GALLERY, "id"].str.endswith("c")
    assert metrics["student.probes_shared"] == (of_both + 1).sum()
    assert metrics["student.probes_mated"] == (~of_both).sum() > 0
    slices = pd.read_csv(artifacts / "evaluate" / "slices.csv")
    slices = slices[(slices["recognizer"] == "student") & (slices["column"] == "photos")]
    assert slices["value"].tolist() == ["below 2", "2 to 3", "3 and more"]
    # The worse template of each pair is one of a single image, but for those of third templates.
    counts = slices[["genuine", "compared"]].to_numpy().tolist()
    assert counts == [[PEOPLE, PEOPLE * (PEOPLE - 1) / 2], [0, 0], [0, PEOPLE - 1]]
    report = (artifacts / "evaluate" / "report.html").read_text()
    assert "data:image/jpeg" in report
    card = model_card_of(artifacts / "evaluate", model="m", serve="student", recognizers={})
    counts = f"Pairs are of {3 * PEOPLE} templates, each of 1 to 3 photos, 2.0 on average."
    for text in (report, card):
        assert counts in text
        assert "All figures and thresholds are of templates" in text
        assert "in which no face was found" in text
        assert "a face was not found" not in text
    assert "impostor pairs of templates" in report
    assert "one template of each" in card
    for words in ("with one template each", "by its worse template", "whether two templates"):
        assert words in report
    facts = json.loads((artifacts / "evaluate" / "evaluation.json").read_text())
    assert facts["subjects"] == "templates"
    assert facts["runtime"] == "onnxruntime"  # by which whoever serves it goes
    for one in read_thresholds(artifacts / "evaluate" / "thresholds.json"):
        assert one.cohort.subjects == "templates"


def test_the_photos_of_templates_are_those_that_were_imported(
    project: Path, asked: Questions
) -> None:
    """By their digests, those without a face and those of several templates included."""
    digests = {
        image: hashlib.sha256((project / "loose_crop" / f"{image}.png").read_bytes()).hexdigest()
        for image in IMAGES
    }
    assert len(set(digests.values())) == len(IMAGES)
    assert asked.photos is not None
    assert asked.photos.columns.tolist() == ["id", "photo"]
    held = asked.photos.to_numpy().tolist()
    assert sorted(held) == sorted([name, digests[image]] for image, name, _ in TEMPLATES)


def policy(*, margin: float = 0.5, **changes: Any) -> Gate:
    """The project's, which no figures of this few pairs would meet, with room for luck."""
    values = yaml.safe_load((ROOT / "mlflow" / "promotion.yaml").read_text())
    room = {"max_accuracy_drop": 1.0, "max_fnmr_rise": None}
    values |= {name: values[name] | room for name in ("parity", "distilled")}
    values |= {"at_least": {}, "champion": values["champion"] | {"margin": margin}}
    return check(Gate, values | changes, where="gate")


@pytest.mark.usefixtures("asked")
def test_the_gate_judges_figures_of_templates(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = project / "artifacts" / "evaluate"
    facts = read_facts(made)
    scores = read_scores(made / "scores.parquet", digest=facts["scores_digest"])["student"]
    same = Champion(3, "student", "1" * 64, facts["pairs_digest"], scores)
    serving: list[Champion | None] = [None]
    monkeypatch.setattr(gate, "champion", lambda model: serving[0])

    def outcome(**changes: Any) -> tuple[str, list[str]]:
        result = gate.run(evaluate=made, output=tmp_path / "gate", params=policy(**changes))
        decision = read_decision(tmp_path / "gate" / "decision.json")
        return result, [rule.name for rule in decision.rules if rule.result != "pass"]

    limits = {"at_least": {"gallery_people": 1}, "at_most": {"template_photos_most": EACH}}
    assert outcome(**limits) == ("promote", [])
    fewer = {"at_most": {"template_photos_most": EACH - 1}}
    assert outcome(**fewer) == ("hold", ["template_photos_most"])
    serving[0] = same
    assert outcome(**limits) == ("promote", [])  # as good as itself
    assert outcome(margin=0.0) == ("insufficient evidence", ["champion"])  # and no better
    serving[0] = replace(same, pairs_digest="0" * 64)
    assert outcome(**limits) == ("hold", ["champion"])  # which judged other templates


@pytest.mark.usefixtures("asked")
def test_an_erased_person_leaves_the_figures_of_templates(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "project"
    shutil.copytree(project, root)
    monkeypatch.chdir(root)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(gate, "champion", lambda model: None)
    artifacts = root / "artifacts"
    made, decided = artifacts / "evaluate", artifacts / "gate"
    gate.run(evaluate=made, output=decided, params=policy())
    before = read_facts(made)
    gone = 3
    told = erase(f"verify/ijb/{gone:06d}", data=Path("data"), yes=True)
    assert "3 images as 000003 (3)" in told
    assert "made from them: artifacts/align, artifacts/evaluate" in told
    with pytest.raises(EvaluationError, match=r"evaluation.json is missing: run evaluate first"):
        gate.run(evaluate=made, output=decided, params=policy())

    crop(root)
    compare(root)
    facts = read_facts(made)
    assert facts["pairs_digest"] != before["pairs_digest"]
    left = [pair for pair in PAIRS if str(gone) not in pair[0] + pair[1]]
    scores = read_scores(made / "scores.parquet", digest=facts["scores_digest"])["student"]
    assert scores["label"].tolist() == [label for _, _, label in left]
    metrics = json.loads((made / "metrics.json").read_text())
    assert metrics["student.templates"] == 3 * (PEOPLE - 1)
    assert metrics["student.identities"] == PEOPLE - 1
    gate.run(evaluate=made, output=decided, params=policy())
    assert read_decision(decided / "decision.json").pairs_digest == facts["pairs_digest"]
    photos = [project / "loose_crop" / f"{k}.png" for k in IMAGES if (k - 1) // EACH == gone]
    digests = [hashlib.sha256(photo.read_bytes()).hexdigest().encode() for photo in photos]
    for folder in ("data", "artifacts"):
        for file in (file for file in (root / folder).rglob("*") if file.is_file()):
            data = file.read_bytes()
            assert not any(digest in data for digest in digests), file
