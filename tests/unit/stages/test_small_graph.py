"""Every stage, once, on a handful of rendered people: what passes between them, and what is kept.

Accuracy means nothing here (one epoch on some photos); the whole sample set has its own test.
"""

import hashlib
import io
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image
from safetensors.numpy import load_file

from facewright import cli
from facewright.datasets.crops import Crops
from facewright.datasets.sample import render_photo
from facewright.engines import load_recognizer
from facewright.engines.tensorrt_backend import import_builder
from facewright.evaluation import verification_metrics
from facewright.files import directory_digest
from facewright.models.recognizer import read_card
from facewright.registry.promotion import champion
from facewright.registry.tracking import (
    PRECISION_TAG,
    RECOGNIZER_TAG,
    RESUMED_TAG,
    START_TAG,
    connect,
)
from facewright.stages.metrics import began_from
from facewright.training.checkpoint import remove_checkpoints
from facewright.training.precision import precision_on

ROOT = Path(__file__).parents[3]
TRAIN, VERIFY, PHOTOS = 5, 4, 4
BLANK = "p101/p101_3"  # a verification photo in which nobody is
SMALL: dict[str, dict[str, Any]] = {
    "train": {"network": "resnet_tiny", "embedding_size": 16, "epochs": 1, "batch_size": 8},
    "distill": {"epochs": 1, "batch_size": 8},
    "quantize": {"calibration_crops": 8, "parity_crops": 8, "method": "minmax"},
    "compile": {"targets": ["sm86"], "max_batch": 4},
    "evaluate": {"bootstrap": 100, "latency_calls": 10},
}


def jpeg(image: Any) -> bytes:
    out = io.BytesIO()
    Image.fromarray(image).save(out, "JPEG", quality=92)
    return out.getvalue()


def write_people(folder: Path, numbers: range) -> None:
    for number in numbers:
        (folder / f"p{number}").mkdir(parents=True)
        for photo in range(PHOTOS):
            file = folder / f"p{number}" / f"p{number}_{photo}.jpg"
            file.write_bytes(jpeg(render_photo(number, photo)))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory in which the whole graph has run."""
    folder = tmp_path_factory.mktemp("project")
    train, verify = folder / "sources" / "train", folder / "sources" / "verify"
    write_people(train, range(1, 1 + TRAIN))
    write_people(verify, range(100, 100 + VERIFY))
    (train / "p1" / "p1_9.jpg").write_text("no image at all")
    noise = np.random.default_rng(0).integers(0, 255, (224, 224, 3), dtype=np.uint8)
    (verify / f"{BLANK}.jpg").write_bytes(jpeg(noise))
    people = [f"p{n}" for n in range(100, 100 + VERIFY)]
    rows = []
    for k, name in enumerate(people):
        other = people[(k + 1) % VERIFY]
        for i in range(PHOTOS - 1):
            rows.append((k % 2, 1, f"{name}/{name}_{i}.jpg", f"{name}/{name}_{i + 1}.jpg"))
            rows.append((k % 2, 0, f"{name}/{name}_{i}.jpg", f"{other}/{other}_{i + 1}.jpg"))
    pairs = folder / "sources" / "pairs.tsv"
    pairs.write_text("".join("\t".join(map(str, row)) + "\n" for row in rows))

    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    if import_builder("tensorrt-rtx") is None:
        values["compile"]["builder"] = "off"
    for section, changes in SMALL.items():
        values[section] |= changes
    (folder / "params.yaml").write_text(yaml.safe_dump(values))
    (folder / "mlflow").mkdir()
    policy = (ROOT / "mlflow" / "promotion.yaml").read_text()
    policy = policy.replace("accuracy: 0.85", "accuracy: 0.0")
    policy = policy.replace("max_accuracy_drop: 0.05", "max_accuracy_drop: 1.0")
    for most in ("0.03", "0.1"):  # of FNMR, for which the pairs are too few
        policy = policy.replace(f"max_fnmr_rise: {most}", "max_fnmr_rise: null")
    (folder / "mlflow" / "promotion.yaml").write_text(policy)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        rights = ("--licence", "ours", "--consent", "rendered")
        commands: list[tuple[str, ...]] = [
            ("dataset", "import", str(train), "data/train/people", *rights),
            (
                "dataset",
                "import",
                str(verify),
                "data/verify/people",
                "--pairs",
                str(pairs),
                *rights,
            ),
            *(("run", stage) for stage in cli.STAGES),
        ]
        for command in commands:
            assert cli.main(command) == 0, command
    return folder


@pytest.fixture
def artifacts(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(project)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return Path("artifacts")


def read(path: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(path.read_text())
    return values


def test_every_stage_leaves_one_whole_folder(artifacts: Path) -> None:
    assert sorted(path.name for path in artifacts.iterdir()) == sorted(cli.STAGES)


def test_rejected_photos_and_missing_faces_keep_their_rows(artifacts: Path) -> None:
    train = pd.read_parquet(artifacts / "align" / "train" / "manifest.parquet").set_index("id")
    assert len(train) == TRAIN * PHOTOS + 1
    assert train.loc["p1/p1_9", ["status", "reason"]].tolist() == ["rejected", "undecodable"]
    verify = pd.read_parquet(artifacts / "align" / "verify" / "manifest.parquet").set_index("id")
    assert len(verify) == VERIFY * PHOTOS
    assert verify.loc[BLANK, "status"] == "no_face"
    assert verify.loc[BLANK, "shard"] == ""
    assert read(artifacts / "align" / "metrics.json")["verify.no_face"] >= 1


def test_a_missing_face_is_an_error_of_every_recognizer(artifacts: Path) -> None:
    scores = pd.read_parquet(artifacts / "evaluate" / "scores.parquet")
    photos = pd.read_parquet(artifacts / "align" / "verify" / "manifest.parquet").set_index("id")
    blank = photos.loc[BLANK, "photo_sha256"]
    lost = scores[(scores["a"] == blank) | (scores["b"] == blank)]
    assert set(lost["recognizer"]) == {"teacher", "student", "student-int8"}
    assert (lost["status"] == "failure").all()


def test_metrics_can_be_computed_again_from_the_scores(artifacts: Path) -> None:
    metrics = read(artifacts / "evaluate" / "metrics.json")
    scores = pd.read_parquet(artifacts / "evaluate" / "scores.parquet")
    people = pd.read_parquet(artifacts / "align" / "verify" / "manifest.parquet")
    for name, frame in scores.groupby("recognizer"):
        again = verification_metrics(
            frame.drop(columns="recognizer").reset_index(drop=True),
            identities=dict(zip(people["photo_sha256"], people["identity"], strict=True)),
            fmr_targets=[0.1, 0.01, 0.001],
            bootstrap=100,
            seed=0,
        )
        for key, value in again.items():
            assert metrics[f"{name}.{key}"] == pytest.approx(value), key


def test_no_name_and_no_face_leaves_with_the_evaluation(artifacts: Path) -> None:
    """All files of it go to the registry; `show_faces` is off."""
    people = pd.read_parquet(artifacts / "align" / "verify" / "manifest.parquet")
    named = [*people["id"], *people["identity"].unique()]
    for file in (artifacts / "evaluate").iterdir():
        table = pd.read_parquet(file).to_csv() if file.suffix == ".parquet" else ""
        text = file.read_bytes().decode("utf-8", "replace") + table
        words = set(re.findall(r"[\w/.-]+", text))
        assert not words.intersection(named), file
        assert "data:image" not in text, file


def test_the_onnx_student_is_the_pytorch_student_on_real_crops(artifacts: Path) -> None:
    crops = Crops(artifacts / "align" / "verify")
    batch = crops.batch(range(len(crops)))
    torch_student = load_recognizer(artifacts / "distill" / "student").embed(batch)
    onnx_student = load_recognizer(artifacts / "quantize" / "student").embed(batch)
    np.testing.assert_allclose(onnx_student, torch_student, atol=1e-4)
    parity = read(artifacts / "quantize" / "metrics.json")
    assert parity["student.cosine_min"] > 0.9999
    assert parity["student-int8.megabytes"] < 0.4 * parity["student.megabytes"]


def test_engines_carry_the_fingerprint_of_their_onnx_file(artifacts: Path) -> None:
    engines = sorted(path.parent for path in artifacts.glob("compile/*/recognizer.yaml"))
    if not engines:
        pytest.skip("no TensorRT builder on this machine")
    for engine in engines:
        card = yaml.safe_load((engine / "recognizer.yaml").read_text())
        source = artifacts / "quantize" / engine.name.removesuffix("-sm86") / "recognizer.yaml"
        assert card["engine"]["onnx_sha256"] == yaml.safe_load(source.read_text())["weights_sha256"]


def test_a_second_registration_finds_the_first(artifacts: Path) -> None:
    before = read(artifacts / "register" / "version.json")
    assert cli.main(["run", "register"]) == 0
    assert (
        read(artifacts / "register" / "version.json")
        == before
        == {
            "model": "facewright",
            "version": 1,
        }
    )
    serving = champion("facewright")
    assert serving is not None
    assert serving.version == 1


def test_the_report_names_what_is_served(
    artifacts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["report"]) == 0
    out = capsys.readouterr().out
    served = read(artifacts / "gate" / "decision.json")["serve"]
    assert f"facewright version 1, champion; {served} is served" in out
    assert all(name in out for name in ("teacher", "student", "student-int8", "data_docs"))


def test_the_same_inputs_give_the_same_bytes(artifacts: Path) -> None:
    """validate, align, train, distill, quantize again: weights, crops and verdicts are the same."""
    kept = {
        "validate": "*.parquet",
        "align": "*/*.parquet",
        "train": "teacher/*",
        "distill": "student/*",
        "quantize": "student*/*",
    }
    before = {
        stage: {file: file.read_bytes() for file in (artifacts / stage).glob(pattern)}
        for stage, pattern in kept.items()
    }
    for stage in kept:
        assert cli.main(["run", stage]) == 0
        assert before[stage]
        for file, data in before[stage].items():
            assert file.read_bytes() == data, file


def test_an_unreachable_server_stops_the_gate_with_nothing_half_written(
    artifacts: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    before = (artifacts / "gate" / "decision.json").read_bytes()
    assert cli.main(["run", "gate"]) == 2
    assert "http://127.0.0.1:9" in capsys.readouterr().err.splitlines()[-1]
    assert (artifacts / "gate" / "decision.json").read_bytes() == before
    assert not list(artifacts.glob(".gate.partial"))


@pytest.fixture
def elsewhere(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Another working directory: the same parameters and verification set, no training set."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(project / "params.yaml", tmp_path)
    shutil.copytree(project / "mlflow", tmp_path / "mlflow")
    shutil.copytree(project / "data" / "verify", tmp_path / "data" / "verify")
    return tmp_path


def test_one_identity_is_refused(
    project: Path, elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(project / "sources" / "train" / "p1", "one/p1")
    assert cli.main(["dataset", "import", "one", "data/train/one"]) == 0
    assert cli.main(["run", "validate"]) == 2
    assert "identit" in capsys.readouterr().err.splitlines()[-1]
    assert not Path("artifacts/validate").exists()


def test_photos_without_any_face_are_refused(
    elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for k in range(4):
        noise = np.random.default_rng(10 + k).integers(0, 255, (224, 224, 3), dtype=np.uint8)
        file = Path(f"walls/w{k // 2}/w{k}.jpg")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(jpeg(noise))
    assert cli.main(["dataset", "import", "walls", "data/train/walls"]) == 0
    assert cli.main(["run", "validate"]) == 0
    assert cli.main(["run", "align"]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert "no face was found in any accepted photo of data/train" in line
    assert not Path("artifacts/align").exists()


def test_a_full_disk_is_one_line_and_loses_no_input(
    project: Path, elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    shutil.copytree(project / "artifacts", elsewhere / "artifacts")
    before = directory_digest(elsewhere / "artifacts" / "quantize")

    def full(folder: Path, *rest: Any, **options: Any) -> None:
        Path("/dev/full").write_bytes(b"x")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("facewright.stages.compile.build_engines", full)
        assert cli.main(["run", "compile"]) == 2
    assert "the disk is full while writing artifacts/compile" in capsys.readouterr().err
    assert directory_digest(elsewhere / "artifacts" / "quantize") == before
    assert not (elsewhere / "artifacts" / ".compile.partial").exists()


def test_a_training_without_a_server_is_sent_later(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(project / "artifacts" / "align", tmp_path / "artifacts" / "align")
    shutil.copytree(project / "mlflow", tmp_path / "mlflow")
    shutil.copy(project / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    assert cli.main(["run", "train"]) == 0
    assert cli.main(["run", "distill"]) == 0
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    client = connect()
    runs = client.search_runs([client.get_experiment_by_name("facewright").experiment_id])
    made = {"train": "artifacts/train/teacher", "distill": "artifacts/distill/student"}
    assert {run.info.run_name: run.data.tags[RECOGNIZER_TAG] for run in runs} == {
        name: read_card(Path(folder)).weights_sha256 for name, folder in made.items()
    }
    assert {run.info.status for run in runs} == {"FINISHED"}
    named = yaml.safe_load(Path("params.yaml").read_text())
    for run in runs:
        precision = named[run.info.run_name]["precision"]
        assert run.data.tags[PRECISION_TAG] == precision_on(torch.device("cpu"), precision)
        curves = pd.read_csv(Path("artifacts", run.info.run_name, "curves.csv"))
        sent = client.get_metric_history(run.info.run_id, "train_loss")
        assert [point.value for point in sent] == pytest.approx(list(curves["train_loss"]))


@pytest.fixture
def retraining(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Another working directory with the same crops and server, and its train parameters."""
    (tmp_path / "artifacts").mkdir()
    (tmp_path / "artifacts" / "align").symlink_to(project / "artifacts" / "align")
    shutil.copytree(project / "mlflow", tmp_path / "mlflow")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{project}/mlflow.db")
    values = yaml.safe_load((project / "params.yaml").read_text())
    return dict(values["train"])


def train_with(**values: Any) -> int:
    everything = yaml.safe_load((ROOT / "params.yaml").read_text())
    Path("params.yaml").write_text(yaml.safe_dump(everything | {"train": values}))
    return cli.main(["run", "train"])


def last_run(client: Any) -> Any:
    experiment = client.get_experiment_by_name("facewright").experiment_id
    return client.search_runs([experiment], order_by=["attributes.start_time DESC"])[0]


def test_a_teacher_is_tuned_with_sub_centres_and_its_labels_are_judged(
    project: Path, retraining: dict[str, Any]
) -> None:
    start = project / "artifacts" / "train" / "teacher"
    head = {"name": "subcentre", "scale": 32.0, "margin": 0.2, "sub_centres": 2}
    assert (
        train_with(
            **retraining | {"head": head, "start": str(start), "frozen": True, "log_samples": True}
        )
        == 0
    )

    crops = Crops(Path("artifacts/align/train"))
    noise = pd.read_csv("artifacts/train/label_noise.csv")
    assert sorted(noise["id"]) == sorted(crops.ids)
    identities = dict(zip(crops.ids, (crops.identities[k] for k in crops.labels), strict=True))
    assert [identities[one] for one in noise["id"]] == noise["identity"].tolist()
    assert noise["angle"].is_monotonic_decreasing
    assert read(Path("artifacts/train/metrics.json"))["label_noise"] == noise["dropped"].sum()

    old = load_file(start / "model.safetensors")
    new = load_file("artifacts/train/teacher/model.safetensors")
    changed = {name.partition(".")[0] for name in new if not np.array_equal(new[name], old[name])}
    assert changed == {"embedding", "normalize"}

    client = connect()
    run = last_run(client)
    assert run.data.tags[START_TAG] == read_card(start).weights_sha256
    told = f"{start} (weights {read_card(start).weights_sha256[:12]})"
    assert began_from(Path("artifacts/train")) == told
    assert began_from(project / "artifacts" / "train") == ""
    made = read_card(Path("artifacts/train/teacher")).weights_sha256
    assert run.data.tags[RECOGNIZER_TAG] == made != run.data.tags[START_TAG]
    assert [file.path for file in client.list_artifacts(run.info.run_id)] == ["augmentation.png"]
    sheet = Image.open(client.download_artifacts(run.info.run_id, "augmentation.png"))
    assert sheet.size == (8 * 112, 6 * 112)
    first = np.asarray(sheet.convert("RGB"))[:112, :112]
    assert np.array_equal(first, crops.batch([0])[0])


def test_a_killed_training_from_the_champion_tells_what_it_went_on_from(
    project: Path, retraining: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*rest: Any) -> None:
        raise KeyboardInterrupt

    values = retraining | {"start": "models:/facewright@champion", "checkpoint_every": 2}
    with monkeypatch.context() as patch:
        patch.setattr("facewright.stages.train._write", killed)
        assert train_with(**values) == 130
    (left,) = Path("artifacts/.train.checkpoints").glob("*.checkpoint")
    digest = hashlib.sha256((left / "checkpoint.json").read_bytes()).hexdigest()
    done: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr("facewright.files.sync_to_disk", lambda path: done.append(path.name))
        patch.setattr(
            "facewright.stages.train.remove_checkpoints",
            lambda *where, **key: (done.append("removed"), remove_checkpoints(*where, **key)),
        )
        assert train_with(**values) == 0
    # The result is on the disk before what it could be made again from is gone.
    assert {"model.safetensors", "metrics.json", "artifacts"} <= set(done[: done.index("removed")])
    tags = last_run(connect()).data.tags
    assert tags[RESUMED_TAG] == f"2 from {digest[:16]}"
    champion_of = read_card(project / "artifacts" / "train" / "teacher")
    assert tags[START_TAG] == champion_of.weights_sha256 != tags[RECOGNIZER_TAG]


def test_no_face_is_logged_unless_asked_for(artifacts: Path) -> None:
    client = connect()
    experiment = client.get_experiment_by_name("facewright").experiment_id
    runs = client.search_runs([experiment])
    own = read_card(artifacts / "train" / "teacher").weights_sha256
    plain = [run for run in runs if run.data.tags.get(RECOGNIZER_TAG) == own]
    assert plain
    for run in plain:
        assert START_TAG not in run.data.tags
        assert not client.list_artifacts(run.info.run_id)
    assert not (artifacts / "train" / "label_noise.csv").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"start": "nowhere"}, "nowhere is not a recognizer: recognizer.yaml is missing"),
        ({"start": "artifacts/align/train"}, "artifacts/align/train is not a recognizer"),
        ({"start": "teacher", "embedding_size": 8}, "no resnet_tiny with embeddings of 8 values"),
        ({"start": "teacher", "network": "resnet_small"}, "is no resnet_small with embeddings"),
        ({"resume": "step-9.checkpoint"}, "no checkpoint step-9.checkpoint"),
    ],
)
def test_a_wrong_start_is_one_line_and_leaves_nothing(
    project: Path,
    retraining: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, Any],
    message: str,
) -> None:
    Path("teacher").symlink_to(project / "artifacts" / "train" / "teacher")
    assert train_with(**retraining | changes) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("facewright")]
    assert len(lines) == 1
    assert message in lines[0]
    assert [path.name for path in Path("artifacts").iterdir()] == ["align"]
