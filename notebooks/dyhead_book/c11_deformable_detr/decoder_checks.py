"""Checks and mistakes of the chapter on Deformable DETR: references on levels, a decoder layer, boxes, the decoder.

A module of the reader's is filled with the weights of one of the library's, strictly, and must give the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from dyhead_lab.detectors.detr.deformable_transformer import (
    DeformableDecoder,
    DeformableDecoderLayer,
    FlatPyramid,
    Queries,
)
from dyhead_lab.detectors.detr.prediction_heads import BoxHead, inverse_sigmoid, refine_boxes

from ..practice.reader_checks import Case, Mistake, Verdict, check

SIZES = ((4, 6), (2, 3))  # (H, W) of the levels of a case
C, M, P, CLASSES = 8, 2, 2, 3

# References on padded levels


def library_on_levels(reference_BQ: Tensor, valid_cells_BL2: Tensor, spatial_shapes_L2: Tensor) -> Tensor:
    """The library's: points or boxes of the valid part -> the same in [0, 1] of every padded level."""
    return _pyramid(valid_cells_BL2, spatial_shapes_L2).on_levels(reference_BQ)


def _pyramid(valid_cells_BL2: Tensor, spatial_shapes_L2: Tensor) -> FlatPyramid:
    nothing = torch.empty(0)
    return FlatPyramid(nothing, nothing, nothing, (), spatial_shapes_L2, nothing, valid_cells_BL2)


def _levels_cases(seed: int = 0) -> Iterator[Case]:
    """No padding; one image that is padded on the right; two images padded in both directions; boxes."""
    generator = torch.Generator().manual_seed(seed)
    shapes = torch.tensor(SIZES)
    whole = shapes.flip(-1).double()
    right, below = whole * torch.tensor([0.5, 1.0]), whole * torch.tensor([1.0, 0.5])
    for values in (2, 4):
        what = "points" if values == 2 else "boxes"
        for text, valid in {
            "no padding": whole[None],
            "the right half is padding": right[None],
            "two images, padded right and below": torch.stack([right, below]),
        }.items():
            reference = torch.rand(len(valid), 3, values, generator=generator, dtype=torch.float64)
            yield Case(f"{what}, {text}", (reference, valid, shapes))


def _scaled_levels(ratio: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    """References times ``ratio(valid_cells_BL2, (W, H)_L2)``, (B, L, 2)."""

    def imitate(reference_BQ: Tensor, valid_cells_BL2: Tensor, spatial_shapes_L2: Tensor) -> Tensor:
        factor = ratio(valid_cells_BL2, spatial_shapes_L2.flip(-1))
        return reference_BQ[:, :, None] * factor.repeat(1, 1, reference_BQ.shape[-1] // 2)[:, None]

    return imitate


def _centre_only(reference_BQ: Tensor, valid_cells_BL2: Tensor, spatial_shapes_L2: Tensor) -> Tensor:
    right = library_on_levels(reference_BQ, valid_cells_BL2, spatial_shapes_L2)
    return torch.cat([right[..., :2], reference_BQ[:, :, None, 2:].expand_as(right[..., 2:])], -1)


LEVELS_MISTAKES = (
    Mistake(
        "padding is forgotten",
        "0.5 is the middle of the image. On a map whose right half is padding it lies at 0.25.",
        _scaled_levels(lambda valid, size: torch.ones_like(valid)),
    ),
    Mistake(
        "x and y are exchanged",
        "spatial_shapes_L2 holds (H, W), valid cells are counted as (columns, rows): flip one of them.",
        _scaled_levels(lambda valid, size: valid / size.flip(-1)),
    ),
    Mistake(
        "references are divided by the valid share",
        "a point moves towards the corner where the image lies: multiply.",
        _scaled_levels(lambda valid, size: size / valid),
    ),
    Mistake(
        "the first image's padding counts for all",
        "every image has a valid part of its own.",
        _scaled_levels(lambda valid, size: (valid / size)[:1].expand_as(valid)),
    ),
    Mistake(
        "only the centre of a box is scaled",
        "width and height shrink with the valid part as well.",
        _centre_only,
    ),
    Mistake(
        "references count in cells",
        "divide the valid cells by the size of the level: the operator wants [0, 1].",
        _scaled_levels(lambda valid, size: valid),
    ),
)


def check_on_levels(function: Callable[..., Tensor], seed: int = 0) -> Verdict:
    """Check the reader's ``on_levels(reference_BQ, valid_cells_BL2, spatial_shapes_L2)``."""
    return check(function, library_on_levels, _levels_cases(seed), LEVELS_MISTAKES)


# Refining boxes


def _box_cases(seed: int = 0, count: int = 8) -> Iterator[Case]:
    """Boxes; boxes that touch the border of the image; points, which have no size yet."""
    generator = torch.Generator().manual_seed(seed)
    for number in range(count):
        Q = int(torch.randint(2, 6, (), generator=generator))
        correction = torch.randn(Q, 4, generator=generator, dtype=torch.float64)
        reference = 0.1 + 0.8 * torch.rand(Q, 4, generator=generator, dtype=torch.float64)
        text = f"{Q} boxes"
        if 3 <= number < 6:
            reference[0, 0], reference[1, 3] = 0.0, 1.0
            text += ", one with cx = 0, one with h = 1"
        if number >= 6:
            reference, text = reference[:, :2], f"{Q} points"
        yield Case(text, (correction, reference))


def _on_boxes(change: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    """``change(correction, reference)`` for boxes; points as they should be."""
    return lambda c, r: change(c, r) if r.shape[-1] == 4 else refine_boxes(c, r)


def _unclamped(correction: Tensor, reference: Tensor) -> Tensor:
    logit = (reference / (1 - reference)).log()
    padded = torch.cat([logit, torch.zeros_like(correction[:, logit.shape[-1] :])], -1)
    return (correction + padded).sigmoid()


REFINE_MISTAKES = (
    Mistake(
        "the inverse sigmoid is not clamped",
        "at 0 and 1 it is infinite: no correction moves such a box again, and its gradient is not a number. Keep x "
        "at least eps away from both ends.",
        _unclamped,
    ),
    Mistake(
        "the reference is not taken back to logits",
        "the reference lies in [0, 1] already: take its inverse sigmoid before you add the correction.",
        _on_boxes(lambda c, r: (c + r).sigmoid()),
    ),
    Mistake(
        "the correction is added to the box itself",
        "corrections count in logits. Added in [0, 1] a box can leave the image.",
        _on_boxes(lambda c, r: c + r),
    ),
    Mistake(
        "the reference is forgotten",
        "the head predicts a correction to the reference, not a box.",
        lambda c, r: c.sigmoid(),
    ),
    Mistake(
        "the last sigmoid is missing",
        "the sum is a logit: bring it to [0, 1].",
        _on_boxes(lambda c, r: c + inverse_sigmoid(r)),
    ),
    Mistake(
        "only the centre is refined",
        "all four numbers get a correction.",
        _on_boxes(lambda c, r: torch.cat([refine_boxes(c, r)[:, :2], r[:, 2:]], -1)),
    ),
    Mistake(
        "the correction is subtracted",
        "sigmoid(correction + inverse_sigmoid(reference)).",
        lambda c, r: refine_boxes(-c, r),
    ),
)


def check_refine(function: Callable[..., Tensor], seed: int = 0) -> Verdict:
    """Check the reader's ``refine_boxes(correction, reference)``.

    The tolerance lets a clamp of x itself to [eps, 1 - eps] pass, which differs from the library's by 1e-10.
    """
    return check(function, refine_boxes, _box_cases(seed), REFINE_MISTAKES, tolerance=1e-8)


# Modules


def filled(own: Callable[..., nn.Module], like: nn.Module, *arguments: Any) -> nn.Module:
    """``own(*arguments)`` with the weights of ``like``.

    Raises:
        ValueError: its parameters have other names or shapes; the message lists them.
    """
    module = own(*arguments).to(next(like.parameters()).dtype)
    theirs, mine = ({name: tuple(p.shape) for name, p in m.state_dict().items()} for m in (like, module))
    if theirs != mine:
        missing = [f"{name} {shape}" for name, shape in theirs.items() if mine.get(name) != shape]
        other = [f"{name} {shape}" for name, shape in mine.items() if theirs.get(name) != shape]
        raise ValueError(
            f"the trained weights do not fit. Missing: {', '.join(missing) or 'none'}. "
            f"Not in the library's: {', '.join(other) or 'none'}"
        )
    module.load_state_dict(like.state_dict())
    return module.eval()


def _moved(module: nn.Module, generator: torch.Generator) -> nn.Module:
    """A module whose parameters are all away from their start: zeros would hide mistakes."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype))
    return module.eval()


def draw_pyramid(generator: torch.Generator, padded: bool) -> FlatPyramid:
    """Tokens of two images on two levels; where ``padded``, the second one ends after half of the columns."""
    N = sum(H * W for H, W in SIZES)
    paddings = [torch.zeros(2, H, W, dtype=torch.bool) for H, W in SIZES]
    for padding in paddings if padded else ():
        padding[1, :, (padding.shape[2] + 1) // 2 :] = True
    valid = [torch.stack([(~p[:, 0]).sum(1), (~p[:, :, 0]).sum(1)], -1).float() for p in paddings]
    return FlatPyramid(
        torch.randn(2, N, C, generator=generator),
        torch.randn(2, N, C, generator=generator),
        torch.cat([p.flatten(1) for p in paddings], 1),
        SIZES,
        torch.tensor(SIZES),
        torch.tensor([0, SIZES[0][0] * SIZES[0][1]]),
        torch.stack(valid, 1),
    )


WIDTH = (C, 12, 0.0, len(SIZES), M, P)  # channels, feedforward, dropout, levels, heads, points


def _layer_cases(seed: int = 0) -> Iterator[Case]:
    generator = torch.Generator().manual_seed(seed)
    for padded in (False, True):
        pyramid = draw_pyramid(generator, padded)
        layer = _moved(DeformableDecoderLayer(*WIDTH), generator)
        query, position = torch.randn(2, 2, 3, C, generator=generator)
        # boxes at the right border, so that some points read what lies beyond it
        reference = pyramid.on_levels(0.6 + 0.4 * torch.rand(2, 3, 4, generator=generator))
        text = "second image padded" if padded else "no padding"
        yield Case(f"3 queries, {text}", (layer, query, position, reference, pyramid.tokens_BNC, pyramid))


def _layer(
    self_attention: Callable[..., tuple[Tensor, Tensor, Tensor]] = lambda x, p: (x + p, x + p, x),
    cross_query: Callable[..., Tensor] = lambda x, p: x + p,
    residual: Callable[..., Tensor] = lambda x, p: x,
    norms: str = "213",
    cross_first: bool = False,
    padding: bool = True,
) -> Callable[..., Tensor]:
    """A decoder layer of the library's parts, put together in another way."""

    def imitate(layer: Any, x: Tensor, p: Tensor, reference: Tensor, memory: Tensor, pyramid: FlatPyramid) -> Tensor:
        first, second, last = (getattr(layer, f"norm{n}") for n in norms)
        where = pyramid.spatial_shapes_L2, pyramid.level_start_index_L, pyramid.padding_BN if padding else None

        def own(x: Tensor) -> Tensor:
            return first(residual(x, p) + layer.self_attn(*self_attention(x, p), need_weights=False)[0])

        def cross(x: Tensor) -> Tensor:
            return second(residual(x, p) + layer.cross_attn(cross_query(x, p), reference, memory, *where)[0])

        x = own(cross(x)) if cross_first else cross(own(x))
        return last(x + layer.linear2(layer.linear1(x).relu()))

    return imitate


LAYER_MISTAKES = (
    Mistake(
        "the queries do not carry their positions in self-attention",
        "two queries that feel alike can only tell each other apart by their positions: q = k = x + position.",
        _layer(self_attention=lambda x, p: (x, x, x)),
    ),
    Mistake(
        "the values of self-attention carry positions",
        "positions decide who is read (query and key); what is read (value) is the content alone.",
        _layer(self_attention=lambda x, p: (x + p, x + p, x + p)),
    ),
    Mistake(
        "the query of cross-attention has no position",
        "offsets and weights are chosen by x + position.",
        _layer(cross_query=lambda x, p: x),
    ),
    Mistake(
        "positions are added to the content for good",
        "the residual is the content x alone; positions are added anew before each attention.",
        _layer(residual=lambda x, p: x + p),
    ),
    Mistake(
        "cross-attention comes before self-attention",
        "first the queries talk to each other, then each reads the image.",
        _layer(cross_first=True),
    ),
    Mistake(
        "norm1 and norm2 are exchanged",
        "the official names: norm2 stands behind self-attention, norm1 behind cross-attention.",
        _layer(norms="123"),
    ),
    Mistake(
        "padding is read like the image",
        "hand pyramid.padding_BN to the cross-attention: padded tokens read as zero.",
        _layer(padding=False),
    ),
)


def check_decoder_layer(own: Callable[..., nn.Module], seed: int = 0) -> Verdict:
    """Check the reader's class ``DeformableDecoderLayer`` with the weights of the library's."""

    def run(layer: nn.Module, *arguments: Any) -> Tensor:
        return filled(own, layer, *WIDTH)(*arguments)[0]

    # float32, because the library's heads are; sums in another order differ by about 1e-6
    return check(run, lambda layer, *a: layer(*a)[0], _layer_cases(seed), LAYER_MISTAKES, tolerance=1e-5)


# The decoder: its predictions, and what the last box tells the first box head


def _decoder_cases(seed: int = 0) -> Iterator[Case]:
    generator = torch.Generator().manual_seed(seed)
    for refine, values, padded in ((False, 2, False), (True, 2, False), (True, 4, True)):
        layers = [DeformableDecoderLayer(*WIDTH) for _ in range(3)]
        decoder = _moved(DeformableDecoder(layers, refine), generator)
        class_heads = nn.ModuleList(nn.Linear(C, CLASSES) for _ in range(3))
        box_heads = nn.ModuleList(BoxHead(C) for _ in range(3))
        for head in (*class_heads, *box_heads):
            _moved(head, generator)
        features, positions = torch.randn(2, 2, 3, C, generator=generator)
        queries = Queries(features, positions, 0.2 + 0.4 * torch.rand(2, 3, values, generator=generator))
        pyramid = draw_pyramid(generator, padded)
        text = f"3 layers, refine={refine}, {'points' if values == 2 else 'boxes'}{', padding' if padded else ''}"
        yield Case(text, (decoder, queries, pyramid.tokens_BNC, pyramid, class_heads, box_heads))


def _seen(logits: Sequence[Tensor], boxes: Sequence[Tensor], box_heads: nn.ModuleList) -> list[Tensor]:
    """Predictions of all layers, and the gradient of the last boxes at the first box head."""
    first = box_heads[0].get_parameter("layers.2.weight")
    if not boxes[-1].requires_grad:
        raise ValueError("the boxes have no gradient: only the reference of the next layer is detached")
    [gradient] = torch.autograd.grad(boxes[-1].sum(), [first], allow_unused=True, retain_graph=True)
    return [*logits, *boxes, torch.zeros_like(first) if gradient is None else gradient]


def _decode(
    decoder: DeformableDecoder,
    queries: Queries,
    memory: Tensor,
    pyramid: FlatPyramid,
    class_heads: nn.ModuleList,
    box_heads: nn.ModuleList,
    *,
    next_reference: Callable[..., Tensor] = lambda boxes, reference, refine: boxes.detach() if refine else reference,
    box: Callable[..., Tensor] = lambda correction, reference, first: refine_boxes(correction, reference),
    head: Callable[[int], int] = lambda number: number,
    on_levels: bool = True,
    hand_on: bool = True,
) -> list[Tensor]:
    """A decoder of the library's layers, put together in another way."""
    x, reference, logits, boxes = queries.features_BQC, queries.references_BQ, [], []
    for number, layer in enumerate(decoder.layers):
        whole = reference[:, :, None].expand(-1, -1, len(SIZES), -1)
        around = pyramid.on_levels(reference) if on_levels else whole
        read, _, _ = layer(x, queries.positions_BQC, around, memory, pyramid)
        x = read if hand_on else x
        boxes.append(box(box_heads[head(number)](read), reference, queries.references_BQ))
        logits.append(class_heads[head(number)](read))
        reference = next_reference(boxes[-1], reference, decoder.refine)
    return _seen(logits, boxes, box_heads)


DECODER_MISTAKES = (
    Mistake(
        "the reference is not detached",
        "the numbers are right, but the loss of the last layer now also pulls at the box heads of all earlier layers: "
        "reference = boxes.detach().",
        partial(_decode, next_reference=lambda boxes, reference, refine: boxes if refine else reference),
    ),
    Mistake(
        "every layer looks around the first reference",
        "with refine, the next layer starts from the boxes of this one.",
        partial(_decode, next_reference=lambda boxes, reference, refine: reference),
    ),
    Mistake(
        "boxes are refined even where refine is False",
        "without refine the reference stays what it was.",
        partial(_decode, next_reference=lambda boxes, reference, refine: boxes.detach()),
    ),
    Mistake(
        "every correction counts from the first reference",
        "a layer corrects the box that it looked around: refine_boxes(correction, reference), with the reference of "
        "this layer.",
        partial(_decode, box=lambda correction, reference, first: refine_boxes(correction, first)),
    ),
    Mistake(
        "all layers use the first pair of heads",
        "zip the heads with the layers: each layer has its own.",
        partial(_decode, head=lambda number: 0),
    ),
    Mistake(
        "references are not brought onto the padded levels",
        "hand pyramid.on_levels(reference) to the layer.",
        lambda decoder, queries, memory, pyramid, *heads: _decode(
            decoder, queries, memory, replace(pyramid), *heads, on_levels=False
        ),
    ),
    Mistake(
        "every layer starts from the first content",
        "x goes from layer to layer.",
        partial(_decode, hand_on=False),
    ),
)


def check_decoder(own: Callable[..., nn.Module], seed: int = 0) -> Verdict:
    """Check the reader's class ``DeformableDecoder`` on layers and heads of the library."""

    def run(decoder: DeformableDecoder, *arguments: Any) -> list[Tensor]:
        output = own(decoder.layers, decoder.refine)(*arguments)
        return _seen(output.logits_BQ, output.boxes_BQ, arguments[-1])

    def right(decoder: DeformableDecoder, *arguments: Any) -> list[Tensor]:
        output = decoder(*arguments)
        return _seen(output.logits_BQ, output.boxes_BQ, arguments[-1])

    # float32, because the library's heads are; sums in another order differ by about 1e-6
    return check(run, right, _decoder_cases(seed), DECODER_MISTAKES, tolerance=1e-5)
