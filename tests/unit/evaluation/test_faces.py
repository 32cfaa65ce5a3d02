import base64

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd

from facewright.evaluation.faces import MOST_PAIRS, gallery, thumbnail, worst_pairs

from ...generated_answers import crop


def decoded(address: str) -> npt.NDArray[np.uint8]:
    start = "data:image/jpeg;base64,"
    assert address.startswith(start)
    data = np.frombuffer(base64.b64decode(address.removeprefix(start)), np.uint8)
    return cv2.imdecode(data, cv2.IMREAD_COLOR_RGB)


def test_a_thumbnail_is_the_crop() -> None:
    image = crop("some photo")
    shown = decoded(thumbnail(image))
    assert shown.shape == image.shape
    assert np.abs(shown.astype(int) - image).max() < 12


def test_colours_are_not_swapped() -> None:
    red = np.zeros((112, 112, 3), np.uint8)
    red[..., 0] = 200
    assert decoded(thumbnail(red)).mean(axis=(0, 1)).argmax() == 0


def test_a_large_picture_becomes_small() -> None:
    assert decoded(thumbnail(np.zeros((300, 600, 3), np.uint8))).shape == (56, 112, 3)


def test_worst_pairs_are_the_wrong_ends_without_lost_faces() -> None:
    rng = np.random.default_rng(0)
    scores = pd.DataFrame(
        {
            "label": rng.integers(0, 2, 200),
            "a": [f"a{n}" for n in range(200)],
            "b": [f"b{n}" for n in range(200)],
            "similarity": rng.random(200),
            "status": "ok",
        }
    )
    scores.loc[::7, ["similarity", "status"]] = np.nan, "failure"
    found = worst_pairs(scores)
    for kind, label, sign in (("genuine", 1, 1), ("impostor", 0, -1)):
        values = np.sort(sign * scores.loc[scores["label"] == label, "similarity"].dropna())
        assert (sign * found[kind]["similarity"]).tolist() == values[:MOST_PAIRS].tolist()


def test_a_pair_at_the_threshold_is_accepted() -> None:
    pairs = pd.DataFrame({"a": "x", "b": "y", "similarity": [0.4999, 0.5]})
    assert gallery(pairs, crop, threshold=0.5).count("rejected") == 1
    assert "0.500 accepted" in gallery(pairs, crop, threshold=0.5)
