"""Rendered people: a set of faces that belongs to nobody, drawn on demand, the same everywhere."""

from facewright.datasets.sample.album import (
    PHOTOS_PER_IDENTITY,
    TRAIN_IDENTITIES,
    VERIFY_IDENTITIES,
    pairs,
    photos,
    render_photo,
)

__all__ = [
    "PHOTOS_PER_IDENTITY",
    "TRAIN_IDENTITIES",
    "VERIFY_IDENTITIES",
    "pairs",
    "photos",
    "render_photo",
]
