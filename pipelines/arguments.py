"""The pipeline's arguments, read from this checkout: params.yaml, the policy, data.dvc, git."""

import json
from dataclasses import asdict
from pathlib import Path

from facewright import params
from facewright.registry.lineage import UNKNOWN, collect


def arguments() -> dict[str, str]:
    """Every argument of the pipeline but `repository`, as strings.

    `revision` is the commit that is checked out: the data that it pins is fetched.
    """
    lineage = collect(Path())
    commit = lineage.git_commit.removesuffix("-dirty")
    sections = {
        f"{stage}_params": params.load(stage).model_dump_json()
        for stage in (*params.SECTIONS, "gate")
    }
    return sections | {
        "revision": "" if commit == UNKNOWN else commit,
        "data_md5": lineage.data_md5,
        "lineage": json.dumps(asdict(lineage)),
    }
