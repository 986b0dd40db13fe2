"""The book as a static site: the executed notebooks as pages that open from disk, without a network."""

from .site import build_site

__all__ = ["build_site"]
