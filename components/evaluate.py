"""Kubeflow component of the stage evaluate."""

from kfp import dsl

from components.images import TENSORRT_IMAGE


@dsl.component(base_image=TENSORRT_IMAGE, install_kfp_package=False)
def evaluate(
    params: str,
    align: dsl.Input[dsl.Dataset],
    train: dsl.Input[dsl.Model],
    quantize: dsl.Input[dsl.Model],
    compile: dsl.Input[dsl.Model],
    output: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
    report: dsl.Output[dsl.HTML],
    roc_teacher: dsl.Output[dsl.ClassificationMetrics],
    roc_student: dsl.Output[dsl.ClassificationMetrics],
    roc_student_int8: dsl.Output[dsl.ClassificationMetrics],
):
    """The same pairs through every recognizer."""
    import shutil
    from pathlib import Path

    from facewright.params import Evaluate, from_json
    from facewright.stages import evaluate
    from facewright.stages.metrics import read_metrics
    from facewright.stages.shown import CATEGORIES, confusion, roc_points

    evaluate.run(
        align=Path(align.path),
        train=Path(train.path),
        quantize=Path(quantize.path),
        compile=Path(compile.path),
        output=Path(output.path),
        params=from_json(Evaluate, params),
    )
    results = Path(output.path)
    metrics.metadata.update(read_metrics(results))
    shutil.copyfile(results / "report.html", report.path)
    for name, shown in (
        ("teacher", roc_teacher),
        ("student", roc_student),
        ("student-int8", roc_student_int8),
    ):
        shown.log_roc_curve(**roc_points(results, name))
        shown.log_confusion_matrix(CATEGORIES, confusion(results, name))
