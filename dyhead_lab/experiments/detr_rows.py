"""Rows of the experiments on DETR's family: what they measure beside the 12 COCO numbers of a training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from ..data.shapes import draw_set
from ..detectors.detr.deformable_detr import DeformableDETR
from ..detectors.detr.sparse_detr import SparseDETR
from ..evaluation.coco_metric import detect_dataset, evaluate
from ..evaluation.error_analysis import analyse_errors
from ..evaluation.token_use import encoder_milliseconds, mean_corr, referred_tokens
from ..paths import WEIGHTS
from ..zoo.datasets import SHAPES_SPLITS
from ..zoo.trained import Trained, load_trained
from .experiment import Job, Training, finished
from .record import Numbers
from .trained_rows import Curve

#: Pictures that are drawn where others than the validation pictures are asked for.
LARGER = 60
#: Least score of a detection that counts as a double: what ``detect`` shows.
SHOWN = 0.3


class Doubling(Curve):
    """A training that also counts what one object is detected twice for: ``doubles``, for each object of "val"."""

    def measure(self, job: Job) -> Numbers:
        numbers = super().measure(job)
        data = self._changed(job).data("val")
        report = analyse_errors(data, detect_dataset(load_trained(job.folder).model, data))
        objects = len(data.coco.anns)
        return {**numbers, "doubles": report.counts(SHOWN)["duplicate"].total() / objects}


class Selecting(Training):
    """A training of a Sparse DETR that keeps Corr on the validation split too."""

    def measure(self, job: Job) -> Numbers:
        numbers = dict(super().measure(job))
        torch.manual_seed(job.seed)  # random selection draws while it detects
        model = sparse_detr_of(load_trained(job.folder))
        return {**numbers, "Corr": mean_corr(model, self._changed(job).data("val"), model.rho)}


class Evaluating(Training):
    """A row that trains nothing of its own: it evaluates a model that other rows of the experiment evaluate too.

    The model is the one that the project ships if that was trained with the very settings of this run. Otherwise the
    first row that needs it trains it, into ``models/`` beside the rows.
    """

    def trained(self, job: Job) -> Trained:
        """The model that these settings make."""
        if self._changed(job) == self.recipe and (WEIGHTS / f"{self.recipe.name}.pt").exists():
            return load_trained(self.recipe.name)
        title = "-".join([self.recipe.name, *(f"{name}={value}" for name, value in self.changes.items())])
        folder = job.folder.parents[1] / "models" / title / f"seed{job.seed}"
        finished(Training(self.recipe, self.changes), replace(job, folder=folder))
        return load_trained(folder)


@dataclass(frozen=True)
class AtRho(Evaluating):
    """A Sparse DETR evaluated with another share of refined tokens than it was trained with: AP, Corr, encoder time.

    Args:
        rho: the share to evaluate with.
    """

    rho: float = 1.0

    def settings(self, job: Job) -> dict[str, Any]:
        return {**super().settings(job), "judged with rho": self.rho}  # the name in run folders, old ones too

    def measure(self, job: Job) -> Numbers:
        data = self._changed(job).data("val")
        model = sparse_detr_of(self.trained(job))
        model.rho = self.rho
        return {
            **evaluate(data, detect_dataset(model, data)).numbers,
            "Corr": mean_corr(model, data, self.rho),
            "encoder ms": encoder_milliseconds(model, data, self.rho),
        }


@dataclass(frozen=True)
class Referring(Evaluating):
    """A trained Deformable DETR or Sparse DETR: which tokens its decoder refers to.

    Args:
        size: side of the pictures of Shapes that are drawn for it, in pixels; None takes the validation pictures.
    """

    size: int | None = None

    def settings(self, job: Job) -> dict[str, Any]:
        return super().settings(job) | ({"size": self.size, "pictures": LARGER} if self.size else {})

    def measure(self, job: Job) -> Numbers:
        model: DeformableDETR = self.trained(job).model  # type: ignore[assignment]
        return referred_tokens(model, self._drawn(self.size) if self.size else self._changed(job).data("val"))

    @staticmethod
    def _drawn(size: int) -> Sequence[tuple[torch.Tensor, None]]:
        _, seed = SHAPES_SPLITS["val"]
        pictures = (picture for picture, _ in draw_set(LARGER, seed, size))
        return [(torch.from_numpy(picture).permute(2, 0, 1) / 255, None) for picture in pictures]


def sparse_detr_of(trained: Trained) -> SparseDETR:
    """The model of a recipe that trains a Sparse DETR.

    Raises:
        TypeError: it is another detector.
    """
    if not isinstance(trained.model, SparseDETR):
        raise TypeError(f"recipe {trained.recipe.name} must train a SparseDETR, got {type(trained.model).__name__}")
    return trained.model
