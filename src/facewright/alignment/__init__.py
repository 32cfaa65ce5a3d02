"""Bring a face to the standard pose and size, and say how good the crop is."""

from facewright.alignment.crop import crop_face
from facewright.alignment.quality import Quality, crop_quality
from facewright.alignment.similarity import ARCFACE_TEMPLATE, similarity_transform

__all__ = ["ARCFACE_TEMPLATE", "Quality", "crop_face", "crop_quality", "similarity_transform"]
