"""Options of detectors whose meaning has changed since a file was written."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from ..attention.spatial import FORMER_FIT
from .checkpoint import FORMER_FORMATS


def as_meant(options: Mapping[str, Any], detector: Callable[..., Any], file_format: str) -> dict[str, Any]:
    """The options of a file as this version has to be told them.

    In files of the former formats a Dynamic Head whose ``offset_fit`` is not named has that of its time.

    Args:
        options: the arguments that ``detector`` was built with.
        detector: the class or function. One that is not of this library is left as it is: what its arguments
            mean is not known.
        file_format: what the file says of itself.
    """
    takes = inspect.signature(detector).parameters
    if (
        file_format not in FORMER_FORMATS.values()
        or not detector.__module__.startswith("dyhead_lab.")
        or "dyhead_blocks" not in takes
        or not options.get("dyhead_blocks", takes["dyhead_blocks"].default)
    ):
        return dict(options)
    return {**options, "dyhead": {"offset_fit": FORMER_FIT, **(options.get("dyhead") or {})}}
