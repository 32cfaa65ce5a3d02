"""The stage align in the pipeline: one step, or parts side by side and a step that joins them."""

from typing import Any

from kfp import dsl

from components.align import align
from components.align_join import align_join
from components.align_part import align_part
from pipelines.cluster import Cluster, place


def crops_of(cluster: Cluster, *, params: Any, data: Any, verdicts: Any) -> Any:
    """The crops of `data`, the same bytes in any number of parts; to be called in a pipeline."""
    parts = cluster.steps["align"].parts
    if parts == 1:
        aligned = align(params=params, data=data, validate=verdicts)
        return place(aligned, cluster).outputs["output"]
    with dsl.ParallelFor(list(range(parts)), name="parts of align") as part:
        cut = align_part(params=params, part=part, parts=parts, data=data, validate=verdicts)
        crops = place(cut, cluster).outputs["output"]
    joined = align_join(parts=dsl.Collected(crops), validate=verdicts)
    return place(joined, cluster).outputs["output"]
