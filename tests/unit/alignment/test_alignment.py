"""Properties of the similarity transform, the crop and its quality."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facewright.alignment import (
    ARCFACE_TEMPLATE,
    crop_face,
    crop_quality,
    similarity_transform,
)


def moved(points, *, angle, scale, shift):
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return scale * points @ turn.T + shift


def applied(matrix, points):
    return points @ matrix[:, :2].T + matrix[:, 2]


@settings(max_examples=100, deadline=None)
@given(
    angle=st.floats(-3.1, 3.1),
    scale=st.floats(0.01, 100),
    x=st.floats(-1e4, 1e4),
    y=st.floats(-1e4, 1e4),
)
def test_moved_points_return_to_the_template(angle, scale, x, y):
    points = moved(ARCFACE_TEMPLATE, angle=angle, scale=scale, shift=[x, y])
    matrix = similarity_transform(points)[0]
    np.testing.assert_allclose(applied(matrix, points), ARCFACE_TEMPLATE, atol=1e-6)
    # The inverse problem has the inverse answer.
    back = similarity_transform(ARCFACE_TEMPLATE, points)[0]
    corners = np.array([[0, 0], [112, 0], [0, 112.0]])
    np.testing.assert_allclose(applied(matrix, applied(back, corners)), corners, atol=1e-6)


def test_equals_lstsq_and_umeyama():
    rng = np.random.default_rng(0)
    many = ARCFACE_TEMPLATE * 2 + rng.normal(0, 8, (50, 5, 2))
    for points, matrix in zip(many, similarity_transform(many), strict=True):
        x, y = points.T
        one, zero = np.ones(5), np.zeros(5)
        rows = np.concatenate(
            [np.stack([x, -y, one, zero], axis=1), np.stack([y, x, zero, one], axis=1)]
        )
        a, b, c, d = np.linalg.lstsq(rows, ARCFACE_TEMPLATE.T.reshape(-1), rcond=None)[0]
        np.testing.assert_allclose(matrix, [[a, -b, c], [b, a, d]], atol=1e-9)
        np.testing.assert_allclose(matrix, umeyama(points, ARCFACE_TEMPLATE), atol=1e-9)


def umeyama(source, target):
    """Equations 40 to 42 of Umeyama 1991, with singular values."""
    start, end = source.mean(0), target.mean(0)
    u, values, vt = np.linalg.svd((target - end).T @ (source - start) / len(source))
    sign = np.array([1.0, np.linalg.det(u) * np.linalg.det(vt)])
    turn = u @ np.diag(sign) @ vt
    scale = (values * sign).sum() / ((source - start) ** 2).sum(1).mean()
    return np.concatenate([scale * turn, (end - scale * turn @ start)[:, None]], axis=1)


def test_mirrored_points_are_not_reflected():
    mirrored = ARCFACE_TEMPLATE * [-1, 1]
    matrix = similarity_transform(mirrored)[0]
    assert np.linalg.det(matrix[:, :2]) > 0
    assert np.abs(applied(matrix, mirrored) - ARCFACE_TEMPLATE).max() > 10


def test_points_that_determine_nothing_are_marked_and_leave_the_others_alone():
    good = ARCFACE_TEMPLATE + 3
    broken = good.copy()
    broken[2, 0] = np.nan
    stack = np.stack([good, np.full((5, 2), 1e5 / 3), broken, np.full((5, 2), np.inf)])
    matrices = similarity_transform(stack)
    assert np.isfinite(matrices).all(axis=(1, 2)).tolist() == [True, False, False, False]
    np.testing.assert_allclose(matrices[0], [[1, 0, -3], [0, 1, -3]], atol=1e-9)


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="do not fit"):
        similarity_transform(np.zeros((4, 2)))


@pytest.mark.parametrize("size", [112, 224])
@pytest.mark.parametrize("scale", [0.6, 1.0, 2.7, 7.0])
def test_marks_of_an_image_land_on_the_template(size, scale):
    points = moved(ARCFACE_TEMPLATE, angle=0.4, scale=scale, shift=[60 * scale, 30 * scale])
    side = int(220 * scale)
    y, x = np.mgrid[:side, :side]
    for index, (px, py) in enumerate(points):
        # A soft spot per landmark: its centre of mass can be found to a fraction of a pixel.
        spot = np.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * (2.0 * scale) ** 2))
        image = np.repeat(np.rint(255 * spot)[..., None], 3, axis=2).astype(np.uint8)
        crop = crop_face(image, points, size=size)[..., 0].astype(float)
        v, u = np.mgrid[:size, :size]
        found = np.array([(crop * u).sum(), (crop * v).sum()]) / crop.sum()
        expected = (ARCFACE_TEMPLATE[index] + 0.5) * size / 112 - 0.5
        np.testing.assert_allclose(found, expected, atol=0.12 * size / 112)


def test_a_crop_at_the_template_is_the_image_itself():
    image = np.random.default_rng(1).integers(0, 256, (112, 112, 3), dtype=np.uint8)
    assert np.array_equal(crop_face(image, ARCFACE_TEMPLATE), image)


def test_strong_shrinking_averages_instead_of_aliasing():
    stripes = np.zeros((1120, 1120, 3), np.uint8)
    stripes[:, ::2] = 255
    points = moved(ARCFACE_TEMPLATE, angle=0.05, scale=9.3, shift=[20, 20])
    middle = crop_face(stripes, points)[20:90, 20:90].astype(float)
    assert middle.std() < 8
    assert abs(middle.mean() - 127.5) < 3


def test_outside_the_image_is_black():
    white = np.full((112, 112, 3), 255, np.uint8)
    crop = crop_face(white, ARCFACE_TEMPLATE - [40, 0])
    assert crop[:, 42:].min() == 255
    assert crop[:, :39].max() == 0


def test_a_crop_needs_landmarks_that_determine_it():
    with pytest.raises(ValueError, match="determine no crop"):
        crop_face(np.zeros((10, 10, 3), np.uint8), np.ones((5, 2)))


def textured():
    noise = np.random.default_rng(2).normal(128, 60, (112, 112, 3))
    return np.clip(cv2.GaussianBlur(noise, (0, 0), 0.8), 10, 245).astype(np.uint8)


def test_quality_falls_with_blur_darkness_distance_and_turning():
    crop, points = textured(), ARCFACE_TEMPLATE
    best = crop_quality(crop, points)
    blurred = crop_quality(cv2.GaussianBlur(crop, (0, 0), 3), points)
    dark = crop_quality((crop * 0.15).astype(np.uint8), points)
    far = crop_quality(crop, points / 3)
    turned = points.copy()
    turned[2] = points[0] * 0.7 + points[2] * 0.3
    side = crop_quality(crop, turned)
    assert blurred.sharpness < best.sharpness
    assert dark.exposure < best.exposure
    assert far.eye_distance == pytest.approx(best.eye_distance / 3)
    assert side.frontalness < best.frontalness
    for worse in (blurred, dark, far, side):
        assert 0 <= worse.total < best.total <= 1


def test_quality_reference_values():
    flat = crop_quality(np.full((112, 112, 3), 51, np.uint8), ARCFACE_TEMPLATE)
    assert (flat.sharpness, flat.total) == (0, 0)
    assert flat.exposure == pytest.approx(4 * 0.2 * 0.8)
    assert flat.eye_distance == pytest.approx(35.2377, abs=1e-3)
    assert flat.frontalness > 0.95
    assert crop_quality(np.zeros((112, 112, 3), np.uint8), ARCFACE_TEMPLATE).exposure == 0


def test_frontalness_ignores_how_the_face_lies_in_the_photo():
    crop = textured()
    points = ARCFACE_TEMPLATE + np.random.default_rng(3).normal(0, 3, (5, 2))
    turned = moved(points, angle=1.0, scale=4.0, shift=[300, -20])
    assert crop_quality(crop, turned).frontalness == pytest.approx(
        crop_quality(crop, points).frontalness
    )
