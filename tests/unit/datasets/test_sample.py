"""The built-in sample set: the same everywhere, two disjoint halves, fair pairs."""

import hashlib
import io
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from facewright.datasets import sample
from facewright.datasets.sample import album
from facewright.datasets.sample.album import identities, jpeg, render_scene

# SHA-256 of the raw RGB pixels, and of the JPEG file that Pillow 13 writes from them.
PINNED = {
    (0, 0): (
        "af2ad763f2e19951326e8e2b9a1d4d4110bfdf5df4a8c8812bfa2164511498a0",
        "b176655c4ca7ded5be7418a076988ec34d84d5ec56679ed3704737821b20c117",
    ),
    (53, 4): (
        "55b6ca7eb36be92b064862d004238bd936f13838b3ce2a6b3cbf4a887d7b03d4",
        "81c7fded436b809e1282e968da259d282c25cb7fd3ec0bdcdac4f723e994ec12",
    ),
    (152, 9): (
        "28457b1b25ffd18653af569603baed057b1c72c4f68aeaf24a8b0ba7c198f262",
        "723ed378eedc364f271f41b9e6e7afa0a3d38d9340376044b3c4ffd89aedb128",
    ),
}


@pytest.mark.parametrize("which", list(PINNED))
def test_pixels_and_files_are_the_pinned_ones(which: tuple[int, int]) -> None:
    image = sample.render_photo(*which)
    pixels, file = PINNED[which]
    assert hashlib.sha256(image.tobytes()).hexdigest() == pixels
    assert hashlib.sha256(jpeg(image)).hexdigest() == file


def test_a_photo_is_a_pure_function_of_its_arguments() -> None:
    by_number = sample.render_photo(31, 4)
    sample.render_photo(32, 0)
    by_name = sample.render_photo("sample-0031", 4)
    assert by_number.shape == (224, 224, 3)
    assert by_number.dtype == np.uint8
    np.testing.assert_array_equal(by_number, by_name)


def test_people_and_photos_differ() -> None:
    images = [sample.render_photo(i, k).tobytes() for i in (2, 3) for k in (0, 1)]
    assert len(set(images)) == 4


def test_the_jpeg_stays_close_to_the_pixels_it_was_made_from() -> None:
    image = sample.render_photo(5, 2)
    again = np.asarray(Image.open(io.BytesIO(jpeg(image))).convert("RGB"))
    assert np.abs(again.astype(int) - image.astype(int)).mean() < 3.0


@pytest.mark.parametrize("number", [0, 17, 58, 133])
def test_points_lie_inside_the_photo_and_in_their_order(number: int) -> None:
    for photo in range(3):
        left_eye, right_eye, nose, left_mouth, right_mouth = render_scene(number, photo).points
        for point in (left_eye, right_eye, nose, left_mouth, right_mouth):
            assert (point > 0).all()
            assert (point < 224).all()
        assert left_eye[0] < right_eye[0]
        assert left_mouth[0] < right_mouth[0]
        assert max(left_eye[1], right_eye[1]) < max(left_mouth[1], right_mouth[1])
        assert 15 < np.hypot(*(right_eye - left_eye)) < 60


def test_halves_share_no_identity() -> None:
    train, verify = identities("train"), identities("verify")
    assert len(train) == sample.TRAIN_IDENTITIES
    assert len(verify) == sample.VERIFY_IDENTITIES
    assert not set(train) & set(verify)


def test_the_bytes_do_not_depend_on_the_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(album, "identities", lambda half: ["sample-0007", "sample-0008"])
    alone = list(sample.photos("train", workers=1))
    together = list(sample.photos("train", workers=2))
    assert alone == together
    names = [name for _, name, _ in alone]
    assert names == sorted(names)
    assert names[0] == "sample-0007_00.jpg"
    assert len(names) == 2 * sample.PHOTOS_PER_IDENTITY
    assert all(name.startswith(identity) for identity, name, _ in alone)


def test_an_unknown_half_or_no_worker_is_refused() -> None:
    with pytest.raises(ValueError, match="'train' and 'verify'"):
        next(sample.photos("test", workers=1))
    with pytest.raises(ValueError, match="at least 1"):
        next(sample.photos("verify", workers=0))


def test_pairs_are_balanced_unique_and_from_disjoint_folds() -> None:
    pairs = sample.pairs()
    assert len(pairs) == 3000
    assert Counter((fold, label) for fold, label, _, _ in pairs) == {
        (fold, label): 150 for fold in range(10) for label in (0, 1)
    }
    assert len({frozenset((a, b)) for _, _, a, b in pairs}) == len(pairs)
    known = set(identities("verify"))
    fold_of: dict[str, int] = {}
    for fold, label, a, b in pairs:
        one, other = a[: a.index("_")], b[: b.index("_")]
        assert (one == other) == bool(label)
        for who in (one, other):
            assert who in known
            assert fold_of.setdefault(who, fold) == fold
    assert fold_of.keys() == known


def test_pairs_are_the_pinned_ones() -> None:
    text = "\n".join(f"{f} {label} {a} {b}" for f, label, a, b in sample.pairs())
    assert hashlib.sha256(text.encode()).hexdigest() == (
        "8bf90143d77ea8e7c2820413c03f656a47d528b3c2116aa55aadb6e7a4f97842"
    )
