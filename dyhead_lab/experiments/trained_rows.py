"""Rows that train, and keep more than the numbers at the end: AP on the way, and what the detector costs."""

from __future__ import annotations

from functools import partial

from ..evaluation.dyhead_cost import part_costs
from ..training.run_folder import LOG
from .curves import numbers_on_the_way
from .experiment import Job, Training
from .record import Numbers

#: (H, W) of the pictures that costs are counted on: those of Shapes.
SIZE = (160, 160)
#: Names of the costs, in a table: thousands of parameters, and millions of multiply-adds an image.
COSTS = ("k parameters", "MMAC")


class Curve(Training):
    """A training that keeps its AP on the way too, wherever the recipe evaluates; see :mod:`.curves`."""

    def measure(self, job: Job) -> Numbers:
        numbers = super().measure(job)
        return {**numbers, **numbers_on_the_way(job.folder / LOG, numbers, self._changed(job).iterations)}


class CurveAndCost(Curve):
    """A :class:`Curve` of a convolutional detector that keeps what the whole detector costs; see :data:`COSTS`."""

    def measure(self, job: Job) -> Numbers:
        numbers = super().measure(job)
        recipe = self._changed(job)
        parts = part_costs(partial(recipe.build, len(recipe.data("val").categories)), SIZE)
        costs = (sum(part.parameters for part in parts) / 1e3, sum(part.macs for part in parts) / 1e6)
        return {**numbers, **dict(zip(COSTS, costs, strict=True))}
