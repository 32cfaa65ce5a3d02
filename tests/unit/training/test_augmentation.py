"""Augmentation: nothing at zero, bounded, exact where it can be said, the same in parts."""

import math

import pytest
import torch

from facewright.training.augmentation import LUMA, NAMES, Changes, apply_changes, draw_changes

OFF = dict.fromkeys(NAMES, 0.0)
ALL = OFF | {
    "flip": 0.5,
    "rotation": 10.0,
    "zoom": 0.08,
    "shift": 0.05,
    "brightness": 0.2,
    "contrast": 0.15,
    "saturation": 0.1,
    "erase": 0.5,
    "grey": 0.3,
}


def plain(crops: torch.Tensor) -> torch.Tensor:
    """Black to -1, white to 1, channels first; nothing else."""
    return crops.permute(0, 3, 1, 2) / 127.5 - 1


def seeded(seed: int = 5) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def crops() -> torch.Tensor:
    """Smooth colour fields, so that resampling between pixels is nearly exact."""
    y, x = torch.meshgrid(torch.linspace(0, 1, 112), torch.linspace(0, 1, 112), indexing="ij")
    layers = [x, y, (x + y) / 2]
    crop = torch.stack([255 * layer for layer in layers], dim=2)
    return torch.stack([crop, crop * 0.5 + 20, 255 - crop, crop * 0.8]).to(torch.uint8)


def changed(crops: torch.Tensor, **settings: float) -> torch.Tensor:
    return apply_changes(crops, draw_changes(len(crops), OFF | settings, seeded()))


def test_everything_off_is_the_plain_conversion(crops: torch.Tensor) -> None:
    torch.testing.assert_close(changed(crops), plain(crops), rtol=0, atol=1e-4)


def test_output_stays_in_range_and_is_channels_last(crops: torch.Tensor) -> None:
    images = changed(crops, **ALL)
    assert images.shape == (4, 3, 112, 112)
    assert images.dtype == torch.float32
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert images.min() >= -1
    assert images.max() <= 1


def test_a_certain_flip_is_the_mirror_image(crops: torch.Tensor) -> None:
    torch.testing.assert_close(changed(crops, flip=1.0), plain(crops).flip(3), rtol=0, atol=1e-4)


def test_a_quarter_turn_is_exact(crops: torch.Tensor) -> None:
    changes = draw_changes(4, OFF, seeded())
    quarter = torch.tensor([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0]]).expand(4, 2, 3)
    turned = apply_changes(
        crops, Changes(quarter, changes.colour, changes.lift, changes.rectangle, changes.fill)
    )
    expected = torch.rot90(plain(crops), k=1, dims=(2, 3))
    torch.testing.assert_close(turned, expected, rtol=0, atol=1e-4)


def test_affine_maps_are_similarities_within_their_bounds() -> None:
    changes = draw_changes(4000, OFF | {"rotation": 10, "zoom": 0.08, "shift": 0.05}, seeded())
    across, down = changes.affine[:, 0], changes.affine[:, 1]
    zoom = 1 / across[:, :2].norm(dim=1)
    angle = torch.rad2deg(torch.atan2(down[:, 0], across[:, 0]))
    torch.testing.assert_close(across[:, 0], down[:, 1])
    torch.testing.assert_close(across[:, 1], -down[:, 0])
    for values, low, high in ((zoom, 0.92, 1.08), (angle, -10, 10), (across[:, 2], -0.1, 0.1)):
        span = high - low
        assert low <= values.min() <= low + 0.02 * span
        assert high - 0.02 * span <= values.max() <= high


def test_turning_is_by_the_angle_said() -> None:
    """A bright dot right of the centre moves on a circle around it."""
    crop = torch.zeros(1, 112, 112, 3, dtype=torch.uint8)
    crop[0, 53:59, 93:99] = 255  # centre at (96, 56), 40 px right of the middle
    generator = seeded(1)
    changes = draw_changes(1, OFF | {"rotation": 90.0}, generator)
    angle = math.atan2(changes.affine[0, 1, 0].item(), changes.affine[0, 0, 0].item())
    weight = (apply_changes(crop, changes)[0, 0] + 1).double()
    places = torch.arange(112) + 0.5
    x = (weight.sum(0) * places).sum() / weight.sum()
    y = (weight.sum(1) * places).sum() / weight.sum()
    assert x.item() == pytest.approx(56 + 40 * math.cos(angle), abs=0.3)
    assert y.item() == pytest.approx(56 - 40 * math.sin(angle), abs=0.3)


def test_grey_keeps_the_luma_and_drops_the_colour(crops: torch.Tensor) -> None:
    images, before = changed(crops, grey=1.0), plain(crops)
    torch.testing.assert_close(images[:, 0], images[:, 1])
    torch.testing.assert_close(images[:, 0], images[:, 2])
    luma = torch.einsum("nchw,c->nhw", before, torch.tensor(LUMA))
    torch.testing.assert_close(images[:, 0], luma, rtol=0, atol=1e-4)


def test_brightness_scales_and_contrast_keeps_the_mean(crops: torch.Tensor) -> None:
    dim = crops // 2 + 30  # no value reaches the ends, so that nothing is clamped
    before = (plain(dim) + 1) / 2
    brighter = (changed(dim, brightness=0.2) + 1) / 2
    ratio = (brighter / before).flatten(1)
    torch.testing.assert_close(ratio.amin(1), ratio.amax(1), rtol=1e-3, atol=0)
    assert len(set(ratio.mean(1).round(decimals=3).tolist())) == 4  # each crop has its own
    contrast = (changed(dim, contrast=0.15) + 1) / 2
    weights = torch.tensor(LUMA)
    mean = [torch.einsum("nchw,c->nhw", v, weights).mean((1, 2)) for v in (before, contrast)]
    torch.testing.assert_close(mean[0], mean[1], rtol=0, atol=1e-3)
    assert (before.std((1, 2, 3)) / contrast.std((1, 2, 3)) - 1).abs().min() > 1e-3


def test_erased_rectangles_have_5_to_20_percent_of_the_area_and_one_colour() -> None:
    crops = torch.full((200, 112, 112, 3), 128, dtype=torch.uint8)
    changes = draw_changes(200, OFF | {"erase": 1.0}, seeded())
    different = (apply_changes(crops, changes) - plain(crops)).abs().amax(1) > 0.01
    shares = different.float().mean((1, 2))
    assert shares.min() > 0.045
    assert shares.max() < 0.21
    assert shares.std() > 0.03
    images = apply_changes(crops, changes)
    for image, mask in zip(images, different, strict=True):
        inside = image[:, mask]
        assert (inside == inside[:, :1]).all()
        rows, columns = mask.any(1).sum(), mask.any(0).sum()
        assert rows * columns == mask.sum()  # a full rectangle


def test_chances_are_what_they_say() -> None:
    changes = draw_changes(4000, OFF | {"flip": 0.5, "erase": 0.2}, seeded())
    assert (changes.affine[:, 0, 0] < 0).float().mean().item() == pytest.approx(0.5, abs=0.03)
    erased = changes.rectangle[:, 2] > changes.rectangle[:, 0]
    assert erased.float().mean().item() == pytest.approx(0.2, abs=0.03)


def test_a_part_of_a_batch_is_changed_as_in_the_whole(crops: torch.Tensor) -> None:
    changes = draw_changes(4, ALL, seeded())
    whole = apply_changes(crops, changes)
    torch.testing.assert_close(
        apply_changes(crops[1:3], changes[1:3]), whole[1:3], rtol=0, atol=1e-5
    )


def test_a_seed_fixes_the_changes(crops: torch.Tensor) -> None:
    assert torch.equal(changed(crops, **ALL), changed(crops, **ALL))
    other = apply_changes(crops, draw_changes(4, ALL, seeded(6)))
    assert not torch.allclose(other, changed(crops, **ALL), atol=0.05)
