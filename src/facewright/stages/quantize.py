"""quantize: the student as FP32 ONNX and as INT8 ONNX, calibrated and compared on real crops."""

from pathlib import Path

import numpy as np

from facewright.compression.onnx_export import export_onnx
from facewright.compression.quantization import parity, quantize_onnx
from facewright.datasets.crops import Crops
from facewright.engines import load_recognizer
from facewright.files import whole_directory, write_json
from facewright.models.recognizer import read_card
from facewright.models.weights import load_network
from facewright.params import Quantize

BATCH = 32  # crops per calibration batch


def run(*, align: Path, distill: Path, output: Path, params: Quantize) -> None:
    """Write `student/` and `student-int8/` (ONNX recognizers) and `metrics.json` (parity).

    Calibration and comparison use different training crops, so that the comparison is fair.
    """
    crops = Crops(align / "train")
    # A fixed permutation spreads both draws over the identities, which lie one after another.
    order = np.random.default_rng(0).permutation(len(crops))
    chosen = order[: params.calibration_crops]
    others = order[params.calibration_crops :][: params.parity_crops]
    if not len(others):
        others = chosen  # a set this small has no crops to spare
    with whole_directory(output) as folder:
        student = folder / "student"
        int8 = folder / "student-int8"
        source = read_card(distill / "student")
        export_onnx(load_network(distill / "student"), student, source=source)
        batches = (crops.batch(chosen[i : i + BATCH]) for i in range(0, len(chosen), BATCH))
        quantize_onnx(student, int8, calibration=batches, method=params.method)
        real = crops.batch(others)
        torch_student = load_recognizer(distill / "student")
        metrics = {"parity_crops": float(len(others))}
        for name in ("student", "student-int8"):
            recognizer = load_recognizer(folder / name)
            for key, value in parity(torch_student, recognizer, real).items():
                metrics[f"{name}.{key}"] = value
            metrics[f"{name}.megabytes"] = recognizer.model_bytes / 1e6
        write_json(folder / "metrics.json", metrics)
