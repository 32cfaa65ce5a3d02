"""What cameras and networks do to a picture: low resolution, noise, dead pixels, JPEG.

Every function changes all crops it is given, `images (N, 3, H, W) float32 in [-1, 1], RGB`, each by
its own strength, and returns them in the same form and range. Each works on any device, and without
random state: noise is a hash of a seed and the pixel's place, so it does not matter in which batch,
process or device a crop is changed.
"""

import functools
import math

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

BLOCK = 8  # pixels; the side of JPEG's blocks
# Annex K of ITU-T T.81 (JPEG), tables K.1 and K.2: steps of luminance and of chrominance.
LUMA_STEPS = (
    *(16, 11, 10, 16, 24, 40, 51, 61),
    *(12, 12, 14, 19, 26, 58, 60, 55),
    *(14, 13, 16, 24, 40, 57, 69, 56),
    *(14, 17, 22, 29, 51, 87, 80, 62),
    *(18, 22, 37, 56, 68, 109, 103, 77),
    *(24, 35, 55, 64, 81, 104, 113, 92),
    *(49, 64, 78, 87, 103, 121, 120, 101),
    *(72, 92, 95, 98, 112, 100, 103, 99),
)
CHROMA_STEPS = (
    *(17, 18, 24, 47, 99, 99, 99, 99),
    *(18, 21, 26, 66, 99, 99, 99, 99),
    *(24, 26, 56, 99, 99, 99, 99, 99),
    *(47, 66, 99, 99, 99, 99, 99, 99),
    *(99, 99, 99, 99, 99, 99, 99, 99),
    *(99, 99, 99, 99, 99, 99, 99, 99),
    *(99, 99, 99, 99, 99, 99, 99, 99),
    *(99, 99, 99, 99, 99, 99, 99, 99),
)
# RGB to luminance and the two colour differences (ITU-T T.871, JFIF).
TO_YCC = (
    (0.299, 0.587, 0.114),
    (-0.299 / 1.772, -0.587 / 1.772, 0.5),
    (0.5, -0.587 / 1.402, -0.114 / 1.402),
)
TO_RGB = (
    (1.0, 0.0, 1.402),
    (1.0, -0.114 * 1.772 / 0.587, -0.299 * 1.402 / 0.587),
    (1.0, 1.772, 0.0),
)


def low_resolution(images: Tensor, size: Tensor, blur: Tensor) -> Tensor:
    """Blur, then shrink by area averages, then enlarge by bilinear interpolation.

    The order is that of a camera too far away (Wang et al., "Real-ESRGAN", ICCVW 2021). All three
    are linear and work on rows and columns alike, so one matrix from either side does them.

    Args:
        size: `(N,)`, the small picture's side ÷ the crop's, in (0, 1]; rounded to whole pixels.
        blur: `(N,)`, the Gaussian's standard deviation in pixels of the crop, from 0.
    """
    height, width = images.shape[2:]
    rows = _lowering(height, size, blur).unsqueeze(1)
    columns = rows if width == height else _lowering(width, size, blur).unsqueeze(1)
    return rows @ images @ columns.mT


def gaussian_noise(images: Tensor, sigma: Tensor, seeds: Tensor) -> Tensor:
    """Add noise, different in each pixel and channel, then clamp.

    Args:
        sigma: `(N,)`, standard deviation as a share of the full scale from black to white.
        seeds: `(N,) int32`.
    """
    places = images[0].numel()
    # A uniform number's place among normal ones, by the inverse of their distribution.
    noise = _uniform(seeds, 0, places).erfinv_().mul_(2 * math.sqrt(2) * sigma.unsqueeze(1))
    return noise.view_as(images).add_(images).clamp_(-1, 1)


def salt_and_pepper(images: Tensor, share: Tensor, seeds: Tensor) -> Tensor:
    """Make this share of the pixels white or black, half each.

    Args:
        share: `(N,)`, in [0, 1].
        seeds: `(N,) int32`; `gaussian_noise` may have the same, its numbers are others.
    """
    count, channels, height, width = images.shape
    pixels = height * width
    draw = _uniform(seeds, channels * pixels, pixels).view(count, 1, height, width)
    return torch.where(draw.abs() > 1 - share.view(-1, 1, 1, 1), draw.sign(), images)


def jpeg(images: Tensor, quality: Tensor) -> Tensor:
    """What comes back from a baseline JPEG file with halved colour (4:2:0), as libjpeg makes it.

    Coding without loss is left out. Pixels are rounded before they are coded (small steps would
    else tell a float from its whole number), but not afterwards.

    Args:
        quality: `(N,)`, whole numbers from 1 to 100, on libjpeg's scale.
    """
    height, width = images.shape[2:]
    down, right = -height % (2 * BLOCK), -width % (2 * BLOCK)
    if down or right:  # blocks reach over the edge, which is repeated there
        images = F.pad(images, (0, right, 0, down), mode="replicate")
    count, _, rows, columns = images.shape
    to_ycc = 127.5 * constant(TO_YCC, images.device).expand(count, 3, 3)
    to_rgb = constant(TO_RGB, images.device).expand(count, 3, 3) / 127.5
    # In the file 0 stands for 128, but black, -1, to white, 1, has its middle at 127.5.
    middle = constant((-0.5, 0.0, 0.0), images.device).view(1, 3, 1)
    planes = torch.baddbmm(middle, to_ycc, images.flatten(2)).round_().view_as(images)
    luma = _quantized(planes[:, :1], _steps(LUMA_STEPS, quality), halved=False)
    chroma = _quantized(planes[:, 1:], _steps(CHROMA_STEPS, quality), halved=True)
    planes = torch.cat((luma, chroma), dim=1).flatten(2)
    planes[:, 0] += 0.5
    images = torch.bmm(to_rgb, planes).clamp_(-1, 1)
    return images.view(count, 3, rows, columns)[:, :, :height, :width]


@functools.cache
def constant(values: tuple[object, ...], device: torch.device) -> Tensor:
    """`values` as float32, brought to `device` once: a copy each time would wait for it."""
    return torch.tensor(values, dtype=torch.float32).to(device)


# --- low resolution ------------------------------------------------------------------------------


def _lowering(length: int, size: Tensor, blur: Tensor) -> Tensor:
    """`(N, length, length)`: blur, shrink and enlarge a line of `length` pixels."""
    size, blur = size.view(-1, 1, 1), blur.view(-1, 1, 1)
    places = torch.arange(length, device=size.device, dtype=size.dtype)
    across, down = places.view(1, 1, -1), places.view(1, -1, 1)
    # A variance too small to reach the next pixel stands for none, which cannot be divided by.
    kernel = torch.exp((across - down).square() / (-2 * blur.square().clamp(min=1e-4)))
    kernel /= kernel.sum(dim=2, keepdim=True)

    small = (size * length).round().clamp(min=1)  # pixels; those of the matrix beyond it stay zero
    step = torch.full_like(small, length) / small  # exact; a plain number is not divided exactly
    shared = torch.minimum((down + 1) * step, across + 1) - torch.maximum(down * step, across)
    shrink = shared.clamp_(min=0) / step
    source = ((down + 0.5) / step - 0.5).clamp(min=0).minimum(small - 1)
    enlarge = (1 - (source - across).abs()).clamp_(min=0)
    return enlarge @ (shrink @ kernel)


# --- noise ---------------------------------------------------------------------------------------


def _uniform(seeds: Tensor, start: int, count: int) -> Tensor:
    """`(N, count) float32`, uniform in (-1, 1) and never 0: a hash of the seed and of the places.

    The same bits on every device: whole numbers of 32 bits, and a float that holds 24 of them.
    """
    places = torch.arange(start, start + count, device=seeds.device, dtype=torch.int32)
    mixed = _mix(_mix(places).unsqueeze(0) ^ seeds.unsqueeze(1))
    return ((mixed >> 8) | 1).float().mul_(2.0**-23)


def _mix(values: Tensor) -> Tensor:
    """Scramble int32 values, in place: each bit of the result hangs on each bit that was.

    Two rounds of xorshift and multiply, with the multipliers found by Wellons ("Hash function
    prospector", 2018); his last xorshift mends only low bits, which are not used here.
    """
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B - 2**32)):
        # A shift of negative numbers brings in ones; without them the mixing could be undone.
        values ^= (values >> shift).bitwise_and_(2 ** (32 - shift) - 1)
        values *= factor
    return values


# --- JPEG ----------------------------------------------------------------------------------------


def _steps(table: tuple[int, ...], quality: Tensor) -> Tensor:
    """`(N, 8, 8)`: the table scaled by quality, as libjpeg scales it."""
    whole = quality.int().view(-1, 1, 1)
    scale = torch.where(whole < 50, 5000 // whole, 200 - 2 * whole)
    base = constant(table, quality.device).int().view(1, BLOCK, BLOCK)
    return ((base * scale + 50) // 100).clamp_(1, 255).float()


def _quantized(planes: Tensor, steps: Tensor, *, halved: bool) -> Tensor:
    """`planes (N, C, H, W)` after a cosine transform of blocks, rounding to `steps`, and back."""
    forward, back = _transforms(planes.shape[2], halved, planes.device)
    across, back_across = _transforms(planes.shape[3], halved, planes.device)
    coefficients = forward @ planes @ across.T
    down, right = len(forward) // BLOCK, len(across) // BLOCK
    tiled = steps.repeat(1, down, right).unsqueeze(1)
    coefficients = (coefficients / tiled).round_().mul_(tiled)
    return back @ coefficients @ back_across.T


@functools.cache
def _transforms(length: int, halved: bool, device: torch.device) -> tuple[Tensor, Tensor]:
    """Matrices that take a line of pixels to its blocks' frequencies, and these to a line.

    Halved, each two pixels are averaged first, and at the end interpolated between: libjpeg's
    ways of making colour smaller and larger.
    """
    count = length // 2 if halved else length
    place = torch.arange(BLOCK, dtype=torch.float64)
    block = torch.cos((2 * place + 1) * place.view(-1, 1) * (math.pi / (2 * BLOCK))) / 2
    block[0] /= math.sqrt(2)
    forward = torch.kron(torch.eye(count // BLOCK, dtype=torch.float64), block)
    back = forward.T
    if halved:
        average = torch.eye(count, dtype=torch.float64).repeat_interleave(2, dim=1) / 2
        source = (torch.arange(length, dtype=torch.float64) / 2 - 0.25).clamp(0, count - 1)
        nearness = 1 - (source.view(-1, 1) - torch.arange(count)).abs()
        forward, back = forward @ average, nearness.clamp_(min=0) @ back
    return forward.float().to(device), back.float().to(device)
