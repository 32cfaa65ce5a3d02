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

from benchmarks import (
    backbones,
    training,
    training_ablations,
    training_crops,
    training_faces,
    training_speed,
    training_worker,
)

ROOT = Path(__file__).parents[3]


def last_line(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return values


def calls(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmark", *arguments])


def is_spread(figures: dict[str, float]) -> bool:
    return 0 < figures["low"] <= figures["median"] <= figures["high"]


def test_backbones_are_timed_in_use_and_in_training(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(backbones, "BATCH", 2)
    calls(monkeypatch, "--networks", "resnet_tiny", "--repeats", "2", "--training")
    backbones.main()
    row = last_line(capsys)["networks"]["resnet_tiny"]
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
    result = last_line(capsys)
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
    assert result["gpu_million_all_images_per_s"] > 0
    assert result["gpu_million_sampled_images_per_s"] > 0


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
    assert training_speed.gloo2(True, 1)["gloo2_ratio"] > 0
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
    monkeypatch.setattr(training_ablations, "FOLDER", tmp_path / "ablations")
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


def test_the_guide_lists_what_was_not_run() -> None:
    guide = (ROOT / "docs" / "guides" / "training.md").read_text(encoding="utf-8")
    told = guide.partition("and not run so far: ")[2].partition(". Ten minutes")[0]
    result = json.loads((ROOT / "docs" / "results" / "2026-11-training-ablations.json").read_text())
    run = set(result["result"]["ablations"])
    assert set(re.findall("`([^`]+)`", told)) == set(training_ablations.VARIATIONS) - run


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
