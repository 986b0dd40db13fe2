"""A recipe: everything that decides how a detector is trained, and what to expect of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from typing import Any

import torch
from torch import nn

from ..data.dataset import DetectionData
from ..detectors.arguments import arguments, check_numbers, has_foreign_code
from ..errors import UserError
from ..ops.autocast import has_bfloat16
from .import_paths import import_path, to_plain
from .values import nested, refuse_other, refuse_other_arguments, refuse_unknown, replaced, value_like

#: Settings that are names, and the names there are.
CHOICES = {
    "optimizer": ("adamw", "sgd"),
    "schedule": ("cosine", "step", "constant"),
    "precision": ("bf16", "fp16", "fp32"),
    "on_nonfinite": ("stop", "skip"),
}
#: Settings that count something of which there is at least one.
COUNTS = ("iterations", "batch_size", "accumulate", "evaluate_every", "checkpoint_every")
#: Numbers that are finite and not negative.
AMOUNTS = ("momentum", "lr", "backbone_lr", "offset_lr", "weight_decay", "gamma", "warmup", "warmup_factor")
#: Bound of a seed: it is the upper half of the 64 bits that a step draws from.
SEEDS = 2**31
#: Settings that say something about a recipe and decide nothing.
WORDS = ("name", "summary", "published_ap", "source", "expected", "file")


@dataclass(frozen=True)
class Recipe:
    """How one detector is trained.

    Args:
        name: its name in the zoo.
        summary: one line: what it is.
        detector: ``detector(classes=K, **model)`` builds it: a class, or a function that has a name. Where it takes
            ``weights``, these are what a training starts from; trained weights are loaded into ``weights=None``.
        dataset: ``dataset(split)`` gives the data for "train" and "val"; see :mod:`dyhead_lab.data.dataset`.
        fraction: share of the training images that is used, always the same ones; see ``data.subset.fraction_of``.
        masks: training targets hold the masks of the objects, as Mask R-CNN needs them.
        augmentation: random transform of the training images, a name in ``data.transforms.AUGMENTATIONS``,
            which also says who decides the size of an image.
        aspect_grouping: batches hold only wide or only tall images, so that little padding is computed.
        model: arguments of ``detector``: plain values, and classes or functions that a file defines, such as
            ``{"dyhead": {"extra": JointAttention}}``. Weights name them by their import paths.
        iterations: optimiser steps. A budget in steps does not depend on the machine.
        batch_size: images per step, over all processes and micro-batches.
        accumulate: micro-batches into which each process splits its images; their gradients are averaged. Memory
            falls with their number. The losses are those of the whole batch where targets alone decide what they are
            divided by: per image (RetinaNet) or per object (DETR's family). Those divided by the places that
            belong to objects (ATSS, FCOS, RepPoints, BorderDet) are so within each micro-batch, as everywhere in
            the field: such places are known once they are matched. So an object weighs a little more in a
            micro-batch with few. BatchNorm, too, sees one micro-batch.
        optimizer: "adamw", or "sgd" with ``momentum``.
        momentum: of SGD.
        lr: peak learning rate.
        backbone_lr: factor on ``lr`` for the body of the backbone (not for the pyramid above it).
        offset_lr: factor on ``lr`` for the layers that predict sampling offsets or reference points.
        weight_decay: of matrices and kernels.
        decay_norms: weight decay also for biases, gains of norms and offset layers, as in DETR's family.
        schedule: "cosine" (half a cosine down to zero), "step" or "constant"; see ``training.schedules``.
        milestones: steps at which schedule "step" multiplies the rate by ``gamma``.
        gamma: see ``milestones``.
        warmup: steps of linear warm-up; a tenth of ``iterations`` where they are not more than that.
        warmup_factor: share of ``lr`` that the warm-up starts from.
        clip_norm: gradients are scaled down to this norm; infinity lets them be.
        ema_decay: decay of the averaged weights, which are what is evaluated and kept; 0 keeps the weights themselves.
        precision: "bf16" or "fp16" (autocast; fp16 scales the loss), or "fp32".
        activation_checkpointing: forget the activations inside the blocks and compute them again for the gradient:
            less memory for about one more forward pass.
        compile: ``torch.compile`` the backbone with its pyramid and Dynamic Head, for long runs on a GPU: the first
            step then takes minutes. On half a core of an Intel Xeon it took 2 minutes for quickstart's backbone, 5
            with a Dynamic Head block, and the steps after it were no faster. What it brings on a GPU was not
            measured. Evaluations run uncompiled.
        on_nonfinite: "stop" at a loss that is not finite, or "skip" its batch; either way the batch is saved.
        seed: of initialisation, order, transforms and of what a detector draws by chance.
        evaluate_every: steps between evaluations; the last step is always followed by one.
        checkpoint_every: steps between checkpoints.
        published_ap: AP on COCO val2017 that the source states, as a share: 0.424.
        source: where the settings come from.
        expected: what a reader should see, and on which machine: AP, time, memory, cost.
        file: the Python file that defines it, for a recipe that was given by its path.

    Raises:
        UserError: a setting has a value that no training can follow.
    """

    name: str
    summary: str
    detector: Callable[..., nn.Module]
    dataset: Callable[[str], DetectionData]
    fraction: float = 1.0
    masks: bool = False
    augmentation: str = "flip"
    aspect_grouping: bool = False
    model: dict[str, Any] = field(default_factory=dict)
    iterations: int = 1000
    batch_size: int = 16
    accumulate: int = 1
    optimizer: str = "adamw"
    momentum: float = 0.9
    lr: float = 1e-3
    backbone_lr: float = 1.0
    offset_lr: float = 0.1
    weight_decay: float = 0.05
    decay_norms: bool = False
    schedule: str = "cosine"
    milestones: tuple[int, ...] = ()
    gamma: float = 0.1
    warmup: int = 100
    warmup_factor: float = 0.0
    clip_norm: float = 5.0
    ema_decay: float = 0.998
    precision: str = "bf16"
    activation_checkpointing: bool = False
    compile: bool = False
    on_nonfinite: str = "stop"
    seed: int = 0
    evaluate_every: int = 1000
    checkpoint_every: int = 200
    published_ap: float | None = None
    source: str = ""
    expected: str = ""
    file: str = ""

    def __post_init__(self) -> None:
        for setting, allowed in CHOICES.items():
            refuse_other(setting, getattr(self, setting), allowed)
        self._refuse_numbers_out_of_bounds()
        if self.compile and self.activation_checkpointing:
            raise UserError("compile: expected false with activation_checkpointing; the compiler cannot follow it")
        if self.batch_size % self.accumulate:
            raise UserError(f"batch_size: expected a multiple of accumulate={self.accumulate}, got {self.batch_size}")
        if self.schedule == "step" and not self.milestones:
            raise UserError("milestones: schedule 'step' needs at least one, such as 60000,80000")
        whole = all(isinstance(milestone, int) and milestone >= 0 for milestone in self.milestones)
        if list(self.milestones) != sorted(self.milestones) or not whole:
            raise UserError(f"milestones: expected whole steps in ascending order from 0 on, got {self.milestones}")

    def _refuse_numbers_out_of_bounds(self) -> None:
        """Every comparison is written so that a value that is not a number fails it."""
        for setting in COUNTS:
            if not getattr(self, setting) >= 1:
                raise UserError(f"{setting}: expected at least 1, got {getattr(self, setting)}")
        for setting in AMOUNTS:
            if not 0 <= getattr(self, setting) < math.inf:
                raise UserError(f"{setting}: expected a finite number of at least 0, got {getattr(self, setting)}")
        if not 0 < self.fraction <= 1:
            raise UserError(f"fraction: expected a share in (0, 1], got {self.fraction}")
        if not 0 <= self.ema_decay <= 1:
            raise UserError(f"ema_decay: expected a share in [0, 1], got {self.ema_decay}")
        if not self.clip_norm > 0:
            raise UserError(f"clip_norm: expected a number above 0, or inf to clip nothing, got {self.clip_norm}")
        if not abs(self.seed) < SEEDS:
            raise UserError(f"seed: expected a whole number between -{SEEDS} and {SEEDS}, got {self.seed}")

    def data(self, split: str) -> DetectionData:
        """The recipe's own data: ``split`` is "train" or "val".

        Raises:
            UserError: ``dataset`` cannot be called so.
        """
        refuse_other_arguments("dataset", self.dataset, split)
        return self.dataset(split)

    def build(self, classes: int) -> nn.Module:
        """A freshly initialised detector for ``classes`` classes.

        Raises:
            UserError: ``detector`` does not take these options or refuses them, or gives no ``nn.Module``.
        """
        refuse_other_arguments("detector", self.detector, classes=classes, **self.model)
        model = self._made(classes, self.model)
        if not isinstance(model, nn.Module):
            raise UserError(
                f"detector: expected a class or function that gives an nn.Module, got {type(model).__name__}"
            )
        return model

    def architecture(self, classes: int) -> nn.Module:
        """The detector without the weights that a training starts from, which may be a download.

        Raises:
            UserError: ``detector`` refuses these options.
        """
        return self._made(classes, {**self.model, "weights": None} if "weights" in self.model else self.model)

    def _made(self, classes: int, options: Mapping[str, Any]) -> nn.Module:
        try:
            check_numbers(self.detector, options)
            return self.detector(classes=classes, **options)
        except (ValueError, TypeError, ArithmeticError, RuntimeError) as error:
            if has_foreign_code(self.detector, options):
                raise  # who wrote it needs the traceback
            raise UserError(f"recipe {self.name}: no detector has the options {dict(options)}: {error}") from error

    def with_model(self, options: dict[str, Any]) -> Recipe:
        """A copy whose detector is built with these options."""
        return replace(self, model=options)

    def with_changes(self, changes: Mapping[str, Any]) -> Recipe:
        """A copy with other settings.

        ``model.NAME`` is an argument of the detector and ``model.NAME.KEY`` lies in one: those that the recipe gives,
        and all others that :func:`.detectors.arguments.arguments` finds.

        Raises:
            UserError: a setting that this recipe does not have, or a value of another type.
        """
        settings, model = {}, self.model
        others = nested(arguments(self.detector), "model")
        for key, new in changes.items():
            known = {**others, **self._values(), **nested(model, "model")}
            del known["model"]
            refuse_unknown(key, known, f"recipe {self.name}")
            value = value_like(known[key], new, key)
            if key.startswith("model."):
                model = replaced(model, key.removeprefix("model."), value)
            else:
                settings[key] = value
        return replace(self, model=model, **settings)

    def autocast_dtype(self, device: torch.device) -> torch.dtype | None:
        """What to compute in on ``device``; None for float32.

        Says so where the recipe asks for bfloat16 and the machine cannot.
        """
        if self.precision == "bf16" and not has_bfloat16(device):
            print(f"{self.name}: this processor has no bfloat16; computing in float32")
            return None
        return {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": None}[self.precision]

    def settings(self) -> dict[str, Any]:
        """Every setting that decides the result, as plain values: what a checkpoint remembers.

        Raises:
            UserError: one holds something that no file can hold; see :mod:`.import_paths`.
        """
        return {name: to_plain(value, name) for name, value in self._values().items()}

    def origin(self) -> dict[str, Any]:
        """All that builds the recipe again, as plain values: what weights remember.

        Returns:
            the import paths ``detector`` and ``dataset``, the latter None where it has none (then the run says which
            files it used), and ``settings``.

        Raises:
            UserError: the detector has no import path, or as :meth:`settings`.
        """
        try:
            dataset = import_path(self.dataset, "dataset")
        except UserError:
            dataset = None
        return {"detector": import_path(self.detector, "detector"), "dataset": dataset, "settings": self.settings()}

    def _values(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name not in (*WORDS, "detector", "dataset")}

    @classmethod
    def defaults(cls) -> dict[str, Any]:
        """Settings that checkpoints made before they existed were trained with."""
        return {f.name: f.default for f in fields(cls) if f.default is not MISSING and f.name not in WORDS}
