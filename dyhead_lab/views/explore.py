"""Any explorer on any weights: the explorers know no model, so here a model runs and hands them what they draw."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..detectors.inference import prepared
from ..errors import UserError
from ..evaluation.efficiency import macs
from ..trace import Trace, trace
from ..training.import_paths import Import
from ..zoo import Trained, load_trained
from .explorer import Explorer
from .look import RHOS, opened
from .sampling_points import SamplingPoints
from .scale_explorer import ScaleExplorer, scale_numbers
from .scale_weights import ScaleWeights, gates_of
from .sparse_tokens import Detection, SparseTokens
from .task_lines import coefficients_of
from .task_pieces import TaskPieces

Images = Sequence[str | Path | Tensor] | str | Path | Tensor


def explore(
    explorer: type[Explorer],
    images: Images,
    weights: str | Path | Trained = "everyday",
    imports: Iterable[Import] = (),
) -> Explorer:
    """An explorer of what weights do with images: ``explore(SamplingPoints, "photo.jpg", "everyday")``.

    Args:
        explorer: :class:`.SamplingPoints`, :class:`.SparseTokens`, :class:`.TaskPieces`, which look at the first image;
            :class:`.ScaleExplorer` or :class:`.ScaleWeights`, which look at all of them.
        images: one or several; each as :func:`.look.look` takes it.
        weights, imports: as in :func:`dyhead_lab.zoo.load_trained`, or what it gave.

    Raises:
        UserError: images or weights cannot be read, or the detector has nothing that this explorer shows.
    """
    if explorer not in _MAKERS:
        known = ", ".join(each.__name__ for each in _MAKERS)
        raise UserError(f"explorer: got {getattr(explorer, '__name__', explorer)}, expected one of {known}")
    trained = weights if isinstance(weights, Trained) else load_trained(weights, imports)
    several = [images] if isinstance(images, str | Path | Tensor) else list(images)
    if not several:
        raise UserError("images: got none, expected at least 1")
    pixels = [opened(image, trained.model)[0] for image in several]
    try:
        return _MAKERS[explorer](prepared(trained.model), pixels, trained.categories)
    except ValueError as error:  # of an explorer that misses what it draws
        name = type(trained.model).__name__
        raise UserError(f"{explorer.__name__} shows nothing of {trained.recipe.name}, a {name}: {error}") from error


def _pass(model: nn.Module, image: Tensor) -> tuple[Trace, Detection]:
    with torch.inference_mode(), trace(model) as seen:
        (found,) = model([image])
    return seen, found


def _level_names(count: int) -> list[str]:
    return [f"level {number}" for number in range(1, count + 1)]


def _sampling_points(model: nn.Module, images: list[Tensor], _names: list[str]) -> Explorer:
    return SamplingPoints(_pass(model, images[0])[0], images[0])


def _task_pieces(model: nn.Module, images: list[Tensor], _names: list[str]) -> Explorer:
    seen, _ = _pass(model, images[0])
    return TaskPieces(seen, _level_names(len(coefficients_of(seen)[0])))


def _scale_weights(model: nn.Module, images: list[Tensor], _names: list[str]) -> Explorer:
    passes = [gates_of(_pass(model, image)[0]) for image in images]
    gates = [[torch.cat(level) for level in zip(*block, strict=True)] for block in zip(*passes, strict=True)]
    return ScaleWeights(gates, _level_names(len(gates[0])), images)


def _scale_explorer(model: nn.Module, images: list[Tensor], _names: list[str]) -> Explorer:
    calls = gates_of(_pass(model, images[0])[0])[0]
    levels = len(calls) if len(calls) > 1 else calls[0].shape[1]  # the paper's form tells all levels in one call
    return ScaleExplorer(scale_numbers(model, images, levels), _level_names(levels), images)


def _sparse_tokens(model: Any, images: list[Tensor], names: list[str]) -> Explorer:
    own = getattr(model, "rho", None)
    if own is None:
        raise ValueError("it refines all of its tokens")

    def at(rho: float, look: Callable[[], Any]) -> Any:
        model.rho = rho
        try:
            return look()
        finally:
            model.rho = own

    def run(rho: float) -> tuple[Trace, Detection]:
        return at(rho, lambda: _pass(model, images[0]))

    @torch.inference_mode()
    def cost(rho: float) -> float:
        return at(rho, lambda: macs(model, lambda: model([images[0]])))["transformer.encoder"]

    return SparseTokens(run, images[0], sorted({*RHOS, float(own)}), names, cost, start=float(own))


_MAKERS: dict[type[Explorer], Callable[[nn.Module, list[Tensor], list[str]], Explorer]] = {
    SamplingPoints: _sampling_points,
    ScaleExplorer: _scale_explorer,
    ScaleWeights: _scale_weights,
    TaskPieces: _task_pieces,
    SparseTokens: _sparse_tokens,
}
