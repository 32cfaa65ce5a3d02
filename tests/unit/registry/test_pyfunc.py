"""A registered version as MLflow loads it: crops in, the embeddings of what is served out."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from facewright.engines import load_recognizer
from facewright.errors import EngineError
from facewright.registry.fetching import fetch_recognizer
from facewright.registry.lineage import Lineage
from facewright.registry.promotion import promote, register
from tests.unit.registry.decisions import decided, evaluation_files
from tests.unit.registry.recognizers import EMBEDDING, write_networks


@pytest.fixture
def recognizers(tmp_path: Path) -> dict[str, Path]:
    """Two networks that differ in their weights."""
    return write_networks(tmp_path / "made")


def test_a_version_loads_by_alias_and_embeds_as_its_served_recognizer(
    store: Path, recognizers: dict[str, Path]
) -> None:
    import mlflow

    files = evaluation_files(store / "evaluation")
    register(
        model="facewright",
        folders=recognizers,
        metrics={},
        evaluation_files=files,
        decision=decided("promote", "student-torch", None, folders=recognizers, files=files),
        lineage=Lineage("m5", "c0ffee", "p"),
        flip=True,
    )
    promote("facewright")
    loaded = mlflow.pyfunc.load_model("models:/facewright@champion")
    draw = np.random.default_rng(0)
    crops: npt.NDArray[np.uint8] = draw.integers(0, 256, (3, 112, 112, 3)).astype(np.uint8)

    served = load_recognizer(recognizers["student-torch"])
    expected = served.embed(crops, flip=True)
    found = loaded.predict(crops)
    assert found.dtype == np.float32
    assert found.shape == (3, EMBEDDING)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-6)
    np.testing.assert_array_equal(loaded.predict(list(crops)), expected)
    np.testing.assert_array_equal(loaded.predict(crops.astype(int).tolist()), expected)
    plain = loaded.predict(crops, params={"flip": False})
    np.testing.assert_array_equal(plain, served.embed(crops))
    assert not np.allclose(plain, expected, atol=1e-4)
    assert loaded.predict([]).shape == (0, EMBEDDING)
    assert loaded.metadata.signature.outputs.inputs[0].shape == (-1, EMBEDDING)

    for wrong, line in (
        (crops[0], r"shape \(112, 112, 3\): give aligned crops \(N, 112, 112, 3\)"),
        (crops[:, :100], r"shape \(3, 100, 112, 3\)"),
        ([crops[0], crops[1, :100]], "differ in shape"),
        (crops / 255.0, "float64: give uint8"),
        (crops.astype(int) - 1, "int64: give uint8"),
        ("photo.jpg", "shape"),
    ):
        with pytest.raises(EngineError, match=line):
            loaded.predict(wrong)
    # What a training starts from is where it was.
    got = fetch_recognizer("models:/facewright@champion", store / "base", name="teacher")
    np.testing.assert_array_equal(
        load_recognizer(got).embed(crops), load_recognizer(recognizers["teacher"]).embed(crops)
    )
