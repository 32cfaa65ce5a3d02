"""The whole graph on the sample set: DVC twice, Kubeflow once, a kill in mid-stage, a rollback.

Everything happens in a copy of the project, with its own DVC cache and MLflow database, on the
sample set that `make data` wrote.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from facewright.datasets.crops import Crops
from facewright.datasets.fetch import directory_md5
from facewright.evaluation import score_pairs, verification_metrics
from facewright.models import build_network
from facewright.models.recognizer import read_card, to_input
from tests.shell import shell

ROOT = Path(__file__).parents[2]
TIMINGS = ("_ms", "seconds", "images_per_second", "data_wait")
pytestmark = pytest.mark.pipeline


def metrics(folder: Path) -> dict[str, float]:
    values = json.loads((folder / "metrics.json").read_text())
    return {key: value for key, value in values.items() if not key.endswith(TIMINGS)}


def test_data_dvc_pins_the_sample_set(project: Path) -> None:
    """What this machine rendered is what data.dvc says, whatever `dvc add` made of it since."""
    pinned = yaml.safe_load(shell(ROOT, "git", "show", "HEAD:data.dvc").stdout)["outs"][0]["md5"]
    assert f"{directory_md5(project / 'data')}.dir" == pinned


def test_the_sample_set_is_a_fair_exercise(project: Path) -> None:
    """Found by the detector, learnt by the teacher, and not by raw pixels or chance weights."""
    aligned = metrics(project / "artifacts" / "align")
    for half in ("train", "verify"):
        photos = aligned[f"{half}.ok"] + aligned[f"{half}.no_face"]
        assert aligned[f"{half}.ok"] / photos >= 0.97
    assert metrics(project / "artifacts" / "evaluate")["teacher.accuracy"] >= 0.90

    verify = project / "artifacts" / "align" / "verify"
    crops = Crops(verify)
    pixels = crops.batch(range(len(crops)))
    card = read_card(project / "artifacts" / "train" / "teacher")
    torch.manual_seed(0)
    untrained = build_network(card.network, embedding_size=card.embedding_size)
    untrained.train()  # BatchNorm takes its statistics from these crops
    with torch.no_grad():
        embedded = untrained(torch.from_numpy(to_input(pixels, card))).numpy()
    for name, raw in (("pixels", pixels.reshape(len(pixels), -1)), ("untrained", embedded)):
        centred = raw - raw.mean(axis=0, dtype=np.float64)
        unit = (centred / np.linalg.norm(centred, axis=1, keepdims=True)).astype(np.float32)
        scores = score_pairs(
            pd.read_parquet(verify / "pairs.parquet"), ids=crops.ids, embeddings=unit
        )
        accuracy = verification_metrics(
            scores,
            identities={i: i.split("/")[0] for i in (*scores["a"], *scores["b"])},
            fmr_targets=[0.1],
            bootstrap=100,
            seed=0,
        )["accuracy"]
        assert accuracy <= 0.72, name


def test_a_second_repro_recomputes_nothing(project: Path) -> None:
    done = shell(project, "dvc", "repro")
    assert "Data and pipelines are up to date." in done.stdout


def test_dvc_shows_metrics_parameters_and_plots(project: Path) -> None:
    shown = json.loads(shell(project, "dvc", "metrics", "show", "--json").stdout)
    assert "teacher.accuracy" in json.dumps(shown)
    plots = shell(project, "dvc", "plots", "show", "--out", "plots")
    assert plots.returncode == 0
    assert (project / "plots" / "index.html").stat().st_size > 1000


def test_an_edit_reruns_what_it_touches(project: Path) -> None:
    file = project / "params.yaml"
    before = file.read_text()
    file.write_text(before.replace("max_batch: 64", "max_batch: 32"))
    try:
        changed = shell(project, "dvc", "status", "--json").stdout
        assert set(json.loads(changed)) == {"compile"}
        assert "max_batch" in shell(project, "dvc", "params", "diff").stdout
    finally:
        file.write_text(before)


def test_kubeflow_gives_the_metrics_of_dvc_and_registers_once(project: Path) -> None:
    runs = project / "artifacts" / "kfp-local"
    shutil.rmtree(runs, ignore_errors=True)  # those of the containers' tests
    done = shell(project, sys.executable, "-m", "pipelines.local")
    assert done.returncode == 0, done.stderr[-2000:]
    for stage in ("validate", "align", "train", "distill", "quantize", "evaluate"):
        (written,) = runs.glob(f"*/{stage}/output/metrics.json")
        assert metrics(written.parent) == metrics(project / "artifacts" / stage), stage
    (version,) = runs.glob("*/register/output/version.json")
    assert json.loads(version.read_text()) == json.loads(
        (project / "artifacts" / "register" / "version.json").read_text()
    )


def test_a_kill_in_mid_stage_leaves_nothing_half_written(project: Path) -> None:
    """SIGKILL during align, and during train after a checkpoint; the next run ends the same."""
    artifacts = project / "artifacts"
    results = {
        "align": ("train/manifest.parquet", "verify/manifest.parquet"),
        "train": ("teacher/model.safetensors",),
    }
    for stage, files in results.items():
        output, partial = artifacts / stage, artifacts / f".{stage}.partial"
        before = [(output / file).read_bytes() for file in files]
        begun = "train/shards/*" if stage == "align" else "../.train.checkpoints/*.checkpoint"
        shutil.rmtree(output)
        with subprocess.Popen(
            [sys.executable, "-m", "facewright.cli", "run", stage],
            cwd=project, start_new_session=True, stderr=subprocess.DEVNULL,
        ) as process:  # fmt: skip
            deadline = time.monotonic() + 300
            while not (partial.exists() and list(partial.glob(begun))):
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.1)
            os.killpg(process.pid, signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL
        assert partial.exists()
        assert not output.exists()
        done = shell(project, "facewright", "run", stage)
        assert done.returncode == 0, done.stderr[-2000:]
        assert ("going on after step" in done.stderr) == (stage == "train")
        assert not partial.exists()
        assert [(output / file).read_bytes() for file in files] == before


def test_two_processes_train_and_one_writes(project: Path, tmp_path: Path) -> None:
    shutil.copytree(project / "artifacts" / "align", tmp_path / "artifacts" / "align")
    shutil.copytree(project / "mlflow", tmp_path / "mlflow")
    values = yaml.safe_load((project / "params.yaml").read_text())
    values["train"] |= {"network": "resnet_tiny", "epochs": 1}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values))
    command = ("--nproc-per-node", "2", "-m", "facewright.cli", "run", "train")
    assert shell(tmp_path, "torchrun", *command).returncode == 0
    artifacts = tmp_path / "artifacts"
    assert sorted(path.name for path in artifacts.iterdir()) == ["align", "train"]
    assert read_card(artifacts / "train" / "teacher").network == "resnet_tiny"
    crops = metrics(artifacts / "train")["crops"]
    assert crops == metrics(project / "artifacts" / "align")["train.ok"]


def test_a_version_that_was_rolled_back_stays_back(project: Path) -> None:
    """Last, since it changes who is champion: another model, rolled back; the gate again."""
    file = project / "params.yaml"
    file.write_text(file.read_text().replace("calibration_crops: 256", "calibration_crops: 255"))
    policy = project / "mlflow" / "promotion.yaml"
    strict = policy.read_text()
    policy.write_text(strict.replace("  margin: 0.0", "  margin: 0.5"))
    assert policy.read_text() != strict
    assert shell(project, "dvc", "repro").returncode == 0
    assert "version 2, champion" in shell(project, "facewright", "report").stdout
    assert "version 1 is champion again" in shell(project, "facewright", "rollback").stdout
    assert shell(project, "dvc", "repro", "-f", "-s", "gate", "register", "promote").returncode == 0
    told = shell(project, "facewright", "report").stdout
    assert "version 2, not champion: it was rolled back" in told
    assert "Champion    version 1" in told
    assert "version 2 is champion" in shell(project, "facewright", "promote", "2").stdout
