"""The bccd experiment: the recipe with three seeds, evaluated on images that no choice has seen."""

from __future__ import annotations

from dataclasses import dataclass

from ..evaluation.coco_metric import detect_dataset, evaluate
from ..evaluation.flips import FlipTested
from ..zoo.bccd import BCCD
from ..zoo.trained import load_trained
from .experiment import Experiment, Job, Training
from .record import Numbers


@dataclass(frozen=True)
class JudgedOnTest(Training):
    """A row that trains a recipe and evaluates the weights that were kept on the test split, once.

    The numbers are those of the test split with flips (:mod:`dyhead_lab.evaluation.flips`). Beside them stand
    ``one_view_AP`` ... without flips, and ``val_AP`` ... of the validation split, also without.
    """

    def measure(self, job: Job) -> Numbers:
        on_val = super().measure(job)
        test_set = self._changed(job).data("test")
        model = load_trained(job.folder).model
        with_flips, one_view = (evaluate(test_set, detect_dataset(m, test_set)) for m in (FlipTested(model), model))
        shown = ("AP", "AP50", "AP75")
        return {
            **with_flips.numbers,
            **{f"one_view_{name}": one_view[name] for name in shown},
            **{f"val_{name}": on_val[name] for name in shown},
        }


BCCD_EXPERIMENT = Experiment(
    name="bccd",
    summary="blood cells from scratch: AP on the 72 test images with flips, settings chosen on the validation images",
    rows={"bccd": JudgedOnTest(BCCD)},
    baseline="bccd",
    metrics=("AP", "AP50", "AP75", "one_view_AP", "one_view_AP50", "val_AP", "val_AP50"),
)
