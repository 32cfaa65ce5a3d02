"""A registered version as MLflow loads it: crops in, the embeddings of what is served out."""

import json
from importlib.metadata import version
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from facewright.compression.onnx_export import export_onnx
from facewright.engines import load_recognizer
from facewright.engines.onnxruntime_backend import OnnxRuntimeRecognizer
from facewright.engines.openvino_backend import OpenVinoRecognizer
from facewright.errors import EngineError
from facewright.evaluation.record import FACTS
from facewright.models.recognizer import read_card
from facewright.models.weights import load_network
from facewright.registry.fetching import fetch_recognizer
from facewright.registry.lineage import Lineage
from facewright.registry.promotion import promote, register
from facewright.registry.pyfunc import _load_pyfunc
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


def test_an_onnx_file_is_served_by_the_runtime_that_was_measured(
    store: Path, recognizers: dict[str, Path]
) -> None:
    import mlflow

    source = recognizers["student-torch"]
    made = recognizers | {"student": store / "student"}
    export_onnx(load_network(source), made["student"], source=read_card(source))
    backends = {"onnxruntime": OnnxRuntimeRecognizer, "openvino": OpenVinoRecognizer}
    for model, runtime, facts in (
        ("new", "openvino", {"runtime": "openvino"}),
        ("plain", "onnxruntime", {"runtime": "onnxruntime"}),
        ("old", "onnxruntime", {}),  # evaluated before it was said
    ):
        files = evaluation_files(store / "evaluation")
        (store / "evaluation" / FACTS).write_text(json.dumps(facts))
        register(
            model=model,
            folders=made,
            metrics={},
            evaluation_files=files,
            decision=decided("promote", "student", None, folders=made, files=files),
            lineage=Lineage("m5", "c0ffee", "p"),
        )
        folder = Path(mlflow.artifacts.download_artifacts(f"models:/{model}/1"))
        loaded = mlflow.pyfunc.load_model(str(folder))
        assert type(loaded._model_impl.recognizer) is backends[runtime]
        requirements = (folder / "requirements.txt").read_text().splitlines()
        there = {name for name in backends if f"{name}=={version(name)}" in requirements}
        assert there == {runtime}
        # As a version that was registered before its MLmodel named a runtime.
        assert type(_load_pyfunc(str(folder)).recognizer) is OnnxRuntimeRecognizer
