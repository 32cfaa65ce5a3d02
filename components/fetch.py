"""Kubeflow component that stands for data.dvc: the datasets at a DVC revision."""

from kfp import dsl

from components.images import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def fetch(repository: str, revision: str, data_md5: str, data: dsl.Output[dsl.Dataset]):
    """Get `data/` at a revision; `data_md5` is checked, and makes the cache follow content."""
    from pathlib import Path

    from facewright.datasets.fetch import fetch

    fetch(
        repository,
        Path(data.path),
        revision=revision or None,
        expected_md5=data_md5,
    )
