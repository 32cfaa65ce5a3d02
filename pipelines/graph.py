"""The graph of dvc.yaml as a Kubeflow pipeline. A contract test proves the two the same."""

from kfp import dsl

from components.align import align
from components.compile import compile
from components.distill import distill
from components.evaluate import evaluate
from components.fetch import fetch
from components.gate import gate
from components.promote import promote
from components.quantize import quantize
from components.register import register
from components.train import train
from components.validate import validate


@dsl.pipeline(name="facewright", description="From raw photographs to a registered recognizer")
def facewright(
    repository: str,
    revision: str,
    data_md5: str,
    git_commit: str,
    tracking_uri: str,
    validate_params: str,
    align_params: str,
    train_params: str,
    distill_params: str,
    quantize_params: str,
    compile_params: str,
    evaluate_params: str,
    gate_params: str,
):
    """Parameters are the sections of params.yaml and the promotion policy, as JSON strings.

    `tracking_uri` is the MLflow server that the components reach; `git_commit` and `data_md5` are
    recorded with the registered version.
    """
    fetched = fetch(repository=repository, revision=revision, data_md5=data_md5)
    data = fetched.set_retry(num_retries=3, backoff_duration="30s").outputs["data"]

    validated = validate(params=validate_params, data=data)
    validated.set_cpu_request("2").set_memory_request("4Gi")

    aligned = align(params=align_params, data=data, validate=validated.outputs["output"])
    aligned.set_cpu_request("2").set_memory_request("4Gi")
    crops = aligned.outputs["output"]

    # Training is long: a lost node must not lose the pipeline.
    trained = train(params=train_params, tracking_uri=tracking_uri, align=crops)
    trained.set_cpu_request("2").set_memory_request("8Gi").set_retry(num_retries=2)
    teacher = trained.outputs["output"]

    distilled = distill(
        params=distill_params, tracking_uri=tracking_uri, align=crops, train=teacher
    )
    distilled.set_cpu_request("2").set_memory_request("8Gi").set_retry(num_retries=2)
    student = distilled.outputs["output"]

    quantized = quantize(params=quantize_params, align=crops, distill=student)
    onnx = quantized.set_cpu_request("2").set_memory_request("4Gi").outputs["output"]

    compiled = compile(params=compile_params, quantize=onnx)
    engines = compiled.set_memory_request("4Gi").outputs["output"]

    evaluated = evaluate(
        params=evaluate_params, align=crops, train=teacher, quantize=onnx, compile=engines
    )
    results = evaluated.set_cpu_request("2").set_memory_request("4Gi").outputs["output"]

    # The gate and what follows ask MLflow, whose state no cache key knows.
    decided = gate(params=gate_params, tracking_uri=tracking_uri, evaluate=results)
    decided.set_caching_options(False).set_retry(num_retries=3, backoff_duration="30s")

    # Those that this run was given, which may be others than the defaults it was compiled with.
    given = (
        f'{{"validate": {validate_params}, "align": {align_params}, "train": {train_params}, '
        f'"distill": {distill_params}, "quantize": {quantize_params}, '
        f'"compile": {compile_params}, "evaluate": {evaluate_params}}}'
    )
    registered = register(
        tracking_uri=tracking_uri,
        data_md5=data_md5,
        git_commit=git_commit,
        params=given,
        policy=gate_params,
        train=teacher,
        distill=student,
        quantize=onnx,
        compile=engines,
        evaluate=results,
        gate=decided.outputs["output"],
    )
    registered.set_caching_options(False).set_retry(num_retries=3, backoff_duration="30s")

    with dsl.If(decided.outputs["Output"] == "promote", name="the gate says promote"):
        promoted = promote(
            tracking_uri=tracking_uri,
            gate=decided.outputs["output"],
            register=registered.outputs["output"],
        )
        promoted.set_caching_options(False).set_retry(num_retries=3, backoff_duration="30s")
