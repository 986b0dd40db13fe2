"""Memory of a training step: blocks that forget, what autograd keeps, and what to do where it does not fit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from ..detectors.protocol import blocks_to_recompute
from ..errors import UserError
from ..platforms import peak_resident
from .recipe import Recipe


def checkpoint_activations(model: nn.Module) -> nn.Module:
    """Make the blocks of ``model`` forget their activations and compute them again when the gradient needs them.

    Only a block's inputs are kept. Gradients, dropout and running statistics stay what they were. Which modules are
    blocks is said by the detector; see :mod:`dyhead_lab.detectors.protocol`.

    Raises:
        UserError: there are none.

    Source: Chen et al., "Training Deep Nets with Sublinear Memory Cost", 2016; ``torch.utils.checkpoint``.
    """
    blocks = blocks_to_recompute(model)
    if not blocks:
        raise UserError("activation_checkpointing: this detector has no blocks that could be computed again")
    for block in blocks:
        block.__class__ = _forgetting(type(block))  # type: ignore[arg-type]  # unlike a replaced method, a class survives deepcopy
    return model


@cache
def _forgetting(kind: type[nn.Module]) -> type[nn.Module]:
    class Forgetting(kind):  # type: ignore[misc, valid-type]
        def forward(self, *args: Any, **kwargs: Any) -> Any:
            if not (self.training and torch.is_grad_enabled()):
                return super().forward(*args, **kwargs)
            again = _statistics_kept(self)
            return checkpoint(
                super().forward, *args, use_reentrant=False, context_fn=lambda: (nullcontext(), again), **kwargs
            )

    Forgetting.__name__ = f"Forgetting{kind.__name__}"
    return Forgetting


@contextmanager
def _statistics_kept(block: nn.Module) -> Iterator[None]:
    """Computing again must not count a batch twice in the running statistics of BatchNorm."""
    norms = [m for m in block.modules() if isinstance(m, _BatchNorm) and m.num_batches_tracked is not None]
    before = [(norm.momentum, norm.num_batches_tracked.clone()) for norm in norms]  # type: ignore[union-attr]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, (momentum, count) in zip(norms, before, strict=True):
            norm.momentum = momentum
            norm.num_batches_tracked.copy_(count)  # type: ignore[union-attr]


@dataclass(frozen=True)
class StepMemory:
    """Memory of training, in bytes.

    Attributes:
        activations: what autograd kept for the gradient of a micro-batch, beyond the weights.
        peak: the most that was in use: allocated on the GPU, or resident in this process on a CPU.
    """

    activations: int
    peak: int

    def __str__(self) -> str:
        return f"activations {_size(self.activations)}, peak {_size(self.peak)}"


class ActivationMeter:
    """Counts what autograd keeps: ``with ActivationMeter(model) as meter: loss = ...``, then ``meter.bytes``.

    Parts of one storage count once; parameters and buffers do not count.
    """

    def __init__(self, model: nn.Module):
        weights = [*model.parameters(), *model.buffers()]
        self._seen = {tensor.untyped_storage().data_ptr() for tensor in weights}
        self._hooks = torch.autograd.graph.saved_tensors_hooks(self._count, lambda tensor: tensor)
        self.bytes = 0

    @torch.compiler.disable
    def _count(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self._seen:
            self._seen.add(storage.data_ptr())
            self.bytes += storage.nbytes()
        return tensor

    def __enter__(self) -> ActivationMeter:
        self._hooks.__enter__()
        return self

    def __exit__(self, *problem: object) -> None:
        self._hooks.__exit__(*problem)


def peak_memory(device: torch.device) -> int:
    """The most bytes in use so far: allocated on a GPU, resident in this process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return peak_resident()


@contextmanager
def out_of_memory_explained(recipe: Recipe, images: Sequence[Tensor], device: torch.device) -> Iterator[None]:
    """A block that ends with advice where the machine's memory is not enough.

    Args:
        recipe: how the block trains.
        images: the batch of this process, (3, H, W) each.
        device: where it computes.

    Raises:
        UserError: the batch does not fit; the message names it, the peak and what to change.
    """
    try:
        yield
    except RuntimeError as error:  # torch.OutOfMemoryError is one; the CPU's allocator raises a plain one
        if not isinstance(error, torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
            raise
        height, width = (max(image.shape[axis] for image in images) for axis in (1, 2))
        ways = [f"accumulate={2 * recipe.accumulate} (the same batch in smaller parts)"]
        if not recipe.activation_checkpointing and not recipe.compile:
            ways.append("activation_checkpointing=true (for one more forward pass)")
        if recipe.precision == "fp32":
            ways.append("precision=bf16")
        ways.append("a smaller batch_size (with lr in proportion) or smaller images")
        raise UserError(
            f"out of memory: {len(images)} images a process in {recipe.accumulate} part(s), padded to "
            f"{height}x{width} pixels (batch_size={recipe.batch_size}); the peak was "
            f"{_size(peak_memory(device))}. Set {', or '.join(ways)}"
        ) from error


def _size(count: int) -> str:
    """Bytes as people read them: 3.2 GiB, 41 MiB."""
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"
