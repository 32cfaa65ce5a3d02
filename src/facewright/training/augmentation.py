"""Random changes of training crops, a batch at a time, on the device that trains.

First every crop's change is drawn, for the batch of all processes together; then each process
applies its part. So a crop is changed in the same way on however many processes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

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
)
ERASED_AREA = (0.05, 0.2)  # of the crop (Zhong et al., "Random Erasing", AAAI 2020)
ERASED_ASPECT = (0.5, 2.0)  # height ÷ width
LUMA = (0.299, 0.587, 0.114)  # grey of RGB, ITU-R BT.601


@dataclass(frozen=True)
class Changes:
    """What happens to each of N crops; made by `draw_changes`."""

    affine: Tensor  # (N, 2, 3), from places in the new crop to places in the old, both in [-1, 1]
    colour: Tensor  # (N, 3, 3), new RGB from old RGB
    lift: Tensor  # (N,), share of the crop's mean grey that is added: the contrast's still point
    rectangle: Tensor  # (N, 4), left, top, right, bottom in [0, 1]; empty where nothing is erased
    fill: Tensor  # (N, 3), RGB in [-1, 1]

    def __getitem__(self, part: slice) -> "Changes":
        return Changes(*(getattr(self, field.name)[part] for field in fields(self)))

    def to(self, device: torch.device) -> "Changes":
        return Changes(*(getattr(self, field.name).to(device) for field in fields(self)))


def draw_changes(count: int, settings: Mapping[str, float], generator: torch.Generator) -> Changes:
    """Changes for `count` crops; `settings` has the keys `NAMES`, 0 switches one off."""

    def chance(name: str) -> Tensor:
        return torch.rand(count, generator=generator) < settings[name]

    def between(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, generator=generator)

    def around(name: str) -> Tensor:
        return between(-settings[name], settings[name])

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

    # A square root of a share of at most 0.2 × 2 stays below one: the rectangle always fits.
    erased = chance("erase")
    area = between(*ERASED_AREA)
    aspect = torch.exp(between(*(torch.tensor(ERASED_ASPECT).log().tolist())))
    height, width = (area * aspect).sqrt() * erased, (area / aspect).sqrt() * erased
    left, top = between(0, 1) * (1 - width), between(0, 1) * (1 - height)
    return Changes(
        affine=torch.stack((across, down), dim=1),
        colour=colour * (brightness * contrast).view(-1, 1, 1),
        lift=(1 - contrast) * brightness,
        rectangle=torch.stack((left, top, left + width, top + height), dim=1),
        fill=2 * torch.rand(count, 3, generator=generator) - 1,
    )


def apply_changes(crops: Tensor, changes: Changes) -> Tensor:
    """`crops (N, H, W, 3) uint8, RGB` → `(N, 3, H, W) float32 in [-1, 1]`, channels last.

    What a rotation or shift brings in from outside repeats the crop's edge.
    """
    count, height, width, _ = crops.shape
    images = crops.permute(0, 3, 1, 2).contiguous().float()
    images = F.grid_sample(
        images, _grid(changes.affine, height, width), padding_mode="border", align_corners=False
    ).flatten(2)
    mean_grey = images.mean(dim=2) @ images.new_tensor(LUMA)
    added = (changes.lift * mean_grey / 127.5 - 1).view(-1, 1, 1).expand(-1, 3, 1)
    images = torch.baddbmm(added, changes.colour / 127.5, images).clamp_(-1, 1)
    images = images.view(count, 3, height, width)
    _erase(images, changes)
    return images.contiguous(memory_format=torch.channels_last)


def _grid(affine: Tensor, height: int, width: int) -> Tensor:
    """`(N, H, W, 2)`: where each pixel comes from. Twice as fast here as `F.affine_grid`."""
    x = (torch.arange(width, device=affine.device) * 2 + 1) / width - 1
    y = (torch.arange(height, device=affine.device) * 2 + 1) / height - 1
    along = affine[:, None, :, 0] * x[:, None]  # (N, W, 2)
    down = affine[:, None, :, 1] * y[:, None] + affine[:, None, :, 2]  # (N, H, 2)
    return along[:, None] + down[:, :, None]


def _erase(images: Tensor, changes: Changes) -> None:
    """Fill the rectangles, in place; a pixel is inside if its centre is."""
    _, _, height, width = images.shape
    left, top, right, bottom = changes.rectangle.unsqueeze(2).unbind(1)  # (N, 1) each
    chosen = (right > left).flatten().nonzero().flatten()
    x = (torch.arange(width, device=images.device) + 0.5) / width
    y = (torch.arange(height, device=images.device) + 0.5) / height
    columns = ((x >= left) & (x < right))[chosen]
    rows = ((y >= top) & (y < bottom))[chosen]
    inside = (rows[:, :, None] & columns[:, None, :]).unsqueeze(1)
    images[chosen] = torch.where(inside, changes.fill[chosen, :, None, None], images[chosen])
