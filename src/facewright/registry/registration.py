"""Registering: the recognizers of one run of the graph become one version.

A version is one MLflow run's `model/` folder, which MLflow can load (see `pyfunc`):

    model/MLmodel …            how MLflow loads it, and the packages that it needs
    model/recognizers/NAME/…   every recognizer folder, PyTorch, ONNX and engines alike
    model/evaluation/…         report, scores, metrics as files
    model/version.json         what is served, digests, lineage
    model/files.json           the digests of all these, see `vouching`
    decisions/DIGEST.json      beside it: the gate's decisions on this version, none overwritten
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from facewright.errors import RegistryError
from facewright.evaluation.record import FACTS, METRICS, SCORES
from facewright.files import file_digest, values_digest
from facewright.models.recognizer import RecognizerCard, read_card
from facewright.registry.chain import Draft, Ledger, shortened
from facewright.registry.decision import PROMOTE, Decision, check_outcome
from facewright.registry.filling import filled_run, gathered
from facewright.registry.ledger import (
    append,
    check_known,
    check_signer,
    model_exists,
    sound_ledger,
)
from facewright.registry.ledger_keys import present_actor
from facewright.registry.lineage import Lineage
from facewright.registry.server import TAG_LENGTH, experiment, registry_errors
from facewright.registry.tracking import RECOGNIZER_TAG, START_TAG, connect
from facewright.registry.tries import unchanged_tries
from facewright.registry.versions import (
    CHALLENGER,
    DECISION,
    DIGEST,
    OUTCOME,
    PAIRS,
    PARENT_RUN,
    PARENTS,
    REASON,
    SCORES_DIGEST,
    SERVE,
    SERVED,
    Version,
    decision_digest,
    decision_path,
    get_aliases,
    get_version,
    lasting,
    search_versions,
    set_alias,
    source_of,
    version_from,
)

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
    judged: Collection[str] | None = None,
    actor: str | None = None,
) -> Version:
    """Register the recognizers of `folders` as one version, and make it the challenger.

    The same content is registered once: recognizers, what is served, pairs and accuracies decide,
    timings do not. A second call returns the version that is there (with the new decision, if it
    is another one); a call after an interruption completes what was begun.

    Args:
        folders: recognizer folders by name; must hold the one that `decision` serves.
        metrics: of the evaluation, flat; kept as the run's metrics.
        evaluation_files: scores, figures and facts, which the gate judged, report and so on; kept
            as files.
        flip: whether the figures are of embeddings averaged with those of mirror images.
        judged: the tests that the champion had stood when the level was divided by them; None
            asks for no division.
        actor: who registers; else `present_actor`.

    Raises:
        RegistryError: the server cannot be used, the recognizer to serve is missing, the decision
            was edited, names no weights or files, or is on others than these, the ledger does not
            verify, does not trust this person's key or knows a version with other content, or
            somebody registered another challenger at this moment.
        EngineError: a folder is no recognizer, or its weights are not those of its card.
    """
    cards = {name: read_card(folder) for name, folder in folders.items()}
    if decision.serve not in cards:
        raise RegistryError(
            f"the gate serves {decision.serve!r}, which is not among {', '.join(sorted(cards))}"
        )
    files = {file.name: file for file in evaluation_files}
    _check_judged(cards, files, decision)
    digest = content_digest(cards, metrics, serve=decision.serve, pairs=decision.pairs_digest)
    path = decision_path(decision_digest(decision))
    client = connect()
    with registry_errors(f"{model} cannot be registered"):
        ledger = sound_ledger(client, model)
        check_signer(ledger)
        model_exists(client, ledger)
        current = None if judged is None else unchanged_tries(client, decision, judged)
        found = _find(client, ledger, digest)
        new = found is None
        if found is None:
            if current is not None:  # before much is sent; asked again when it is entered
                current(ledger)
            with gathered(
                recognizers=folders,
                evaluation=list(files.values()),
                metrics=metrics,
                tags=_tags(cards, digest, decision, lineage) | _ancestry(client, cards),
                served=cards[decision.serve],
                flip=flip,
                commit=lineage.git_commit,
            ) as contents:
                found = _find(client, ledger, digest, contents.tags)
                if found is None:
                    run_id = filled_run(client, contents)
                    client.log_dict(run_id, decision.values(), path)
                    found = _created(client, model, digest, run_id, contents.tags)
        check_known(ledger, found)
        # A comparison of the champion with itself says nothing new.
        if decision.champion != found.version or not _is_entered(ledger, found):
            # In this order, so that a decision that counts is there and was entered.
            client.log_dict(found.run_id, decision.values(), path)
            try:
                _enter(client, found, decision, actor or present_actor(), current=current)
            except RegistryError:
                if new:
                    _remove_unentered(client, found)
                raise
            for key, value in _decision_tags(decision).items():
                if found.tags.get(key) != value:
                    client.set_model_version_tag(model, str(found.version), key, value)
        _remove_doubles(client, found, digest)
        if CHALLENGER not in found.aliases:
            set_alias(client, model, CHALLENGER, found.version)
        return get_version(client, model, found.version)


def _check_judged(
    cards: Mapping[str, RecognizerCard], files: Mapping[str, Path], decision: Decision
) -> None:
    """Refuse a decision that does not follow from its rules, or is on other weights, scores,
    figures or facts than those that come with it."""
    check_outcome(decision, what="the gate's decision")
    if not decision.weights.get(decision.serve):
        raise RegistryError(
            f"the gate's decision names no weights of {decision.serve}, which it serves: run gate "
            "again"
        )
    for name, judged in decision.weights.items():
        if name in cards and cards[name].weights_sha256 != judged:
            raise RegistryError(
                f"the gate judged other weights of {name} ({judged[:12]}) than are there "
                f"({cards[name].weights_sha256[:12]}): run evaluate and gate again"
            )
    for what, name in {"scores": SCORES, "figures": METRICS, "facts": FACTS}.items():
        judged = decision.files.get(name, "")
        there = file_digest(files[name]) if name in files else ""
        if not judged or judged != there:
            raise RegistryError(
                f"the gate judged other {what} ({judged[:12] or 'none'}) than are there in {name} "
                f"({there[:12] or 'none'}): run gate again"
            )


def _is_entered(ledger: Ledger, version: Version) -> bool:
    """Whether the decision that its tags name is the ledger's last one on it."""
    outcome = version.tags.get(OUTCOME, "")
    return ledger.decided(version.version, evidence=version.evidence, outcome=outcome)


def _enter(
    client: Any,
    version: Version,
    decision: Decision,
    actor: str,
    *,
    current: Callable[[Ledger], None] | None,
) -> None:
    """Say in the ledger that a version was registered, and what the gate says to it: with the
    registration if it is the first decision, else as `accept` or `reject`.

    Args:
        current: refuses a decision that others have overtaken; what was begun is completed.
    """
    evidence = decision_digest(decision)

    def is_new(action: str, ledger: Ledger) -> bool:
        check_known(ledger, version)
        last = ledger.decision(version.version)
        if current is not None and (last is None or last.evidence != evidence):
            current(ledger)
        if action == "register" or last is None:
            return last is None
        said = ("register", "accept") if action == "accept" else ("reject",)
        return last.evidence != evidence or last.action not in said

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


def _find(
    client: Any, ledger: Ledger, digest: str, tags: Mapping[str, str] | None = None
) -> Version | None:
    """The version with that content which the ledger knows.

    Args:
        tags: where it knows none, one that a registration left which was killed will do. It must
            be what this one would make, to the last file: entered, it is vouched for.
    """
    found = [version_from(one) for one in _with_content(client, ledger.model, digest)]
    chosen = [one for one in found if ledger.of(one.version)]
    if not chosen and tags is not None:
        same = lasting(tags)
        chosen = [
            one
            for one in found
            if lasting(one.tags) == same and one.source == source_of(one.run_id)
        ]
    if not chosen:
        return None
    first = min(one.version for one in chosen)  # as all others choose who do so at this moment
    return get_version(client, ledger.model, first)  # a search leaves aliases out


def _with_content(client: Any, model: str, digest: str) -> list[Any]:
    return search_versions(client, f"name='{model}' and tags.`{DIGEST}`='{digest}'")


def _remove_doubles(client: Any, first: Version, digest: str) -> None:
    """Delete other versions like it: of this process, if another was faster at the same moment, or
    of one that was killed before it could. None of them was ever entered."""
    from mlflow.exceptions import MlflowException

    others = [version_from(one) for one in _with_content(client, first.model, digest)]
    doubles = [
        other.version
        for other in others
        if other.version != first.version and lasting(other.tags) == lasting(first.tags)
    ]
    if not doubles:
        return
    ledger = sound_ledger(client, first.model)
    used = set(get_aliases(client, first.model).values())
    for number in doubles:
        if number not in used and not ledger.of(number):
            try:
                client.delete_model_version(first.model, str(number))
            except MlflowException as error:  # whoever made it was faster
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise


def _remove_unentered(client: Any, version: Version) -> None:
    """Delete a version that was refused before anything was entered of it."""
    if not sound_ledger(client, version.model).of(version.version):
        client.delete_model_version(version.model, str(version.version))


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


def _created(client: Any, model: str, digest: str, run_id: str, tags: Mapping[str, str]) -> Version:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(model)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    made = client.create_model_version(
        model, source=source_of(run_id), run_id=run_id, tags=dict(tags)
    )
    # Somebody registering the same content at the same moment may have been first.
    return _find(client, sound_ledger(client, model), digest, tags) or version_from(made)


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
        SCORES_DIGEST: decision.files[SCORES],
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
