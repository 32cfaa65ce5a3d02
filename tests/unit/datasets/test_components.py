"""What edges join, against steps through the matrix of them all."""

import numpy as np

from facewright.datasets.components import components


def test_components_are_those_of_the_edges() -> None:
    random = np.random.default_rng(8)
    edges = random.integers(0, 60, (45, 2))
    joined = components(edges, count=60)
    reach = np.eye(60, dtype=bool)
    reach[edges[:, 0], edges[:, 1]] = reach[edges[:, 1], edges[:, 0]] = True
    for _ in range(60):
        reach = reach @ reach
    assert joined.tolist() == reach.argmax(axis=1).tolist()


def test_edges_that_are_there_often_join_as_one_does() -> None:
    edges = np.array([[3, 1]] * 256 + [[1, 1], [0, 2]])
    assert components(edges, count=5).tolist() == [0, 1, 0, 1, 4]
    assert components(edges[:0], count=3).tolist() == [0, 1, 2]
    assert components(edges[:0], count=0).tolist() == []
