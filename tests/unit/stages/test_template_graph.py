"""A set laid out as IJB is, from its import through validate and align to evaluate's figures."""

import json
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
from facewright.evaluation.card import model_card_of
from facewright.evaluation.thresholds import read_thresholds
from facewright.params import Align, Evaluate, Validate, check
from facewright.stages import align, evaluate, validate

from .test_align import png

ROOT = Path(__file__).parents[3]
PEOPLE, EACH = 6, 3
INSIDE = "80 95 144 95 112 130 88 160 136 160 0.99"
OUTSIDE = "900 10 " * 5 + "0.5"
FACELESS = (2, 18)  # an image beside another one in its template, and one that is alone
# Of each person the first two images are one template, of a video; the third is another.
TEMPLATES = [
    (EACH * person + photo + 1, f"{person}{'aab'[photo]}", f"{'vvs'[photo]}")
    for person in range(PEOPLE)
    for photo in range(EACH)
]
LOST = "5b"
PAIRS = [(f"{k}a", f"{k}b", 1) for k in range(PEOPLE)]
PAIRS += [(f"{k}a", f"{other}b", 0) for k in range(PEOPLE) for other in range(k)]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("ijb")
    for person in range(2):
        for photo in range(2):
            file = root / "train" / f"p{person}" / f"{photo}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(png(render_photo(person + 1, photo)))
    (root / "loose_crop").mkdir()
    for image, _, _ in TEMPLATES:
        person, photo = divmod(image - 1, EACH)
        data = png(render_photo(100 + person, photo))
        (root / "loose_crop" / f"{image}.png").write_bytes(data)
    lists = {
        "templates": [f"{image}.png {name} {media}" for image, name, media in TEMPLATES],
        "pairs": [" ".join(map(str, pair)) for pair in PAIRS],
        "landmarks": [
            f"{image}.png {OUTSIDE if image in FACELESS else INSIDE}" for image, _, _ in TEMPLATES
        ],
    }
    verify = [str(root / "loose_crop"), str(root / "data" / "verify" / "ijb")]
    for name, lines in lists.items():
        (root / name).write_text("\n".join(lines))
        verify += [f"--{name}", str(root / name)]
    train = [str(root / "train"), str(root / "data" / "train" / "own")]
    for words in (train, verify):
        assert cli.main(["dataset", "import", *words, "--licence", "x", "--consent", "x"]) == 0
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    options = check(Validate, values["validate"] | {"thumbnails": 0}, where="validate")
    validate.run(data=root / "data", output=root / "validate", params=options)
    align.run(
        data=root / "data",
        validate=root / "validate",
        output=root / "align",
        params=check(Align, values["align"], where="align"),
    )
    return root


def test_templates_reach_the_crops_with_photos_that_show_nobody(project: Path) -> None:
    crops = open_dataset(project / "align" / "verify")
    there = open_dataset(project / "data" / "verify" / "ijb")
    assert crops.templates is not None
    assert crops.templates.equals(there.templates)
    assert crops.templates["template"].tolist() == [name for _, name, _ in TEMPLATES]
    assert crops.pairs is not None
    assert crops.pairs[["a", "b"]].to_numpy().tolist() == [[a, b] for a, b, _ in PAIRS]
    rows = crops.manifest.assign(image=crops.manifest["origin"].str.removesuffix(".png"))
    rows = rows.set_index(rows["image"].astype(int)).sort_index()
    assert rows["identity"].tolist() == [f"{(i - 1) // EACH:06d}" for i, _, _ in TEMPLATES]
    assert rows.index[rows["status"] == "no_face"].tolist() == list(FACELESS)


def embed(recognizer: Any, crops: Crops, *, flip: bool) -> np.ndarray:
    """A vector per crop that is nearly its person's."""
    vectors = np.random.default_rng(4).normal(size=(len(crops), 32))
    vectors += 2 * np.random.default_rng(5).normal(size=(PEOPLE, 32))[crops.labels]
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def test_evaluate_compares_templates(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = SimpleNamespace(weights_sha256="0" * 64, format="torch", engine={})
    recognizer = SimpleNamespace(card=card, model_bytes=1)
    monkeypatch.setattr(evaluate, "load_recognizer", lambda *_, **__: recognizer)
    monkeypatch.setattr(evaluate, "embed_all", embed)
    monkeypatch.setattr(evaluate, "latency", lambda *_, **__: 1.0)
    for stage in ("quantize", "compile"):
        (project / stage).mkdir()
    (project / "quantize" / "metrics.json").write_text("{}")
    values = yaml.safe_load((ROOT / "params.yaml").read_text())["evaluate"]
    evaluate.run(
        align=project / "align",
        train=project / "train",
        quantize=project / "quantize",
        compile=project / "compile",
        output=project / "evaluate",
        params=check(Evaluate, values | {"bootstrap": 100, "show_faces": True}, where="evaluate"),
    )
    scores = pd.read_parquet(project / "evaluate" / "scores.parquet")
    scores = scores[scores["recognizer"] == "student"]
    assert scores["label"].tolist() == [label for _, _, label in PAIRS]
    assert (scores["status"] == "failure").tolist() == [LOST in pair for pair in PAIRS]

    crops = Crops(project / "align" / "verify")
    of = dict(zip(crops.ids, embed(None, crops, flip=True), strict=True))
    of = {id.rpartition("/")[2]: vector for id, vector in of.items()}
    pooled = {}
    for _, name, _ in TEMPLATES:
        found = [of[str(i)] for i, other, _ in TEMPLATES if other == name and str(i) in of]
        if found:  # each template is of one medium here
            mean = np.mean(np.array(found, np.float64), axis=0)
            pooled[name] = mean / np.linalg.norm(mean)
    expected = [pooled[a] @ pooled[b] if LOST not in (a, b) else np.nan for a, b, _ in PAIRS]
    np.testing.assert_allclose(scores["similarity"], expected, atol=1e-6)

    metrics = json.loads((project / "evaluate" / "metrics.json").read_text())
    assert metrics["student.pairs"] == len(PAIRS)
    assert metrics["student.identities"] == PEOPLE
    # Of each person one template is enrolled and one is a probe, of some none is enrolled.
    enrolled = metrics["student.gallery_people"]
    assert 0 < enrolled == metrics["student.probes_mated"] < PEOPLE
    assert metrics["student.probes_unenrolled"] == 2 * (PEOPLE - enrolled)
    slices = pd.read_csv(project / "evaluate" / "slices.csv")
    slices = slices[(slices["recognizer"] == "student") & (slices["column"] == "photos")]
    assert slices["value"].tolist() == ["below 2", "2 and more"]
    # The worse template of each pair is one of a single image.
    counts = slices[["genuine", "compared"]].to_numpy().tolist()
    assert counts == [[PEOPLE, len(PAIRS) - PEOPLE], [0, 0]]
    report = (project / "evaluate" / "report.html").read_text()
    assert "data:image/jpeg" in report
    card = model_card_of(project / "evaluate", model="m", serve="student", recognizers={})
    counts = f"Pairs are of {2 * PEOPLE} templates, each of 1 to 2 photos, 1.5 on average."
    for text in (report, card):
        assert counts in text
        assert "All figures and thresholds are of templates" in text
        assert "in which no face was found" in text
        assert "a face was not found" not in text
    assert "impostor pairs of templates" in report
    assert "one template of each" in card
    for words in ("with one template each", "by its worse template", "whether two templates"):
        assert words in report
    facts = json.loads((project / "evaluate" / "evaluation.json").read_text())
    assert facts["subjects"] == "templates"
    for one in read_thresholds(project / "evaluate" / "thresholds.json"):
        assert one.cohort.subjects == "templates"
