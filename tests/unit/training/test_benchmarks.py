"""The benchmarks of training and networks run, tiny, and say what they promise to say."""

import json
import os
import re
import sys
import tarfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from benchmarks import (
    backbones,
    training,
    training_ablations,
    training_crops,
    training_faces,
    training_gpu,
    training_speed,
    training_worker,
)
from facewright.models import build_network
from facewright.models.weights import save_network

ROOT = Path(__file__).parents[3]


def last_line(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return values


def calls(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmark", *arguments])


def is_spread(figures: dict[str, float]) -> bool:
    return 0 < figures["low"] <= figures["median"] <= figures["high"]


def is_range(name: str, result: dict[str, Any]) -> bool:
    low, high = result[f"{name}_range"]
    return bool(0 < low <= result[name] <= high)


def test_backbones_are_timed_in_use_and_in_training(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(backbones, "BATCH", 2)
    calls(monkeypatch, "--networks", "resnet_tiny", "--repeats", "2", "--training")
    backbones.main()
    result = last_line(capsys)
    assert result["cpu"]
    assert {type(result[unit]) for unit in ("amx_bf16", "avx512_bf16")} == {bool}
    row = result["networks"]["resnet_tiny"]
    assert row["bytes"] > 4 * row["parameters"]
    kinds = {key for key in row if "images_per_s" in key}
    assert kinds == {
        f"{of}images_per_s_{kind}" for of in ("", "training_") for kind in ("fp32", "bf16")
    }
    assert all(is_spread(row[kind]) for kind in kinds)


def test_loop_and_data_and_gpu_run_through_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(training, "keep_to", lambda cores: None)
    calls(monkeypatch, "loop", "data", "gpu", "--networks", "resnet_small", "--quick")
    training.main()
    printed = capsys.readouterr()
    result = json.loads(printed.out.splitlines()[-1])
    # Whoever is cut off has the figures of the parts that were done.
    so_far = [line.partition("gpu so far: ")[2] for line in printed.err.splitlines()]
    told = [json.loads(line) for line in so_far if line]
    assert [("gpu_million_all_gb" in each) for each in told] == [False, True]
    assert told[-1].items() <= result.items()
    assert set(training.KEYS) <= set(result)
    assert result["quick"] is True
    assert result["small_speedup"] > 0
    assert result["data_headroom"] > 0
    assert result["iresnet18_speedup"] is result["view1_minutes"] is None
    assert is_spread(result["small_images_per_s_plain"])
    # Everything that a GPU would do is done here, but for the compiler.
    assert result["gpu"] == (torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu")
    for who in ("ours", "plain_fp32", "plain_bf16"):
        assert is_spread(result[f"gpu_resnet_tiny_images_per_s_{who}"]), who
    assert is_range("small_speedup", result)
    assert is_range("data_headroom", result)
    for name in ("speedup_over_plain_bf16", "speedup_over_plain_fp32"):
        assert is_range(f"gpu_resnet_tiny_{name}", result)
    assert is_spread(result["gpu_million_all_images_per_s"])
    assert is_spread(result["gpu_million_sampled_images_per_s"])


def test_a_ratio_is_of_each_turn_and_of_none_without_both() -> None:
    rates = {"a": [2.0, 9.0, 4.0, 5.0], "b": [1.0, 3.0, 2.0], "failed": []}
    assert training_crops.ratio_figures("r", rates, "a", "b") == {"r": 2.0, "r_range": [2.0, 3.0]}
    assert training_crops.ratio_figures("r", rates, "a", "failed") == {"r": None, "r_range": None}
    assert training_crops.ratio_figures("r", rates, "absent", "b") == {"r": None, "r_range": None}


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA H200", 989.5),
        ("NVIDIA H200 NVL", 835.5),
        ("NVIDIA H100 80GB HBM3", 989.5),
        ("NVIDIA H100 PCIe", 756.5),
        ("NVIDIA A100-SXM4-80GB", 312.0),
        ("NVIDIA L40S", 362.0),
        ("NVIDIA L40", None),
        ("NVIDIA A10", 125.0),
        ("NVIDIA A10G", None),
        ("NVIDIA GeForce RTX 4090", 165.2),
        ("NVIDIA GeForce RTX 4090 D", None),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", None),
        ("cpu", None),
    ],
)
def test_a_device_has_the_peak_of_its_own_name(name: str, peak: float | None) -> None:
    assert training_gpu.peak_of(name) == peak


def in_this_process(job: dict[str, Any], *, processes: int, threads: int) -> list[dict[str, Any]]:
    """As `in_processes`, without the seconds that starting some takes."""
    folder = Path(os.environ["SCRATCH"])
    with pytest.MonkeyPatch.context() as patch:
        calls(patch, str(folder), json.dumps(job))
        training_worker.main()
    return [json.loads((folder / "0.json").read_text())] * processes


def test_two_processes_and_memory_are_told_of(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SCRATCH", str(tmp_path))
    monkeypatch.setattr(training_speed, "in_processes", in_this_process)
    monkeypatch.setattr(training_speed, "PROCESSES", (2,))
    assert is_range("gloo2_ratio", training_speed.gloo2(True, 1))
    result = training_speed.memory(True)
    for kind in ("mb_per_rank_2", "mb_per_rank_2_sampled", "mb_per_rank_2_base"):
        assert result[f"memory_{kind}"] > 50
    assert result["memory_512_mb_per_rank_2"] > 50


def test_torchrun_starts_as_many_as_are_asked_for() -> None:
    job = {
        "drawn": {"crops": 16, "identities": 50},
        "warm": 1,
        "steps": 1,
        "changed": {"network": "resnet_tiny", "embedding_size": 8, "batch_size": 8},
    }
    found = training_crops.in_processes(job, processes=2, threads=1)
    assert len(found) == 2
    assert all(each["images_per_s"] > 0 and each["peak_mb"] > 50 for each in found)


def test_ablations_fill_a_table_and_what_is_done_is_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(training_faces, "WORK", tmp_path)
    only = ["softmax", "identities with three photos or more"]
    first = training_ablations.ablations(True, [1], 1, only, None)
    rows = first["ablations"]
    assert list(rows) == ["none", *only]
    assert rows["none"][0]["crops"] == 100  # of thirty people with four, five are held out
    assert all(0.5 <= row["accuracy"] <= 1 for (row,) in rows.values())
    said = capsys.readouterr().err
    assert said.count("kept from an earlier run") == 0
    assert training_ablations.ablations(True, [1], 1, only, None) == first
    assert capsys.readouterr().err.count("kept from an earlier run") == 3
    assert [each.name for each in tmp_path.iterdir()] == ["quick"]  # apart from what took hours


def test_the_guide_lists_what_was_not_run() -> None:
    guide = (ROOT / "docs" / "guides" / "training.md").read_text(encoding="utf-8")
    told = guide.partition("and not run so far: ")[2].partition(". Ten minutes")[0]
    result = json.loads((ROOT / "docs" / "results" / "2026-11-training-ablations.json").read_text())
    run = {*result["result"]["ablations"], *result["again"]["ablations"]}
    assert set(re.findall("`([^`]+)`", told)) == set(training_ablations.VARIATIONS) - run


# --- View 1 --------------------------------------------------------------------------------------


def aligned(folder: Path) -> None:
    """Crops to train on, which only their digest is taken of, and twenty pairs of ten people: the
    genuine ones are one picture twice, of which every network makes an accuracy of 1."""
    training_crops.write_crops(folder / "train", crops=4, identities=2)
    training_crops.write_crops(folder / "verify", crops=10, identities=10)
    manifest = pd.read_parquet(folder / "verify" / "manifest.parquet")
    copies = manifest.assign(id=manifest["id"] + "-again")
    pd.concat([manifest, copies]).to_parquet(folder / "verify" / "manifest.parquet")
    ids, folds = manifest["id"], np.arange(10) % 5
    genuine = pd.DataFrame({"fold": folds, "label": 1, "a": ids, "b": copies["id"]})
    impostor = genuine.assign(label=0, b=np.roll(ids, 1))
    pd.concat([genuine, impostor]).to_parquet(folder / "verify" / "pairs.parquet")


def test_view_1_tells_mean_range_and_minutes_of_its_seeds(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    trained: list[str] = []

    def trained_teacher(folder: Path) -> None:
        trained.append(folder.name)
        seed = yaml.safe_load((folder / "params.yaml").read_text())["train"]["seed"]
        torch.manual_seed(seed)
        network = build_network("resnet_tiny", embedding_size=8)
        (folder / "artifacts" / "train").mkdir()
        about = {"embedding_size": 8, "data_digest": "", "code_digest": ""}
        teacher = folder / "artifacts" / "train" / "teacher"
        save_network(teacher, network, name="teacher", network="resnet_tiny", **about)
        rest = {"crops": 4, "identities": 2, "images_per_second": 10.0, "data_wait": 0.0}
        (folder / "artifacts" / "train" / "metrics.json").write_text(
            json.dumps({"seconds": 90 * seed} | rest)
        )

    def scores(folder: Path, *, flip: bool) -> pd.DataFrame:
        """The second seed knows nobody of the first fold again: two of twenty pairs are wrong."""
        table = teacher_scores(folder, flip=flip)
        missed = (folder.name == "seed-2") & (table["fold"] == 0) & (table["label"] == 1)
        return table.assign(similarity=table["similarity"].mask(missed, -1.0))

    prepared, teacher_scores = tmp_path / "view1", training_faces.teacher_scores
    training_faces.project(prepared, training_faces.recipe(True))
    aligned(prepared / "artifacts" / "align")
    monkeypatch.setattr(training_faces, "trained_teacher", trained_teacher)
    monkeypatch.setattr(training_faces, "teacher_scores", scores)
    result = training_faces.per_seed("view1", prepared, [1, 2], True)
    rows = result.pop("view1_seeds")
    assert result == {
        "view1_accuracy_mean": 0.95,
        "view1_accuracy_range": [0.9, 1.0],
        "view1_minutes": 2.25,
    }
    assert [(row["accuracy"], row["train_minutes"]) for row in rows.values()] == [
        (1.0, 1.5),
        (0.9, 3.0),
    ]
    assert all(row["ci_low"] <= row["accuracy"] <= row["ci_high"] for row in rows.values())
    assert {(row["pairs"], row["failures"]) for row in rows.values()} == {(20, 0)}
    # What is there is kept, unless it was made otherwise.
    assert training_faces.per_seed("view1", prepared, [1], True)["view1_accuracy_mean"] == 1.0
    assert trained == ["seed-1", "seed-2"]
    params = training_faces.recipe(True)
    params["train"]["epochs"] = 7
    training_faces.project(prepared, params)
    training_faces.per_seed("view1", prepared, [1], True)
    assert trained == ["seed-1", "seed-2", "seed-1"]


def test_a_preparation_is_that_of_its_lists(tmp_path: Path) -> None:
    people = training_faces.written(tmp_path / "people.txt", ["A", "B"])
    imports: training_faces.Imports = {"train/lfw": [tmp_path / "lfw.tgz", "--people", people]}
    params = training_faces.recipe(True)
    before = training_faces.prepared_key(params, imports)
    assert training_faces.prepared_key(params, imports) == before
    training_faces.written(people, ["A", "C"])
    assert training_faces.prepared_key(params, imports) != before


# --- View 2 in full ------------------------------------------------------------------------------

FOLDS, EACH = 10, 3  # people of a fold


@pytest.fixture
def protocol(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A data folder with the lists of LFW for thirty people of two photos each."""
    (tmp_path / "lfw").mkdir()
    (tmp_path / "ytf").mkdir()
    people, pairs = [str(FOLDS)], [f"{FOLDS}\t2"]
    for fold in range(FOLDS):
        names = [f"Person_{fold}{letter}" for letter in "abc"]
        people += [str(EACH), *(f"{name}\t2" for name in names)]
        pairs += [f"{name}\t1\t2" for name in names[:2]]
        pairs += [f"{names[0]}\t1\t{name}\t2" for name in names[1:]]
    (tmp_path / "lfw" / "people.txt").write_text("\n".join(people) + "\n")
    (tmp_path / "lfw" / "pairs.txt").write_text("\n".join(pairs) + "\n")
    monkeypatch.setattr(training_faces, "DATA", tmp_path)
    monkeypatch.setattr(training_faces, "WORK", tmp_path / "work")
    return tmp_path


def test_no_model_of_view_2_is_trained_on_people_of_its_fold(protocol: Path) -> None:
    folds = training_faces.view2_folds(protocol / "lists", quick=False)
    assert len(folds) == FOLDS
    everyone = {f"Person_{fold}{letter}" for fold in range(FOLDS) for letter in "abc"}
    for fold, imports in enumerate(folds):
        own = {name for name in everyone if name.startswith(f"Person_{fold}")}
        trained = set(Path(str(imports["train/lfw"][2])).read_text().split())
        assert trained == everyone - own
        assert "train/ytf" in imports
        assert set(Path(str(imports["verify/lfw"][2])).read_text().split()) == own
        rows = Path(str(imports["verify/lfw"][4])).read_text().splitlines()
        assert len(rows) == 4
        assert {row.split("\t")[0] for row in rows} == {str(fold)}
        assert {path.split("/")[0] for row in rows for path in row.split("\t")[2:]} <= own


def test_view_2_without_youtube_faces_trains_on_these_and_is_prepared_alone(
    protocol: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tarfile.open(protocol / "ytf" / "ytf347.tar", "w") as archive:
        for name in ("Person_0a/0/1.jpg", "Person_1b/0/1.jpg"):
            archive.addfile(tarfile.TarInfo(f"ytf347/{name}"))
    pairs = protocol / "lfw" / "pairs_no_ytf_identities.tsv"
    pairs.write_text("0\t1\tPerson_2a/Person_2a_0001.jpg\tPerson_2a/Person_2a_0002.jpg\n")
    (protocol / "lists").mkdir()
    imports = training_faces.view2_imports(protocol / "lists")
    trained, tested = (imports[name][2] for name in ("train/lfw", "verify/lfw"))
    assert Path(str(trained)).read_text().split() == ["Person_0a", "Person_1b"]
    assert Path(str(tested)).read_text().split() == ["Person_2a"]
    assert imports["verify/lfw"][4] == pairs

    prepared: list[str] = []

    def prepare(folder: Path, params: dict[str, Any], imports: training_faces.Imports) -> Path:
        prepared.append(folder.name)
        return folder

    monkeypatch.setattr(training_faces, "prepare", prepare)
    monkeypatch.setattr(training_faces, "per_seed", None)
    monkeypatch.setattr(training_faces, "fold_scores", None)
    (training_faces.work(False) / "lists").mkdir(parents=True)
    assert training_faces.view2(False, [1], True) == {}
    assert training_faces.view2_full(False, 1, True) == {}
    assert prepared == ["view2", *(f"fold-{fold}" for fold in range(FOLDS))]


def test_a_part_that_fails_does_not_lose_the_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(*arguments: object) -> dict[str, Any]:
        sys.exit("lfw/ is missing")

    monkeypatch.setattr(training, "keep_to", lambda cores: None)
    monkeypatch.setattr(training_faces, "view1", missing)
    monkeypatch.setattr(training_faces, "view2", lambda *arguments: {"view2_minutes": 3})
    calls(monkeypatch, "view1", "view2")
    assert training.main() == 1
    result = last_line(capsys)
    assert (result["failed"], result["view2_minutes"]) == (["view1"], 3)


def test_parts_of_the_cpu_see_no_gpu_beside_parts_that_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: dict[str, tuple[bool, str | None]] = {}

    def noted(part: str, *arguments: object) -> dict[str, Any]:
        seen[part] = (torch.cuda.is_available(), os.environ.get("CUDA_VISIBLE_DEVICES"))
        return {}

    monkeypatch.setattr(training, "keep_to", lambda cores: None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setattr(training_speed, "loop", partial(noted, "loop"))
    monkeypatch.setattr(training_faces, "view1", partial(noted, "view1"))
    calls(monkeypatch, "loop", "view1")
    assert training.main() == 0
    assert seen == {"loop": (False, ""), "view1": (True, "0")}


def test_a_fold_of_view_2_is_judged_by_the_threshold_of_the_others(
    protocol: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first fold's model gives scores that are higher by one: nothing tells its pairs apart at
    the others' threshold, so that half of them are wrong, and of all one in twenty."""

    def scores(prepared: Path, seed: int) -> tuple[pd.DataFrame, dict[str, str], dict[str, Any]]:
        fold = int(prepared.name.removeprefix("fold-"))
        ids = [f"f{fold}-{number}" for number in range(80)]
        labels = np.repeat([1, 0], 20)
        table = pd.DataFrame({"fold": 0, "label": labels, "a": ids[:40], "b": ids[40:]})
        table["similarity"] = np.where(labels == 1, 0.6, 0.2) + (fold == 0)
        table["status"] = "ok"
        people = {one: f"{fold}-{n % 40 if n % 40 < 20 else n}" for n, one in enumerate(ids)}
        return table, people, {"train_minutes": 2.0, "train_crops": 5}

    monkeypatch.setattr(training_faces, "prepare", lambda folder, params, imports: folder)
    monkeypatch.setattr(training_faces, "fold_scores", scores)
    result = training_faces.view2_full(False, 1, False)
    assert result["view2_full_accuracy_mean"] == pytest.approx(0.95)
    # Nine folds of 1 and one of 0.5: deviation 0.158, ÷ √10.
    assert result["view2_full_accuracy_se"] == pytest.approx(0.05, abs=1e-4)
    assert result["view2_full_pairs"] == 400
    assert result["view2_full_minutes"] == 20
    assert list(result["view2_full_folds"]) == [str(fold) for fold in range(FOLDS)]
