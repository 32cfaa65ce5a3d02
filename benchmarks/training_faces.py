"""LFW through the project's own stages, and ablations; see `benchmarks/training.py`."""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tarfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from benchmarks.training_crops import ROOT
from facewright.cli import STAGES
from facewright.datasets.crops import Crops
from facewright.datasets.readers.lfw import read_pairs, read_people
from facewright.engines import load_recognizer
from facewright.evaluation import score_pairs, verification_metrics
from facewright.files import code_digest, file_digest, values_digest, write_json, write_yaml
from facewright.progress import say
from facewright.workers import usable_cores

WORK = ROOT / "build" / "training"
DATA = Path(os.environ.get("FACEWRIGHT_DATA", ROOT.parent / "shared" / "data"))
RECIPE = ROOT / "docs" / "recipes" / "lfw-view1.yaml"
RIGHTS = (
    "--licence",
    "LFW and YouTube Faces: research use only",
    "--consent",
    "public research set",
)
BATCH = 128  # crops per call
BOOTSTRAP_SEED = 0  # as the evaluate stage
# View 2, unrestricted, no outside data: the protocol's anchor (Simonyan et al., BMVC 2013).
FISHER_VECTOR_FACES = 0.9303
QUICK_FOLDS, QUICK_PAIRS, QUICK_PEOPLE = 2, 4, 30  # pairs of a label and fold; people to train on

Imports = dict[str, list[object]]  # folder below data/ → arguments of `dataset import`


def view1(quick: bool, seeds: Sequence[int], students: bool, only: bool) -> dict[str, Any]:
    """Protocol 1: DevTrain people and YouTube Faces → pairsDevTest, one preparation for all seeds.

    With `students` the first seed's teacher is distilled, quantized and compiled as well, and all
    are reported as the evaluate stage reports them. `only` prepares, here and below.
    """
    folder = work(quick)
    prepared = prepare(folder / "view1", recipe(quick), view1_imports(folder / "lists", quick))
    if only:
        return {}
    result = per_seed("view1", prepared, seeds, quick)
    if students:
        figures = students_of(prepared / f"seed-{seeds[0]}")
        result |= {f"view1_{name}_accuracy": value for name, value in figures.items()}
    return result


def view2(quick: bool, seeds: Sequence[int], only: bool) -> dict[str, Any]:
    """Protocol 2: YouTube Faces and the LFW photos of its people → the 5,386 pairs without them."""
    folder = work(quick)
    prepared = prepare(folder / "view2", recipe(quick), view2_imports(folder / "lists"))
    return {} if only else per_seed("view2", prepared, seeds, quick)


def view2_full(quick: bool, seed: int, only: bool) -> dict[str, Any]:
    """All 6,000 pairs of View 2 with ten models, each trained without its fold's people.

    Training people are LFW's of the other nine folds and YouTube Faces' who are not in the fold
    (validate drops those, and `prepare` looks again). A fold's threshold is that of the other nine.
    """
    folder = work(quick) / "view2_full"
    tables, identities, rows = [], {}, {}
    for fold, imports in enumerate(view2_folds(folder / "lists", quick)):
        prepared = prepare(folder / f"fold-{fold}", recipe(quick), imports)
        if only:
            continue
        table, people, rows[str(fold)] = fold_scores(prepared, seed)
        tables.append(table.assign(fold=fold))
        identities |= people
    if only:
        return {}
    figures = metrics_of(pd.concat(tables, ignore_index=True), identities, recipe(quick))
    return {
        "view2_full_accuracy_mean": round(figures["accuracy"], 5),
        "view2_full_accuracy_se": round(figures["accuracy_se"], 5),
        "view2_full_fisher_vector_faces": FISHER_VECTOR_FACES,
        "view2_full_pairs": int(figures["pairs"]),
        "view2_full_failures": int(figures["failures"]),
        "view2_full_minutes": round(sum(row["train_minutes"] for row in rows.values()), 2),
        "view2_full_folds": rows,
    }


def fold_scores(prepared: Path, seed: int) -> tuple[pd.DataFrame, dict[str, str], dict[str, Any]]:
    """A fold's scores, who is on its photos, and how the training went; kept once it is there."""
    folder, params = seed_folder(prepared, seed)
    done = folder / "scores.parquet"
    if not done.is_file():
        trained_teacher(folder)
        teacher_scores(folder, flip=params["evaluate"]["flip"]).to_parquet(done)
    row = training_of(folder)
    say(f"view2_full, {prepared.name}: trained on {row['train_crops']} crops")
    return pd.read_parquet(done), people_of(folder), row


def view2_folds(lists: Path, quick: bool) -> list[Imports]:
    """What is imported for each fold of View 2: the people of the other folds, and its pairs."""
    lists.mkdir(parents=True, exist_ok=True)
    people = people_by_fold(data_folder("lfw") / "people.txt")
    pairs = read_pairs(data_folder("lfw") / "pairs.txt")
    found = []
    for fold in range(QUICK_FOLDS if quick else len(people)):
        own = pairs[pairs["fold"] == fold]
        tested = [name for name, _ in people[fold]]
        others = [one for number, each in enumerate(people) if number != fold for one in each]
        if quick:
            own = own.groupby("label").head(QUICK_PAIRS)
            tested = pd.concat([own["a"], own["b"]]).str.partition("/")[0].unique().tolist()
            others = [one for one in others if 2 <= one[1] <= 4][:QUICK_PEOPLE]
        lines = [f"{r.fold}\t{r.label}\t{r.a}.jpg\t{r.b}.jpg" for r in own.itertuples()]
        imports = view_imports(
            written(lists / f"train-{fold}.txt", [name for name, _ in others]),
            written(lists / f"test-{fold}.txt", tested),
            written(lists / f"pairs-{fold}.tsv", lines),
        )
        if quick:
            del imports["train/ytf"]
        found.append(imports)
    return found


def people_by_fold(path: Path) -> list[list[tuple[str, int]]]:
    """LFW's `people.txt`: each fold's people, and how many photos they have.

    The first line is the number of folds; before each of these stands how many people it has.
    """
    lines = iter(path.read_text(encoding="utf-8").splitlines())
    folds = []
    for _ in range(int(next(lines))):
        rows = [next(lines).split("\t") for _ in range(int(next(lines)))]
        folds.append([(name, int(photos)) for name, photos in rows])
    return folds


def work(quick: bool) -> Path:
    """A quick run is kept apart, so that it touches nothing that took hours."""
    return WORK / "quick" if quick else WORK


def recipe(quick: bool, **validate: Any) -> dict[str, Any]:
    params = yaml.safe_load(RECIPE.read_text())
    params["validate"] |= validate
    if quick:
        params["train"] |= {"epochs": 1, "network": "resnet_tiny"}
        params["distill"] |= {"epochs": 1}
    return params


def view1_imports(lists: Path, quick: bool) -> Imports:
    lfw = data_folder("lfw")
    people = {half: lfw / f"peopleDev{half}.txt" for half in ("Train", "Test")}
    pairs = lfw / "pairsDevTest.txt"
    if quick:  # a few people of each half
        lists.mkdir(parents=True, exist_ok=True)
        few = read_pairs(pairs).groupby(["fold", "label"]).head(2)
        named = pd.concat([few["a"], few["b"]]).str.partition("/")[0].unique()
        people["Test"] = written(lists / "test.txt", named)
        people["Train"] = written(lists / "train.txt", read_people(people["Train"])[:150])
        lines = [f"{r.fold}\t{r.label}\t{r.a}.jpg\t{r.b}.jpg" for r in few.itertuples()]
        pairs = written(lists / "pairs.tsv", lines)
    imports = view_imports(people["Train"], people["Test"], pairs)
    if quick:
        del imports["train/ytf"]
    return imports


def view2_imports(lists: Path) -> Imports:
    """People of YouTube Faces are those whose folders are in its archive."""
    lists.mkdir(parents=True, exist_ok=True)
    with tarfile.open(data_folder("ytf") / "ytf347.tar") as archive:
        names = {member.name.split("/")[1] for member in archive if member.isfile()}
    pairs = data_folder("lfw") / "pairs_no_ytf_identities.tsv"
    table = read_pairs(pairs)
    others = set(pd.concat([table["a"], table["b"]]).str.partition("/")[0])
    return view_imports(
        written(lists / "train.txt", sorted(names)),
        written(lists / "test.txt", sorted(others)),
        pairs,
    )


def view_imports(train: Path, test: Path, pairs: Path) -> Imports:
    archive = data_folder("lfw") / "lfw-deepfunneled.tgz"
    return {
        "train/lfw": [archive, "--people", train],
        "train/ytf": [data_folder("ytf") / "ytf347.tar"],
        "verify/lfw": [archive, "--people", test, "--pairs", pairs],
    }


def data_folder(name: str) -> Path:
    folder = (DATA / name).resolve()
    if not folder.is_dir():
        sys.exit(
            f"{folder} is missing: name the folder that holds lfw/ and ytf/ in FACEWRIGHT_DATA"
        )
    return folder


def written(path: Path, lines: Sequence[str]) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def facewright(folder: Path, *arguments: object) -> None:
    """The project's command; its runs go to a database in `folder`, whatever is configured."""
    environment = {k: v for k, v in os.environ.items() if k != "MLFLOW_TRACKING_URI"}
    command = [sys.executable, "-m", "facewright.cli", *map(str, arguments)]
    subprocess.run(command, cwd=folder, check=True, stdout=sys.stderr, env=environment)


def prepare(folder: Path, params: dict[str, Any], imports: Imports) -> Path:
    """Imported, validated and aligned once for all trainings; goes on where it was cut off."""
    key = prepared_key(params, imports)
    if not (folder / "key").is_file() or (folder / "key").read_text() != key:
        for made in ("data", "artifacts"):  # seeds stay: their keys tell whether they still hold
            shutil.rmtree(folder / made, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "key").write_text(key)
    project(folder, params)
    begin = time.monotonic()
    for name, arguments in imports.items():
        if not (folder / "data" / name).exists():
            facewright(
                folder, "dataset", "import", arguments[0], f"data/{name}", *arguments[1:], *RIGHTS
            )
    for stage in ("validate", "align"):
        if not (folder / "artifacts" / stage).exists():
            facewright(folder, "run", stage)
    crops = {
        half: pd.read_parquet(folder / "artifacts" / "align" / half / "manifest.parquet")
        for half in ("train", "verify")
    }
    trained = set(crops["train"].loc[crops["train"]["status"] == "ok", "identity"])
    shared = trained & set(crops["verify"]["identity"])
    if shared:
        sys.exit(f"{len(shared)} identities are in training and in verification: no result")
    say(f"{folder.name}: prepared in {(time.monotonic() - begin) / 60:.1f} minutes")
    return folder


def prepared_key(params: dict[str, Any], imports: Imports) -> str:
    """Of all that a preparation comes from: of archives the names alone, which are gigabytes."""
    parts = [part for arguments in imports.values() for part in arguments]
    given = [
        file_digest(part)
        if isinstance(part, Path) and part.suffix in (".txt", ".tsv")
        else Path(str(part)).name
        for part in parts
    ]
    code = code_digest("datasets", "detection", "alignment")
    return values_digest([params["validate"], params["align"], sorted(imports), given, code])


def project(folder: Path, params: dict[str, Any]) -> None:
    """What every stage wants to see in its folder."""
    (folder / "mlflow").mkdir(parents=True, exist_ok=True)
    write_yaml(folder / "params.yaml", params)
    shutil.copy(ROOT / "mlflow" / "promotion.yaml", folder / "mlflow" / "promotion.yaml")


def per_seed(name: str, prepared: Path, seeds: Sequence[int], quick: bool) -> dict[str, Any]:
    """Accuracy and minutes over the seeds, each kept in `result.json` once it is there."""
    rows = [seed_result(name, prepared, seed, quick) for seed in seeds]
    accuracies = [row["accuracy"] for row in rows]
    return {
        f"{name}_accuracy_mean": round(statistics.mean(accuracies), 5),
        f"{name}_accuracy_range": [min(accuracies), max(accuracies)],
        f"{name}_minutes": round(statistics.mean(row["train_minutes"] for row in rows), 2),
        f"{name}_seeds": dict(zip(map(str, seeds), rows, strict=True)),
    }


def seed_folder(prepared: Path, seed: int) -> tuple[Path, dict[str, Any]]:
    """Where a seed's teacher is trained, and its parameters; what was made otherwise is removed."""
    params = yaml.safe_load((prepared / "params.yaml").read_text())
    params["train"]["seed"] = seed
    folder = prepared / f"seed-{seed}"
    crops = Crops(prepared / "artifacts" / "align" / "train", memory=0)
    code = code_digest("models", "training", "engines", "evaluation")
    key = values_digest([params["train"], params["evaluate"], crops.digest, code])
    of = folder / "key"
    if not of.is_file() or of.read_text() != key:
        shutil.rmtree(folder, ignore_errors=True)
        project(folder, params)
        (folder / "artifacts").mkdir()
        link = folder / "artifacts" / "align"
        link.symlink_to(Path("..", "..", "artifacts", "align"), target_is_directory=True)
        of.write_text(key)
    return folder, params


def trained_teacher(folder: Path) -> None:
    if not (folder / "artifacts" / "train").exists():
        facewright(folder, "run", "train")  # goes on from its checkpoint if it was cut off


def training_of(folder: Path) -> dict[str, Any]:
    train = json.loads((folder / "artifacts" / "train" / "metrics.json").read_text())
    return {
        "train_minutes": round(train["seconds"] / 60, 2),
        "train_crops": train["crops"],
        "train_identities": train["identities"],
        "images_per_second": train["images_per_second"],
        "data_wait": train["data_wait"],
    }


def seed_result(name: str, prepared: Path, seed: int, quick: bool) -> dict[str, Any]:
    folder, params = seed_folder(prepared, seed)
    done = folder / "result.json"
    if done.is_file():
        row: dict[str, Any] = json.loads(done.read_text())
        say(f"{name}, seed {seed}: kept from an earlier run, accuracy {row['accuracy']:.4f}")
        return row
    trained_teacher(folder)
    scores = teacher_scores(folder, flip=params["evaluate"]["flip"])
    figures = metrics_of(scores, people_of(folder), params)
    row = {
        "accuracy": round(figures["accuracy"], 5),
        "accuracy_se": round(figures["accuracy_se"], 5),
        "ci_low": round(figures["accuracy_low"], 5),
        "ci_high": round(figures["accuracy_high"], 5),
        "auc": round(figures["auc"], 5),
        "pairs": int(figures["pairs"]),
        "failures": int(figures["failures"]),
        **training_of(folder),
    }
    write_json(done, row)
    say(f"{name}, seed {seed}: accuracy {row['accuracy']:.4f} in {row['train_minutes']} minutes")
    return row


def teacher_scores(folder: Path, *, flip: bool) -> pd.DataFrame:
    """The teacher's score of each pair, as the evaluate stage computes it."""
    verify = folder / "artifacts" / "align" / "verify"
    crops = Crops(verify)
    teacher = load_recognizer(folder / "artifacts" / "train" / "teacher", threads=usable_cores())
    embeddings = [
        teacher.embed(crops.batch(np.arange(k, min(k + BATCH, len(crops)))), flip=flip)
        for k in range(0, len(crops), BATCH)
    ]
    pairs = pd.read_parquet(verify / "pairs.parquet")
    return score_pairs(pairs, ids=crops.ids, embeddings=np.concatenate(embeddings))


def people_of(folder: Path) -> dict[str, str]:
    """Who is on each photo of the verification set."""
    people = pd.read_parquet(folder / "artifacts" / "align" / "verify" / "manifest.parquet")
    return dict(zip(people["id"], people["identity"], strict=True))


def metrics_of(
    scores: pd.DataFrame, identities: dict[str, str], params: dict[str, Any]
) -> dict[str, float]:
    """What the evaluate stage says of one recognizer's scores."""
    return verification_metrics(
        scores,
        identities=identities,
        fmr_targets=params["evaluate"]["fmr_targets"],
        bootstrap=params["evaluate"]["bootstrap"],
        seed=BOOTSTRAP_SEED,
    )


def students_of(folder: Path) -> dict[str, float]:
    """Accuracy of teacher, student and INT8 student from the stages after train."""
    for stage in STAGES[STAGES.index("distill") : STAGES.index("gate")]:
        if not (folder / "artifacts" / stage).exists():
            facewright(folder, "run", stage)
    figures = json.loads((folder / "artifacts" / "evaluate" / "metrics.json").read_text())
    names = ("teacher", "student", "student-int8")
    return {name.replace("-", "_"): figures[f"{name}.accuracy"] for name in names}
