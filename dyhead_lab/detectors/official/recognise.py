"""Any checkpoint that is known here, recognised by its entries."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from torch import nn

from ...errors import UserError
from .checkpoints import Source, read_checkpoint
from .detr_weights import load_deformable_detr, load_detr, load_sparse_detr
from .dynamic_head import load_dynamic_head

#: What an entry's name holds, and what loads the checkpoints that have one; the first that fits is taken.
_KINDS: tuple[tuple[str, Callable[..., nn.Module]], ...] = (
    (r"dyhead_tower\.|dyhead_blocks\.", load_dynamic_head),
    (r"^transformer\.enc_mask_predictor\.", load_sparse_detr),
    (r"^(transformer|model)\.level_embed$", load_deformable_detr),
    (r"^(transformer|model)\.decoder\.layers\.0\.", load_detr),
)


def load_any(source: Source, **options: Any) -> nn.Module:
    """Build the detector that a checkpoint of any layout describes, and fill it.

    Args:
        source: as in the loader of each kind; :mod:`~dyhead_lab.detectors.official` lists the layouts.
        options: further arguments of that loader.

    Returns:
        the detector, in evaluation mode.

    Raises:
        UserError: the file cannot be read, or is of no kind that is known here.
        ValueError: the entries do not fit.
    """
    checkpoint = read_checkpoint(source)
    for pattern, load in _KINDS:
        if any(re.search(pattern, name) for name in checkpoint.weights):
            return load(checkpoint, **options)
    raise UserError(
        f"{checkpoint.name}: weights of no detector that is known here; they begin with "
        f"{', '.join(list(checkpoint.weights)[:3]) or 'nothing'}"
    )
