"""The pipeline's arguments, read from this checkout: params.yaml, the policy, data.dvc, git."""

import json
from dataclasses import asdict
from pathlib import Path

from facewright import params
from facewright.registry.lineage import collect


def arguments(*, repository: str, revision: str) -> dict[str, str]:
    """Every argument of the pipeline, as strings.

    `repository` is the address or folder of the DVC repository, `revision` its git revision; an
    empty one means the working tree.
    """
    lineage = collect(Path())
    sections = {
        f"{stage}_params": params.load(stage).model_dump_json()
        for stage in (*params.SECTIONS, "gate")
    }
    return sections | {
        "repository": repository,
        "revision": revision,
        "data_md5": lineage.data_md5,
        "lineage": json.dumps(asdict(lineage)),
    }
