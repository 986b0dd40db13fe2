"""The engine: one loop that trains every recipe, and continues where it was killed."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader

from ..data.coco import CocoDetection
from ..data.draws import EndlessBatches, InMemory, RandomDraws, as_lists
from ..data.transforms import augmentation
from ..errors import UserError
from ..evaluation.coco import CocoResult, detect_dataset, evaluate
from .checkpoint import CHECKPOINT, read, write_atomically
from .recipe import Recipe

IN_MEMORY = 1_000_000_000  # bytes of decoded training images that may be kept


class Engine:
    """A detector with its optimiser, schedule and averaged weights: the state of a run.

    Args:
        recipe: how to train.
        train_set, val_set: what to train on and what to judge by; the same categories.
        out: folder of the run.
    """

    def __init__(self, recipe: Recipe, train_set: CocoDetection, val_set: CocoDetection, out: Path):
        if train_set.categories != val_set.categories:
            raise UserError(f"train and val have different categories: {train_set.categories}, {val_set.categories}")
        _refuse_what_is_missing(recipe)
        self.recipe, self.out = recipe, out
        self.train_set, self.val_set = train_set, val_set
        self.accelerator = Accelerator()
        torch.manual_seed(recipe.seed)
        model = recipe.build(len(train_set.categories)).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        optimizer = torch.optim.AdamW(_parameter_groups(model, recipe), lr=recipe.lr)
        self.model, self.optimizer = self.accelerator.prepare(model, optimizer)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda step: learning_rate_factor(step, recipe.warmup, recipe.iterations)
        )
        self.averaged = AveragedModel(
            self.accelerator.unwrap_model(self.model),
            avg_fn=_warm_average(recipe.ema_decay),
            use_buffers=True,
        )
        self.autocast = recipe.autocasts(self.accelerator.device)
        self.iteration = 0

    @property
    def lr(self) -> float:
        """Learning rate of the next step."""
        return float(self.schedule.get_last_lr()[0])

    @property
    def checkpoint_path(self) -> Path:
        return self.out / "last.pt"

    def save(self) -> None:
        """Write the checkpoint that :meth:`load` continues from."""
        if not self.accelerator.is_main_process:
            return
        state = {
            "format": CHECKPOINT,
            "recipe": self.recipe.name,
            "settings": self.recipe.settings(),
            "categories": self.train_set.categories,
            "iteration": self.iteration,
            "model": self.accelerator.unwrap_model(self.model).state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "rng": torch.get_rng_state(),
        }
        write_atomically(self.checkpoint_path, state)

    def load(self) -> None:
        """Continue from the checkpoint in the run's folder.

        Raises:
            UserError: the folder holds another run; every difference is named.
        """
        state = read(self.checkpoint_path, CHECKPOINT)
        here = {"recipe": self.recipe.name, "categories": self.train_set.categories, **self.recipe.settings()}
        there = {"recipe": state["recipe"], "categories": state["categories"], **Recipe.defaults(), **state["settings"]}
        changed = [f"{k} was {there.get(k)!r}, is {here.get(k)!r}" for k in here if here.get(k) != there.get(k)]
        if changed:
            raise UserError(
                f"{self.out} holds a run with other settings ({'; '.join(changed)}); "
                "choose another --out, or --fresh to start it anew"
            )
        self.accelerator.unwrap_model(self.model).load_state_dict(state["model"])
        self.averaged.load_state_dict(state["averaged"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        torch.set_rng_state(state["rng"])
        self.iteration = state["iteration"]

    def batches(self) -> DataLoader:
        """Training batches from the current iteration on, without end."""
        recipe, accelerator = self.recipe, self.accelerator
        order = EndlessBatches(
            len(self.train_set), recipe.batch_size, recipe.seed, self.iteration,
            accelerator.process_index, accelerator.num_processes,
        )  # fmt: skip
        pixels = sum(record["height"] * record["width"] for record in self.train_set.coco.imgs.values())
        small = 3 * pixels <= IN_MEMORY
        draws = RandomDraws(InMemory(self.train_set) if small else self.train_set, augmentation(recipe.augmentation))
        return DataLoader(draws, batch_sampler=order, collate_fn=as_lists, num_workers=0 if small else 2)

    def step(self, images: list[torch.Tensor], targets: list[dict[str, Any]]) -> dict[str, float]:
        """One step of the optimiser. Returns the parts of the loss and their sum, ``loss``."""
        device = self.accelerator.device
        images = [image.to(device) for image in images]
        boxes = [{name: t[name].to(device) for name in ("boxes", "labels")} for t in targets]
        with torch.autocast(device.type, torch.bfloat16, enabled=self.autocast):
            parts = self.model(images, boxes)
        loss = torch.stack(list(parts.values())).sum()
        if not torch.isfinite(loss):
            raise UserError(
                f"the loss is {loss.item()} at iteration {self.iteration} "
                f"(images {', '.join(str(t['image_id']) for t in targets)}); the last checkpoint is kept. "
                "A smaller lr often helps"
            )
        self.optimizer.zero_grad()
        self.accelerator.backward(loss)
        self.accelerator.clip_grad_norm_(self.model.parameters(), self.recipe.clip_norm)
        self.optimizer.step()
        self.schedule.step()
        self.averaged.update_parameters(self.accelerator.unwrap_model(self.model))
        self.iteration += 1
        return {"loss": loss.item(), **{name: part.item() for name, part in parts.items()}}

    def detect(self, model: nn.Module) -> list[dict[str, Any]]:
        """COCO records of what ``model`` finds in the validation set."""
        device = self.accelerator.device
        return detect_dataset(model, self.val_set, batch_size=16, device=device, amp=self.autocast)

    def judge(self, model: nn.Module) -> CocoResult:
        """The COCO numbers of ``model`` on the validation set."""
        return evaluate(self.val_set, self.detect(model))


def _refuse_what_is_missing(recipe: Recipe) -> None:
    """Settings that the engine does not follow yet."""
    missing: tuple[str, ...] = (
        "optimizer",
        "schedule",
        "warmup_factor",
        "backbone_lr",
        "decay_norms",
        "accumulate",
        "aspect_grouping",
    )
    missing += ("activation_checkpointing", "compile", "on_nonfinite")
    asked = [name for name in missing if getattr(recipe, name) != Recipe.defaults()[name]]
    if asked or recipe.precision == "fp16":
        raise UserError(f"recipe {recipe.name}: not supported yet: {', '.join(asked) or 'precision fp16'}")


def learning_rate_factor(step: int, warmup: int, iterations: int) -> float:
    """Share of the peak rate: linear over ``warmup`` steps, then half a cosine down to 0 at ``iterations``."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, iterations - warmup)))


def _warm_average(decay: float):
    """Exponential average whose memory grows with the steps seen, so that short runs forget their start."""

    def average(old: torch.Tensor, new: torch.Tensor, seen: torch.Tensor | int) -> torch.Tensor:
        if not old.is_floating_point():  # BatchNorm counts its batches
            return new
        return torch.lerp(new, old, min(decay, (1 + int(seen)) / (10 + int(seen))))

    return average


def _parameter_groups(model: nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
    """Matrices and kernels, which decay; biases and gains of norms, which do not; layers that predict offsets.

    Sampling offsets learn more slowly, as in Deformable DETR: where a layer looks decides what all others see.
    """
    offsets: list[nn.Parameter] = []
    matrices: list[nn.Parameter] = []
    vectors: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            group = offsets if "offset" in name else matrices if parameter.ndim > 1 else vectors
            group.append(parameter)
    return [
        {"params": matrices, "weight_decay": recipe.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
        {"params": offsets, "weight_decay": 0.0, "lr": recipe.lr * recipe.offset_lr},
    ]
