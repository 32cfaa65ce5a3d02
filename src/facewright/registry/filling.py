"""Filling the run of a version: its files, the list of them, its figures."""

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facewright.evaluation.record import FACTS
from facewright.files import storage_errors, write_json
from facewright.models.recognizer import RecognizerCard
from facewright.registry.packaging import write_model
from facewright.registry.server import (
    EVALUATION,
    MODEL,
    RECOGNIZERS,
    experiment,
    open_run,
    points,
    send_points,
)
from facewright.registry.versions import (
    DIGEST,
    FILES_DIGEST,
    lasting,
)
from facewright.registry.vouching import FILES, write_list


@dataclass(frozen=True)
class Contents:
    """What a version is to hold."""

    recognizers: Mapping[str, Path]  # folders by name
    evaluation: Sequence[Path]  # files
    loadable: Path  # folder of what else lies in `model/`
    metrics: Mapping[str, float]
    tags: Mapping[str, str]


@contextmanager
def gathered(
    *,
    recognizers: Mapping[str, Path],
    evaluation: Sequence[Path],
    metrics: Mapping[str, float],
    tags: Mapping[str, str],
    served: RecognizerCard,
    flip: bool,
    commit: str,
) -> Iterator[Contents]:
    """All that a version is to hold, with the digest of the list of its files among its tags.

    Of the same inputs the files are the same to the byte, so that a registration that was killed
    is known again by that digest.
    """
    with tempfile.TemporaryDirectory() as scratch:
        loadable = Path(scratch)
        runtime = _runtime(evaluation)
        write_model(loadable, served, flip=flip, runtime=runtime, commit=commit)
        write_json(loadable / "version.json", lasting(tags))
        files = {f"{MODEL}/{file.name}": file for file in loadable.iterdir()}
        files |= {f"{EVALUATION}/{file.name}": file for file in evaluation}
        for name, folder in recognizers.items():
            for file in folder.rglob("*"):
                if file.is_file():
                    files[f"{RECOGNIZERS}/{name}/{file.relative_to(folder).as_posix()}"] = file
        digest = write_list(loadable / FILES, files)
        yield Contents(recognizers, evaluation, loadable, metrics, {**tags, FILES_DIGEST: digest})


def _runtime(evaluation: Sequence[Path]) -> str:
    """What ran the ONNX recognizers when they were evaluated, for which figures and thresholds
    hold; ONNX Runtime where the evaluation is too old to say."""
    for file in evaluation:
        if file.name == FACTS:
            facts = json.loads(file.read_text(encoding="utf-8"))
            return str(facts.get("runtime", "onnxruntime"))
    return "onnxruntime"


def filled_run(client: Any, contents: Contents) -> str:
    """The id of a finished run that holds everything; one that was left unfinished is completed.

    One of the same content from another evaluation or commit stays as it is: its files are others.
    """
    wanted = f"tags.`{DIGEST}` = '{contents.tags[DIGEST]}'"
    runs = client.search_runs([experiment(client)], wanted)
    runs = [run for run in runs if lasting(run.data.tags) == lasting(contents.tags)]
    finished = [run for run in runs if run.info.status == "FINISHED"]
    if finished:
        return str(finished[0].info.run_id)
    run_id = (
        str(runs[0].info.run_id)
        if runs
        else open_run(client, "register", params={}, tags=contents.tags)
    )
    with _failed_run_marked(client, run_id):
        for name, folder in contents.recognizers.items():
            with storage_errors(folder):
                client.log_artifacts(run_id, str(folder), f"{RECOGNIZERS}/{name}")
        for file in contents.evaluation:
            with storage_errors(file):
                client.log_artifact(run_id, str(file), EVALUATION)
        with storage_errors(contents.loadable):
            client.log_artifacts(run_id, str(contents.loadable), MODEL)
        send_points(client, run_id, points(contents.metrics, 0))
        client.set_terminated(run_id, "FINISHED")
    return run_id


@contextmanager
def _failed_run_marked(client: Any, run_id: str) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        try:
            client.set_terminated(run_id, "FAILED")
        except Exception as second:  # most likely the server is gone; the first error says so
            error.add_note(f"run {run_id} could not be marked as failed: {second}")
        raise
