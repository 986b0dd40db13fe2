"""A recipe: everything that decides how a detector is trained, and what to expect of it."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from torch import nn

from ..data.coco import CocoDetection
from ..errors import UserError
from ..ops.autocast import has_bfloat16


@dataclass(frozen=True)
class Recipe:
    """How one detector is trained.

    Args:
        name: its name in the zoo.
        summary: one line: what it is.
        detector: ``detector(classes=K, **model)`` builds it.
        dataset: ``dataset(split)`` gives the data for "train" and "val".
        augmentation: random transform of the training images, a name in ``data.transforms.AUGMENTATIONS``.
        model: arguments of ``detector``.
        iterations: optimiser steps. A budget in steps does not depend on the machine.
        batch_size: images per step, over all processes.
        lr: peak learning rate of AdamW.
        offset_lr: factor on ``lr`` for the layers that predict sampling offsets.
        weight_decay: of AdamW.
        warmup: steps of linear warm-up; a half cosine down to zero follows.
        clip_norm: gradients are scaled down to this norm.
        ema_decay: decay of the averaged weights, which are what is judged and kept.
        precision: "bf16" (autocast) or "fp32".
        seed: of initialisation, order and transforms.
        evaluate_every: steps between evaluations; the last step is always followed by one.
        checkpoint_every: steps between checkpoints.
        source: where the settings come from.
        expected: what a reader should see: AP, time, machine.
    """

    name: str
    summary: str
    detector: Callable[..., nn.Module]
    dataset: Callable[[str], CocoDetection]
    augmentation: str = "flip"
    model: dict[str, Any] = field(default_factory=dict)
    iterations: int = 1000
    batch_size: int = 16
    lr: float = 1e-3
    offset_lr: float = 0.1
    weight_decay: float = 0.05
    warmup: int = 100
    clip_norm: float = 5.0
    ema_decay: float = 0.998
    precision: str = "bf16"
    seed: int = 0
    evaluate_every: int = 1000
    checkpoint_every: int = 200
    source: str = ""
    expected: str = ""

    def data(self, split: str) -> CocoDetection:
        """The recipe's own data: ``split`` is "train" or "val"."""
        return self.dataset(split)

    def build(self, classes: int) -> nn.Module:
        """A freshly initialised detector for ``classes`` classes."""
        return self.detector(classes=classes, **self.model)

    def with_model(self, options: dict[str, Any]) -> Recipe:
        """A copy whose detector is built with these options."""
        return replace(self, model=options)

    def with_changes(self, changes: Mapping[str, Any]) -> Recipe:
        """A copy with other settings; ``model.NAME`` reaches the detector's arguments.

        Raises:
            UserError: a setting that this recipe does not have, or a value of another type.
        """
        settings, model = {}, dict(self.model)
        for key, value in changes.items():
            known = {f"model.{name}": given for name, given in self.model.items()} | self.settings()
            if key not in known or key == "model":
                near = difflib.get_close_matches(key, known, n=1)
                hint = f"; did you mean {near[0]}?" if near else f"; it has {', '.join(sorted(known))}"
                raise UserError(f"recipe {self.name} has no setting {key!r}{hint}")
            value = _like(known[key], value, key)
            if key.startswith("model."):
                model[key.removeprefix("model.")] = value
            else:
                settings[key] = value
        return replace(self, model=model, **settings)

    def autocasts(self, device: torch.device) -> bool:
        """Whether to compute in bfloat16 on ``device``. Says so where the recipe asks for it and the machine cannot."""
        if self.precision == "bf16" and not has_bfloat16(device):
            print(f"{self.name}: this processor has no bfloat16; computing in float32")
            return False
        return self.precision == "bf16"

    def settings(self) -> dict[str, Any]:
        """Every setting that decides the result, as plain values: what a checkpoint remembers."""
        plain = (int, float, str, dict)
        words = ("name", "summary", "source", "expected")
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in words}
        return {name: value for name, value in values.items() if isinstance(value, plain)}


def _like(old: Any, new: Any, key: str) -> Any:
    """``new`` (perhaps typed at a command line) as a value of ``old``'s type."""
    wanted = type(old)
    try:
        if wanted is bool:
            return {"true": True, "false": False}[str(new).lower()]
        return wanted(new)
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{key}: expected a value like {old!r}, got {new!r}") from None
