"""align: stated landmarks, aligned crops and the columns of the source."""

import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest

from facewright.alignment import ARCFACE_TEMPLATE
from facewright.datasets.crops import Crops
from facewright.datasets.form import DatasetWriter, open_dataset
from facewright.datasets.sample import render_photo
from facewright.errors import DatasetError
from facewright.params import Align, check
from facewright.stages import align, photo

OPTIONS = {"detector": "mtcnn", "model": None, "min_face": 0.2, "threshold": 0.7}
CARD = dict.fromkeys(("name", "source", "source_digest", "licence", "consent"), "x")


def png(image: Any) -> bytes:
    return cv2.imencode(".png", np.asarray(image)[..., ::-1])[1].tobytes()


def noise(side: int) -> Any:
    """Colours that change slowly, so that a fraction of a pixel changes little."""
    coarse = np.random.default_rng(3).integers(0, 256, (side // 16, side // 16, 3), dtype=np.uint8)
    return cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)


# A grid that shows the crop's place: the template at twice its size, moved by (40, 20).
MOVED = (ARCFACE_TEMPLATE + 0.5) * 2 - 0.5 + [40, 20]
PHOTOS: dict[str, tuple[bytes, dict[str, Any]]] = {
    "A/crop": (png(noise(112)), {"aligned": True}),
    "A/stated": (png(noise(400)), {"landmarks": MOVED.ravel().tolist()}),
    "A/outside": (png(noise(400)), {"landmarks": [900.0, 10.0] * 5}),
    "A/one_place": (png(noise(400)), {"landmarks": [100.0, 100.0] * 5}),
    "B/face": (png(render_photo(7, 0)), {"person": "Somebody"}),
    "B/blank": (png(noise(112)), {}),
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`data/` and validate's tables, as validate writes them for photos that are all accepted."""
    root = tmp_path_factory.mktemp("align")
    (root / "validate").mkdir()
    pairs = pd.DataFrame([(0, 1, "B/face", "B/blank")], columns=["fold", "label", "a", "b"])
    for half, kind in (("train", "identities"), ("verify", "verification")):
        folder = root / "data" / half / "set"
        folder.mkdir(parents=True)
        with DatasetWriter(folder) as writer:
            for id, (data, columns) in PHOTOS.items():
                more = {"origin": id} | columns
                writer.add(id=id, identity=id[0], data=data, suffix=".png", columns=more)
            writer.finish(CARD | {"kind": kind}, pairs=pairs if half == "verify" else None)
        table = pd.read_parquet(folder / "manifest.parquet")
        table["shard"] = f"{half}/set/" + table["shard"]
        table = table.assign(dataset="set", status="ok", reason="", width=1, height=1, sharpness=9)
        table.to_parquet(root / "validate" / f"{half}.parquet")
    pairs.to_parquet(root / "validate" / "pairs.parquet")
    return root


def run(project: Path, **options: Any) -> pd.DataFrame:
    align.run(
        data=project / "data",
        validate=project / "validate",
        output=project / "align",
        params=check(Align, OPTIONS | options, where="align"),
    )
    return open_dataset(project / "align" / "train").manifest.set_index("id")


def test_stated_landmarks_replace_detection_and_columns_stay(project: Path) -> None:
    table = run(project, landmarks="source")
    assert table.loc[table["status"] == "ok"].index.tolist() == ["A/crop", "A/stated", "B/face"]
    assert "outside the photo" in table.loc["A/outside", "reason"]
    assert "in one place" in table.loc["A/one_place", "reason"]
    assert table.loc["B/blank", "reason"] == "no face was found"
    np.testing.assert_allclose(table.loc["A/stated", "landmarks"], MOVED.ravel())
    assert table["score"].notna().tolist() == [False, False, False, False, True, False]
    crops = Crops(project / "align" / "train").batch([0, 1])
    assert (crops[0] == noise(112)).all()
    expected = cv2.resize(noise(400)[20:244, 40:264], (112, 112), interpolation=cv2.INTER_AREA)
    assert np.abs(crops[1].astype(int) - expected).mean() < 2

    # Columns of the source stay, measures go.
    assert table.loc["B/face", "person"] == "Somebody"
    assert "sharpness" not in table
    assert table.loc["A/crop", "photo_sha256"] != table.loc["A/crop", "sha256"]


def test_an_unreadable_photo_is_named(project: Path) -> None:
    """One that validate accepted, and that changed since."""
    rows = pd.read_parquet(project / "validate" / "train.parquet").to_dict("records")
    row = {str(name): value for name, value in rows[0].items()} | {"length": 20}
    with pytest.raises(DatasetError, match=r"^set, 'A/crop': "):
        photo.align_photos((project / "data", [row]))


def test_columns_of_a_source_never_stand_for_those_of_align(project: Path, tmp_path: Path) -> None:
    """Here a manifest that another program wrote states a score, a box and a sharpness."""
    shutil.copytree(project, tmp_path / "project")
    for half in ("train", "verify"):
        path = tmp_path / "project" / "data" / half / "set" / "manifest.parquet"
        stated = pd.read_parquet(path).assign(score=2.0, box="x", sharpness=-1.0, photo_sha256="x")
        stated.to_parquet(path, index=False)
        path = tmp_path / "project" / "validate" / f"{half}.parquet"
        judged = pd.read_parquet(path).assign(score=2.0, box="x", photo_sha256="x", merged_from="m")
        judged.to_parquet(path)
    table = run(tmp_path / "project", landmarks="source")
    assert table["score"].dropna().between(0, 1).all()
    assert "sharpness" not in table
    assert table["photo_sha256"].str.len().eq(64).all()
    assert not table["box"].map(lambda box: isinstance(box, str)).any()


def test_detect_believes_nobody(project: Path) -> None:
    table = run(project, landmarks="detect")
    assert table.loc[table["status"] == "ok"].index.tolist() == ["B/face"]
