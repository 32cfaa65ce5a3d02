"""Kubeflow component of a part of the stage align."""

from kfp import dsl

from components.images import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def align_part(
    params: str,
    part: int,
    parts: int,
    data: dsl.Input[dsl.Dataset],
    validate: dsl.Input[dsl.Artifact],
    output: dsl.Output[dsl.Dataset],
):
    """Find faces and cut crops, of one part of the photos."""
    from pathlib import Path

    from facewright.params import Align, from_json
    from facewright.stages import align_parts

    align_parts.run_part(
        data=Path(data.path),
        validate=Path(validate.path),
        output=Path(output.path),
        params=from_json(Align, params),
        part=int(part),  # numbers of a loop may arrive as 3.0
        parts=int(parts),
    )
