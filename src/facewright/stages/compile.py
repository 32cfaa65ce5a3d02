"""compile: TensorRT engines of both ONNX recognizers, for each target."""

from pathlib import Path

from facewright.engines.compile import build_engines
from facewright.files import whole_directory, write_json
from facewright.params import Compile


def run(*, quantize: Path, output: Path, params: Compile) -> None:
    """Write an engine recognizer per ONNX file and target, and `metrics.json`."""
    with whole_directory(output) as folder:
        metrics: dict[str, float] = {"engines": 0}
        for name in ("student", "student-int8"):
            for card in build_engines(quantize / name, folder, **params.model_dump()):
                metrics["engines"] += 1
                size = (folder / card.name / "model.engine").stat().st_size
                metrics[f"{card.name}.megabytes"] = size / 1e6
        write_json(folder / "metrics.json", metrics)
