"""See what a model saw: named intermediates, kept only while someone is looking.

A module hands its intermediates to :func:`emit`; a reader opens :func:`trace` around a forward pass::

    with trace(model) as t:
        model(images)
    t.names()                                # ["scale_weights", "offsets", ...]
    for path, weights_BL in t.find("scale_weights"):
        print(path, weights_BL.shape)

When no trace is open, :func:`emit` costs one comparison and stores nothing. Tensors are stored detached,
on their device; a module that runs several times in one pass (a head shared by levels) is stored once per
call, in order.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch
from torch import nn

#: Names that modules emit, and what stands behind each. :func:`describe` adds others. Letters: see CONTRIBUTING.md.
NAMES: dict[str, str] = {
    "network_input": "the padded, normalised batch that the backbone saw, (B, 3, H, W)",
    "scale_weights": "gate of each branch of a level or of each level, (B, branches) or (B, L), fine to coarse",
    "offsets": "sampling offsets of the convolution taps, (B, 2*G*K, H, W), (dy, dx) per tap, in pixels",
    "masks": "modulation of the convolution taps, (B, G*K, H, W), in [0, 1]",
    "tap_input": "what a deformable convolution reads, (B, C, H, W)",
    "tap_offsets": "its offsets as it applied them, (B, 2*G*K, Ho, Wo), (dy, dx) per tap, in pixels of its input",
    "tap_masks": "its modulation as it applied it, (B, G*K, Ho, Wo)",
    "tap_weight": "its weight, (Co, C / groups, Kh, Kw)",
    "tap_bias": "its bias, (Co,)",
    "tap_geometry": "its stride, padding and dilation, (3,)",
    "tap_output": "what it computed, (B, Co, Ho, Wo)",
    "task_coefficients": "slopes and intercepts a1, b1, a2, b2 of the dynamic activation, (B, 4, C)",
    "channel_strengths": "how strongly the predictors of class, box and centre weigh each channel, (3, C)",
    "branches": "a level and its neighbours after spatial-aware attention, (B, branches, C, H, W), fine to coarse",
    "after_spatial": "features after spatial-aware attention, (B, C, H, W)",
    "after_scale": "features after scale-aware attention, (B, C, H, W)",
    "after_task": "features after task-aware attention, (B, C, H, W)",
    "block_output": "features after a whole block, one entry per level, (B, C, H, W)",
    "sampling_locations": "where attention reads, (B, Q, M, L, P, 2), (x, y) in [0, 1] of the padded image",
    "attention_weights": "weight of each sampling point, (B, Q, M, L, P); sums to 1 over L and P",
    "attention_values": "what deformable attention reads, (B, N, M, D)",
    "attention_shapes": "(H, W) of the levels that deformable attention reads, (L, 2)",
    "attention_output": "what deformable attention read, before the output projection, (B, Q, M*D)",
    "attention_maps": "dense attention, (B, M, Q, N); sums to 1 over N",
    "points_init": "first point sets of RepPoints, one entry per level, (B, H*W, P, 2), (x, y) in pixels of the batch",
    "points_refined": "second point sets of RepPoints, one entry per level, (B, H*W, P, 2), (x, y), likewise",
    "border_points": "where BorderDet reads the left, top, right, bottom border, (B, H*W, 4, P, 2), (x, y), likewise",
    "reference_boxes": "reference points or boxes of a layer, (B, Q, 2 or 4), cxcywh, normalised",
    "dam": "decoder attention map: attention that each encoder token receives, (B, N)",
    "kept_tokens": "indices of the encoder tokens that are refined, (B, T); -1 where an image keeps fewer",
    "dam_kept": "share of the decoder attention map that falls on refined tokens, (B,)",
}

_open_traces: list[Trace] = []


def describe(name: str, meaning: str) -> None:
    """Document a name that a module of your own emits; it then stands in :data:`NAMES` beside the library's.

    Args:
        name: as in ``emit(self, name=tensor)``.
        meaning: what it is, with its shape: ``"weight of each row, (B, H)"``.

    Raises:
        ValueError: the name means something else already, or nothing is said of it.
    """
    if not meaning.strip():
        raise ValueError(f"meaning: expected words and a shape for {name!r}, got none")
    if NAMES.setdefault(name, meaning) != meaning:
        raise ValueError(f"name: {name!r} means {NAMES[name]!r} already; emit yours under another name")


class Trace:
    """What one traced block of code emitted. Made by :func:`trace`, not by hand."""

    def __init__(self, model: nn.Module, keep: Callable[[str, str], bool]):
        self._paths = {id(module): path for path, module in model.named_modules()}
        self._keep = keep
        self._calls: dict[tuple[str, str], list[torch.Tensor]] = {}

    def _store(self, module: nn.Module, tensors: dict[str, torch.Tensor]) -> None:
        path = self._paths.get(id(module))
        if path is None:  # emitted by another model that runs in the same block
            return
        for name, tensor in tensors.items():
            if self._keep(path, name):
                if not isinstance(tensor, torch.Tensor):
                    raise TypeError(f"emit: expected a tensor for {name!r} of {path!r}, got {type(tensor).__name__}")
                self._calls.setdefault((path, name), []).append(tensor.detach())

    def names(self) -> list[str]:
        """Sorted names that were emitted at least once; :data:`NAMES` says what those mean that are documented."""
        return sorted({name for _, name in self._calls})

    def find(self, name: str) -> Iterator[tuple[str, torch.Tensor]]:
        """Yield (module path, tensor) for every call that emitted ``name``, in model order, then call order.

        Raises:
            KeyError: nobody has emitted or documented that name.
        """
        known = {*NAMES, *self.names()}
        if name not in known:
            raise KeyError(f"unknown trace name {name!r}; known names: {', '.join(sorted(known))}")
        order = {path: i for i, path in enumerate(self._paths.values())}
        found = [(path, calls) for (path, kept), calls in self._calls.items() if kept == name]
        for path, calls in sorted(found, key=lambda item: order[item[0]]):
            for tensor in calls:
                yield path, tensor

    def __getitem__(self, key: tuple[str, str]) -> list[torch.Tensor]:
        """``t[path, name]``: the tensors of every call of the module at ``path``, in call order."""
        try:
            return self._calls[key]
        except KeyError:
            known = ", ".join(f"{path}: {name}" for path, name in self._calls) or "nothing"
            raise KeyError(f"nothing traced under {key!r}; traced: {known}") from None

    def __len__(self) -> int:
        return sum(len(calls) for calls in self._calls.values())


@contextmanager
def trace(model: nn.Module, keep: Callable[[str, str], bool] = lambda path, name: True) -> Iterator[Trace]:
    """Collect what the modules of ``model`` emit inside the ``with`` block.

    Args:
        model: any module of this library; imported official weights included.
        keep: ``keep(path, name)`` decides what is stored; by default everything, which for a large
            image is a lot of memory.
    """
    current = Trace(model, keep)
    _open_traces.append(current)
    try:
        yield current
    finally:
        _open_traces.remove(current)


def emit(module: nn.Module, **tensors: Any) -> None:
    """Show intermediates to those who trace ``module``. Free when nobody does.

    Args:
        module: the module that computed them (``self``).
        tensors: name -> tensor. Any name will do; :func:`describe` says what a new one means.

    Raises:
        TypeError: somebody looks, and one of them is no tensor.
    """
    if not _open_traces or torch.compiler.is_compiling():
        return
    for current in _open_traces:
        current._store(module, tensors)


def is_traced() -> bool:
    """True while a trace is open: for intermediates that are worth computing only then."""
    return bool(_open_traces)


class _TraceModule(ModuleType):
    """This module, which can be called as its function: ``dyhead_lab.trace`` is both.

    Python binds the name of an imported submodule in its package to the module, whatever the package says.
    """

    __call__ = staticmethod(trace)


sys.modules[__name__].__class__ = _TraceModule
