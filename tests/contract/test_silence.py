"""No package reports to its makers: ONNX Runtime would send names and digests of models."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import facewright

ROOT = Path(__file__).parents[2]
SESSION = """
import facewright
import onnx, onnxruntime
from onnx import TensorProto, helper

given = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
made = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "g", [given], [made])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": [1.0]})
"""


def started_by(code: str, home: Path) -> None:
    """Run it as somebody whose environment says nothing."""
    told = {*facewright.SILENCED, "CI", "GITHUB_ACTIONS", "XDG_CACHE_HOME"}
    environment = {key: value for key, value in os.environ.items() if key not in told}
    subprocess.run([sys.executable, "-c", code], env={**environment, "HOME": str(home)}, check=True)


def test_onnx_runtime_keeps_nothing_to_send(tmp_path: Path) -> None:
    (tmp_path / "with").mkdir()
    started_by(SESSION, tmp_path / "with")
    assert not list((tmp_path / "with").rglob("*onnxruntime*"))


@pytest.mark.parametrize("file", ["Makefile", "components/Dockerfile"])
def test_programs_that_we_do_not_start_are_silenced_too(file: str) -> None:
    text = (ROOT / file).read_text().replace(" := ", "=")
    assert [
        name for name, value in facewright.SILENCED.items() if f"{name}={value}" not in text
    ] == []
