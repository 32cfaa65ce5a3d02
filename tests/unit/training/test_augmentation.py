"""Augmentation: nothing at zero, bounded, exact where it can be said, the same in parts."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from facewright.training import augmentation
from facewright.training.augmentation import (
    LUMA,
    NAMES,
    apply_changes,
    augmentation_sheet,
    draw_changes,
)

OFF: dict[str, Any] = dict.fromkeys(NAMES, 0.0) | {
    "erase_area": [0.05, 0.2],
    "lowres_size": [0.2, 0.8],
    "lowres_blur": [0.3, 1.0],
    "noise_sigma": [0.01, 0.05],
    "salt_share": [0.02, 0.1],
    "jpeg_quality": [30, 95],
}
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
    "lowres": 0.5,
    "noise": 0.5,
    "salt": 0.5,
    "jpeg": 0.5,
}
# Which field of a change says that it strikes, and the function that changes the crops.
DEGRADATIONS = {
    "lowres": ("size", "low_resolution"),
    "noise": ("noise", "gaussian_noise"),
    "salt": ("salt", "salt_and_pepper"),
    "jpeg": ("quality", "jpeg"),
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


def changed(crops: torch.Tensor, **settings: Any) -> torch.Tensor:
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
    turned = apply_changes(crops, replace(changes, affine=quarter))
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


def test_colour_strengths_fill_the_ranges_asked_for() -> None:
    """Rows of `colour` add up to brightness · contrast, whatever the saturation."""
    strengths = {"brightness": 0.2, "contrast": 0.15, "saturation": 0.1}
    changes = draw_changes(4000, OFF | strengths, seeded())
    both = changes.colour[:, 0].sum(1)
    torch.testing.assert_close(changes.colour.sum(2), both[:, None].expand(-1, 3))
    brightness = changes.lift + both
    contrast = both / brightness
    saturation = (changes.colour[:, 0, 0] - changes.colour[:, 1, 0]) / both
    factors = {"brightness": brightness, "contrast": contrast, "saturation": saturation}
    for name, strength in strengths.items():
        low, high = factors[name].min().item(), factors[name].max().item()
        assert 1 - strength - 1e-5 <= low <= 1 - 0.98 * strength, name
        assert 1 + 0.98 * strength <= high <= 1 + strength + 1e-5, name
        assert factors[name].mean().item() == pytest.approx(1, abs=0.05 * strength), name


def test_saturation_moves_colours_away_from_their_luma(crops: torch.Tensor) -> None:
    dim = crops // 2 + 30  # nothing is clamped
    changes = draw_changes(4, OFF | {"saturation": 0.5}, seeded())
    saturation = changes.colour[:, 0, 0] - changes.colour[:, 1, 0]
    assert (saturation - 1).abs().min() > 0.01
    rgb = plain(dim)
    luma = torch.einsum("nchw,c->nhw", rgb, torch.tensor(LUMA)).unsqueeze(1)
    expected = luma + saturation.view(-1, 1, 1, 1) * (rgb - luma)
    torch.testing.assert_close(apply_changes(dim, changes), expected, rtol=0, atol=1e-4)


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


def test_the_erased_area_is_the_one_asked_for() -> None:
    crops = torch.full((50, 112, 112, 3), 128, dtype=torch.uint8)
    images = changed(crops, erase=1.0, erase_area=[0.4, 0.5])
    shares = ((images - plain(crops)).abs().amax(1) > 0.01).float().mean((1, 2))
    assert shares.min() > 0.38
    assert shares.max() < 0.52


def test_chances_are_what_they_say() -> None:
    chances = {"flip": 0.5, "erase": 0.2, "lowres": 0.3, "noise": 0.1, "salt": 0.7, "jpeg": 0.4}
    chances["grey"] = 0.15
    changes = draw_changes(4000, OFF | chances, seeded())
    for name, (field, _) in DEGRADATIONS.items():
        struck = getattr(changes, field) > 0
        assert struck.float().mean().item() == pytest.approx(chances[name], abs=0.03)
    assert (changes.affine[:, 0, 0] < 0).float().mean().item() == pytest.approx(0.5, abs=0.03)
    erased = changes.rectangle[:, 2] > changes.rectangle[:, 0]
    assert erased.float().mean().item() == pytest.approx(0.2, abs=0.03)
    grey = (changes.colour[:, 0] == changes.colour[:, 1]).all(1)
    assert grey.float().mean().item() == pytest.approx(0.15, abs=0.03)


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


def test_strengths_fill_the_ranges_asked_for() -> None:
    changes = draw_changes(4000, OFF | dict.fromkeys(DEGRADATIONS, 1.0), seeded())
    for values, name in (
        (changes.size, "lowres_size"),
        (changes.blur, "lowres_blur"),
        (changes.noise, "noise_sigma"),
        (changes.salt, "salt_share"),
    ):
        low, high = OFF[name]
        span = high - low
        assert low <= values.min() <= low + 0.02 * span
        assert high - 0.02 * span <= values.max() <= high
        assert values.mean().item() == pytest.approx((low + high) / 2, abs=0.02 * span)
    assert changes.quality.unique().tolist() == list(range(30, 96))
    assert len(changes.seed.unique()) > 3990


@pytest.mark.parametrize("name", ["erase", *DEGRADATIONS])
def test_only_the_crops_that_are_struck_change(crops: torch.Tensor, name: str) -> None:
    many = crops.repeat(8, 1, 1, 1)
    changes = draw_changes(32, OFF | {name: 0.5}, seeded())
    if name == "erase":
        struck = changes.rectangle[:, 2] > changes.rectangle[:, 0]
    else:
        struck = getattr(changes, DEGRADATIONS[name][0]) > 0
    assert 8 < struck.sum() < 24
    same = apply_changes(many, changes) == apply_changes(many, draw_changes(32, OFF, seeded()))
    assert torch.equal(same.flatten(1).all(1), ~struck)


@pytest.mark.parametrize("name", DEGRADATIONS)
def test_only_the_crops_that_are_struck_are_paid_for(
    crops: torch.Tensor, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    field, function = DEGRADATIONS[name]
    paid: list[int] = []

    def count(images: torch.Tensor, *amounts: torch.Tensor) -> torch.Tensor:
        paid.append(len(images))
        return images

    monkeypatch.setattr(augmentation, function, count)
    many = crops.repeat(8, 1, 1, 1)
    apply_changes(many, draw_changes(32, OFF, seeded()))
    assert paid == []
    changes = draw_changes(32, OFF | {name: 0.5}, seeded())
    apply_changes(many, changes)
    assert paid == [int((getattr(changes, field) > 0).sum())]


def test_a_change_that_is_off_needs_no_range_and_leaves_the_others_as_they_are() -> None:
    """The new draws come last: what was drawn before they existed is drawn still."""
    without = {name: value for name, value in ALL.items() if name not in ("jpeg_quality",)}
    one, other = draw_changes(9, ALL, seeded()), draw_changes(9, without | {"jpeg": 0}, seeded())
    for field in ("affine", "colour", "lift", "rectangle", "fill", "size", "noise", "salt"):
        assert torch.equal(getattr(one, field), getattr(other, field))
    assert other.quality.eq(0).all()


def test_parts_of_every_cut_are_changed_as_in_the_whole(crops: torch.Tensor) -> None:
    """With all changes on; JPEG's rounding could show the smallest difference."""
    many = crops.repeat(3, 1, 1, 1)
    changes = draw_changes(12, ALL, seeded())
    whole = apply_changes(many, changes)
    for size in (1, 4, 5):
        parts = [slice(start, start + size) for start in range(0, 12, size)]
        joined = torch.cat([apply_changes(many[part], changes[part]) for part in parts])
        torch.testing.assert_close(joined, whole, rtol=0, atol=1e-5)


def test_applying_never_asks_the_device() -> None:
    """A tensor without values raises where a number, a mask or a count is asked of it."""
    changes = draw_changes(8, ALL, seeded())
    crops = torch.empty(8, 112, 112, 3, dtype=torch.uint8, device="meta")
    images = apply_changes(crops, changes)
    assert images.shape == (8, 3, 112, 112)
    assert images.is_contiguous(memory_format=torch.channels_last)
    with pytest.raises(NotImplementedError):  # the proof that it would
        (images > 0).nonzero()


def test_a_sheet_shows_each_crop_as_it_is_and_then_changed(crops: torch.Tensor) -> None:
    faces = crops.numpy()
    sheet = augmentation_sheet(faces, ALL, seed=3, rows=3, columns=5)
    assert sheet.shape == (3 * 112, 5 * 112, 3)
    assert sheet.dtype == faces.dtype
    cells = sheet.reshape(3, 112, 5, 112, 3).swapaxes(1, 2)
    assert (cells[:, 0] == faces[:3]).all()
    for row in cells:
        assert len({cell.tobytes() for cell in row}) == 5
    assert (sheet == augmentation_sheet(faces, ALL, seed=3, rows=3, columns=5)).all()
    assert (sheet != augmentation_sheet(faces, ALL, seed=4, rows=3, columns=5)).any()


def test_a_sheet_without_changes_repeats_the_crops(crops: torch.Tensor) -> None:
    faces = crops.numpy()
    sheet = augmentation_sheet(faces, OFF, seed=3, rows=9, columns=3)  # more rows than crops
    cells = sheet.reshape(4, 112, 3, 112, 3).swapaxes(1, 2)
    assert (cells == faces[:, None]).all()
    flipped = augmentation_sheet(faces, OFF | {"flip": 1.0}, seed=3, rows=1, columns=2)
    assert (flipped[:, 112:] == faces[0][:, ::-1]).mean() > 0.99
    assert (flipped[:, :112] == faces[0]).all()
