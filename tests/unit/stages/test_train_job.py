"""A whole training as a TrainJob: the nodes are real processes of torchrun, the cluster is not."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
import pytest
import yaml

from facewright.cluster import volume
from facewright.datasets.form import DatasetWriter, open_dataset
from facewright.errors import ClusterError
from facewright.models.recognizer import read_card
from facewright.params import SECTIONS, Train
from facewright.stages import train_job
from facewright.stages.metrics import read_metrics
from tests.unit.cluster.fake_cluster import TRAINJOBS, FakeCluster

ROOT = Path(__file__).parents[3]
PEOPLE, PHOTOS, EPOCHS = 4, 6, 30
SMALL: dict[str, Any] = {
    "network": "resnet_tiny", "embedding_size": 8, "epochs": EPOCHS, "batch_size": 12,
    "checkpoint_every": 1, "precision": "fp32",
}  # fmt: skip


@pytest.fixture
def params() -> Train:
    values = yaml.safe_load((ROOT / "params.yaml").read_text())["train"] | SMALL
    return SECTIONS["train"].model_validate(values)  # type: ignore[return-value]


@pytest.fixture
def align(tmp_path: Path) -> Path:
    """Noise of a colour per person."""
    root = tmp_path / "align" / "train"
    root.mkdir(parents=True)
    random = np.random.default_rng(0)
    card = dict.fromkeys(("name", "kind", "source", "source_digest", "licence", "consent"), "x")
    with DatasetWriter(root) as writer:
        for person in range(PEOPLE):
            colour = random.integers(0, 200, 3)
            for photo in range(PHOTOS):
                pixels = (colour + random.integers(0, 55, (112, 112, 3))).astype(np.uint8)
                png = cv2.imencode(".png", pixels)[1].tobytes()
                name, columns = f"p{person}", {"status": "ok"}
                writer.add(
                    id=f"{name}/{photo}", identity=name, data=png, suffix=".png", columns=columns
                )
        writer.finish(card)
    return root.parent


@pytest.fixture
def work(tmp_path: Path) -> Path:
    (tmp_path / "work").mkdir()
    return tmp_path / "work"


def kill(process: subprocess.Popen[str]) -> None:
    """All of a node at once; torchrun's processes do not end with it."""
    node = psutil.Process(process.pid)
    for each in [*node.children(recursive=True), node]:
        each.kill()


class Nodes:
    """An operator whose one node runs what the TrainJob says, with two processes."""

    def __init__(self, kill_after: list[int]):
        self.kill_after = kill_after  # checkpoints, of each start that is killed
        self.logs: list[str] = []

    def __call__(self, cluster: FakeCluster, job: dict[str, Any]) -> None:
        trainer, name = job["spec"]["trainer"], job["metadata"]["name"]
        (pod,) = cluster.add_nodes(name, trainer["numNodes"])
        given = {each["name"]: each["value"] for each in trainer["env"]}
        paths = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
        environment = {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "PET_NPROC_PER_NODE": "2"}
        assert trainer["command"] == ["torchrun"]
        process = subprocess.Popen(
            [sys.executable, "-m", "torch.distributed.run", *trainer["args"]],
            env=os.environ | environment | given,
            cwd="/",
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            cluster.start_pod(pod)
            if self.kill_after:
                folder, count = Path(trainer["args"][-1]), self.kill_after.pop()
                while len(list(folder.glob(".train.checkpoints/step-*.checkpoint"))) < count:
                    assert process.poll() is None, process.communicate()[0]
                    time.sleep(0.01)
                kill(process)
            log, _ = process.communicate(timeout=300)
        finally:
            if process.poll() is None:
                kill(process)
        self.logs.append(log)
        cluster.write(pod, *log.splitlines())
        code = 137 if process.returncode < 0 else process.returncode
        cluster.end_pod(pod, code)
        cluster.condition(name, "Failed" if code else "Complete")


def run(align: Path, output: Path, params: Train, work: Path) -> None:
    train_job.run(
        align=align,
        output=output,
        params=params,
        nodes=1,
        wait_minutes=5,
        image="",
        tracking_uri="http://127.0.0.1:9",  # nobody is there
        volume=work,
    )


def test_after_a_lost_node_it_goes_on_and_the_output_is_trains(
    align: Path, work: Path, params: Train, cluster: FakeCluster, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    nodes = cluster.operator = Nodes(kill_after=[2])
    output = tmp_path / "out" / "train"
    with pytest.raises(ClusterError, match=r"node 0 \(pod .*\) failed with exit code 137"):
        run(align, output, params, work)
    assert not output.exists()
    (kept,) = work.glob("crops/*/trainings/*")
    assert list(kept.glob(".train.checkpoints/step-*.checkpoint"))

    changed = params.model_copy(update={"checkpoint_every": 20})  # is no other training
    run(align, output, changed, work)
    steps = EPOCHS * PEOPLE * PHOTOS // SMALL["batch_size"]
    assert "train: going on after step" in nodes.logs[1]
    assert f"of {steps}" in nodes.logs[1]
    assert read_card(output / "teacher").data_digest == open_dataset(align / "train").digest
    assert read_metrics(output)["crops"] == PEOPLE * PHOTOS
    assert (output / "curves.csv").exists()
    cluster.wait_for(lambda: not cluster.objects)

    # What no server has got is all that is left.
    left = {path.name for path in work.iterdir()} - {"crops", "locks"}
    assert left == {".mlflow-spool"}
    assert not list((work / "crops").iterdir())
    assert f"`facewright sync` in {work} sends it" in capsys.readouterr().err


def whole(folder: Path) -> None:
    (folder / "train" / "teacher").mkdir(parents=True)
    (folder / "train" / "metrics.json").write_text('{"crops": 24}')


def test_a_result_that_was_not_fetched_is_not_trained_again(
    align: Path, work: Path, params: Train, cluster: FakeCluster, tmp_path: Path
) -> None:
    def operator(cluster: FakeCluster, job: dict[str, Any]) -> None:
        whole(Path(job["spec"]["trainer"]["args"][-1]))
        cluster.put(TRAINJOBS, cluster.objects[TRAINJOBS, job["metadata"]["name"]], "DELETED")

    cluster.operator = operator
    with pytest.raises(ClusterError, match="somebody deleted it"):
        run(align, tmp_path / "train", params, work)
    run(align, tmp_path / "train", params, work)
    assert read_metrics(tmp_path / "train") == {"crops": 24}
    assert len(cluster.asked("create", TRAINJOBS)) == 1
    assert not list((work / "crops").iterdir())


def test_other_parameters_are_another_training(
    align: Path, work: Path, params: Train, cluster: FakeCluster, tmp_path: Path
) -> None:
    names: list[str] = []

    def operator(cluster: FakeCluster, job: dict[str, Any]) -> None:
        names.append(job["metadata"]["name"])
        whole(Path(job["spec"]["trainer"]["args"][-1]))
        cluster.condition(names[-1], "Complete")

    cluster.operator = operator
    for seed in (1, 1, 2):
        output = tmp_path / f"train-{len(names)}"
        run(align, output, params.model_copy(update={"seed": seed}), work)
        cluster.wait_for(lambda: not cluster.objects)
    assert names[0] == names[1] != names[2]


def test_nodes_that_see_another_volume_are_told(
    align: Path, work: Path, params: Train, cluster: FakeCluster, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(volume, "APPEARS", 0.0)
    cluster.operator = lambda cluster, job: cluster.condition(job["metadata"]["name"], "Complete")
    with pytest.raises(ClusterError, match="must see the same volume at"):
        run(align, tmp_path / "train", params, work)
    assert not (tmp_path / "train").exists()


def test_it_goes_with_the_pod_that_kubeflow_names(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("KFP_POD_NAME", "KFP_POD_UID"):
        monkeypatch.delenv(name, raising=False)
    assert train_job._own_pod() is None
    monkeypatch.setenv("KFP_POD_NAME", "run-1-step-3")
    monkeypatch.setenv("KFP_POD_UID", "an-uid")
    assert train_job._own_pod() == ("run-1-step-3", "an-uid")


def test_a_node_tells_in_a_line_what_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.json").write_text('{"seed": 1}')
    assert train_job.main([str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith("facewright: train parameters.")
