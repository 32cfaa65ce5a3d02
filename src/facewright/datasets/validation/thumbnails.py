"""Pages of thumbnails, one for each kind of trouble: people look rather than read."""

import base64
import html
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from facewright.datasets.form import read_bytes
from facewright.datasets.images import decode_rgb
from facewright.datasets.validation.data_docs import STYLE
from facewright.datasets.validation.measuring import quiet_opencv
from facewright.errors import DatasetError
from facewright.files import storage_errors

SIDE = 96  # px, the longer side of a thumbnail
QUALITY = 80  # of its JPEG
FOLDER = "trouble"

_LAYOUT = """<style>
figure { display: inline-block; margin: .3em; width: 112px; vertical-align: top; }
figcaption { font-size: 11px; line-height: 1.3; overflow-wrap: anywhere; }
.group { border: 1px solid #bbb; margin: .5em 0; padding: .3em; }
.none { border: 1px dashed #999; height: 94px; padding-top: 0; font-size: 11px; }
</style>"""


@dataclass(frozen=True)
class Photo:
    """A photo to show, and what to write below it."""

    shard: str
    offset: int
    length: int
    caption: str


@dataclass(frozen=True)
class Trouble:
    """One kind of trouble with one set: photos in groups that belong side by side."""

    reason: str
    heading: str
    count: int  # photos or identities in this trouble; more than are shown, perhaps
    groups: list[list[Photo]]


def write_thumbnails(folder: Path, troubles: list[Trouble], *, data: Path) -> dict[str, str]:
    """Write `trouble/REASON.html` below `folder`; shards lie relative to `data`.

    Photos are embedded, so that the pages need nothing else, and must be guarded as the photos
    themselves. Returns title → path of each page, relative to `folder`.
    """
    pages: dict[str, list[Trouble]] = {}
    for trouble in troubles:
        pages.setdefault(trouble.reason, []).append(trouble)
    links = {}
    with storage_errors(folder), quiet_opencv():
        for reason, parts in sorted(pages.items()):
            path = f"{FOLDER}/{reason}.html"
            (folder / FOLDER).mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(_page(reason, parts, data=data), encoding="utf-8")
            links[f"{reason} ({sum(part.count for part in parts)})"] = path
    return links


def _page(reason: str, parts: list[Trouble], *, data: Path) -> str:
    sections = []
    for part in parts:
        # Photos that stand alone need no frame each.
        alone = [group for group in part.groups if len(group) == 1]
        framed = [group for group in part.groups if len(group) > 1]
        shown = sum(map(len, part.groups))
        sections.append(
            f"<h2>{html.escape(part.heading)}: {part.count}</h2>"
            f"<p>{shown} photos shown.</p>"
            + "".join(_figure(photo, data=data) for group in alone for photo in group)
            + "".join(
                f'<div class="group">{"".join(_figure(p, data=data) for p in group)}</div>'
                for group in framed
            )
        )
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{reason}</title>'
        f'{STYLE}{_LAYOUT}</head><body><p><a href="../index.html">Data Docs</a></p>'
        f"<h1>{reason}</h1>{''.join(sections)}</body></html>\n"
    )


def _figure(photo: Photo, *, data: Path) -> str:
    caption = "<br>".join(html.escape(line) for line in photo.caption.split("\n"))
    image = _jpeg(photo, data=data)
    if image is None:
        seen = '<div class="none">cannot be decoded</div>'
    else:
        seen = f'<img alt="" src="data:image/jpeg;base64,{base64.b64encode(image).decode()}">'
    return f"<figure>{seen}<figcaption>{caption}</figcaption></figure>"


def _jpeg(photo: Photo, *, data: Path) -> bytes | None:
    try:
        rgb = decode_rgb(
            read_bytes(data, shard=photo.shard, offset=photo.offset, length=photo.length)
            if photo.length
            else b""
        )
    except DatasetError:
        return None
    height, width = rgb.shape[:2]
    scale = SIDE / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    encoded = cv2.imencode(".jpg", small[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1]
    return np.asarray(encoded).tobytes()
