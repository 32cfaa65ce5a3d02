"""The arithmetic beneath the sample set, and the rasteriser, against plain references."""

import ast
import math
from pathlib import Path

import numpy as np
import pytest

from facewright.datasets.sample import exact, raster

ROOM = Path(exact.__file__).parent
# What changes its last bits with the vector unit, the C library or the order of a reduction.
INEXACT = {
    "sum", "mean", "dot", "matmul", "einsum", "inner", "vdot", "tensordot", "convolve", "std",
    "var", "cumprod", "prod", "exp", "log", "power", "pow", "sin", "cos", "tan", "arctan2",
    "tanh", "interp", "linalg", "hypot", "cbrt", "average", "bincount", "random", "outer",
}  # fmt: skip


@pytest.mark.parametrize("path", sorted(ROOM.glob("*.py")), ids=lambda p: p.name)
def test_no_arithmetic_that_differs_between_machines(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute):
            assert node.attr not in INEXACT, f"{path.name}:{node.lineno} uses .{node.attr}"
        if isinstance(node, ast.BinOp):
            assert not isinstance(node.op, ast.MatMult | ast.Pow), f"{path.name}:{node.lineno}"


def test_sine_and_cosine_follow_the_library() -> None:
    turns = np.linspace(-2.3, 2.3, 5001).astype(np.float32)
    s, c = exact.sine_cosine(turns)
    reference = turns.astype(np.float64) * 2 * math.pi
    assert np.abs(s - np.sin(reference)).max() < 2e-5
    assert np.abs(c - np.cos(reference)).max() < 2e-5


def test_the_spline_goes_through_its_knots_and_is_exact_on_a_line() -> None:
    knots = [0.3, -1.0, 2.5, 2.0]
    at = np.array([0, 1, 2, 3], np.float32)
    np.testing.assert_allclose(exact.spline(knots, at), knots, atol=1e-6)
    line = [1.0, 3.0, 5.0, 7.0, 9.0]
    at = np.linspace(1, 3, 21).astype(np.float32)
    np.testing.assert_allclose(exact.spline(line, at), 1 + 2 * at, atol=1e-5)


def test_ramp_and_bump_reach_their_ends() -> None:
    x = np.array([-1, 0, 0.5, 1, 2], np.float32)
    np.testing.assert_allclose(exact.ramp(x, 0, 1), [0, 0, 0.5, 1, 1])
    np.testing.assert_allclose(exact.ramp(x, 1, 0), [1, 1, 0.5, 0, 0])
    np.testing.assert_allclose(exact.bump(np.array([0, 0.5, 1, 4], np.float32)), [1, 0.125, 0, 0])


def test_noise_is_smooth_spread_out_and_wraps() -> None:
    grid = np.linspace(0, 63, 400).astype(np.float32)
    x, y = np.meshgrid(grid, grid)
    noise = exact.value_noise(x, y, 7)
    assert noise.min() >= 0
    assert noise.max() < 1
    assert abs(noise.mean() - 0.5) < 0.02
    assert np.abs(np.diff(noise, axis=1)).max() < 0.3
    np.testing.assert_allclose(exact.value_noise(x + 64, y - 64, 7), noise, atol=1e-3)
    assert not np.array_equal(exact.value_noise(x, y, 8), noise)


def test_draws_do_not_depend_on_one_another() -> None:
    first, second = exact.Dice("key"), exact.Dice("key")
    second.unit("something else")
    assert first.unit("name") == second.unit("name")
    assert first.unit("name") != exact.Dice("other").unit("name")
    counts = np.bincount([exact.Dice(f"k{i}").index("w", (1, 3)) for i in range(2000)])
    assert 0.70 < counts[1] / 2000 < 0.80


def _slow(px, py, depth, triangles, size):  # type: ignore[no-untyped-def]
    """Every sample against every triangle."""
    best = np.full((size, size), -np.inf)
    owner = np.full((size, size), -1)
    for t, (a, b, c) in enumerate(triangles):
        area = (px[b] - px[a]) * (py[c] - py[a]) - (py[b] - py[a]) * (px[c] - px[a])
        if area <= 1e-6:
            continue
        for row in range(size):
            for column in range(size):
                x, y = column + 0.5, row + 0.5
                wb = ((x - px[a]) * (py[c] - py[a]) - (y - py[a]) * (px[c] - px[a])) / area
                wc = ((px[b] - px[a]) * (y - py[a]) - (py[b] - py[a]) * (x - px[a])) / area
                if min(wb, wc, 1 - wb - wc) < 0:
                    continue
                z = depth[a] * (1 - wb - wc) + depth[b] * wb + depth[c] * wc
                if z > best[row, column]:
                    best[row, column], owner[row, column] = z, t
    return owner


def test_the_rasteriser_agrees_with_a_slow_one() -> None:
    rng = np.random.default_rng(3)
    size, count = 24, 40
    px, py = (rng.uniform(-4, size + 4, 3 * count).astype(np.float32) for _ in range(2))
    depth = rng.uniform(0, 1, 3 * count).astype(np.float32)
    triangles = np.arange(3 * count).reshape(-1, 3)
    got = np.full(size * size, -1)
    seen = raster.visible(px, py, depth, triangles, size)
    got[seen.sample] = seen.triangle
    expected = _slow(*(a.astype(np.float64) for a in (px, py, depth)), triangles, size)
    # Samples within the slack of an edge may go either way.
    assert (got.reshape(size, size) != expected).mean() < 0.005
    assert (expected >= 0).mean() > 0.5
    # Interpolating the vertices' own places gives back the sample's place.
    np.testing.assert_allclose(seen.values(px), seen.sample % size + 0.5, atol=1e-3)
    np.testing.assert_allclose(seen.values(py), seen.sample // size + 0.5, atol=1e-3)
