"""The engine: one step that trains every recipe, and a state that continues where it was killed."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader

from ..data.dataset import DetectionData, ask_for_masks, place_of, refuse_incomplete
from ..data.transforms import resizes
from ..detectors.losses import in_parts, mean_over_processes
from ..detectors.norm_folding import fold_in_calls
from ..detectors.protocol import keep_sizes_in_training, parts_to_compile
from ..detectors.result_checks import check_losses
from ..errors import UserError
from ..evaluation.coco_metric import CocoResult, detect_dataset, evaluate
from .checkpoint import CHECKPOINT, fitting, read, write_atomically
from .distributed import Share, accelerator_here, gather_list, synchronise_batch_norm
from .former_options import as_meant
from .import_paths import current_path, import_path
from .loader import loading_workers, training_batches
from .nonfinite import NotFiniteError, save_batch
from .optimizers import build_optimizer, warm_average
from .recipe import Recipe
from .schedules import rate_factor, why_not_continued
from .start import Start, begin_from, place_of_start
from .step_memory import ActivationMeter, StepMemory, checkpoint_activations, out_of_memory_explained, peak_memory

#: What a detector learns from.
TARGETS = ("boxes", "labels", "masks")

Targets = list[dict[str, Any]]


class Engine:
    """A detector with its optimiser and averaged weights: the state of a run, in one process or in each of several.

    Learning rate, order of the images, transforms and everything else that is drawn by chance are functions of the
    recipe and the iteration. So a checkpoint needs weights, moments and the iteration, and a run that continues
    from it ends with the same weights as one that was never stopped.

    Args:
        recipe: how to train.
        train_set, val_set: what to train on and what to evaluate on; the same categories.
        out: folder of the run.
        start: a trained detector to start from; None starts as the recipe says.

    Attributes:
        iteration: steps done.
        anew: what starts anew although the training starts from trained weights; see :mod:`.start`.
        skipped: batches skipped by this process because something was not finite.

    Raises:
        UserError: a set is empty or lacks what training needs, the categories differ, the batch cannot be shared out,
            or the detector has no part that the recipe wants to compile or to compute again.
    """

    def __init__(
        self,
        recipe: Recipe,
        train_set: DetectionData,
        val_set: DetectionData,
        out: Path,
        start: Start | None = None,
    ):
        for split, dataset in (("train", train_set), ("val", val_set)):
            refuse_incomplete(dataset, split)
            if not len(dataset) or not dataset.categories:
                lacks = "categories" if len(dataset) else "images"
                raise UserError(f"the {split} set has no {lacks}: {place_of(dataset)}")
        if list(train_set.categories) != list(val_set.categories):
            raise UserError(f"train and val have different categories: {train_set.categories}, {val_set.categories}")
        self.recipe, self.out, self.start = recipe, out, start
        self.train_set, self.val_set = train_set, val_set
        if recipe.masks:
            ask_for_masks(train_set)
        self.accelerator = accelerator_here()
        parts = self.accelerator.num_processes * recipe.accumulate
        if recipe.batch_size % parts:
            raise UserError(
                f"batch_size: expected a multiple of {parts} ({self.accelerator.num_processes} processes with "
                f"{recipe.accumulate} micro-batches each), got {recipe.batch_size}"
            )
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)  # of a run before this one in the same process
        torch.manual_seed(recipe.seed)
        model = self._build().to(self.device)
        self.optimizer = build_optimizer(model, recipe)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=recipe.precision == "fp16")
        average = warm_average(recipe.ema_decay, lambda: int(self.averaged.n_averaged))  # it lies on the CPU
        self.averaged = AveragedModel(model, multi_avg_fn=average, use_buffers=True)
        self.model = self.accelerator.prepare_model(model)
        self.autocast_dtype = recipe.autocast_dtype(self.device)
        self.iteration = 0
        self._ids = hashlib.sha256(json.dumps([train_set.image_ids, val_set.image_ids]).encode()).hexdigest()[:16]
        self._activations: int | None = None
        self.skipped = 0

    def _build(self) -> nn.Module:
        recipe, classes = self.recipe, len(self.train_set.categories)
        model = recipe.build(classes) if self.start is None else recipe.architecture(classes)
        categories, start = self.train_set.categories, self.start
        self.anew = begin_from(start, model, categories, recipe.architecture) if start else []
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if resizes(recipe.augmentation):
            keep_sizes_in_training(model)
        if not recipe.compile:  # the compiler joins passes over memory by itself
            fold_in_calls(model)
        if recipe.activation_checkpointing:
            checkpoint_activations(model)
        if self.accelerator.num_processes > 1:
            model = synchronise_batch_norm(model, self.device)
        if recipe.compile:
            _compile_parts(model)
        return model

    @property
    def device(self) -> torch.device:
        return self.accelerator.device

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes files and talks."""
        return self.accelerator.is_main_process

    @property
    def lr(self) -> float:
        """Learning rate of the next step."""
        return self.recipe.lr * rate_factor(self.recipe, self.iteration)

    @property
    def memory(self) -> StepMemory | None:
        """Activations of the first micro-batch of this process, and its peak so far; None before the first step."""
        return None if self._activations is None else StepMemory(self._activations, peak_memory(self.device))

    @property
    def checkpoint_path(self) -> Path:
        return self.out / "last.pt"

    def save(self) -> None:
        """Write the checkpoint that :meth:`load` continues from; the main process does so for all.

        Raises:
            UserError: it cannot be written; the one before it is still there.
        """
        if not self.is_main:
            return
        state = {
            "format": CHECKPOINT,
            **self._subject,
            **self.recipe.origin(),
            "iteration": self.iteration,
            "model": self._unwrapped.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
        }
        write_atomically(self.checkpoint_path, state)

    def load(self) -> None:
        """Continue from the checkpoint in the run's folder.

        Raises:
            UserError: the folder holds another run, or the detector was changed since; every difference is named. More
                iterations or other milestones are taken where the steps that are done had the same rates.
        """
        state = read(self.checkpoint_path, CHECKPOINT)
        here = {**self._subject, **self.recipe.settings()}
        state |= {"detector": current_path(state["detector"])} if "detector" in state else {}
        known = {name: state[name] for name in self._subject if name in state}  # early ones do not count their images
        if known.get("start"):  # early ones have it as it was typed
            known["start"] = str(Path(known["start"]).resolve())
        model = as_meant(state["settings"].get("model", {}), self.recipe.detector, state["format"])
        there = {**self._subject, **known, **Recipe.defaults(), **state["settings"], "model": model}
        changed = {k: there.get(k) for k in here if here.get(k) != there.get(k)}
        reason = why_not_continued(self.recipe, changed, state["iteration"])
        if reason is not None:
            differences = "; ".join(f"{k} was {before!r}, is {here[k]!r}" for k, before in changed.items())
            raise UserError(
                f"{self.out} holds a run with other settings ({differences}){reason}; "
                "choose another --out, or --fresh to start it anew"
            )
        with fitting(self.out, self.recipe.detector.__qualname__):
            self._unwrapped.load_state_dict(state["model"])
            self.averaged.load_state_dict(state["averaged"])
            self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state.get("scaler", {}))  # checkpoints older than fp16 have none, and need none
        self.iteration = state["iteration"]

    @property
    def _subject(self) -> dict[str, Any]:
        """What learns what; a checkpoint remembers it."""
        return {
            "recipe": self.recipe.name,
            "detector": import_path(self.recipe.detector, "detector"),
            "categories": list(self.train_set.categories),
            "images": len(self.train_set),
            "ids of images": self._ids,
            "start": place_of_start(self.start),
        }

    @property
    def _unwrapped(self) -> nn.Module:
        return self.accelerator.unwrap_model(self.model)

    def batches(self) -> DataLoader:
        """Training batches of this process from the current iteration on, without end."""
        accelerator = self.accelerator
        return training_batches(
            self.recipe,
            self.train_set,
            self.iteration,
            accelerator.process_index,
            accelerator.num_processes,
            pin_memory=self.device.type == "cuda",
        )

    def step(self, images: list[Tensor], targets: Targets) -> dict[str, float]:
        """One step of the optimiser.

        Args:
            images: of this process, (3, H, W) each.
            targets: one for each image.

        Returns:
            the parts of the loss and their sum, ``loss``, averaged over micro-batches and processes; nothing if
            the batch was skipped.

        Raises:
            UserError: the batch does not fit into memory, or a loss or gradient is not finite and the recipe says
                stop; the batch is saved then.
        """
        process, processes = self.accelerator.process_index, self.accelerator.num_processes
        torch.manual_seed(self.recipe.seed * 2**32 + self.iteration * processes + process)
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * rate_factor(self.recipe, self.iteration)
        try:
            with out_of_memory_explained(self.recipe, images, self.device), self._statistics_kept():
                losses = self._update(self._accumulate(images, targets))
        except NotFiniteError as problem:
            losses = {}
            self._set_aside(images, targets, problem)
        self.iteration += 1
        return losses

    @contextmanager
    def _statistics_kept(self) -> Iterator[None]:
        """A batch that is skipped leaves no trace in the statistics of normalisations: they would never forget it."""
        if self.recipe.on_nonfinite != "skip":
            yield
            return
        buffers = list(self._unwrapped.buffers())
        before = [buffer.clone() for buffer in buffers]
        try:
            yield
        except NotFiniteError:
            for buffer, value in zip(buffers, before, strict=True):
                buffer.copy_(value)
            raise

    def _accumulate(self, images: list[Tensor], targets: Targets) -> dict[str, Tensor]:
        """Gradients of the batch, micro-batch by micro-batch; the mean losses of this process, still on the device."""
        self.optimizer.zero_grad()
        size = math.ceil(len(images) / self.recipe.accumulate)
        means: dict[str, Tensor] = {}
        with in_parts([len(target["labels"]) for target in targets], self.recipe.accumulate):
            for first in range(0, len(images), size):
                last = first + size >= len(images)
                with nullcontext() if last else self.accelerator.no_sync(self.model):
                    parts = self._backward(images[first : first + size], targets[first : first + size])
                for name, value in parts.items():
                    value = value.detach().float() / self.recipe.accumulate
                    means[name] = means[name] + value if name in means else value
        return means

    def _backward(self, images: Sequence[Tensor], targets: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        """Add the gradients of one micro-batch; its losses."""
        device = self.device
        images = [image.to(device, non_blocking=True) for image in images]
        goals = [{name: t[name].to(device, non_blocking=True) for name in TARGETS if name in t} for t in targets]
        dtype = self.autocast_dtype
        with self._measured(), torch.autocast(device.type, dtype, enabled=dtype is not None):
            parts = self.model(images, goals)
            check_losses(parts)
            loss = torch.stack(list(parts.values())).sum()
        self.scaler.scale(loss / self.recipe.accumulate).backward()
        return parts

    def _update(self, means: dict[str, Tensor]) -> dict[str, float]:
        """Clip, step, and average the weights; the losses, averaged over the processes."""
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip_norm)
        means_and_norm = torch.stack([*means.values(), norm.float()])
        *values, norm_here = mean_over_processes(means_and_norm).tolist()  # waits for the device, once a step
        losses = {"loss": 0.0, **dict(zip(means, values, strict=True))}
        losses["loss"] = sum(values)  # whatever the detector calls its parts
        if not math.isfinite(losses["loss"]):
            self.scaler.update()  # it has seen these gradients, and wants to be told that they are done
            raise NotFiniteError(losses)
        if not math.isfinite(norm_here) and self._scale_is_no_excuse():
            self.scaler.update()
            raise NotFiniteError({"gradient norm": norm_here})
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.averaged.update_parameters(self._unwrapped)
        return losses

    def _scale_is_no_excuse(self) -> bool:
        """Whether gradients that are not finite are so by themselves. Under fp16 the loss may be scaled too much: the
        scaler skips such steps and scales less, until there is nothing left to take away."""
        return not self.scaler.is_enabled() or self.scaler.get_scale() < 1

    @contextmanager
    def _measured(self) -> Iterator[None]:
        """Count the activations of the first forward pass; later ones are let alone."""
        if self._activations is not None:
            yield
            return
        with ActivationMeter(self._unwrapped) as meter:
            yield
        self._activations = meter.bytes

    def _set_aside(self, images: list[Tensor], targets: Targets, problem: NotFiniteError) -> None:
        """Save a batch that is of no use; then stop or go on, as the recipe says. All processes come here together."""
        path = save_batch(self.out, self.iteration, self.accelerator.process_index, images, targets, problem.values)
        ids = gather_list([str(target["image_id"]) for target in targets], self.accelerator)
        message = f"not finite at iteration {self.iteration}: {problem} (images {', '.join(ids)}; saved as {path})"
        if self.recipe.on_nonfinite == "stop":
            raise UserError(f"{message}. The last checkpoint is kept. A smaller lr often helps") from problem
        self.skipped += 1
        if self.is_main:
            print(f"{message}: skipped")

    def detect(self, model: nn.Module) -> list[dict[str, Any]]:
        """COCO records of what ``model`` finds in the validation set, each image once; the same on all processes."""
        accelerator = self.accelerator
        share = Share(self.val_set, accelerator.process_index, accelerator.num_processes)
        size = max(1, self.recipe.batch_size // accelerator.num_processes // self.recipe.accumulate)
        workers = loading_workers(self.val_set, accelerator.num_processes)
        records = detect_dataset(model, share, size, self.device, self.autocast_dtype, workers)
        return gather_list(records, accelerator)

    def evaluate(self, model: nn.Module) -> CocoResult:
        """The COCO numbers of ``model`` on the validation set; the same on all processes.

        By the fastest engine there is: training waits for it.
        """
        return evaluate(self.val_set, self.detect(model), engine=None)


def _compile_parts(model: nn.Module) -> None:
    """Compile what the detector names.

    Raises:
        UserError: it names nothing.
    """
    parts = parts_to_compile(model)
    if not parts:
        raise UserError("compile: this detector has no backbone; see parts_to_compile in detectors/protocol.py")
    for part in parts:
        part.compile(dynamic=True)
