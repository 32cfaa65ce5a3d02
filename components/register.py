"""Kubeflow component of the stage register."""

from kfp import dsl

from components.images import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def register(
    tracking_uri: str,
    data_md5: str,
    git_commit: str,
    validate_params: str,
    align_params: str,
    train_params: str,
    distill_params: str,
    quantize_params: str,
    compile_params: str,
    evaluate_params: str,
    policy: str,
    train: dsl.Input[dsl.Model],
    distill: dsl.Input[dsl.Model],
    quantize: dsl.Input[dsl.Model],
    compile: dsl.Input[dsl.Model],
    evaluate: dsl.Input[dsl.Artifact],
    gate: dsl.Input[dsl.Artifact],
    output: dsl.Output[dsl.Artifact],
    card: dsl.Output[dsl.Markdown],
):
    """Register the recognizer in MLflow as challenger.

    The parameters are those that this run was given, which may be others than the defaults.
    `git_commit` is recorded where the code is no image's.
    """
    import json
    import os
    import shutil
    from pathlib import Path

    from facewright.params import Gate, from_json
    from facewright.registry.lineage import Lineage, code_commit, params_digest
    from facewright.stages import register

    os.environ["MLFLOW_TRACKING_URI"] = tracking_uri
    given = {
        "validate": validate_params,
        "align": align_params,
        "train": train_params,
        "distill": distill_params,
        "quantize": quantize_params,
        "compile": compile_params,
        "evaluate": evaluate_params,
    }
    digest = params_digest(
        params={stage: json.loads(section) for stage, section in given.items()},
        policy=json.loads(policy),
    )
    register.run(
        train=Path(train.path),
        distill=Path(distill.path),
        quantize=Path(quantize.path),
        compile=Path(compile.path),
        evaluate=Path(evaluate.path),
        gate=Path(gate.path),
        output=Path(output.path),
        policy=from_json(Gate, policy),
        lineage=Lineage(
            data_md5=data_md5, git_commit=code_commit(git_commit), params_digest=digest
        ),
    )
    shutil.copyfile(Path(output.path) / "model-card.md", card.path)
