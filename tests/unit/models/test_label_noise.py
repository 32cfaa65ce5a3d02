"""Label noise that was planted is found, and nothing else."""

import math

import numpy as np
import numpy.typing as npt
import pytest

from facewright.errors import TrainingError
from facewright.models import label_noise as module
from facewright.models.label_noise import label_noise

IDENTITIES, SUB_CENTRES, SIZE = 6, 3, 32
Floats = npt.NDArray[np.float64]


def at_angle(centre: Floats, degrees: float, generator: np.random.Generator) -> Floats:
    """A vector of some length at this angle to `centre`."""
    centre = centre / np.linalg.norm(centre)
    aside = generator.normal(size=SIZE)
    aside -= aside @ centre * centre
    aside /= np.linalg.norm(aside)
    angle = math.radians(degrees)
    length: float = generator.uniform(1, 20)
    return length * (math.cos(angle) * centre + math.sin(angle) * aside)


def planted() -> tuple[Floats, npt.NDArray[np.int64], Floats, npt.NDArray[np.str_], Floats]:
    """Embeddings, labels, weights; and the kind and angle of each crop.

    Sub-centres are orthogonal; the dominant one of identity i is i % 3. Per identity 12 crops are
    clean (10–70° off), 3 belong to the next sub-centre (80–90° off the dominant one), 2 are far
    from all (95–120°).
    """
    generator = np.random.default_rng(0)
    basis, _ = np.linalg.qr(generator.normal(size=(SIZE, SIZE)))
    weight = basis[: IDENTITIES * SUB_CENTRES] * generator.uniform(0.1, 3, (18, 1))
    rows, labels, kinds, angles = [], [], [], []
    for identity in range(IDENTITIES):
        main = weight[identity * SUB_CENTRES + identity % 3]
        other = weight[identity * SUB_CENTRES + (identity + 1) % 3]
        for number in range(17):
            if number < 12:
                kind, angle = "clean", 10.0 + 5 * number
                row = at_angle(main, angle, generator)
            elif number < 15:
                kind, angle = "other", 80.0
                unit = [v / np.linalg.norm(v) for v in (main, other)]
                row = math.cos(math.radians(80)) * unit[0] + math.sin(math.radians(80)) * unit[1]
            else:
                kind, angle = "far", 95.0 + number
                row = at_angle(main, angle, generator)
            rows.append(row)
            labels.append(identity)
            kinds.append(kind)
            angles.append(angle)
    order = generator.permutation(len(rows))
    return (
        np.array(rows)[order],
        np.array(labels)[order],
        weight,
        np.array(kinds)[order],
        np.array(angles)[order],
    )


def test_planted_noise_is_found_and_nothing_else() -> None:
    embeddings, labels, weight, kinds, angles = planted()
    found = label_noise(embeddings, labels, weight, sub_centres=SUB_CENTRES, largest_angle=75)
    np.testing.assert_allclose(found.angle, angles, atol=1e-9)
    assert found.dominant.tolist() == [0, 1, 2, 0, 1, 2]
    assert np.array_equal(found.dropped, kinds != "clean")
    assert not found.nearest_is_dominant[kinds == "other"].any()
    near = (kinds == "clean") & (angles <= 45)  # nearer than any that stands at a right angle
    assert found.nearest_is_dominant[near].all()


def test_each_crop_against_a_slow_reference() -> None:
    generator = np.random.default_rng(1)
    weight = generator.normal(size=(12, 5))
    embeddings, labels = generator.normal(size=(60, 5)), generator.integers(0, 4, 60)
    found = label_noise(embeddings, labels, weight, sub_centres=3, largest_angle=60)
    cosine = (embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)) @ (
        weight / np.linalg.norm(weight, axis=1, keepdims=True)
    ).T
    nearest = [int(np.argmax(cosine[n, 3 * k : 3 * k + 3])) for n, k in enumerate(labels)]
    for n, identity in enumerate(labels):
        votes = [nearest[i] for i in range(60) if labels[i] == identity]
        dominant = max(range(3), key=lambda k: (votes.count(k), -k))
        degrees = math.degrees(math.acos(cosine[n, 3 * identity + dominant]))
        assert found.dominant[identity] == dominant
        assert found.angle[n] == pytest.approx(degrees)
        assert found.nearest_is_dominant[n] == (nearest[n] == dominant)
        assert found.dropped[n] == (degrees > 60)


def test_chunks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    embeddings, labels, weight, *_ = planted()
    settings = {"sub_centres": SUB_CENTRES, "largest_angle": 75}
    whole = label_noise(embeddings, labels, weight, **settings)
    monkeypatch.setattr(module, "CHUNK", 7)
    parts = label_noise(embeddings, labels, weight, **settings)
    for field in ("angle", "nearest_is_dominant", "dropped", "dominant"):
        assert np.array_equal(getattr(whole, field), getattr(parts, field))


def test_an_identity_without_crops_has_no_dominant_sub_centre() -> None:
    embeddings, labels, weight, *_ = planted()
    some = labels != 4
    found = label_noise(
        embeddings[some], labels[some], weight, sub_centres=SUB_CENTRES, largest_angle=75
    )
    assert found.dominant.tolist() == [0, 1, 2, 0, -1, 2]
    none = label_noise(embeddings[:0], labels[:0], weight, sub_centres=3, largest_angle=75)
    assert len(none.angle) == len(none.dropped) == 0


def test_what_does_not_fit_is_refused() -> None:
    embeddings, labels, weight, *_ = planted()
    settings = {"sub_centres": SUB_CENTRES, "largest_angle": 75}
    with pytest.raises(TrainingError, match="do not fit"):
        label_noise(embeddings, labels, weight[:-1], **settings)
    with pytest.raises(TrainingError, match="do not fit"):
        label_noise(embeddings[:, 1:], labels, weight, **settings)
    with pytest.raises(TrainingError, match=r"labels 1 to 6.*identities 0 to 5"):
        label_noise(embeddings, labels + 1, weight, **settings)
    embeddings[8, 3] = np.nan
    with pytest.raises(TrainingError, match="crop 8 is not finite"):
        label_noise(embeddings, labels, weight, **settings)
