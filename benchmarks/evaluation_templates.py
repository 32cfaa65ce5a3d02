"""What an evaluation of the size of IJB-C's 1:1 protocol costs, on generated numbers.

    python -m benchmarks.evaluation_templates [--size 0.1] [--draws 20]

19,593 templates of 3,531 people, 469,375 photos, 19,557 genuine and 15.6 million impostor pairs
(Maze et al., ICB 2018, as InsightFace hands them on), times `--size`. Embeddings are random.
Seconds are of the CPU, the network's work and reading the dataset left out; memory is the highest
of the whole process in each part. The last line is one JSON object:

- lists_s: the two lists, read as an import does;
- pool_s, assess_s: one recognizer, its intervals from two resamples;
- draw_s: one resample more (of people, of impostor pairs and of all pairs, one each), of which
  there are `evaluate.bootstrap`;
- record_s, read_s: what three recognizers answered, written, and read as the gate does;
- compare_s, compare_draw_s: the same of the gate's comparison of two;
- peak_mb_…: in each part.
"""

import argparse
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd

from facewright.datasets.templates import TemplateLists
from facewright.evaluation.assess import Questions, assess
from facewright.evaluation.comparison import compare
from facewright.evaluation.record import SCORES, people_of, read_facts, read_scores, write_record
from facewright.evaluation.templates import Subjects

PEOPLE, TEMPLATES, PHOTOS = 3_531, 19_593, 469_375
GENUINE, IMPOSTOR = 19_557, 15_638_932
SIZE = 512  # of an embedding
FEW = 2  # resamples, where their time does not matter
FACTS = ("pairs_digest", "weights", "flip", "notice", "training_set", "verification_set")
FACTS += ("licences", "collected", "engines_not_run", "slices")


def generated(size: float, rng: np.random.Generator) -> tuple[Subjects, pd.DataFrame]:
    """Photos in templates, and pairs of these."""
    people, templates, photos, genuine, impostor = (
        round(count * size) for count in (PEOPLE, TEMPLATES, PHOTOS, GENUINE, IMPOSTOR)
    )
    person = np.arange(templates) % people
    template = np.concatenate(
        [np.arange(templates), rng.integers(0, templates, photos - templates)]
    )
    ids = np.array([f"{person[t]:06d}/{k}" for k, t in enumerate(template)], dtype=object)
    images = pd.DataFrame(
        {
            "id": ids,
            "identity": [id.partition("/")[0] for id in ids],
            "status": "ok",
            "photo_sha256": [f"{k:064x}" for k in rng.permutation(photos)],
            "quality": rng.random(photos),
        }
    )
    media = rng.integers(0, 9, photos).astype(str)
    held = pd.DataFrame({"id": ids, "template": template.astype(str), "media": media})
    same = np.stack([np.arange(templates - people), np.arange(people, templates)])[:, :genuine]
    drawn = rng.integers(0, templates, (2, 4 * impostor))
    drawn.sort(axis=0)
    drawn = drawn[:, person[drawn[0]] != person[drawn[1]]]
    codes = rng.permutation(np.unique(drawn[0] * templates + drawn[1]))[:impostor]
    a, b = np.concatenate([same, np.stack(np.divmod(codes, templates))], axis=1)
    label = np.arange(len(a)) < same.shape[1]
    names = pd.Index(np.arange(templates).astype(str), dtype=object)
    sides = {"a": names.take(a), "b": names.take(b)}
    fold = np.arange(len(a)) % 10
    return Subjects(images, held), pd.DataFrame({"fold": fold, "label": label.astype(int)} | sides)


@contextmanager
def measured(result: dict[str, float], name: str) -> Iterator[None]:
    """The CPU's seconds, and the highest memory, while this lasts."""
    Path("/proc/self/clear_refs").write_text("5")  # from here on the highest counts anew
    begun = time.process_time()
    yield
    result[f"{name}_s"] = time.process_time() - begun
    (line,) = (
        line for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line
    )
    result[f"peak_mb_{name}"] = int(line.split()[1]) / 1e3
    print(f"{name}: {result[f'{name}_s']:.1f} s, {result[f'peak_mb_{name}']:.0f} MB", flush=True)


def run(size: float, *, draws: int) -> dict[str, float]:
    rng = np.random.default_rng(0)
    result: dict[str, float] = {}
    with measured(result, "generate"):
        subjects, pairs = generated(size, rng)
        embeddings = rng.normal(size=(len(subjects.images), SIZE)).astype(np.float32)
        embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    result |= {"pairs": len(pairs), "templates": subjects.table["id"].nunique()}
    with TemporaryDirectory() as folder:
        lists = [Path(folder) / name for name in ("templates", "pairs")]
        names = subjects.images["id"] + ".jpg"
        held = subjects.templates.assign(id=names)
        for path, table in zip(lists, (held, pairs[["a", "b", "label"]]), strict=True):
            table.to_csv(path, sep=" ", header=False, index=False)
        with measured(result, "lists"):
            TemplateLists(lists[0], pairs=lists[1])
    with measured(result, "questions"):
        asked = Questions(
            pairs=pairs,
            images=subjects.table,
            photos=subjects.photos,
            trained=frozenset(),
            fmr_targets=[0.1, 0.01, 0.001],
            bootstrap=FEW,
            seed=0,
            calibration="logistic",
            slices=["quality", "photos"],
            slice_bins=4,
            unenrolled_share=0.3,
            gallery_sizes=[],
            fpir_targets=[0.1, 0.01],
        )
        subjects.digest(asked.pairs)
    del pairs
    with measured(result, "pool"):
        ids, pooled = subjects.embeddings(subjects.images["id"].tolist(), embeddings)
    with measured(result, "assess"):
        assess(asked, ids=ids, embeddings=pooled)
    with measured(result, "draws"):
        answer = assess(replace(asked, bootstrap=FEW + draws), ids=ids, embeddings=pooled)
    result["draw_s"] = (result.pop("draws_s") - result["assess_s"]) / draws
    # Three that differ, as three recognizers do.
    answers = {"teacher": answer}
    for name in ("student", "student-int8"):
        noise = rng.normal(scale=0.01, size=len(answer.scores))
        noisy = answer.scores.assign(similarity=answer.scores["similarity"] + noise)
        answers[name] = replace(answer, scores=noisy)
    with TemporaryDirectory() as folder:
        with measured(result, "record"):
            facts = dict.fromkeys(FACTS, "")
            write_record(Path(folder), answers, identities=subjects.identities, facts=facts)
        result["scores_mb"] = (Path(folder) / SCORES).stat().st_size / 1e6
        del answers, answer, asked, embeddings
        with measured(result, "read"):
            digest = read_facts(Path(folder))["scores_digest"]
            found = read_scores(Path(folder) / SCORES, digest=digest)
        for name, count in (("compare", FEW), ("compare_draws", FEW + draws)):
            with measured(result, name):
                one, other = found["student"], found["teacher"]
                compare(
                    one,
                    other,
                    identities=people_of(one),
                    fmr_target=0.1,
                    level=0.05,
                    margin=0.0,
                    bootstrap=count,
                    seed=0,
                )
    spent = result.pop("compare_draws_s") - result["compare_s"]
    result["compare_draw_s"] = spent / draws
    return {name: round(value, 3) for name, value in result.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=float, default=0.1)
    parser.add_argument("--draws", type=int, default=20)
    options = parser.parse_args()
    print(json.dumps(run(options.size, draws=options.draws)))


if __name__ == "__main__":
    main()
