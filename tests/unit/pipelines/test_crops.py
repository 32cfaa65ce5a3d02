"""The parts of align by Kubeflow's own local runner: the crops are those of one run."""

import builtins
import dataclasses
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from kfp import dsl, local

from facewright.datasets.form import DatasetWriter
from facewright.params import Align, check
from facewright.stages import align
from pipelines.cluster import load
from pipelines.crops import crops_of
from tests.unit.stages.test_align import CARD, OPTIONS, noise, png

ROOT = Path(__file__).parents[3]
PARAMS = OPTIONS | {"landmarks": "source"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """`data/`, and tables as validate writes them for photos that are all accepted."""
    (tmp_path / "validate").mkdir()
    ids = [f"{'AB'[k > 1]}/{k}" for k in range(4)]
    pairs = pd.DataFrame([(0, 1, ids[2], ids[3])], columns=["fold", "label", "a", "b"])
    pairs.to_parquet(tmp_path / "validate" / "pairs.parquet", index=False)
    for half in align.HALVES:
        root = tmp_path / "data" / half / "set"
        root.mkdir(parents=True)
        with DatasetWriter(root) as writer:
            for id in ids:
                columns = {"origin": id, "aligned": True}
                data = png(noise(112) + int(id[-1]))
                writer.add(id=id, identity=id[0], data=data, suffix=".png", columns=columns)
            writer.finish(CARD | {"kind": half}, pairs=pairs if half == "verify" else None)
        table = pd.read_parquet(root / "manifest.parquet")
        table["shard"] = f"{half}/set/" + table["shard"]
        table = table.assign(dataset="set", status="ok", reason="")
        table.to_parquet(tmp_path / "validate" / f"{half}.parquet", index=False)
    return tmp_path


@pytest.fixture
def undone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What the runner does to this process: two of its threads that end together leave `print`
    indenting for ever, and the root logger as it is not otherwise."""
    monkeypatch.setattr(builtins, "print", builtins.print)
    logger = logging.getLogger()
    monkeypatch.setattr(logger, "handlers", list(logger.handlers))
    level = logger.level
    yield
    logger.setLevel(level)


def files(folder: Path) -> dict[str, bytes]:
    found = (file for file in folder.rglob("*") if file.is_file())
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in found}


def test_two_parts_and_their_join_are_one_run(
    folder: Path, monkeypatch: pytest.MonkeyPatch, undone: None
) -> None:
    usual = load()
    dealt = usual.steps["align"].model_copy(update={"parts": 2})
    cluster = dataclasses.replace(usual, steps=usual.steps | {"align": dealt})

    @dsl.pipeline
    def crops(params: str) -> dsl.Dataset:
        data = dsl.importer(artifact_uri=str(folder / "data"), artifact_class=dsl.Dataset)
        verdicts = dsl.importer(artifact_uri=str(folder / "validate"), artifact_class=dsl.Artifact)
        given: Any = {"data": data.output, "verdicts": verdicts.output}
        return crops_of(cluster, params=params, **given)

    monkeypatch.setenv("PYTHONPATH", f"{ROOT / 'src'}:{ROOT}")
    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(folder / "runs"))
    joined = Path(crops(params=json.dumps(PARAMS)).output.path)

    (run,) = (folder / "runs").iterdir()
    assert len(list(run.rglob("part.json"))) == 2
    align.run(
        data=folder / "data",
        validate=folder / "validate",
        output=folder / "one",
        params=check(Align, PARAMS, where="align"),
    )
    assert files(joined) == files(folder / "one")
