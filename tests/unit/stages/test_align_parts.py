"""align, dealt out: the join of any number of parts is one run, to the byte."""

import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from facewright.datasets import form
from facewright.datasets.form import DatasetWriter, find_datasets, open_dataset
from facewright.datasets.validation.tables import merged_manifests
from facewright.errors import DatasetError
from facewright.params import Align, check
from facewright.stages import align, align_parts, cropping

from .test_align import CARD, MOVED, OPTIONS, noise, png

PARAMS = check(Align, OPTIONS | {"landmarks": "source"}, where="align")
OUTSIDE = [900.0, 10.0] * 5
STATED = MOVED.ravel().tolist()
# Two sets of training, whose sources state different columns, some of them here and there.
CROPS = [
    (f"{'AB'[k > 3]}/{k}", noise(112) + k, {"aligned": True, "year": 1990 + k} if k % 3 else {})
    for k in range(9)
]
PHOTOS: list[tuple[str, Any, dict[str, Any]]] = [
    ("C/0", noise(400), {"landmarks": OUTSIDE, "taken": datetime(2020, 5, 17, 12, 30)}),
    ("C/1", noise(400), {"landmarks": STATED, "marks": np.array([0.1, 0.2], np.float32)}),
    ("C/2", noise(400), {"landmarks": STATED, "person": "Somebody"}),
    ("D/0.x", noise(416), {"landmarks": STATED, "site": "a"}),
    ("D/é" + "x" * 120, noise(416), {"landmarks": OUTSIDE}),
]
VERIFY = [(f"{'VW'[k > 2]}/{k}", noise(112) - k, {"aligned": True}) for k in range(6)]
PAIRS = pd.DataFrame(
    [(0, 1, "w", "x"), (1, 0, "v", "w"), (1, 0, "v", "x")], columns=["fold", "label", "a", "b"]
)
TEMPLATES = pd.DataFrame(
    [("V/0", "v", "m"), ("V/1", "v", "n"), ("W/3", "w", "m"), ("W/5", "x", "m")],
    columns=["id", "template", "media"],
)
REJECTED = {"A/0", "A/1", "B/5", "D/é" + "x" * 120, "W/4"}


class Here:
    """In place of processes."""

    def submit(self, function: Callable[[Any], Any], task: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(function(task))
        return future


@contextmanager
def in_this_process(
    task: str, *, start: Callable[..., object], arguments: tuple[Any, ...]
) -> Iterator[Here]:
    start(*arguments)
    yield Here()


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """No processes; shards of a few crops, and row groups of a few rows."""
    monkeypatch.setattr(cropping, "worker_pool", in_this_process)
    monkeypatch.setitem(DatasetWriter.__init__.__kwdefaults__, "shard_bytes", 70_000)
    monkeypatch.setattr(form, "ROWS", 4)
    monkeypatch.setattr(align_parts, "ROWS", 2)
    monkeypatch.setattr(cropping, "PHOTOS", 3)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`data/` and tables as validate writes them, of templates."""
    root = tmp_path_factory.mktemp("parts")
    (root / "validate").mkdir()
    for name, kind, images in (
        ("train/crops", "identities", CROPS),
        ("train/photos", "identities", PHOTOS),
        ("verify/set", "verification", VERIFY),
    ):
        folder = root / "data" / name
        folder.mkdir(parents=True)
        tables = {"pairs": PAIRS, "templates": TEMPLATES} if name.startswith("v") else {}
        with DatasetWriter(folder) as writer:
            for id, image, columns in images:
                more = {"origin": f"{id}.png"} | columns
                writer.add(id=id, identity=id[0], data=png(image), suffix=".png", columns=more)
            writer.finish(CARD | {"kind": kind, "name": name}, **tables)
    judge(root)
    PAIRS.to_parquet(root / "validate" / "pairs.parquet", index=False)
    TEMPLATES.to_parquet(root / "validate" / "templates.parquet", index=False)
    return root


def judge(root: Path) -> None:
    data = root / "data"
    for half in align.HALVES:
        table = merged_manifests(find_datasets(data / half), data=data)
        rejected = table["id"].isin(REJECTED)
        table = table.assign(status=rejected.map({True: "rejected", False: "ok"}), sharpness=9)
        table["reason"] = rejected.map({True: "blurred", False: ""})
        file = root / "validate" / f"{half}.parquet"
        table.to_parquet(file, index=False, row_group_size=5)


def run(root: Path, output: Path) -> Path:
    align.run(data=root / "data", validate=root / "validate", output=output, params=PARAMS)
    return output


def deal(root: Path, folder: Path, parts: int) -> list[Path]:
    """All parts, below `folder`."""
    folder.mkdir()
    for part in range(parts):
        align_parts.run_part(
            data=root / "data",
            validate=root / "validate",
            output=folder / str(part),
            params=PARAMS,
            part=part,
            parts=parts,
        )
    return [folder / str(part) for part in range(parts)]


def join(root: Path, parts: list[Path], output: Path) -> Path:
    align_parts.join(parts=parts, validate=root / "validate", output=output)
    return output


def files(folder: Path) -> dict[str, bytes]:
    found = (file for file in folder.rglob("*") if file.is_file())
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in found}


@pytest.mark.parametrize("parts", [1, 2, 4, 8, 33])
def test_joined_parts_are_one_run_to_the_byte(project: Path, tmp_path: Path, parts: int) -> None:
    one = files(run(project, tmp_path / "one"))
    dealt = deal(project, tmp_path / "parts", parts)
    assert files(join(project, dealt[::-1], tmp_path / "joined")) == one
    # The set is such that it can fail: shards, row groups, verdicts and tables of all kinds.
    tables = {"verify/pairs.parquet", "verify/templates.parquet"}
    assert {"train/shards/00002.tar", "metrics.json"} | tables <= set(one)
    table = open_dataset(tmp_path / "joined" / "train").manifest.set_index("id")
    assert table["status"].value_counts().to_dict() == {"ok": 7, "rejected": 4, "no_face": 3}
    assert table.loc["C/1", "marks"].tolist() == np.float32([0.1, 0.2]).tolist()
    assert table.loc["A/2", "year"] == 1992
    if parts > len(CROPS + PHOTOS):
        assert sum((part / "verify").exists() for part in dealt) == 5  # a rejected one is no work


def test_pairs_of_images(project: Path, tmp_path: Path) -> None:
    root = tmp_path / "project"
    shutil.copytree(project, root)
    (root / "validate" / "templates.parquet").unlink()
    pairs = PAIRS.assign(a=["V/0", "V/1", "V/2"], b=["V/1", "W/4", "W/5"])
    pairs.to_parquet(root / "validate" / "pairs.parquet", index=False)
    file = root / "validate" / "verify.parquet"
    pd.read_parquet(file).assign(status="ok", reason="").to_parquet(file, index=False)
    one = files(run(root, tmp_path / "one"))
    assert files(join(root, deal(root, tmp_path / "parts", 3), tmp_path / "joined")) == one


def test_shares_are_even_and_follow_one_another(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    lengths = random.integers(1, 1000, 500)
    status = np.where(random.random(500) < 0.3, "rejected", "ok")
    file = tmp_path / "table.parquet"
    pd.DataFrame({"length": lengths, "status": status}).to_parquet(file)
    work = np.where(status == "ok", lengths, 0)
    for parts in (1, 2, 7, 100, 900):
        shares = [align_parts.share(file, part=part, parts=parts) for part in range(parts)]
        assert [row for share in shares for row in share] == list(range(500))
        done = [work[share.start : share.stop].sum() for share in shares]
        assert max(done) <= work.sum() / parts + work.max()
        assert min(done) >= work.sum() / parts - work.max()


def test_photos_that_are_all_rejected_are_refused_as_by_one_run(
    project: Path, tmp_path: Path
) -> None:
    root = tmp_path / "project"
    shutil.copytree(project, root)
    file = root / "validate" / "train.parquet"
    pd.read_parquet(file).assign(status="rejected").to_parquet(file, index=False)
    with pytest.raises(DatasetError, match="no face was found in any accepted photo"):
        run(root, tmp_path / "one")
    with pytest.raises(DatasetError, match="no face was found in any accepted photo of data/train"):
        join(root, deal(root, tmp_path / "parts", 2), tmp_path / "joined")
    assert not (tmp_path / "joined").exists()


def test_parts_that_do_not_belong_together_are_refused(project: Path, tmp_path: Path) -> None:
    first, second = deal(project, tmp_path / "parts", 2)
    for wrong in ([first], [first, first], [first, second, second]):
        with pytest.raises(DatasetError, match="give every part once"):
            join(project, wrong, tmp_path / "joined")
    root = tmp_path / "project"
    shutil.copytree(project, root)
    file = root / "validate" / "verify.parquet"
    pd.read_parquet(file).iloc[1:].to_parquet(file, index=False)
    with pytest.raises(DatasetError, match="parts of verify are not those of the 5 photos"):
        join(root, [first, second], tmp_path / "joined")
    assert not (tmp_path / "joined").exists()


def test_a_crop_that_was_damaged_on_the_way_is_named(project: Path, tmp_path: Path) -> None:
    parts = deal(project, tmp_path / "parts", 2)
    shard = parts[1] / "train" / "shards" / "00000.tar"
    with shard.open("r+b") as file:
        file.seek(600)
        file.write(b"damage")
    with pytest.raises(DatasetError, match=r"00000\.tar: '.*' is not the image"):
        join(project, parts, tmp_path / "joined")
    assert not (tmp_path / "joined").exists()
