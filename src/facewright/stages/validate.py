"""validate: give every image of `data/` a verdict, with Data Docs to read."""

from pathlib import Path

from facewright.datasets.validation.rules import Limits
from facewright.datasets.validation.validate import validate_datasets
from facewright.files import whole_directory, write_json
from facewright.params import Validate


def run(*, data: Path, output: Path, params: Validate) -> None:
    """Write verdicts, pairs, proposals, a profile, suites and Data Docs; see `validation`."""
    limits = params.model_dump(exclude={"near_distance", "thumbnails"})
    with whole_directory(output) as folder:
        metrics = validate_datasets(
            data,
            folder,
            limits=Limits(**limits),
            near_distance=params.near_distance,
            thumbnails=params.thumbnails,
        )
        write_json(folder / "metrics.json", metrics)
