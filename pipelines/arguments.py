"""The pipeline's arguments, read from this checkout: params.yaml, the policy, data.dvc, git."""

import json
import os
import subprocess
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

import yaml

from facewright import params
from facewright.errors import PipelineError
from facewright.registry.lineage import UNKNOWN, collect

TRACKED = "data.dvc"
REMOTE = "origin"


def arguments(file: Path = params.PARAMS) -> dict[str, str]:
    """The arguments of the pipeline that this checkout knows, as strings; sections from `file`.

    `revision` is the commit that is checked out: the data that it pins is fetched. `repository` is
    left to the caller, and so is `tracking_uri` unless `$MLFLOW_TRACKING_URI` is set: the cluster
    needs addresses that it can reach.
    """
    lineage = collect(Path())
    commit = lineage.git_commit.removesuffix("-dirty")
    given = {f"{stage}_params": section for stage, section in params.as_json(file).items()}
    if "MLFLOW_TRACKING_URI" in os.environ:
        given["tracking_uri"] = os.environ["MLFLOW_TRACKING_URI"]
    return given | {
        "revision": "" if commit == UNKNOWN else commit,
        "data_md5": lineage.data_md5,
        "git_commit": lineage.git_commit,
    }


def start_moves(given: dict[str, str]) -> bool:
    """Whether the training of these arguments starts from `models:/NAME@ALIAS`.

    Which version that is, MLflow says when the training begins: another one after a promotion.
    """
    start = json.loads(given["train_params"])["start"]
    return start is not None and start.startswith("models:") and "@" in start


def data_at(revision: str | None, *, pushed: bool) -> tuple[str, str]:
    """The commit that last changed data.dvc at or before `revision`, and the hash that it records.

    That commit, and not `revision`: a commit that changes code alone leaves the outputs of `fetch`
    in the cache. Without a revision it is HEAD's. With `pushed` a branch of `origin`, as it was
    fetched last, must have it.

    Raises:
        PipelineError: no such revision, no data.dvc there, one that was changed and not committed,
            or a commit that no branch of `origin` has.
    """
    if revision is None and _git("status", "--porcelain", "--", TRACKED):
        raise PipelineError(
            f"{TRACKED} is changed and not committed: commit and push it, or name the data that "
            "you mean, as --data-rev HEAD"
        )
    name = revision or "HEAD"
    commit = _git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
    if not commit:
        raise PipelineError(
            f"data revision {name!r}: git knows no such commit here: `git fetch --tags`, or choose "
            f"one of `git log {TRACKED}`"
        )
    text = _git("show", f"{commit}:./{TRACKED}")
    changed = _git("log", "-1", "--format=%H", commit, "--", TRACKED)
    if not text or not changed:
        raise PipelineError(f"data revision {name!r}: has no {TRACKED}: `dvc add data`, commit it")
    of_remote = ("branch", "--remotes", "--list", f"{REMOTE}/*")
    if pushed and not _git(*of_remote, "--contains", changed):
        raise PipelineError(
            f"data revision {name!r}: commit {changed[:10]} is on no branch of {REMOTE}: push it, "
            "or the cluster cannot fetch it"
        )
    try:
        return changed, str(yaml.safe_load(text)["outs"][0]["md5"])
    except (yaml.YAMLError, KeyError, IndexError, TypeError) as error:
        raise PipelineError(f"data revision {name!r}: its {TRACKED} names no data") from error


def branch_of_data(name: str | None) -> str:
    """A branch that the remote has, for runs that look again each time; else the one checked out.

    Raises:
        PipelineError: no such branch was fetched, or HEAD is on none.
    """
    branch = name or _git("symbolic-ref", "--quiet", "--short", "HEAD")
    if not branch:
        raise PipelineError(f"HEAD is on no branch: name one of {REMOTE} with --data-rev")
    if not _git("rev-parse", "--verify", "--quiet", f"refs/remotes/{REMOTE}/{branch}"):
        raise PipelineError(
            f"data revision {branch!r}: {REMOTE} has no such branch, and --every needs one that "
            f"moves: see `git branch --remotes`, or `git fetch {REMOTE}`"
        )
    return branch


def remote_address() -> str:
    """The address of `origin`, for the cluster.

    Raises:
        PipelineError: there is none, or `checked_repository` refuses it.
    """
    address = _git("remote", "get-url", REMOTE)
    if not address:
        raise PipelineError(
            f"git has no remote {REMOTE!r} here: say with --repository where the cluster finds it"
        )
    return checked_repository(address)


def checked_repository(address: str) -> str:
    """The address, if a pod can use it and everybody may see it.

    Raises:
        PipelineError: it is a folder of this machine, holds a secret, or is none.
    """
    parts = _public(address, "the repository's address", "name another with --repository")
    if parts.scheme == "file" or address.startswith((".", "/", "~")):
        raise PipelineError(
            f"repository {address}: a folder of this machine, which the cluster cannot read: name "
            "an address with --repository"
        )
    return address


def checked_tracking_uri(address: str) -> str:
    """The address of an MLflow server, if a pod can reach it and everybody may see it.

    Raises:
        PipelineError: it is this machine's, holds a secret, or is no server's.
    """
    where = "name the server as pods see it, with --tracking-uri or $MLFLOW_TRACKING_URI"
    parts = _public(address, "MLflow's address", where)
    if parts.scheme not in ("http", "https"):
        raise PipelineError(f"MLflow at {parts.scheme or address}: not a server's address: {where}")
    if parts.hostname in ("localhost", "127.0.0.1", "::1"):
        raise PipelineError(f"MLflow at {parts.hostname}: a pod would ask itself: {where}")
    return address


def _public(address: str, what: str, mend: str) -> SplitResult:
    """The parts of an address with nothing in it that is secret.

    Over HTTP a name is as secret as a password: hosts take a token in its place. Over SSH a key
    is asked for beside it. The address itself is not told in errors.
    """
    try:
        parts = urlsplit(address)
    except ValueError as error:
        raise PipelineError(f"{what} cannot be read: {mend}") from error
    if parts.password or (parts.username and parts.scheme in ("http", "https")):
        held = "a password" if parts.password else "a name or a token"
        raise PipelineError(
            f"{what} holds {held} before the @, which all who see the run would see: {mend}"
        )
    if parts.query or parts.fragment:
        raise PipelineError(
            f"{what} goes on after a ? or #, where all who see the run would see a secret: {mend}"
        )
    return parts


def _git(*words: str) -> str:
    """What git prints in this folder; nothing where it finds nothing or is not there."""
    try:
        done = subprocess.run(["git", *words], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
