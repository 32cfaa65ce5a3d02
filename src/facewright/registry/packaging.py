"""What makes a version's folder one that `mlflow.pyfunc.load_model` can load."""

import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from facewright.files import write_yaml
from facewright.models.recognizer import RecognizerCard

LOADER = "facewright.registry.pyfunc"
# What loading and running needs; `facewright` itself is on no package index.
PACKAGES = {
    "torch": ("mlflow", "numpy", "pyyaml", "safetensors", "torch"),
    "onnx": ("mlflow", "numpy", "pyyaml", "safetensors", "torch"),  # and what runs ONNX files
    "engine": ("mlflow", "numpy", "pyyaml", "safetensors", "torch"),
}


def write_model(
    folder: Path, served: RecognizerCard, *, flip: bool, runtime: str, commit: str
) -> None:
    """Write `MLmodel` and `requirements.txt` into an empty folder; the same ones every time.

    The signature has an output, `(N, E) float32`, and the parameter `flip`, but no input: with one
    MLflow would refuse a list of crops, and print whole pictures into its errors. `pyfunc` checks
    what it is given.

    Args:
        served: the recognizer that `predict` runs.
        flip: whether it was evaluated on crops and their mirror images; `predict` does the same.
        runtime: what ran the ONNX recognizers when they were evaluated, and runs this one.
        commit: of facewright, for whoever installs it.
    """
    import numpy as np
    from mlflow.models import Model, ModelSignature
    from mlflow.types.schema import ParamSchema, ParamSpec, Schema, TensorSpec

    embeddings = TensorSpec(np.dtype(np.float32), (-1, served.embedding_size))
    side = served.input_size
    model = Model(
        signature=ModelSignature(
            outputs=Schema([embeddings]),
            params=ParamSchema([ParamSpec("flip", "boolean", flip)]),
        ),
        metadata={
            "input": f"aligned crops, list or array of ({side}, {side}, 3) uint8 RGB",
            "output": f"(N, {served.embedding_size}) float32, unit length",
            "recognizer": served.name,
        },
    )
    python = ".".join(map(str, sys.version_info[:3]))
    onnx = served.format == "onnx"
    # MLflow hands `config` to the loader, whoever loads it.
    config = {"config": {"runtime": runtime}} if onnx else {}
    model.add_flavor("python_function", loader_module=LOADER, python_version=python, **config)
    values = model.to_dict()
    del values["utc_time_created"], values["model_uuid"]  # MLflow's version has a time and a name
    write_yaml(folder / "MLmodel", values)
    lines = [f"# and facewright from its repository, commit {commit}"]
    needed = sorted((*PACKAGES[served.format], *([runtime] if onnx else [])))
    lines += [f"{name}=={found}" for name in needed if (found := _version(name))]
    (folder / "requirements.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _version(package: str) -> str | None:
    try:
        return version(package).partition("+")[0]
    except PackageNotFoundError:
        return None
