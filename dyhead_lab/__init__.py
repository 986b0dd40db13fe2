"""Attention in object detection, built chapter by chapter: Dynamic Head, deformable convolution, Sparse DETR.

``dyhead_lab.train("quickstart")`` trains a recipe of the zoo and shows how it goes; see :func:`.views.live.train`.
"""

from typing import Any

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """``train`` comes with everything that draws; importing the package must stay quick."""
    if name == "train":
        from .views.live import train

        return train
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
