"""The bccd experiment: the recipe with three seeds, judged on images that no choice has seen."""

from __future__ import annotations

from dataclasses import dataclass

from ..evaluation.coco import detect_dataset, evaluate
from .bccd import BCCD
from .experiment import Experiment, Job, Training
from .record import Numbers
from .trained import load_trained


@dataclass(frozen=True)
class JudgedOnTest(Training):
    """A row that trains a recipe and judges the weights that were kept on the test split, once.

    The numbers are those of the test split; those of the validation split stand beside them as ``val_AP`` ...
    """

    def measure(self, job: Job) -> Numbers:
        on_val = super().measure(job)
        test_set = self._changed(job).data("test")
        on_test = evaluate(test_set, detect_dataset(load_trained(job.folder).model, test_set))
        return {**on_test.numbers, **{f"val_{name}": on_val[name] for name in ("AP", "AP50", "AP75")}}


BCCD_EXPERIMENT = Experiment(
    name="bccd",
    summary="blood cells from scratch: AP on the 72 test images, settings chosen on the validation images",
    rows={"bccd": JudgedOnTest(BCCD)},
    baseline="bccd",
    metrics=("AP", "AP50", "AP75", "val_AP", "val_AP50"),
)
