"""A factory for face recognizers: from raw photographs to a registered, compiled model."""

__version__ = "0.1.0"
