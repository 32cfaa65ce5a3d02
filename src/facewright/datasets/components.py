"""What is joined with what, where edges join two things each."""

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]


def components(edges: Ints, *, count: int) -> Ints:
    """(count,): the least node that each node is joined with; `edges` (M, 2) join nodes."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if not len(edges):
        return np.arange(count)
    graph = coo_array((np.ones(len(edges)), edges.T), shape=(count, count))
    _, group = connected_components(graph, directed=False)
    _, first = np.unique(group, return_index=True)
    return np.asarray(first[group], np.int64)
