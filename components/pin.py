"""Kubeflow component that asks data.dvc of a revision for its hash, when the run starts."""

from kfp import dsl

from components.images import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def pin(repository: str, revision: str, data_md5: str) -> str:
    """The hash of `data/` at a commit or branch; `data_md5`, if given, is checked."""
    from facewright.datasets.fetch import pinned

    return pinned(repository, revision=revision or None, expected_md5=data_md5 or None)
