"""Which triangle every sample of the picture sees."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from facewright.datasets.sample.exact import F32

Index = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Fragments:
    """The visible samples: flat index, and the three vertices with their weights, all (S,)."""

    sample: Index
    triangle: Index
    a: Index
    b: Index
    c: Index
    wa: F32
    wb: F32
    wc: F32

    def values(self, attribute: F32) -> F32:
        """A vertex attribute (V,) at the samples."""
        out: F32 = attribute[self.a] * self.wa
        out += attribute[self.b] * self.wb
        out += attribute[self.c] * self.wc
        return out


def visible(px: F32, py: F32, depth: F32, triangles: Index, size: int) -> Fragments:
    """Rasterise triangles (T, 3) over vertices (V,) in samples; `depth` grows towards the camera.

    Faces that turn away from the camera are left out. Sample (row, column) has its centre at
    (column + 0.5, row + 0.5).
    """
    half = np.float32(0.5)
    a, b, c = (np.ascontiguousarray(triangles[:, k]) for k in range(3))
    ax, ay, bx, by, cx, cy = px[a], py[a], px[b], py[b], px[c], py[c]
    area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
    top = np.maximum(np.ceil(np.minimum(np.minimum(ay, by), cy) - half), 0)
    bottom = np.minimum(np.floor(np.maximum(np.maximum(ay, by), cy) - half), size - 1)
    keep = np.flatnonzero((area > 1e-6) & (bottom >= top))
    ax, ay, bx, by, cx, cy = ax[keep], ay[keep], bx[keep], by[keep], cx[keep], cy[keep]
    inverse = 1 / area[keep]
    # Weights of the corners b and c as planes over the picture, zero at corner a.
    bdx, bdy = (cy - ay) * inverse, (ax - cx) * inverse
    cdx, cdy = (ay - by) * inverse, (bx - ax) * inverse

    # Depth as such a plane too.
    za = depth[a[keep]]
    zb, zc = depth[b[keep]] - za, depth[c[keep]] - za
    zdx, zdy = zb * bdx + zc * cdx, zb * bdy + zc * cdy

    # One entry for every row that a triangle touches: the columns where all weights are positive.
    order, row = _spread((bottom[keep] - top[keep]).astype(np.intp) + 1)
    row = row + top[keep].astype(np.intp)[order]
    dy = row.astype(np.float32) + half - ay[order]
    step_b, step_c = bdx[order], cdx[order]
    base_b, base_c = dy * bdy[order], dy * cdy[order]
    low = np.full_like(dy, -np.inf)
    high = np.full_like(dy, np.inf)
    for step, base in ((step_b, base_b), (step_c, base_c), (-step_b - step_c, 1 - base_b - base_c)):
        rising, falling = step > 0, step < 0
        cut = -base / np.where(rising | falling, step, 1)
        low = np.where(rising, np.maximum(low, cut), low)
        high = np.where(falling, np.minimum(high, cut), high)
    # A hair's breadth of overlap closes the seams between neighbours.
    start = ax[order]
    slack = np.float32(2e-3)
    left = np.maximum(np.ceil(start + low - half - slack), 0)
    right = np.minimum(np.floor(start + high - half + slack), size - 1)
    spans = np.flatnonzero(right >= left)
    order, left = order[spans], left[spans]
    dx = left + half - start[spans]
    first = row[spans] * size + left.astype(np.intp)
    step_b, step_c = step_b[spans], step_c[spans]
    base_b, base_c = base_b[spans] + dx * step_b, base_c[spans] + dx * step_c
    step_z = zdx[order]
    base_z = za[order] + dy[spans] * zdy[order] + dx * step_z

    # One entry for every sample; then only those that nothing hides.
    span, column = _spread((right[spans] - left).astype(np.intp) + 1)
    sample = first[span] + column
    along = column.astype(np.float32)
    z = base_z[span] + along * step_z[span]
    nearest = np.full(size * size, -np.inf, np.float32)
    np.maximum.at(nearest, sample, z)
    won = np.flatnonzero(z == nearest[sample])
    # Of equals the last one stays, so that every sample has one owner.
    owner = np.full(size * size, -1, np.intp)
    owner[sample[won]] = won
    sample = np.flatnonzero(owner >= 0)
    won = owner[sample]
    span, along = span[won], along[won]
    wb = base_b[span] + along * step_b[span]
    wc = base_c[span] + along * step_c[span]
    triangle = keep[order[span]]
    return Fragments(sample, triangle, a[triangle], b[triangle], c[triangle], 1 - wb - wc, wb, wc)


def _spread(count: Index) -> tuple[Index, Index]:
    """Entry i repeated count[i] times: (i, and 0 … count[i] − 1)."""
    order = np.repeat(np.arange(len(count)), count)
    first = np.cumsum(count) - count
    return order, np.arange(len(order)) - first[order]
