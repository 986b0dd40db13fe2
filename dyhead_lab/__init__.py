"""Attention in object detection, built chapter by chapter: Dynamic Head, deformable convolution, Sparse DETR.

``dyhead_lab.train("quickstart")`` trains a recipe of the zoo, or one of your own, and shows how it goes; see
:func:`.training.train.train`.
"""

from typing import Any

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """``train`` comes with the names of the zoo and with live curves; importing the package must stay quick."""
    if name == "train":
        from . import zoo  # noqa: F401  # tells training what a name means
        from .training import train
        from .views import live  # noqa: F401  # tells training who watches in a notebook

        return train
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
