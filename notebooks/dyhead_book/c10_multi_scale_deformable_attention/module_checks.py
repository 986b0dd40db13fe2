"""Checks and mistakes of the module of multi-scale deformable attention: its start, and its way to the output."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dyhead_lab.attention.deformable import MultiScaleDeformableAttention
from dyhead_lab.ops import ms_deform_attn

from ..practice.cases import draw_sizes
from ..practice.module_checks import check_filled
from ..practice.reader_checks import Case, Mistake, Verdict, check

# The start

RING_IN_FLOAT32 = 1e-6  # the library's bias is float32


def ring_formula(heads: int, levels: int, points: int) -> Tensor:
    """The bias of a fresh module's offset layer, (M, L, P, 2)."""
    layer = MultiScaleDeformableAttention(4 * heads, levels, heads, points)
    return layer.sampling_offsets.bias.detach().view(heads, levels, points, 2)


def _ring_cases() -> Iterator[Case]:
    for heads, levels, points in ((4, 1, 1), (8, 1, 1), (8, 1, 4), (8, 3, 4), (6, 2, 3), (2, 4, 5)):
        yield Case(f"{heads} heads, {levels} level(s), {points} point(s)", (heads, levels, points))


def _ring(
    angle: Callable[[Tensor, int], Tensor] = lambda m, M: 2 * math.pi * m / M,
    steps: Callable[[int], Tensor] = lambda P: torch.arange(1, P + 1),
    longest: Callable[[Tensor], Tensor] = lambda d: d.abs().amax(-1, keepdim=True),
    grow: float = 1.0,
    exchange: bool = False,
) -> Callable[..., Tensor]:
    """A ring of which one thing is different."""

    def imitate(heads: int, levels: int, points: int) -> Tensor:
        turned = angle(torch.arange(heads), heads)
        direction = torch.stack([turned.cos(), turned.sin()], -1)
        direction = direction / longest(direction)
        if exchange:
            direction = direction.flip(-1)
        scale = grow ** torch.arange(levels)
        return direction[:, None, None] * steps(points)[:, None] * scale[:, None, None]

    return imitate


RING_MISTAKES = (
    Mistake(
        "the first point lies on the reference point",
        "point k lies k cells away, k = 1 ... P.",
        _ring(steps=lambda P: torch.arange(P)),
    ),
    Mistake(
        "all points of a head lie one cell away",
        "point k lies k cells away, k = 1 ... P.",
        _ring(steps=lambda P: torch.ones(P)),
    ),
    Mistake(
        "the directions lie on a circle",
        "divide each direction by its largest component: (1, 1) in place of (0.71, 0.71).",
        _ring(longest=lambda d: torch.ones(len(d), 1)),
    ),
    Mistake(
        "the directions go once around with M - 1 steps",
        "head m looks along the angle 2 pi m / M, so that the last head is not the first again.",
        _ring(angle=lambda m, M: 2 * math.pi * m / (M - 1)),
    ),
    Mistake(
        "the directions go half around",
        "head m looks along the angle 2 pi m / M.",
        _ring(angle=lambda m, M: math.pi * m / M),
    ),
    Mistake("x and y are exchanged", "a direction is (cos, sin), that is (x, y).", _ring(exchange=True)),
    Mistake(
        "coarse levels start further away",
        "offsets count in cells of their level, so the same number is further on a coarse level by itself.",
        _ring(grow=2.0),
    ),
)


def check_ring(function: Callable[..., Tensor]) -> Verdict:
    """Check the reader's ``ring(heads, levels, points)``: offsets (M, L, P, 2) as (x, y) in cells."""
    return check(function, ring_formula, _ring_cases(), RING_MISTAKES, RING_IN_FLOAT32)


# The module


def _module_cases(seed: int = 0, count: int = 8) -> Iterator[Case]:
    """One level and points; several; padding; boxes."""
    rng = np.random.default_rng(seed)
    drawn = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=drawn, dtype=torch.float64)

    for number in range(count):
        L, M, P, Q, B = (1 if number < 2 else 2), 3, 2, 4, 2
        C = M * 4
        shapes = torch.from_numpy(draw_sizes(rng, L))
        counts = shapes.prod(1)
        N = int(counts.sum())
        layer = MultiScaleDeformableAttention(C, L, M, P).double()
        for parameter in layer.parameters():
            parameter.data = 0.4 * normal(*parameter.shape)
        padding = None
        if number >= 4:
            padding = torch.zeros(B, N, dtype=torch.bool)
            padding[1, N // 2 :] = True
        corners = 4 if number >= 6 else 2
        reference = torch.from_numpy(rng.uniform(0.2, 0.8, (B, Q, L, corners)))
        words = f"{', padding' if padding is not None else ''}{', boxes' if corners == 4 else ''}"
        yield Case(
            f"{Q} queries, {M} heads, {P} points, levels {shapes.tolist()}{words}",
            (layer, normal(B, Q, C), reference, normal(B, N, C), shapes, counts.cumsum(0) - counts, padding),
        )


@torch.no_grad()
def _library(layer: MultiScaleDeformableAttention, *inputs: Any) -> Any:
    return layer(*inputs)


def _altered(alter: Callable[[Any], Any]) -> Callable[..., Any]:
    """The library's module, changed before it runs."""

    def imitate(layer: MultiScaleDeformableAttention, *inputs: Any) -> Any:
        other = deepcopy(layer)
        alter(other)
        return _library(other, *inputs)

    return imitate


class _Then(nn.Module):
    """A linear layer whose output is rearranged."""

    def __init__(self, layer: nn.Module, after: Callable[[Tensor], Tensor]):
        super().__init__()
        self.layer, self.after = layer, after

    def forward(self, x: Tensor) -> Any:
        return self.after(self.layer(x))


def _softmax_over(axes: str) -> Callable[..., Any]:
    """Weights that were normalised over other axes of (M, L, P)."""

    def imitate(layer: Any, query: Tensor, reference: Tensor, value: Tensor, *levels: Any) -> Any:
        B, Q, M, L, P = *query.shape[:2], layer.heads, layer.levels, layer.points
        logits = layer.attention_weights(query).view(B, Q, M, L, P).detach()
        dims = [2 + "MLP".index(axis) for axis in axes]
        weights = logits.exp() / logits.exp().sum(dims, keepdim=True)
        return _with_weights(layer, weights, query, reference, value, *levels)

    return imitate


def _with_weights(layer: Any, weights: Tensor, query: Tensor, reference: Tensor, value: Tensor, *levels: Any) -> Any:
    """What the library's module gives with other weights of the points."""
    shapes, starts, padding = levels
    with torch.no_grad():
        _, locations, _ = layer(query, reference, value, *levels)
        projected = layer.value_proj(value)
        if padding is not None:
            projected = projected.masked_fill(padding[..., None], 0.0)
        heads = projected.unflatten(-1, (layer.heads, -1))
        return layer.output_proj(ms_deform_attn(heads, shapes, starts, locations, weights)), locations, weights


def _replaced_inputs(change: Callable[..., tuple[Any, ...]]) -> Callable[..., Any]:
    return lambda layer, *inputs: _library(layer, *change(*inputs))


def _pad_first(layer: Any, query: Tensor, reference: Tensor, value: Tensor, *levels: Any) -> Any:
    shapes, starts, padding = levels
    if padding is not None:
        value = value.masked_fill(padding[..., None], 0.0)
    return _library(layer, query, reference, value, shapes, starts, None)


def _levels_first(layer: Any) -> None:
    """Offsets as (L, M, P, 2) in place of (M, L, P, 2)."""
    M, L, P = layer.heads, layer.levels, layer.points
    layer.sampling_offsets = _Then(
        layer.sampling_offsets, lambda x: x.unflatten(-1, (L, M, P, 2)).transpose(-4, -3).flatten(-4)
    )


def _xy_exchanged(layer: Any) -> None:
    layer.sampling_offsets = _Then(layer.sampling_offsets, lambda x: x.unflatten(-1, (-1, 2)).flip(-1).flatten(-2))


def _heads_in_turn(layer: Any) -> None:
    """Channels go to the heads in turn: (D, M) in place of (M, D)."""
    M = layer.heads
    layer.value_proj = _Then(layer.value_proj, lambda x: x.unflatten(-1, (-1, M)).transpose(-1, -2).flatten(-2))


MODULE_MISTAKES = (
    Mistake(
        "the softmax runs over the points of each level alone",
        "levels compete with each other: view the logits as (B, Q, M, L * P) before the softmax.",
        _softmax_over("P"),
    ),
    Mistake(
        "the softmax runs over the levels alone",
        "points compete too: view the logits as (B, Q, M, L * P) before the softmax.",
        _softmax_over("L"),
    ),
    Mistake(
        "the softmax runs over heads, levels and points together",
        "every head has weights of its own that sum to 1.",
        _softmax_over("MLP"),
    ),
    Mistake(
        "a sigmoid is taken instead of a softmax",
        "modulated deformable convolution takes a sigmoid; here the points compete.",
        lambda layer, query, *inputs: _with_weights(
            layer,
            layer.attention_weights(query).view(*query.shape[:2], layer.heads, layer.levels, layer.points).sigmoid(),
            query,
            *inputs,
        ),
    ),
    Mistake(
        "padding is read",
        "fill the projected values with zero where padding_BN is True.",
        _replaced_inputs(lambda *inputs: (*inputs[:-1], None)),
    ),
    Mistake(
        "padding is set to zero before the projection",
        "value_proj has a bias, so a token of zeros does not stay zero. Fill in zeros after it.",
        _pad_first,
    ),
    Mistake(
        "offsets are cut into levels first, then heads",
        "the order is (M, L, P, 2): heads first, as in the published weights.",
        _altered(_levels_first),
    ),
    Mistake("x and y are exchanged in the offsets", "the last axis is (x, y).", _altered(_xy_exchanged)),
    Mistake(
        "channels go to the heads in turn",
        "head 0 has the first D channels: (M, D), not (D, M).",
        _altered(_heads_in_turn),
    ),
    Mistake(
        "the values are not projected",
        "value_proj stands before the sampling.",
        _altered(lambda layer: setattr(layer, "value_proj", nn.Identity())),
    ),
    Mistake(
        "the last linear layer is missing",
        "the heads are joined by output_proj.",
        _altered(lambda layer: setattr(layer, "output_proj", nn.Identity())),
    ),
)


def check_module(own: type[nn.Module], seed: int = 0) -> Verdict:
    """Check the reader's ``MultiScaleDeformableAttention(channels, levels, heads, points)``, strictly loaded."""

    def build(theirs: MultiScaleDeformableAttention) -> nn.Module:
        return own(theirs.channels, theirs.levels, theirs.heads, theirs.points)

    return check_filled(build, _library, _module_cases(seed), MODULE_MISTAKES)
