"""What a trace tells about each object that was found in one image, as plain values that a page can draw.

A panel is a dict with a ``kind``: "points" (where layers sample), "maps" (dense attention), "gates" (scale-aware
attention), "lines" (task-aware attention), "tokens" (kept tokens at several ratios). Positions are shares (x, y) of the
image, without the padding that the network saw.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..attention.task import larger_line
from ..trace import Trace
from .sampling_layers import SamplingLayer, readable, sampling_layers, valid_part
from .scale_weights import gates_of
from .sparse_tokens import SparsePass
from .task_lines import coefficients_of, strangest_channels
from .token_maps import levels_of

CHANNELS = 6  # of task-aware attention that are drawn
POINTS = 64  # of one place that are drawn, the heaviest ones

Panel = dict[str, Any]


@dataclass(frozen=True)
class Objects:
    """The objects of one image that can be asked about.

    Attributes:
        centres: (n, 2), (x, y) as shares of the image.
        queries: (n,), the object query that found each; None for detectors without queries.
    """

    centres: Tensor
    queries: Tensor | None


def panels(trace: Trace, objects: Objects) -> Iterator[Panel]:
    """Every panel that a traced pass of one image allows.

    Args:
        trace: of any detector here.
        objects: what was found.
    """
    valid = valid_part(trace, 0)
    for panel in (
        _points(trace, objects, valid),
        _maps(trace, objects, valid),
        _gates(trace),
        _lines(trace, objects, valid),
    ):
        if panel is not None:
            yield panel


def _points(trace: Trace, objects: Objects, valid: Tensor) -> Panel | None:
    try:
        layers = sampling_layers(trace)
    except ValueError:  # nothing in it samples
        return None
    return {"kind": "points", "layers": [_layer(layer, objects, valid) for layer in layers]}


def _layer(layer: SamplingLayer, objects: Objects, valid: Tensor) -> dict[str, Any]:
    """Per object where the layer samples for it: the query that found it, or the place that its centre falls into."""
    looks = []
    for number, centre in enumerate(objects.centres):
        if objects.queries is not None and not layer.grid and "decoder" in layer.name:
            place = int(objects.queries[number])
        else:
            place = layer.nearest(*(centre * valid).tolist())
        points = layer.points(place)
        heaviest = points.weights.argsort(descending=True)[:POINTS]
        rows = torch.cat([points.positions[heaviest] / valid, points.weights[heaviest, None]], 1)
        kinds = torch.stack([points.level[heaviest], points.head[heaviest]], 1)
        looks.append(
            {
                "here": _rounded(layer.places[place] / valid),
                "points": [[*_rounded(row), *kind] for row, kind in zip(rows, kinds.tolist(), strict=True)],
            }
        )
    return {"name": layer.name, "sizes": [list(x.shape[-2:]) for x in layer.maps], "looks": looks}


def _rounded(values: Tensor) -> list[float]:
    return [round(value, 4) for value in values.tolist()]


def _maps(trace: Trace, objects: Objects, valid: Tensor) -> Panel | None:
    """Dense attention, the mean of its heads: per layer and object a map of the padded image, all on one scale."""
    batch = next((pixels for _, pixels in trace.find("network_input")), None)
    if batch is None:
        return None
    H, W = batch.shape[-2:]
    layers = []
    for path, maps_BMQN in trace.find("attention_maps"):
        mean_QN = maps_BMQN[0].float().cpu().mean(0)
        size = _grid(mean_QN.shape[1], H, W)
        in_decoder = ".decoder." in path
        if size is None or (in_decoder and path.endswith("self_attn")):  # among queries: no map over the image
            continue
        queries = objects.queries if in_decoder else None
        asked = _tokens_of(objects.centres * valid, size) if queries is None else queries
        layers.append((readable(path), size, mean_QN[asked]))
    if not layers:
        return None
    brightest = max(float(maps.max()) for _, _, maps in layers)
    return {
        "kind": "maps",
        "brightest": brightest,
        "layers": [
            {"name": name, "size": list(size), "looks": [as_bytes(row / brightest) for row in maps]}
            for name, size, maps in layers
        ],
    }


def _grid(tokens: int, H: int, W: int) -> tuple[int, int] | None:
    """(h, w) of a map of so many tokens over a batch of H x W pixels; None if no stride gives that many."""
    for stride in (8, 16, 32, 64):
        h, w = -(-H // stride), -(-W // stride)
        if h * w == tokens:
            return h, w
    return None


def _tokens_of(centres: Tensor, size: tuple[int, int]) -> Tensor:
    """The tokens of a map (h, w) into which positions (x, y), as shares of it, fall."""
    h, w = size
    x, y = centres.T
    return (y * h).long().clamp(0, h - 1) * w + (x * w).long().clamp(0, w - 1)


def _gates(trace: Trace) -> Panel | None:
    try:
        blocks = gates_of(trace)
    except ValueError:
        return None
    if any(level.shape[0] != 1 for block in blocks for level in block):
        return None
    return {"kind": "gates", "blocks": [[_rounded(level[0]) for level in block] for block in blocks]}


def _lines(trace: Trace, objects: Objects, valid: Tensor) -> Panel | None:
    """Per block, level and object the channels that task-aware attention changes most in the object's cell; where the
    trace does not hold what stood in the cells, one choice for all objects."""
    try:
        blocks = coefficients_of(trace)
    except ValueError:
        return None
    inputs = _before_lines(trace)
    told = []
    for number, block in enumerate(blocks):
        maps = inputs[number] if number < len(inputs) else []
        if len(maps) == len(block) and len(objects.centres):
            told.append([_looks(*level, objects.centres * valid) for level in zip(block, maps, strict=True)])
        else:
            told.append([[_strangest(level)] for level in block])
    return {"kind": "lines", "blocks": told}


def _before_lines(trace: Trace) -> list[list[Tensor]]:
    """What the lines of each block are of, per level (C, H, W); the released form has scale-aware attention before."""
    blocks: dict[str, list[Tensor]] = {}
    for path, map_BCHW in trace.find("after_scale"):
        blocks.setdefault(path, []).append(map_BCHW[0].float().cpu())
    return list(blocks.values())


def _looks(coefficients_B4C: Tensor, map_CHW: Tensor, centres: Tensor) -> list[list[dict[str, Any]]]:
    """Per object: of the channels that differ most from ReLU in its cell their lines, and what they make of what."""
    C, H, W = map_CHW.shape
    lines_4C = coefficients_B4C[0]
    looks = []
    for token in _tokens_of(centres, (H, W)).tolist():
        x_C = map_CHW.flatten(1)[:, token]
        y_C = larger_line(x_C, *lines_4C)
        most = (y_C - x_C.relu()).abs().topk(min(CHANNELS, C)).indices.tolist()
        looks.append(
            [
                {"channel": c, "lines": _rounded(lines_4C[:, c]), "at": _rounded(torch.stack([x_C, y_C])[:, c])}
                for c in most
            ]
        )
    return looks


def _strangest(coefficients_B4C: Tensor) -> list[dict[str, Any]]:
    channels = strangest_channels(coefficients_B4C, min(CHANNELS, coefficients_B4C.shape[2]))
    return [{"channel": c, "lines": _rounded(coefficients_B4C[0, :, c])} for c in channels]


def tokens_panel(passes: Mapping[float, tuple[SparsePass, Sequence[dict[str, Any]]]]) -> Panel:
    """What a sparse detector keeps and finds at several ratios.

    Args:
        passes: ratio -> the pass, and its detections as the page draws them.
    """
    steps = []
    for rho, (seen, boxes) in passes.items():
        brightest = float(seen.dam_N.max().clamp(min=1e-9))
        levels = [
            {"size": list(kept_HW.shape), "kept": as_bytes(kept_HW.float()), "dam": as_bytes(dam_HW / brightest)}
            for kept_HW, dam_HW in zip(
                levels_of(seen.kept_N, seen.sizes), levels_of(seen.dam_N, seen.sizes), strict=True
            )
        ]
        kept, tokens = int(seen.kept_N.sum()), len(seen.kept_N)
        step = {"rho": rho, "kept": kept, "tokens": tokens, "corr": round(seen.corr, 3), "levels": levels}
        steps.append({**step, "boxes": list(boxes)})
    return {"kind": "tokens", "steps": steps}


def as_bytes(values: Tensor) -> str:
    """Values in [0, 1] as one byte each, row by row, in base64."""
    return base64.b64encode((values.clamp(0, 1) * 255).round().byte().numpy().tobytes()).decode()
