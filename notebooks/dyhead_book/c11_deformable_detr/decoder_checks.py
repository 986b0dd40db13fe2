"""Checks and mistakes of the chapter on Deformable DETR: a decoder layer, and the decoder.

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
from dyhead_lab.detectors.detr.prediction_heads import BoxHead, refine_boxes

from ..practice.reader_checks import Case, Mistake, Verdict, check

SIZES = ((4, 6), (2, 3))  # (H, W) of the levels of a case
C, M, P, CLASSES = 8, 2, 2, 3


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
