"""Registered versions as MLflow has them: their names, tags, aliases and decisions."""

import json
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from facewright.errors import EvaluationError, RegistryError
from facewright.evaluation.record import SCORES, read_scores
from facewright.files import values_digest
from facewright.registry.decision import Decision, read_decision
from facewright.registry.server import EVALUATION, MODEL, pages

CHAMPION = "champion"
CHALLENGER = "challenger"
DIGEST = "facewright.digest"  # of the content, on the version and on its run
DECISION = "facewright.decision"  # path in the run of the decision that counts, named by its digest
OUTCOME, REASON = "facewright.outcome", "facewright.reason"  # of that decision
LATER = {DECISION, OUTCOME, REASON}  # tags that another decision changes; all others stay
PARENTS = "facewright.parent_versions"  # MODEL/VERSION of the start of its training, by commas
PARENT_RUN = "facewright.parent_run"  # the run that trained it
SERVE = "facewright.serve"
PAIRS = "facewright.pairs_digest"
SERVED = "facewright.served_digest"  # weights_sha256 of what is served
SCORES_DIGEST = "facewright.scores_digest"  # sha256 of the file of scores
FILES_DIGEST = "facewright.files_digest"  # sha256 of the list of all its files, see `vouching`
RESTORE = "put it back, or register under another `model` in mlflow/promotion.yaml"


@dataclass(frozen=True)
class Version:
    """A registered version as MLflow has it."""

    model: str
    version: int
    run_id: str
    source: str  # where MLflow loads it from
    serve: str  # the recognizer that is served of it
    aliases: tuple[str, ...]
    tags: Mapping[str, str]

    @property
    def evidence(self) -> str:
        """sha256 of the decision that counts, or nothing where it passed no gate."""
        return Path(self.tags.get(DECISION, "")).stem

    @property
    def lineage(self) -> str:
        """sha256 of where it lies and of all tags that say what it was made from and holds."""
        place = {"run_id": self.run_id, "source": self.source}
        return values_digest(lasting(self.tags) | place)

    def __str__(self) -> str:
        return f"{self.model} version {self.version}"


def lasting(tags: Mapping[str, str]) -> dict[str, str]:
    """The tags that say what a version was made from and what it holds; they never change."""
    return {k: v for k, v in tags.items() if k.startswith("facewright.") and k not in LATER}


def source_of(run_id: str) -> str:
    """Where a version of that run is loaded from, as MLflow writes it."""
    return f"runs:/{run_id}/{MODEL}"


def version_from(found: Any) -> Version:
    """MLflow's object as ours."""
    return Version(
        model=found.name,
        version=int(found.version),
        run_id=found.run_id or "",
        source=found.source or "",
        serve=found.tags.get(SERVE, ""),
        aliases=tuple(found.aliases),
        tags=dict(found.tags),
    )


def get_version(client: Any, model: str, version: int) -> Version:
    """One version.

    Raises:
        RegistryError: there is no such version; the line says which there are.
    """
    from mlflow.exceptions import MlflowException

    try:
        return version_from(client.get_model_version(model, str(version)))
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        there = ", ".join(map(str, all_versions(client, model)))
        raise RegistryError(
            f"{model} has no version {version}: there are {there or 'none'}"
        ) from error


def all_versions(client: Any, model: str) -> dict[int, Version]:
    """All versions by number, without their aliases, which a search leaves out."""
    found = [version_from(one) for one in search_versions(client, f"name='{model}'")]
    return {version.version: version for version in sorted(found, key=lambda v: v.version)}


def search_versions(client: Any, condition: str) -> list[Any]:
    """MLflow's versions for which a condition holds, on all pages."""
    return pages(lambda token: client.search_model_versions(condition, page_token=token))


def get_aliases(client: Any, model: str) -> dict[str, int]:
    """Version numbers by alias.

    Raises:
        RegistryError: there is no such model.
    """
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


def set_alias(client: Any, model: str, alias: str, version: int) -> None:
    """Point an alias at a version; the last one to do so wins.

    Where an alias is new, PostgreSQL refuses the second of two who make it at the same moment.
    """
    from mlflow.exceptions import MlflowException

    try:
        client.set_registered_model_alias(model, alias, str(version))
    except MlflowException:
        if get_aliases(client, model).get(alias) != version:
            client.set_registered_model_alias(model, alias, str(version))


def decision_path(digest: str) -> str:
    """Where a decision lies in the run of its version."""
    return f"decisions/{digest}.json"


def decision_digest(decision: Decision) -> str:
    """sha256 of a decision's values: its evidence digest."""
    return values_digest(decision.values())


def get_file(client: Any, version: Version, path: str, folder: str) -> Path:
    """A file or folder of a version, from its run.

    Raises:
        RegistryError: it is not there.
    """
    from mlflow.exceptions import MlflowException

    try:
        return Path(client.download_artifacts(version.run_id, path, folder))
    except (OSError, MlflowException) as error:  # a store says either of a file that is missing
        beside = client.list_artifacts(version.run_id, path.rpartition("/")[0])
        if path in {file.path for file in beside}:
            raise
        raise RegistryError(
            f"{path} of {version} is gone from run {version.run_id}: {RESTORE}"
        ) from error


def get_scores(client: Any, version: Version) -> pd.DataFrame | None:
    """The scores of what a version serves, checked against the digest; None where none were kept.

    Raises:
        RegistryError: they were edited, or hold nothing of what is served.
    """
    digest = version.tags.get(SCORES_DIGEST)
    if not digest:
        return None
    with tempfile.TemporaryDirectory() as folder:
        got = get_file(client, version, f"{EVALUATION}/{SCORES}", folder)
        try:
            scores = read_scores(got, digest=digest)
        except EvaluationError as error:
            raise RegistryError(
                f"the scores of {version} were edited (their digest disagrees): {RESTORE}"
            ) from error
    if version.serve not in scores:
        raise RegistryError(
            f"the scores of {version} hold none of {version.serve!r}, which it serves"
        )
    return scores[version.serve]


def get_decision(client: Any, version: Version, digest: str | None = None) -> Decision:
    """A decision on a version, by default the one that counts, checked against its digest.

    Raises:
        RegistryError: it passed no gate, or the decision is missing or was edited.
    """
    digest = version.evidence if digest is None else digest
    if not digest:
        raise RegistryError(f"{version} has passed no gate: register it with facewright")
    with tempfile.TemporaryDirectory() as folder:
        path = get_file(client, version, decision_path(digest), folder)
        with suppress(ValueError):  # what is no JSON at all `read_decision` refuses
            if values_digest(json.loads(path.read_bytes())) != digest:
                raise RegistryError(
                    f"the decision on {version} was edited (its digest disagrees): register again"
                )
        return read_decision(path)
