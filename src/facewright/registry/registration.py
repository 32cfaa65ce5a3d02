"""Registering: the recognizers of one run of the graph become one version.

A version is one MLflow run's `model/` folder, which MLflow can load (see `pyfunc`):

    model/MLmodel …            how MLflow loads it, and the packages that it needs
    model/recognizers/NAME/…   every recognizer folder, PyTorch, ONNX and engines alike
    model/evaluation/…         report, scores, metrics as files
    model/version.json         what is served, digests, lineage
    decisions/DIGEST.json      beside it: the gate's decisions on this version, none overwritten
"""

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from facewright.errors import RegistryError
from facewright.evaluation.record import SCORES
from facewright.files import file_digest, storage_errors, values_digest
from facewright.models.recognizer import RecognizerCard, read_card
from facewright.registry.chain import Draft, Ledger, shortened
from facewright.registry.gate import PROMOTE, Decision
from facewright.registry.ledger import (
    append,
    check_known,
    check_signer,
    model_exists,
    sound_ledger,
)
from facewright.registry.ledger_keys import present_actor
from facewright.registry.lineage import Lineage
from facewright.registry.packaging import write_model
from facewright.registry.server import (
    TAG_LENGTH,
    experiment,
    open_run,
    points,
    registry_errors,
    send_points,
)
from facewright.registry.tracking import RECOGNIZER_TAG, START_TAG, connect
from facewright.registry.versions import (
    ABOUT,
    CHALLENGER,
    DECISION,
    DIGEST,
    EVALUATION,
    METRICS_DIGEST,
    OUTCOME,
    PAIRS,
    PARENT_RUN,
    PARENTS,
    REASON,
    RECOGNIZERS,
    SCORES_DIGEST,
    SERVE,
    SERVED,
    Version,
    decision_digest,
    decision_path,
    get_aliases,
    get_version,
    lasting,
    set_alias,
    version_from,
)

METRICS = "metrics.json"  # among the files of an evaluation
WEIGHTS_TAG = "facewright.weights."  # and a recognizer's name: its weights_sha256


def register(
    *,
    model: str,
    folders: Mapping[str, Path],
    metrics: Mapping[str, float],
    evaluation_files: Iterable[Path],
    decision: Decision,
    lineage: Lineage,
    flip: bool = False,
    actor: str | None = None,
) -> Version:
    """Register the recognizers of `folders` as one version, and make it the challenger.

    The same content is registered once: recognizers, what is served, pairs and accuracies decide,
    timings do not. A second call returns the version that is there (with the new decision, if it
    is another one); a call after an interruption completes what was begun.

    Args:
        folders: recognizer folders by name; must hold the one that `decision` serves.
        metrics: of the evaluation, flat; kept as the run's metrics.
        evaluation_files: report, scores and so on; kept as files.
        flip: whether the figures are of embeddings averaged with those of mirror images.
        actor: who registers; else `present_actor`.

    Raises:
        RegistryError: the server cannot be used, the recognizer to serve is missing, the decision
            is on other weights or scores, the ledger does not verify, does not trust this person's
            key or knows a version with other content, or a version was made by hand.
        EngineError: a folder is no recognizer, or its weights are not those of its card.
    """
    cards = {name: read_card(folder) for name, folder in folders.items()}
    if decision.serve not in cards:
        raise RegistryError(
            f"the gate serves {decision.serve!r}, which is not among {', '.join(sorted(cards))}"
        )
    files = {file.name: file for file in evaluation_files}
    digests = {
        tag: file_digest(files[name])
        for tag, name in ((SCORES_DIGEST, SCORES), (METRICS_DIGEST, METRICS))
        if name in files
    }
    _check_judged(cards, digests.get(SCORES_DIGEST, ""), decision)
    digest = content_digest(cards, metrics, serve=decision.serve, pairs=decision.pairs_digest)
    path = decision_path(decision_digest(decision))
    client = connect()
    with registry_errors(f"{model} cannot be registered"):
        ledger = sound_ledger(client, model)
        check_signer(ledger)
        model_exists(client, ledger)
        described = {**_tags(cards, digest, decision, lineage), **digests}
        found = _find(client, model, digest)
        if found is None:
            described |= _ancestry(client, cards)
            with tempfile.TemporaryDirectory() as folder:
                write_model(
                    Path(folder), cards[decision.serve], flip=flip, commit=lineage.git_commit
                )
                run_id = _filled_run(
                    client, digest, folders, metrics, files.values(), described, Path(folder)
                )
            client.log_dict(run_id, decision.values(), path)
            found = _created(client, model, digest, run_id, described)
        _check_same(found, described)
        check_known(ledger, found)
        # A comparison of the champion with itself says nothing new.
        if decision.champion != found.version or not _is_entered(ledger, found):
            # In this order, so that a decision that counts is there and was entered.
            client.log_dict(found.run_id, decision.values(), path)
            _enter(client, found, decision, actor or present_actor())
            for key, value in _decision_tags(decision).items():
                if found.tags.get(key) != value:
                    client.set_model_version_tag(model, str(found.version), key, value)
        _remove_doubles(client, found, digest, ledger)
        if CHALLENGER not in found.aliases:
            set_alias(client, model, CHALLENGER, found.version)
        return get_version(client, model, found.version)


def _check_judged(cards: Mapping[str, RecognizerCard], scores: str, decision: Decision) -> None:
    """Refuse a decision on other weights or other scores than those that come with it."""
    for name, judged in decision.weights.items():
        if name in cards and cards[name].weights_sha256 != judged:
            raise RegistryError(
                f"the gate judged other weights of {name} ({judged[:12]}) than are there "
                f"({cards[name].weights_sha256[:12]}): run evaluate and gate again"
            )
    if decision.scores_digest and decision.scores_digest != scores:
        raise RegistryError(
            f"the gate judged other scores ({decision.scores_digest[:12]}) than are there "
            f"({scores[:12] or 'none'}): run gate again"
        )


def _check_same(version: Version, described: Mapping[str, str]) -> None:
    """Refuse a version that holds this content by the one tag by which it was found, and by others
    does not: the ledger would vouch for what somebody made by hand."""
    for key in (SERVE, PAIRS, SERVED, *(key for key in described if key.startswith(WEIGHTS_TAG))):
        if version.tags.get(key) != described[key]:
            raise RegistryError(
                f"{version} has the content digest of these recognizers and another {key}: its "
                "tags were changed or made by hand; delete it, or register under another `model` "
                "in mlflow/promotion.yaml"
            )


def _is_entered(ledger: Ledger, version: Version) -> bool:
    """Whether the decision that counts is in the ledger."""
    outcome = version.tags.get(OUTCOME, "")
    return ledger.holds(version.version, evidence=version.evidence, outcome=outcome)


def _enter(client: Any, version: Version, decision: Decision, actor: str) -> None:
    """Say in the ledger that a version was registered, and what the gate says to it: with the
    registration if it is the first decision, else as `accept` or `reject`."""
    evidence = decision_digest(decision)

    def is_new(action: str, ledger: Ledger) -> bool:
        check_known(ledger, version)
        entries = ledger.of(version.version)
        if action == "register":
            return not entries
        said = ("register", "accept") if action == "accept" else ("reject",)
        return not any((e.evidence, e.action) in {(evidence, a) for a in said} for e in entries)

    for action in ("register", "accept" if decision.outcome == PROMOTE else "reject"):
        draft = Draft(
            action=action,
            version=version.version,
            actor=actor,
            reason=shortened(decision.reason),
            outcome=decision.outcome,
            evidence=evidence,
            lineage=version.lineage,
        )
        append(client, version.model, draft, needed=partial(is_new, action))


def _remove_doubles(client: Any, first: Version, digest: str, ledger: Ledger) -> None:
    """Delete later versions of the same content: of this process, if another was faster at the same
    moment, or of one that was killed before it could. None of them was ever entered."""
    from mlflow.exceptions import MlflowException

    wanted = f"name='{first.model}' and tags.`{DIGEST}`='{digest}'"
    found = [int(version.version) for version in client.search_model_versions(wanted)]
    doubles = [number for number in found if number > first.version and not ledger.of(number)]
    used = set(get_aliases(client, first.model).values()) if doubles else set()
    for number in doubles:
        if number not in used:
            try:
                client.delete_model_version(first.model, str(number))
            except MlflowException as error:  # whoever made it was faster
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise


def content_digest(
    cards: Mapping[str, RecognizerCard], metrics: Mapping[str, float], *, serve: str, pairs: str
) -> str:
    """sha256 of what makes a version another one.

    Args:
        serve: the recognizer that is served.
        pairs: digest of the pairs that the metrics were measured on.
    """
    recognizers = {name: asdict(card) for name, card in cards.items()}
    for values in recognizers.values():
        if values["format"] == "engine":
            # A builder gives other bytes each time; the fingerprint in the card stays.
            del values["weights_sha256"]
    # An engine's own figures change with its bytes, a timing with every run.
    engines = {name for name, card in cards.items() if card.format == "engine"}
    constant = {
        key: float(value)
        for key, value in metrics.items()
        if not _is_timing(key) and key.partition(".")[0] not in engines
    }
    return values_digest([recognizers, serve, pairs, constant])


def _is_timing(key: str) -> bool:
    return key.endswith(("_ms", "_seconds", ".seconds"))


def _find(client: Any, model: str, digest: str) -> Version | None:
    """The version with that content; the first, should there be several."""
    found = client.search_model_versions(f"name='{model}' and tags.`{DIGEST}`='{digest}'")
    if not found:
        return None
    first = min(found, key=lambda version: int(version.version))
    return get_version(client, model, int(first.version))  # a search leaves aliases out


def _filled_run(
    client: Any,
    digest: str,
    folders: Mapping[str, Path],
    metrics: Mapping[str, float],
    evaluation_files: Iterable[Path],
    tags: Mapping[str, str],
    loadable: Path,
) -> str:
    """The id of a finished run that holds everything; one that was left unfinished is completed.

    One of the same content from another evaluation or commit stays as it is: its files are others.
    """
    runs = client.search_runs([experiment(client)], f"tags.`{DIGEST}` = '{digest}'")
    runs = [run for run in runs if lasting(run.data.tags) == lasting(tags)]
    finished = [run for run in runs if run.info.status == "FINISHED"]
    if finished:
        return str(finished[0].info.run_id)
    run_id = (
        str(runs[0].info.run_id) if runs else open_run(client, "register", params={}, tags=tags)
    )
    with _failed_run_marked(client, run_id):
        for name, folder in folders.items():
            with storage_errors(folder):
                client.log_artifacts(run_id, str(folder), f"{RECOGNIZERS}/{name}")
        for file in evaluation_files:
            with storage_errors(file):
                client.log_artifact(run_id, str(file), EVALUATION)
        with storage_errors(loadable):
            client.log_artifacts(run_id, str(loadable), "model")
        client.log_dict(run_id, dict(tags), ABOUT)
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
    # Somebody registering the same content at the same moment may have been first.
    return _find(client, model, digest) or version_from(made)


def _tags(
    cards: Mapping[str, RecognizerCard],
    digest: str,
    decision: Decision,
    lineage: Lineage,
) -> dict[str, str]:
    served = cards[decision.serve]
    return {
        **lineage.tags(),
        DIGEST: digest,
        SERVE: decision.serve,
        PAIRS: decision.pairs_digest,
        SERVED: served.weights_sha256,
        "facewright.data_digest": served.data_digest,
        "facewright.code_digest": served.code_digest,
        **{
            f"{WEIGHTS_TAG}{name}": card.weights_sha256
            for name, card in cards.items()
            if card.format == "torch"  # the only ones that another training can start from
        },
        **_decision_tags(decision),
    }


def _decision_tags(decision: Decision) -> dict[str, str]:
    return {
        OUTCOME: decision.outcome,
        REASON: decision.reason[:TAG_LENGTH],
        DECISION: decision_path(decision_digest(decision)),
    }


def _ancestry(client: Any, cards: Mapping[str, RecognizerCard]) -> dict[str, str]:
    """Tags that lead to the run that trained one of the recognizers, and to the registered
    versions that it or another of them started from, as far as MLflow has them."""
    tags: dict[str, str] = {}
    parents: set[str] = set()
    for name, card in cards.items():
        if card.format != "torch":
            continue
        wanted = f"tags.`{RECOGNIZER_TAG}` = '{card.weights_sha256}'"
        for run in client.search_runs([experiment(client)], wanted, max_results=1):
            if PARENT_RUN not in tags:
                tags |= {PARENT_RUN: run.info.run_id, "mlflow.parentRunId": run.info.run_id}
            if start := run.data.tags.get(START_TAG):
                found = client.search_model_versions(f"tags.`{WEIGHTS_TAG}{name}`='{start}'")
                parents |= {f"{version.name}/{version.version}" for version in found}
    return tags | ({PARENTS: ", ".join(sorted(parents))} if parents else {})
