"""How should the offsets of a level serve its neighbours? The same head, trained with every answer.

The released code reads the offsets of the coarser neighbour from the wrong places (``flat``). This asks what that
costs, beside the ways that mend it, at equal parameters and, but for ``upsample``, equal multiply-adds.
"""

from __future__ import annotations

from ..attention import OFFSET_FITS
from ..zoo.shapes_recipes import FROZEN_ATSS
from .ablation import SHORT
from .experiment import Experiment
from .trained_rows import CurveAndCost

OFFSET_FITS_EXPERIMENT = Experiment(
    name="offset_fits",
    summary="ATSS on frozen features; one Dynamic Head block, its offsets fitted to the neighbours in every way",
    rows={fit: CurveAndCost(FROZEN_ATSS, {**SHORT, "model.dyhead": {"offset_fit": fit}}) for fit in OFFSET_FITS},
    baseline="flat",
)
