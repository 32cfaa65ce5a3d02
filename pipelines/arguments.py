"""The pipeline's arguments, read from this checkout: params.yaml, the policy, data.dvc, git."""

import os
from pathlib import Path

from facewright import params
from facewright.registry.lineage import UNKNOWN, collect


def arguments() -> dict[str, str]:
    """The arguments of the pipeline that this checkout knows, as strings.

    `revision` is the commit that is checked out: the data that it pins is fetched. `repository` is
    left to the caller, and so is `tracking_uri` unless `$MLFLOW_TRACKING_URI` is set: the cluster
    needs addresses that it can reach.
    """
    lineage = collect(Path())
    commit = lineage.git_commit.removesuffix("-dirty")
    given = {f"{stage}_params": section for stage, section in params.as_json().items()}
    if "MLFLOW_TRACKING_URI" in os.environ:
        given["tracking_uri"] = os.environ["MLFLOW_TRACKING_URI"]
    return given | {
        "revision": "" if commit == UNKNOWN else commit,
        "data_md5": lineage.data_md5,
        "git_commit": lineage.git_commit,
    }
