"""The cluster of the stage that trains in one."""

from tests.unit.cluster.conftest import cluster

__all__ = ["cluster"]
