"""LFW View 1 through the project's own stages, identity-disjoint, on this machine.

Training: LFW photos of the DevTrain people and YouTube Faces frames. Of the latter, validate must
drop the people who are also in DevTest. Reported: pairsDevTest, 1,000 pairs in ten stratified
folds, the threshold of each from the other nine. The parameters are docs/recipes/lfw-view1.yaml;
nothing was chosen by looking at the reported pairs.

    make bench-lfw-view1    # reads lfw/ and ytf/ in ../shared/data, or in $FACEWRIGHT_DATA

The last line on standard output is one JSON object.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd

from facewright.cli import STAGES

ROOT = Path(__file__).parents[1]
WORK = ROOT / "build" / "lfw-view1"
DATA = Path(os.environ.get("FACEWRIGHT_DATA", ROOT.parent / "shared" / "data"))
RIGHTS = (
    "--licence",
    "LFW and YouTube Faces: research use only",
    "--consent",
    "public research set",
)


def main() -> None:
    lfw, ytf = DATA / "lfw", DATA / "ytf"
    if not lfw.is_dir():
        sys.exit(f"{lfw} is missing: name the folder that holds lfw/ and ytf/ in FACEWRIGHT_DATA")
    shutil.rmtree(WORK, ignore_errors=True)
    (WORK / "mlflow").mkdir(parents=True)
    shutil.copy(ROOT / "docs" / "recipes" / "lfw-view1.yaml", WORK / "params.yaml")
    shutil.copy(ROOT / "mlflow" / "promotion.yaml", WORK / "mlflow" / "promotion.yaml")

    # Its runs go to a database of its own, whatever server is configured.
    environment = {k: v for k, v in os.environ.items() if k != "MLFLOW_TRACKING_URI"}

    def facewright(*arguments: object) -> None:
        command = [sys.executable, "-m", "facewright.cli", *map(str, arguments)]
        subprocess.run(command, cwd=WORK, check=True, stdout=sys.stderr, env=environment)

    archive = (lfw / "lfw-deepfunneled.tgz").resolve()
    people = (lfw / "peopleDevTrain.txt").resolve()
    facewright("dataset", "import", archive, "data/train/lfw", "--people", people, *RIGHTS)
    facewright("dataset", "import", (ytf / "ytf347.tar").resolve(), "data/train/ytf", *RIGHTS)
    people, pairs = (lfw / f"{name}DevTest.txt" for name in ("people", "pairs"))
    facewright(
        "dataset", "import", archive, "data/verify/lfw",
        "--people", people.resolve(), "--pairs", pairs.resolve(), *RIGHTS,
    )  # fmt: skip
    for stage in STAGES[: STAGES.index("gate")]:
        facewright("run", stage)

    def metrics(stage: str) -> dict[str, float]:
        return json.loads((WORK / "artifacts" / stage / "metrics.json").read_text())

    crops = {
        half: pd.read_parquet(WORK / "artifacts" / "align" / half / "manifest.parquet")
        for half in ("train", "verify")
    }
    trained = set(crops["train"].loc[crops["train"]["status"] == "ok", "identity"])
    shared = trained & set(crops["verify"]["identity"])
    if shared:
        sys.exit(f"{len(shared)} identities are in training and in verification: no result")
    evaluate = metrics("evaluate")
    print(
        json.dumps(
            {
                "accuracy": evaluate["teacher.accuracy"],
                "ci_low": evaluate["teacher.accuracy_low"],
                "ci_high": evaluate["teacher.accuracy_high"],
                "student_accuracy": evaluate["student.accuracy"],
                "student_int8_accuracy": evaluate["student-int8.accuracy"],
                "train_minutes": round(metrics("train")["seconds"] / 60, 2),
                "distill_minutes": round(metrics("distill")["seconds"] / 60, 2),
                "train_identities": len(trained),
                "train_images": int(metrics("train")["crops"]),
                "identities_dropped_for_overlap": int(
                    metrics("validate")["identities_dropped_for_overlap"]
                ),
                "test_pairs": int(evaluate["teacher.pairs"]),
                "faces_not_found": int(metrics("align")["verify.no_face"]),
            }
        )
    )


if __name__ == "__main__":
    main()
