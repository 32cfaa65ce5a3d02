"""Random changes of training crops, a batch at a time, on the device that trains.

First every crop's change is drawn, for the batch of all processes together and on the CPU; then
each process applies its part. So a crop is changed in the same way on however many processes. Only
the crops that a change strikes pay for it, and a change that is switched off costs nothing.

The order is a photo's: the face and what stands before it (geometry, colour, an erased rectangle),
then the camera (low resolution, noise, dead pixels), then the file (JPEG).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from facewright.training.degradation import (
    constant,
    gaussian_noise,
    jpeg,
    low_resolution,
    salt_and_pepper,
)

NAMES = (
    "flip",  # chance
    "rotation",  # degrees, either way
    "zoom",  # relative, either way
    "shift",  # of the side, either way
    "brightness",  # relative, either way
    "contrast",  # relative, either way
    "saturation",  # relative, either way
    "erase",  # chance that one rectangle is filled with a colour
    "grey",  # chance
    "lowres",  # chance of low resolution and blur
    "noise",  # chance of Gaussian noise
    "salt",  # chance of white and black pixels
    "jpeg",  # chance of JPEG's artefacts
)
RANGES = (  # least and largest; read only where the chance is not 0
    "erase_area",  # of the crop, at most 0.5 so that a rectangle of any shape fits
    "lowres_size",  # small side ÷ crop's side
    "lowres_blur",  # standard deviation in pixels of the crop
    "noise_sigma",  # standard deviation, of full scale
    "salt_share",  # of the pixels
    "jpeg_quality",  # whole numbers, on libjpeg's scale from 1 to 100
)
Settings = Mapping[str, Any]  # numbers under NAMES, pairs of numbers under RANGES

ERASED_ASPECT = (0.5, 2.0)  # height ÷ width (Zhong et al., "Random Erasing", AAAI 2020)
LUMA = (0.299, 0.587, 0.114)  # grey of RGB, ITU-R BT.601


@dataclass(frozen=True)
class Changes:
    """What happens to each of N crops; made by `draw_changes`, on the CPU."""

    affine: Tensor  # (N, 2, 3), from places in the new crop to places in the old, both in [-1, 1]
    colour: Tensor  # (N, 3, 3), new RGB from old RGB
    lift: Tensor  # (N,), share of the crop's mean grey that is added: the contrast's still point
    rectangle: Tensor  # (N, 4), left, top, right, bottom in [0, 1]; empty where nothing is erased
    fill: Tensor  # (N, 3), RGB in [-1, 1]
    size: Tensor  # (N,), small side ÷ crop's side; 0 where the resolution stays
    blur: Tensor  # (N,), pixels
    noise: Tensor  # (N,), standard deviation of full scale; 0 where there is none
    salt: Tensor  # (N,), share of the pixels; 0 where there is none
    quality: Tensor  # (N,), 1 to 100; 0 where no JPEG is made
    seed: Tensor  # (N,) int32, of the crop's noise and salt

    def __getitem__(self, part: slice) -> "Changes":
        return Changes(*(getattr(self, field.name)[part] for field in fields(self)))


def draw_changes(count: int, settings: Settings, generator: torch.Generator) -> Changes:
    """Changes for `count` crops.

    Args:
        settings: all of `NAMES`, where 0 switches one off, and of `RANGES` those that belong to a
            change that is on.
        generator: of the CPU.
    """

    def between(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, generator=generator)

    def within(name: str) -> Tensor:
        return between(*settings[name])

    def around(name: str) -> Tensor:
        return between(-settings[name], settings[name])

    def chance(name: str) -> Tensor:
        return between(0, 1).lt(settings[name])

    angle = torch.deg2rad(around("rotation"))
    zoom = 1 + around("zoom")
    mirror = 1 - 2 * chance("flip").float()
    cosine, sine = angle.cos() / zoom, angle.sin() / zoom
    across = torch.stack((mirror * cosine, -sine, 2 * around("shift")), dim=1)
    down = torch.stack((mirror * sine, cosine, 2 * around("shift")), dim=1)

    brightness, contrast = 1 + around("brightness"), 1 + around("contrast")
    saturation = (1 + around("saturation")) * ~chance("grey")
    grey = torch.tensor(LUMA).expand(3, 3)
    kept = saturation.view(-1, 1, 1)
    colour = kept * torch.eye(3) + (1 - kept) * grey

    rectangle, fill = torch.zeros(count, 4), torch.zeros(count, 3)
    size, blur, noise, salt, quality = torch.zeros(5, count)
    seed = torch.zeros(count, dtype=torch.int32)
    if settings["erase"]:
        erased = chance("erase")
        area = within("erase_area")
        aspect = torch.exp(between(*(torch.tensor(ERASED_ASPECT).log().tolist())))
        height, width = (area * aspect).sqrt() * erased, (area / aspect).sqrt() * erased
        left, top = between(0, 1) * (1 - width), between(0, 1) * (1 - height)
        rectangle = torch.stack((left, top, left + width, top + height), dim=1)
        fill = 2 * torch.rand(count, 3, generator=generator) - 1
    if settings["lowres"]:
        size = chance("lowres") * within("lowres_size")
        blur = within("lowres_blur")
    if settings["noise"]:
        noise = chance("noise") * within("noise_sigma")
    if settings["salt"]:
        salt = chance("salt") * within("salt_share")
    if settings["jpeg"]:
        low, high = settings["jpeg_quality"]
        quality = chance("jpeg") * between(low, high + 1).floor().clamp(max=high)
    if settings["noise"] or settings["salt"]:
        seed = torch.randint(-(2**31), 2**31, (count,), generator=generator).int()
    return Changes(
        affine=torch.stack((across, down), dim=1),
        colour=colour * (brightness * contrast).view(-1, 1, 1),
        lift=(1 - contrast) * brightness,
        rectangle=rectangle,
        fill=fill,
        size=size,
        blur=blur,
        noise=noise,
        salt=salt,
        quality=quality,
        seed=seed,
    )


def apply_changes(crops: Tensor, changes: Changes) -> Tensor:
    """`crops (N, H, W, 3) uint8, RGB` → `(N, 3, H, W) float32 in [-1, 1]`, channels last.

    The device is that of `crops`. `changes` best stay on the CPU, where asking which crops are
    struck waits for no device. What a rotation or shift brings in from outside repeats the crop's
    edge.
    """
    images = crops.permute(0, 3, 1, 2).contiguous().float().div_(127.5).sub_(1)
    c = changes
    moved = (c.affine != torch.eye(2, 3, device=c.affine.device)).flatten(1).any(dim=1)
    tinted = (c.colour != torch.eye(3, device=c.colour.device)).flatten(1).any(dim=1)
    images = _change(images, moved, _move, c.affine)
    images = _change(images, tinted | (c.lift != 0), _tint, c.colour, c.lift)
    images = _change(images, c.rectangle[:, 2] > c.rectangle[:, 0], _erase, c.rectangle, c.fill)
    images = _change(images, c.size > 0, low_resolution, c.size, c.blur)
    images = _change(images, c.noise > 0, gaussian_noise, c.noise, c.seed)
    images = _change(images, c.salt > 0, salt_and_pepper, c.salt, c.seed)
    images = _change(images, c.quality > 0, jpeg, c.quality)
    return images.contiguous(memory_format=torch.channels_last)


def augmentation_sheet(
    crops: npt.NDArray[np.uint8], settings: Settings, *, seed: int, rows: int, columns: int
) -> npt.NDArray[np.uint8]:
    """A picture of what `settings` do to crops: a crop per row, first as it is, then changed.

    Args:
        crops: `(N, H, W, 3) uint8, RGB`; the first `rows` are shown, or all if there are fewer.
        settings: as `draw_changes` takes them.
        columns: pictures of each crop, the unchanged one among them.

    Returns:
        `(rows · H, columns · W, 3) uint8, RGB`. It shows faces: log it only when asked to.
    """
    shown = torch.from_numpy(crops[:rows].copy())
    count, height, width, _ = shown.shape
    repeated = shown.repeat_interleave(columns - 1, dim=0)
    changes = draw_changes(len(repeated), settings, torch.Generator().manual_seed(seed))
    changed = apply_changes(repeated, changes).add(1).mul(127.5).round().to(torch.uint8)
    cells = changed.permute(0, 2, 3, 1).reshape(count, columns - 1, height, width, 3)
    sheet = torch.cat((shown.unsqueeze(1), cells), dim=1).permute(0, 2, 1, 3, 4)
    return sheet.reshape(count * height, columns * width, 3).numpy()


def _change(
    images: Tensor, struck: Tensor, change: Callable[..., Tensor], *amounts: Tensor
) -> Tensor:
    """`change` of the crops that are struck, each by its own amounts; may write into `images`."""
    chosen = struck.nonzero().flatten()
    if len(chosen) == 0:
        return images
    if len(chosen) == len(images):
        return change(images, *(_onto(amount, images.device) for amount in amounts))
    place = _onto(chosen, images.device)
    part = (_onto(amount[chosen], images.device) for amount in amounts)
    return images.index_copy_(0, place, change(images[place], *part))


def _onto(values: Tensor, device: torch.device) -> Tensor:
    """`values` on `device`, without waiting for it."""
    if device.type != "cuda" or values.is_cuda:
        return values.to(device)
    return values.pin_memory().to(device, non_blocking=True)


def _move(images: Tensor, affine: Tensor) -> Tensor:
    """Flip, turn, zoom and shift, by bilinear interpolation."""
    grid = _grid(affine, *images.shape[2:])
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def _grid(affine: Tensor, height: int, width: int) -> Tensor:
    """`(N, H, W, 2)`: where each pixel comes from. Twice as fast here as `F.affine_grid`."""
    x = (torch.arange(width, device=affine.device) * 2 + 1) / width - 1
    y = (torch.arange(height, device=affine.device) * 2 + 1) / height - 1
    along = affine[:, None, :, 0] * x[:, None]  # (N, W, 2)
    down = affine[:, None, :, 1] * y[:, None] + affine[:, None, :, 2]  # (N, H, 2)
    return along[:, None] + down[:, :, None]


def _tint(images: Tensor, colour: Tensor, lift: Tensor) -> Tensor:
    """New colours, each a sum of the old ones and of a share of the crop's mean grey."""
    pixels = images.flatten(2)
    mean_grey = pixels.mean(dim=2) @ constant(LUMA, images.device) + 1  # black is 0 here
    added = colour.sum(dim=2) + (lift * mean_grey).unsqueeze(1) - 1
    return torch.baddbmm(added.unsqueeze(2), colour, pixels).clamp_(-1, 1).view_as(images)


def _erase(images: Tensor, rectangle: Tensor, fill: Tensor) -> Tensor:
    """Fill the rectangles; a pixel is inside if its centre is."""
    height, width = images.shape[2:]
    left, top, right, bottom = rectangle.unsqueeze(2).unbind(1)  # (N, 1) each
    x = (torch.arange(width, device=images.device) + 0.5) / width
    y = (torch.arange(height, device=images.device) + 0.5) / height
    columns = (x >= left) & (x < right)
    rows = (y >= top) & (y < bottom)
    inside = (rows[:, :, None] & columns[:, None, :]).unsqueeze(1)
    return torch.where(inside, fill[:, :, None, None], images)
