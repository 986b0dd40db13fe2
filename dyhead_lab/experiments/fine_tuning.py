"""Fine-tuning on few photographs: is a detector of drawn shapes a better start than chance, and at what rate?

Blood cells have nothing of the six shapes but edges and roundness, and other classes, so the classifier starts anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..training import train
from ..training.observer import ProgressBar
from ..zoo.bccd import BCCD
from ..zoo.trained import load_trained
from .experiment import Experiment, Job, Training
from .record import Numbers


@dataclass(frozen=True)
class FineTuning(Training):
    """A row that starts from trained weights.

    Args:
        start: their name, or None for the recipe's own beginning.
    """

    start: str | None = None

    def settings(self, job: Job) -> dict[str, Any]:
        return super().settings(job) | {"start": self.start}

    def measure(self, job: Job) -> Numbers:
        start = load_trained(self.start) if self.start else None
        return train(self._changed(job), out=job.folder, observer=ProgressBar(), start=start).numbers


#: A seventh of the recipe's steps: where a good start must show.
SHORT: dict[str, Any] = {"iterations": 600, "warmup": 50, "evaluate_every": 600}

FINE_TUNING = Experiment(
    name="fine_tuning",
    summary="blood cells in 600 steps of 4 images: from scratch and from quickstart, at four rates",
    rows={"from scratch": FineTuning(BCCD, SHORT)}
    | {
        f"from quickstart, lr {lr:g}": FineTuning(BCCD, {**SHORT, "lr": lr}, "quickstart")
        for lr in (5e-3, 1.5e-3, 5e-4, 1.5e-4)
    },
    baseline="from scratch",
    metrics=("AP", "AP50", "AP75"),
)
