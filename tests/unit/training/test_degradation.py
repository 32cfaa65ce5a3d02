"""Degradation: against slow references, Pillow, and the distributions that are stated."""

import io
import math

import numpy as np
import pytest
import torch
from PIL import Image

from facewright.training.degradation import (
    CHROMA_STEPS,
    LUMA_STEPS,
    gaussian_noise,
    jpeg,
    low_resolution,
    salt_and_pepper,
)


def seeds(count: int, start: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(start)
    return torch.randint(-(2**31), 2**31, (count,), generator=generator).int()


def flat(count: int, value: float = 0.0, side: int = 112) -> torch.Tensor:
    return torch.full((count, 3, side, side), value)


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    """(6, 112, 112, 3) uint8: broad colours with fine grain, as photos have."""
    draw = np.random.default_rng(0)
    coarse = draw.uniform(30, 225, (6, 8, 8, 3)).astype(np.uint8)
    broad = [Image.fromarray(c).resize((112, 112), Image.Resampling.BICUBIC) for c in coarse]
    grain = draw.normal(0, 6, (6, 112, 112, 3))
    return (np.stack([np.asarray(b) for b in broad]) + grain).clip(0, 255).round().astype(np.uint8)


def as_images(pictures: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(pictures).permute(0, 3, 1, 2) / 127.5 - 1


def as_pixels(images: torch.Tensor) -> np.ndarray:
    return ((images + 1) * 127.5).permute(0, 2, 3, 1).numpy()


# --- low resolution ------------------------------------------------------------------------------


@pytest.mark.parametrize("small", [(20, 13), (9, 6), (1, 1), (25, 16)])
def test_low_resolution_is_area_averages_then_pillows_bilinear(small: tuple[int, int]) -> None:
    rows, columns = 30, 19
    images = torch.rand((2, 3, rows, columns), generator=torch.Generator().manual_seed(1)) * 2 - 1
    size = small[0] / rows
    assert max(1, round(size * columns)) == small[1]
    ours = low_resolution(images, torch.full((2,), size), torch.zeros(2))
    for image, lowered in zip(images.flatten(0, 1), ours.flatten(0, 1), strict=True):
        # Each pixel cut into as many as there are small ones: then whole ones can be averaged.
        fine = image.numpy().repeat(small[0], axis=0).repeat(small[1], axis=1)
        shrunk = fine.reshape(small[0], rows, small[1], columns).mean(axis=(1, 3))
        enlarged = Image.fromarray(shrunk).resize((columns, rows), Image.Resampling.BILINEAR)
        np.testing.assert_allclose(lowered.numpy(), np.asarray(enlarged), rtol=0, atol=1e-5)


def test_blur_is_a_gaussian_and_each_crop_has_its_own() -> None:
    dot = torch.zeros(3, 3, 41, 41)
    dot[:, :, 20, 20] = 1
    sigmas = torch.tensor([0.0, 0.7, 2.0])
    blurred = low_resolution(dot, torch.ones(3), sigmas)
    assert torch.equal(blurred[0], dot[0])
    for image, sigma in zip(blurred[1:], sigmas[1:].tolist(), strict=True):
        for y, x in ((20, 20), (20, 21), (18, 23), (15, 20)):
            square = (y - 20) ** 2 + (x - 20) ** 2
            total = sum(math.exp(-d * d / (2 * sigma**2)) for d in range(-20, 21)) ** 2
            expected = math.exp(-square / (2 * sigma**2)) / total
            assert image[1, y, x].item() == pytest.approx(expected, abs=1e-6)


def test_full_size_without_blur_changes_nothing(pictures: np.ndarray) -> None:
    images = as_images(pictures)
    assert torch.equal(low_resolution(images, torch.ones(6), torch.zeros(6)), images)


def test_a_flat_picture_stays_flat_and_a_smaller_one_loses_more(pictures: np.ndarray) -> None:
    lowered = low_resolution(flat(2, 0.3), torch.tensor([0.2, 0.5]), torch.tensor([1.5, 0.0]))
    torch.testing.assert_close(lowered, flat(2, 0.3), rtol=0, atol=1e-5)
    images = as_images(pictures[:1]).expand(4, 3, 112, 112)
    lowered = low_resolution(images, torch.tensor([0.9, 0.6, 0.3, 0.1]), torch.zeros(4))
    lost = (lowered - images).square().mean((1, 2, 3))
    assert (lost.diff() > 0).all()


# --- noise ---------------------------------------------------------------------------------------


def test_noise_has_the_mean_the_sigma_and_the_tails_of_a_normal_distribution() -> None:
    sigma = torch.tensor([0.01, 0.02, 0.05, 0.05])
    noise = gaussian_noise(flat(4), sigma, seeds(4)) / 2  # of full scale: black to white is 2
    places = noise[0].numel()
    assert (noise.mean((1, 2, 3)).abs() < 4 * sigma / math.sqrt(places)).all()
    torch.testing.assert_close(noise.std((1, 2, 3)), sigma, rtol=0.02, atol=0)
    within = (noise.abs() / sigma.view(-1, 1, 1, 1)).flatten(1)
    for reach, share in ((1, 0.6827), (2, 0.9545), (3, 0.9973)):
        torch.testing.assert_close(
            (within < reach).float().mean(1), torch.full((4,), share), rtol=0, atol=0.01
        )


def test_noise_is_independent_over_crops_channels_and_neighbours() -> None:
    # Seeds that differ in one bit, the hardest case for a hash.
    noise = gaussian_noise(flat(3), torch.full((3,), 0.02), torch.tensor([6, 7, 6 - 2**31]).int())
    pairs = [
        (noise[0], noise[1]),
        (noise[0], noise[2]),
        (noise[:, 0], noise[:, 1]),
        (noise[:, 1], noise[:, 2]),
        (noise[..., 1:], noise[..., :-1]),
        (noise[..., 1:, :], noise[..., :-1, :]),
        (noise.abs()[..., 1:], noise.abs()[..., :-1]),
    ]
    for one, other in pairs:
        together = torch.stack((one.flatten(), other.flatten()))
        assert abs(torch.corrcoef(together)[0, 1].item()) < 5 / math.sqrt(one.numel())


def slow_uniform(seed: int, place: int) -> float:
    """The hash in Python's unbounded whole numbers."""

    def mix(value: int) -> int:
        for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
            value ^= value >> shift
            value = value * factor % 2**32
        return value

    mixed = mix(mix(place) ^ (seed % 2**32))
    signed = mixed - 2**32 if mixed >= 2**31 else mixed
    return ((signed >> 8) | 1) / 2**23


def test_noise_is_the_hash_of_seed_and_place() -> None:
    start = seeds(5)
    noise = gaussian_noise(flat(5, side=16), torch.full((5,), 0.05), start)
    salted = salt_and_pepper(flat(5, side=16), torch.full((5,), 0.5), start)
    for crop, channel, y, x in ((0, 0, 0, 0), (1, 2, 15, 15), (2, 1, 3, 7), (3, 0, 9, 1)):
        place = (channel * 16 + y) * 16 + x
        uniform = slow_uniform(int(start[crop]), place)
        expected = 2 * 0.05 * math.sqrt(2) * torch.erfinv(torch.tensor(uniform)).item()
        assert noise[crop, channel, y, x].item() == pytest.approx(expected, abs=1e-6)
    for crop in range(5):
        for y, x in ((0, 0), (4, 11), (15, 15)):
            uniform = slow_uniform(int(start[crop]), 3 * 256 + y * 16 + x)
            expected = math.copysign(1, uniform) if abs(uniform) > 0.5 else 0.0
            assert (salted[crop, :, y, x] == expected).all()


def test_no_noise_and_no_salt_change_nothing(pictures: np.ndarray) -> None:
    images = as_images(pictures)
    assert torch.equal(gaussian_noise(images, torch.zeros(6), seeds(6)), images)
    assert torch.equal(salt_and_pepper(images, torch.zeros(6), seeds(6)), images)


def test_a_crops_noise_is_its_seeds_wherever_it_stands(pictures: np.ndarray) -> None:
    images, start = as_images(pictures), seeds(6)
    for change, amount in ((gaussian_noise, 0.03), (salt_and_pepper, 0.05)):
        whole = change(images, torch.full((6,), amount), start)
        assert torch.equal(whole, change(images, torch.full((6,), amount), start))
        part = change(images[2:5].clone(), torch.full((3,), amount), start[2:5])
        assert torch.equal(part, whole[2:5])
        assert not torch.equal(whole, change(images, torch.full((6,), amount), seeds(6, 1)))


def test_noise_is_clamped() -> None:
    images = gaussian_noise(flat(1, 0.99), torch.tensor([0.05]), seeds(1))
    assert images.max() == 1
    assert (images == 1).float().mean().item() == pytest.approx(0.46, abs=0.02)


def test_salt_strikes_its_share_of_the_pixels_half_white_half_black() -> None:
    share = torch.tensor([0.02, 0.06, 0.1, 1.0])
    images = salt_and_pepper(flat(4, 0.2), share, seeds(4))
    assert torch.equal(images[:, 0], images[:, 1])  # a pixel is struck in all its channels
    assert torch.equal(images[:, 0], images[:, 2])
    white, black = (images[:, 0] == 1).float(), (images[:, 0] == -1).float()
    torch.testing.assert_close((white + black).mean((1, 2)), share, rtol=0, atol=0.008)
    torch.testing.assert_close(white.mean((1, 2)), share / 2, rtol=0, atol=0.015)
    untouched = (white + black) == 0
    assert (images[:, 0][untouched] == 0.2).all()


# --- JPEG ----------------------------------------------------------------------------------------


def through_pillow(picture: np.ndarray, quality: int) -> Image.Image:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=quality)
    return Image.open(file)


@pytest.mark.parametrize("quality", [10, 30, 50, 75, 95])
def test_jpeg_is_what_pillow_gives_back(pictures: np.ndarray, quality: int) -> None:
    """Within a grey level in the mean, and a fraction of what JPEG itself does to the picture.

    What is left: libjpeg's transform and colours are in whole numbers, so a coefficient between
    two steps goes up here and down there.
    """
    ours = as_pixels(jpeg(as_images(pictures), torch.full((6,), float(quality))))
    pillows = np.stack([np.asarray(through_pillow(p, quality), float) for p in pictures])
    difference = abs(ours - pillows).mean()
    assert difference < 1.0
    assert difference < 0.25 * abs(pillows - pictures).mean()
    assert abs((ours - pillows).mean()) < 0.05


@pytest.mark.parametrize("quality", [10, 50, 95])
def test_jpeg_of_grey_pictures_is_pillows_within_rounding(
    pictures: np.ndarray, quality: int
) -> None:
    grey = pictures[..., :1].repeat(3, axis=3)
    ours = as_pixels(jpeg(as_images(grey), torch.full((6,), float(quality))))
    pillows = np.stack([np.asarray(through_pillow(p, quality), float) for p in grey])
    assert abs(ours - pillows).mean() < 0.5


def test_each_crop_has_its_own_quality_and_the_lower_the_worse(pictures: np.ndarray) -> None:
    images = as_images(pictures[:1]).expand(4, 3, 112, 112)
    quality = torch.tensor([95.0, 75.0, 40.0, 10.0])
    together = jpeg(images, quality)
    for row in range(4):
        alone = jpeg(images[row : row + 1], quality[row : row + 1])
        torch.testing.assert_close(together[row : row + 1], alone, rtol=0, atol=1e-5)
    lost = (together - images).square().mean((1, 2, 3))
    assert (lost.diff() > 0).all()


def test_steps_are_those_in_pillows_files(pictures: np.ndarray) -> None:
    from facewright.training.degradation import _steps

    every = torch.arange(1, 101).float()
    luma, chroma = _steps(LUMA_STEPS, every), _steps(CHROMA_STEPS, every)
    for row, quality in enumerate(range(1, 101)):
        tables = through_pillow(pictures[0][:16, :16], quality).quantization
        assert luma[row].flatten().tolist() == tables[0]
        assert chroma[row].flatten().tolist() == tables[1]


@pytest.mark.parametrize(("height", "width"), [(17, 40), (112, 96), (5, 5)])
def test_sides_that_are_no_whole_blocks(pictures: np.ndarray, height: int, width: int) -> None:
    cut = np.ascontiguousarray(pictures[:, :height, :width])
    ours = as_pixels(jpeg(as_images(cut), torch.full((6,), 75.0)))
    pillows = np.stack([np.asarray(through_pillow(p, 75), float) for p in cut])
    assert ours.shape == cut.shape
    assert abs(ours - pillows).mean() < 1.2


def test_jpeg_keeps_flat_colours_nearly_and_stays_in_range() -> None:
    for value in (-1.0, -0.2, 1.0):
        images = jpeg(flat(1, value), torch.tensor([90.0]))
        torch.testing.assert_close(images, flat(1, value), rtol=0, atol=0.02)
    noise = torch.rand((2, 3, 112, 112), generator=torch.Generator().manual_seed(2)).round() * 2 - 1
    assert jpeg(noise, torch.tensor([20.0, 60.0])).abs().max() <= 1
