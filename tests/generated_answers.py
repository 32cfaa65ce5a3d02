"""Made-up recognizers of made-up people: answers for reports and model cards."""

import hashlib
from dataclasses import replace
from functools import cache
from itertools import combinations

import numpy as np
import numpy.typing as npt
import pandas as pd

from facewright.evaluation.assess import Answers, Questions, assess
from facewright.evaluation.parity import Parity, compare_forms
from facewright.evaluation.thresholds import Thresholds, thresholds_of

NAMES = ("teacher", "student", "student-int8-with-a-long-name")
NOISE = (0.9, 1.1, 1.15)  # of a photo's embedding, in lengths of its person's
SIZE = 24  # of an embedding
COHORT = {"dataset": "made-up", "pairs_digest": "0123456789abcdef"}
CARDS = {
    "Training": {"name": "people", "source": "people.tar", "licence": "CC0-1.0", "consent": ""},
    "Verification": {
        "name": "lfw",
        "source": "lfw-funneled.tgz",
        "licence": "research <only>",
        "consent": "press photographs",
        "images": 1440,
    },
}


def questions(*, people: int = 60, photos: int = 4, folds: int = 4, seed: int = 0) -> Questions:
    """A set of pairs and images; a photo in thirty has no face, as the status says."""
    rng = np.random.default_rng(seed)
    identity = np.repeat([f"Name{n:03d}" for n in range(people)], photos)
    ids = [f"{name}/photo{n % photos}" for n, name in enumerate(identity)]
    images = pd.DataFrame(
        {
            "id": ids,
            "identity": identity,
            "status": np.where(rng.random(len(ids)) < 1 / 30, "no_face", "ok"),
            "photo_sha256": [hashlib.sha256(id.encode()).hexdigest() for id in ids],
            "quality": rng.random(len(ids)),
            "group": np.repeat(
                rng.choice(["north", "south", None], people, p=[0.5, 0.4, 0.1]), photos
            ),
        }
    )
    fold = rng.integers(0, folds, people)
    genuine = [
        (fold[n], 1, ids[n * photos + i], ids[n * photos + j])
        for n in range(people)
        for i, j in combinations(range(photos), 2)
    ]
    others = {
        (int(a), int(b))
        for a, b in np.sort(rng.integers(0, len(ids), (40 * people, 2)), axis=1)
        if a // photos != b // photos
    }
    impostor = [(fold[a // photos], 0, ids[a], ids[b]) for a, b in sorted(others)]
    return Questions(
        pairs=pd.DataFrame(genuine + impostor, columns=["fold", "label", "a", "b"]),
        images=images,
        trained=frozenset(ids[: 6 * photos]),
        fmr_targets=[0.1, 0.01, 0.001],
        bootstrap=100,
        seed=0,
        calibration="logistic",
        slices=["quality", "photos", "group"],
        slice_bins=4,
        unenrolled_share=0.3,
        gallery_sizes=[10, 25],
        fpir_targets=[0.1, 0.01],
    )


def embeddings(asked: Questions, noise: float) -> tuple[list[str], npt.NDArray[np.float32]]:
    """Those of the faces that were found; alike for recognizers of another noise."""
    rng = np.random.default_rng(7)
    person, names = pd.factorize(asked.images["identity"])
    values = rng.normal(size=(len(names), SIZE))[person]
    values = values + noise * rng.normal(size=values.shape)
    values = values / np.linalg.norm(values, axis=1, keepdims=True)
    found = (asked.images["status"] == "ok").to_numpy()
    return asked.images.loc[found, "id"].tolist(), values[found].astype(np.float32)


@cache
def generated() -> tuple[dict[str, Answers], list[Thresholds], list[Parity]]:
    """Answers of three recognizers, the first one the best, with thresholds and parity."""
    asked = questions()
    answers, vectors, parity = {}, {}, []
    for name, noise in zip(NAMES, NOISE, strict=True):
        ids, vectors[name] = embeddings(asked, noise)
        answers[name] = assess(asked, ids=ids, embeddings=vectors[name])
        answers[name].metrics.update(megabytes=10.44, latency_ms=3.219)
        for other in list(answers)[-2:-1]:
            both = vectors[name], vectors[other]
            parity.append(
                compare_forms((name, other), answers[name], answers[other], embeddings=both)
            )
    thresholds = [
        thresholds_of(
            answer.metrics,
            recognizer=name,
            weights_sha256=f"{name[-1]}" * 64,
            backend="onnxruntime",
            calibration=answer.calibration,
            flip=True,
            **COHORT,
        )
        for name, answer in answers.items()
    ]
    return answers, thresholds, parity


def without(answer: Answers, *keys: str) -> Answers:
    """An answer that lacks figures whose names begin so."""
    kept = {key: value for key, value in answer.metrics.items() if not key.startswith(keys)}
    return replace(answer, metrics=kept)


def crop(id: str) -> npt.NDArray[np.uint8]:
    """A picture of its own for each image: a smooth pattern, no face."""
    rng = np.random.default_rng(list(id.encode()))
    colours = rng.integers(40, 220, (2, 3))
    slope = np.linspace(0, 1, 112)[:, None, None]
    row = colours[0] + slope * (colours[1] - colours[0])
    return np.broadcast_to(row, (112, 112, 3)).astype(np.uint8)
