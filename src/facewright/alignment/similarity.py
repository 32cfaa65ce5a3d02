"""The similarity transform that brings five landmarks onto a template."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

# Left eye, right eye, nose, left and right mouth corner as seen in a 112×112 crop, in pixels from
# the centre of the first pixel. Of ArcFace (Deng et al. 2019), as in InsightFace's `face_align`.
ARCFACE_TEMPLATE: NDArray[np.float64] = np.array(
    [
        [38.2946, 51.6963],
        [73.5318, 51.5014],
        [56.0252, 71.7366],
        [41.5493, 92.3655],
        [70.7299, 92.2041],
    ]
)
ARCFACE_TEMPLATE.flags.writeable = False


def similarity_transform(
    points: ArrayLike, template: ArrayLike = ARCFACE_TEMPLATE
) -> NDArray[np.float64]:
    """Rotation, scale and shift, never a reflection, that take `points` to `template`.

    Least squares (Umeyama 1991). In the plane a similarity is `w = a z + b` over complex numbers,
    linear in `a` and `b`, so the fit needs no singular values:
    `a = sum(conj(z - mean z) (w - mean w)) / sum |z - mean z|^2`.

    Args:
        points: (N, 5, 2) or (5, 2), x and y; any number of points as long as the template has it.
        template: (5, 2).

    Returns:
        (N, 2, 3) float64 matrices `[[s cos, -s sin, x], [s sin, s cos, y]]`; N is 1 for (5, 2).
        NaN for points that determine none: all in one place, not finite, or so unlike the template
        that the best scale is 0.
    """
    source = np.asarray(points, np.float64)
    target = np.asarray(template, np.float64)
    source = source[None] if source.ndim == 2 else source
    if source.ndim != 3 or source.shape[1:] != target.shape or target.shape[1:] != (2,):
        raise ValueError(f"points {source.shape} do not fit the template {target.shape}")
    z, w = (np.ascontiguousarray(p).view(np.complex128)[..., 0] for p in (source, target))
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        middle = z.mean(axis=1, keepdims=True)
        centred = z - middle
        spread = (np.abs(centred) ** 2).sum(axis=1)
        shared = (centred.conj() * (w - w.mean())).sum(axis=1)
        a = shared / spread
        # Rounding leaves a trace of spread in points that coincide far from the origin.
        size = np.abs(z).max(axis=1)
        alike = np.abs(shared) / np.sqrt(spread * (np.abs(w - w.mean()) ** 2).sum())
        good = (spread > (1e-9 * size) ** 2) & (spread > 0) & (alike > 1e-6)
        b = w.mean() - a * middle[:, 0]
    rows = np.stack([a.real, -a.imag, b.real, a.imag, a.real, b.imag], axis=1)
    rows[~(good & np.isfinite(rows).all(axis=1))] = np.nan
    return rows.reshape(-1, 2, 3)
