"""The graph of dvc.yaml as a Kubeflow pipeline. A contract test proves the two the same."""

from typing import Any

from kfp import dsl

from components.compile import compile
from components.distill import distill
from components.evaluate import evaluate
from components.fetch import fetch
from components.gate import gate
from components.pin import pin
from components.promote import promote
from components.quantize import quantize
from components.register import register
from components.tell import tell
from components.train import train
from components.train_job import train_job
from components.validate import validate
from pipelines.cluster import Cluster, place
from pipelines.crops import crops_of

WAIT_MINUTES = 60.0  # in which all nodes of a TrainJob have to run


def pipeline(cluster: Cluster, *, start_moves: bool = False) -> Any:
    """The pipeline, a `kfp` graph component, with what its steps get in `cluster`.

    Outputs are reused (cached) where they are a function of the step's image, parameters and
    inputs. `pin` looks at a branch, `gate` and what follows ask MLflow, and with `start_moves` so
    does the training, for the version that an alias names: no cache key knows that.
    """

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

        `revision` is a commit or a branch; `data_md5` what data.dvc must say there, or empty.
        `tracking_uri` is the MLflow server that the components reach; `git_commit` is recorded
        with the registered version where no image says which commit it was built of.
        """
        told = tell(
            tracking_uri=tracking_uri, run_id=dsl.PIPELINE_JOB_ID_PLACEHOLDER, data_rev=revision
        )
        with dsl.ExitHandler(place(told, cluster, asks_mlflow=True), name="facewright"):
            pinned = pin(repository=repository, revision=revision, data_md5=data_md5)
            place(pinned, cluster).set_caching_options(False)
            md5 = pinned.output

            fetched = fetch(repository=repository, revision=revision, data_md5=md5)
            data = place(fetched, cluster).outputs["data"]

            validated = validate(params=validate_params, data=data)
            verdicts = place(validated, cluster).outputs["output"]

            crops = crops_of(cluster, params=align_params, data=data, verdicts=verdicts)

            if cluster.nodes is None:
                trained = train(params=train_params, tracking_uri=tracking_uri, align=crops)
            else:
                trained = train_job(
                    params=train_params,
                    tracking_uri=tracking_uri,
                    nodes=cluster.nodes,
                    wait_minutes=WAIT_MINUTES,
                    image=cluster.gpu_image,
                    align=crops,
                )
            teacher = place(trained, cluster, asks_mlflow=start_moves).outputs["output"]

            distilled = distill(
                params=distill_params, tracking_uri=tracking_uri, align=crops, train=teacher
            )
            student = place(distilled, cluster).outputs["output"]

            quantized = quantize(params=quantize_params, align=crops, distill=student)
            onnx = place(quantized, cluster).outputs["output"]

            compiled = compile(params=compile_params, quantize=onnx)
            engines = place(compiled, cluster).outputs["output"]

            evaluated = evaluate(
                params=evaluate_params, align=crops, train=teacher, quantize=onnx, compile=engines
            )
            results = place(evaluated, cluster).outputs["output"]

            decided = gate(params=gate_params, tracking_uri=tracking_uri, evaluate=results)
            place(decided, cluster, asks_mlflow=True)

            registered = register(
                tracking_uri=tracking_uri,
                data_md5=md5,
                git_commit=git_commit,
                # One by one: backends do not replace a parameter inside other text.
                validate_params=validate_params,
                align_params=align_params,
                train_params=train_params,
                distill_params=distill_params,
                quantize_params=quantize_params,
                compile_params=compile_params,
                evaluate_params=evaluate_params,
                policy=gate_params,
                train=teacher,
                distill=student,
                quantize=onnx,
                compile=engines,
                evaluate=results,
                gate=decided.outputs["output"],
            )
            place(registered, cluster, asks_mlflow=True)

            with dsl.If(decided.outputs["Output"] == "promote", name="the gate says promote"):
                promoted = promote(
                    tracking_uri=tracking_uri,
                    policy=gate_params,
                    gate=decided.outputs["output"],
                    register=registered.outputs["output"],
                )
                place(promoted, cluster, asks_mlflow=True)

    return facewright
