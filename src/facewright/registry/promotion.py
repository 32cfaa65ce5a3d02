"""Versions of the registered model: register, promote, roll back.

A version is one MLflow run's `model/` folder:

    model/recognizers/NAME/…   every recognizer folder, PyTorch, ONNX and engines alike
    model/evaluation/…         report, scores, metrics as files
    model/version.json         what is served, digests, lineage
    decisions/DIGEST.json      beside it: the gate's decisions on this version, none overwritten

Aliases say what is in use: `challenger`, the last one registered, and `champion`, the one that
serves. The champion before is remembered in a tag of the version that replaced it.
"""

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from facewright.errors import RegistryError
from facewright.files import storage_errors, values_digest
from facewright.models.recognizer import RecognizerCard, read_card
from facewright.registry.gate import Champion, Decision, read_decision
from facewright.registry.lineage import Lineage
from facewright.registry.server import (
    TAG_LENGTH,
    experiment,
    open_run,
    points,
    registry_errors,
    send_points,
)
from facewright.registry.tracking import RECOGNIZER_TAG, connect

CHAMPION = "champion"
CHALLENGER = "challenger"
DIGEST = "facewright.digest"  # of the content, on the version and on its run
DECISION = "facewright.decision"  # path in the run of the decision that counts, named by its digest
PREVIOUS = "facewright.previous_champion"
ROLLED_BACK = "facewright.rolled_back_at"  # set by a person's rollback, cleared by a promotion


@dataclass(frozen=True)
class Version:
    """A registered version as MLflow has it."""

    model: str
    version: int
    run_id: str
    serve: str  # the recognizer that is served of it
    aliases: tuple[str, ...]
    tags: Mapping[str, str]


def register(
    *,
    model: str,
    folders: Mapping[str, Path],
    metrics: Mapping[str, float],
    evaluation_files: Iterable[Path],
    decision: Decision,
    lineage: Lineage,
) -> Version:
    """Register the recognizers of `folders` as one version, and make it the challenger.

    The same content is registered once: recognizers, what is served, pairs and accuracies decide,
    timings do not. A second call returns the version that is there (with the new decision, if it
    is another one); a call after an interruption completes what was begun.

    Args:
        folders: recognizer folders by name; must hold the one that `decision` serves.
        metrics: of the evaluation, flat; kept as the run's metrics.
        evaluation_files: report, scores and so on; kept as files.

    Raises:
        RegistryError: the server cannot be used, or the recognizer to serve is missing.
        EngineError: a folder is no recognizer, or its weights are not those of its card.
    """
    cards = {name: read_card(folder) for name, folder in folders.items()}
    if decision.serve not in cards:
        raise RegistryError(
            f"the gate serves {decision.serve!r}, which is not among {', '.join(sorted(cards))}"
        )
    digest = _content_digest(cards, metrics, decision)
    path = _decision_path(decision)
    client = connect()
    with registry_errors(f"{model} cannot be registered"):
        found = _find(client, model, digest)
        if found is None:
            described = _tags(cards[decision.serve], digest, decision, lineage)
            described |= _training_run(client, cards)
            run_id = _filled_run(client, digest, folders, metrics, evaluation_files, described)
            client.log_dict(run_id, decision.values(), path)
            found = _created(client, model, digest, run_id, described)
        # A comparison of the champion with itself says nothing new.
        elif decision.champion != found.version and found.tags.get(DECISION) != path:
            client.log_dict(found.run_id, decision.values(), path)
            for key, value in _decision_tags(decision).items():
                client.set_model_version_tag(model, str(found.version), key, value)
        if CHALLENGER not in found.aliases:
            client.set_registered_model_alias(model, CHALLENGER, str(found.version))
        return _version(client.get_model_version(model, str(found.version)))


def promote(model: str, version: int | None = None) -> Version:
    """Make a version champion, by default the challenger; the champion before is remembered.

    Raises:
        RegistryError: there is no such version, the gate held it, or the gate compared it with
            another champion than the one that serves now.
    """
    client = connect()
    with registry_errors(f"{model} cannot be promoted"):
        aliases = _aliases(client, model)
        if version is None:
            if CHALLENGER not in aliases:
                raise RegistryError(f"{model} has no challenger: register a version first")
            version = aliases[CHALLENGER]
        chosen = _get(client, model, version)
        serving = aliases.get(CHAMPION)
        if serving == version:
            return chosen
        decision = _decision(client, chosen)
        if decision.outcome != "promote":
            raise RegistryError(f"the gate holds {model} version {version}: {decision.reason}")
        if decision.champion != serving:
            then = f"version {decision.champion}" if decision.champion else "none"
            now = f"version {serving}" if serving else "none"
            raise RegistryError(
                f"the gate judged {model} version {version} when the champion was {then}; it is "
                f"{now} now: run the gate again and register"
            )
        # The alias moves last, in one step: until then nothing has changed for who serves.
        if serving is not None:
            client.set_model_version_tag(model, str(version), PREVIOUS, str(serving))
        if ROLLED_BACK in chosen.tags:
            client.delete_model_version_tag(model, str(version), ROLLED_BACK)
        client.set_model_version_tag(model, str(version), "facewright.promoted_at", _now())
        client.set_registered_model_alias(model, CHAMPION, str(version))
        return _get(client, model, version)


def rollback(model: str) -> Version:
    """Make the champion before the present one champion again.

    Raises:
        RegistryError: there is no champion, or none before it.
    """
    client = connect()
    with registry_errors(f"{model} cannot be rolled back"):
        aliases = _aliases(client, model)
        if CHAMPION not in aliases:
            raise RegistryError(f"{model} has no champion to roll back from")
        left = _get(client, model, aliases[CHAMPION])
        if PREVIOUS not in left.tags:
            raise RegistryError(
                f"{model} version {left.version} replaced no champion: none to return to"
            )
        back = _get(client, model, int(left.tags[PREVIOUS]))
        client.set_registered_model_alias(model, CHAMPION, str(back.version))
        client.set_model_version_tag(model, str(left.version), ROLLED_BACK, _now())
        # So that rolling back again goes further back, never in a circle.
        client.delete_model_version_tag(model, str(left.version), PREVIOUS)
        return _get(client, model, back.version)


def was_rolled_back(model: str, version: int) -> bool:
    """Whether a person took this version back; only a person brings it in again."""
    client = connect()
    with registry_errors(f"{model} version {version} cannot be read"):
        return ROLLED_BACK in _get(client, model, version).tags


def champion(model: str) -> Champion | None:
    """The version that serves, with the metrics it was registered with; None before the first."""
    client = connect()
    with registry_errors(f"the champion of {model} cannot be read"):
        if not client.search_registered_models(f"name='{model}'"):
            return None
        aliases = _aliases(client, model)
        if CHAMPION not in aliases:
            return None
        version = _get(client, model, aliases[CHAMPION])
        return Champion(
            version=version.version,
            serve=version.serve,
            metrics=dict(client.get_run(version.run_id).data.metrics) if version.run_id else {},
            pairs_digest=version.tags.get("facewright.pairs_digest", ""),
        )


def _content_digest(
    cards: Mapping[str, RecognizerCard], metrics: Mapping[str, float], decision: Decision
) -> str:
    recognizers = {name: asdict(card) for name, card in cards.items()}
    for values in recognizers.values():
        if values["format"] == "engine":
            # A builder gives other bytes each time; the fingerprint in the card stays.
            del values["weights_sha256"]
    # An engine's own figures change with its bytes, a timing with every run.
    engines = {name for name, card in cards.items() if card.format == "engine"}
    lasting = {
        key: float(value)
        for key, value in metrics.items()
        if not _is_timing(key) and key.partition(".")[0] not in engines
    }
    return values_digest([recognizers, decision.serve, decision.pairs_digest, lasting])


def _is_timing(key: str) -> bool:
    return key.endswith(("_ms", "_seconds", ".seconds"))


def _find(client: Any, model: str, digest: str) -> Version | None:
    """The version with that content; the first, should there be several."""
    found = client.search_model_versions(f"name='{model}' and tags.`{DIGEST}`='{digest}'")
    if not found:
        return None
    first = min(found, key=lambda version: int(version.version))
    return _version(client.get_model_version(model, first.version))  # a search leaves aliases out


def _filled_run(
    client: Any,
    digest: str,
    folders: Mapping[str, Path],
    metrics: Mapping[str, float],
    evaluation_files: Iterable[Path],
    tags: Mapping[str, str],
) -> str:
    """The id of a finished run that holds everything; one that was left unfinished is completed."""
    runs = client.search_runs([experiment(client)], f"tags.`{DIGEST}` = '{digest}'")
    finished = [run for run in runs if run.info.status == "FINISHED"]
    if finished:
        return str(finished[0].info.run_id)
    run_id = (
        str(runs[0].info.run_id) if runs else open_run(client, "register", params={}, tags=tags)
    )
    with _failed_run_marked(client, run_id):
        for name, folder in folders.items():
            with storage_errors(folder):
                client.log_artifacts(run_id, str(folder), f"model/recognizers/{name}")
        for file in evaluation_files:
            with storage_errors(file):
                client.log_artifact(run_id, str(file), "model/evaluation")
        client.log_dict(run_id, dict(tags), "model/version.json")
        send_points(client, run_id, points(metrics, 0))
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


def _created(client: Any, model: str, digest: str, run_id: str, tags: Mapping[str, str]) -> Version:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(model)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    made = client.create_model_version(
        model, source=f"runs:/{run_id}/model", run_id=run_id, tags=dict(tags)
    )
    first = _find(client, model, digest)
    # Somebody registering the same content at the same moment was first: theirs stays.
    if first is not None and first.version < int(made.version):
        client.delete_model_version(model, made.version)
        return first
    return _version(made)


def _tags(
    served: RecognizerCard, digest: str, decision: Decision, lineage: Lineage
) -> dict[str, str]:
    return {
        **lineage.tags(),
        DIGEST: digest,
        "facewright.serve": decision.serve,
        "facewright.pairs_digest": decision.pairs_digest,
        "facewright.served_digest": served.weights_sha256,
        "facewright.data_digest": served.data_digest,
        "facewright.code_digest": served.code_digest,
        **_decision_tags(decision),
    }


def _decision_tags(decision: Decision) -> dict[str, str]:
    return {
        "facewright.outcome": decision.outcome,
        "facewright.reason": decision.reason[:TAG_LENGTH],
        DECISION: _decision_path(decision),
    }


def _decision_path(decision: Decision) -> str:
    return f"decisions/{values_digest(decision.values())}.json"


def _training_run(client: Any, cards: Mapping[str, RecognizerCard]) -> dict[str, str]:
    """Tags that lead to the run that trained one of the recognizers, if MLflow has it."""
    for card in cards.values():
        wanted = f"tags.`{RECOGNIZER_TAG}` = '{card.weights_sha256}'"
        runs = client.search_runs([experiment(client)], wanted, max_results=1)
        if runs:
            run_id = str(runs[0].info.run_id)
            return {"facewright.parent_run": run_id, "mlflow.parentRunId": run_id}
    return {}


def _decision(client: Any, version: Version) -> Decision:
    """The decision that counts for a version, checked against the digest in its name."""
    where = f"{version.model} version {version.version}"
    path = version.tags.get(DECISION)
    if not path:
        raise RegistryError(f"{where} has passed no gate: register it with facewright")
    with tempfile.TemporaryDirectory() as folder:
        decision = read_decision(Path(client.download_artifacts(version.run_id, path, folder)))
    if _decision_path(decision) != path:
        raise RegistryError(
            f"the decision on {where} was edited (its digest disagrees): register again"
        )
    return decision


def _aliases(client: Any, model: str) -> dict[str, int]:
    from mlflow.exceptions import MlflowException

    try:
        aliases = client.get_registered_model(model).aliases
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            raise RegistryError(
                f"no registered model {model!r}: register a version first"
            ) from error
        raise
    return {alias: int(version) for alias, version in aliases.items()}


def _get(client: Any, model: str, version: int) -> Version:
    from mlflow.exceptions import MlflowException

    try:
        return _version(client.get_model_version(model, str(version)))
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        known = client.search_model_versions(f"name='{model}'")
        there = ", ".join(str(number) for number in sorted(int(found.version) for found in known))
        raise RegistryError(
            f"{model} has no version {version}: there are {there or 'none'}"
        ) from error


def _version(found: Any) -> Version:
    return Version(
        model=found.name,
        version=int(found.version),
        run_id=found.run_id or "",
        serve=found.tags.get("facewright.serve", ""),
        aliases=tuple(found.aliases),
        tags=dict(found.tags),
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
