"""Layers that sample, read from a trace: for any place of an image, where each one looked and what it read there.

A deformable convolution has a place per output pixel; an encoder's deformable attention one per token; a decoder's
one per object query. Positions are normalised: (x, y) in [0, 1] of the padded image that the network saw.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ..ops.formula import bilinear, tap_positions
from ..trace import Trace


@dataclass(frozen=True)
class Points:
    """What one place of a layer reads; n points.

    Attributes:
        positions: (n, 2), (x, y) in [0, 1] of the padded image; may lie outside.
        offsets: (n, 2), (x, y) in cells of the map: from the regular grid for a kernel tap, from the place for a
            point of attention.
        weights: (n,), attention weight or modulation mask.
        head: (n,), attention head or offset group.
        level: (n,), index of the map that the point reads.
        index: (n,), which point of its head and level, or which kernel tap.
    """

    positions: Tensor
    offsets: Tensor
    weights: Tensor
    head: Tensor
    level: Tensor
    index: Tensor


@dataclass(frozen=True)
class Corner:
    """One of the four pixels of a map around a position, and the share of it that bilinear interpolation takes."""

    row: int
    column: int
    share: float
    inside: bool


@dataclass(frozen=True)
class SamplingLayer:
    """One call of a layer, on one image of the batch.

    Attributes:
        name: what a reader calls it.
        maps: what it reads: per level (heads, D, H, W).
        places: (n, 2), where each place lies, (x, y) normalised.
        grid: (H, W) of each level of places, in their order; empty where places are object queries, or the tokens that
            a sparse encoder refines.
        output: (n, channels): what the layer computed.
    """

    name: str
    maps: list[Tensor]
    places: Tensor
    grid: list[tuple[int, int]]
    output: Tensor

    def points(self, place: int) -> Points:
        """Where place ``place`` looks."""
        raise NotImplementedError

    def compute(self, points: Points) -> Tensor:
        """The layer's output (channels,) from its points: the sum that the paper's equation writes."""
        raise NotImplementedError

    def nearest(self, x: float, y: float) -> int:
        """The place closest to a normalised position."""
        return int((self.places - self.places.new_tensor([x, y])).square().sum(1).argmin())

    def sample(self, points: Points) -> Tensor:
        """What each point reads, (n, D), without its weight."""
        rows = []
        for position, head, level in zip(points.positions, points.head, points.level, strict=True):
            x = self.maps[int(level)][int(head)]
            column, row = position * position.new_tensor([x.shape[2], x.shape[1]]) - 0.5
            rows.append(bilinear(x, row[None], column[None])[:, 0])
        return torch.stack(rows)

    def corners(self, points: Points, number: int) -> list[Corner]:
        """The four pixels that point ``number`` reads, upper left first, with their shares of the bilinear sum."""
        H, W = self.maps[int(points.level[number])].shape[-2:]
        column, row = (points.positions[number] * points.positions.new_tensor([W, H]) - 0.5).tolist()
        top, left = int(row // 1), int(column // 1)
        return [
            Corner(i, j, (1 - abs(row - i)) * (1 - abs(column - j)), 0 <= i < H and 0 <= j < W)
            for i in (top, top + 1)
            for j in (left, left + 1)
        ]


@dataclass(frozen=True)
class ConvolutionLayer(SamplingLayer):
    """A deformable convolution: y = bias + sum over taps k of w_k m_k x(p_0 + p_k + dp_k).

    maps holds one level, (G, C / G, H, W).
    """

    positions: Tensor  # (places, G, K, 2)
    offsets: Tensor  # (places, G, K, 2), (x, y)
    masks: Tensor  # (places, G, K)
    weight: Tensor  # (Co, C / groups, K)
    bias: Tensor

    def points(self, place: int) -> Points:
        G, K = self.masks.shape[1:]
        groups, taps = torch.arange(G).repeat_interleave(K), torch.arange(K).repeat(G)
        positions, offsets = self.positions[place].flatten(0, 1), self.offsets[place].flatten(0, 1)
        return Points(positions, offsets, self.masks[place].flatten(), groups, torch.zeros_like(taps), taps)

    def compute(self, points: Points) -> Tensor:
        K = self.weight.shape[2]
        columns = self.sample(points) * points.weights[:, None]  # (G * K, C / G)
        columns_CK = columns.unflatten(0, (-1, K)).transpose(1, 2).flatten(0, 1)
        in_group = self.weight.shape[1]
        groups = len(columns_CK) // in_group
        weight = self.weight.unflatten(0, (groups, -1))
        return self.bias + torch.einsum("gock,gck->go", weight, columns_CK.view(groups, in_group, K)).flatten()


@dataclass(frozen=True)
class AttentionLayer(SamplingLayer):
    """Multi-scale deformable attention before its output projection: per head, sum over l and p of A_lp x_l(r_lp)."""

    locations: Tensor  # (places, M, L, P, 2)
    attention: Tensor  # (places, M, L, P)

    def points(self, place: int) -> Points:
        M, L, P = self.attention.shape[1:]
        numbers = torch.cartesian_prod(torch.arange(M), torch.arange(L), torch.arange(P))
        head, level, index = numbers.view(-1, 3).unbind(1)
        positions = self.locations[place].reshape(-1, 2)
        sizes = positions.new_tensor([[x.shape[3], x.shape[2]] for x in self.maps])[level]
        offsets = (positions - self.places[place]) * sizes
        return Points(positions, offsets, self.attention[place].flatten(), head, level, index)

    def compute(self, points: Points) -> Tensor:
        heads = self.attention.shape[1]
        read = self.sample(points) * points.weights[:, None]
        return read.unflatten(0, (heads, -1)).sum(1).flatten()


def sampling_layers(trace: Trace, image: int = 0) -> list[SamplingLayer]:
    """Every layer that sampled during a traced forward pass, in model order.

    Args:
        trace: of a forward pass of any detector here.
        image: which image of the batch.

    Raises:
        ValueError: if nothing in the trace samples.
    """
    layers = [*_convolutions(trace, image), *_attentions(trace, image)]
    if not layers:
        raise ValueError("trace: nothing in it samples, expected deformable convolutions or deformable attention")
    return layers


def grid_places(H: int, W: int) -> Tensor:
    """Centres (x, y) of the pixels of a map, row by row, normalised: (H * W, 2)."""
    y, x = torch.meshgrid((torch.arange(H) + 0.5) / H, (torch.arange(W) + 0.5) / W, indexing="ij")
    return torch.stack([x, y], -1).flatten(0, 1)


def valid_part(trace: Trace, image: int) -> Tensor:
    """Share (x, y) of the padded image that is not padding; all of it where no backbone was traced."""
    for _, batch in trace.find("network_input"):
        pixels = batch[image].abs().sum(0) > 0
        used = [int(torch.nonzero(pixels.any(axis)).max()) + 1 for axis in (0, 1)]
        return torch.tensor([used[0] / pixels.shape[1], used[1] / pixels.shape[0]])
    return torch.ones(2)


#: Parts of module paths that readers know by another name; the number behind a dot counts from 0.
READABLE = {
    r".*\bblocks\.(\d+)": "block {}",
    r".*\bencoder\.layers\.(\d+)": "encoder layer {}",
    r".*\bdecoder\.layers\.(\d+)": "decoder layer {}",
}
NEIGHBOURS = {"finer": "finer neighbour", "own": "same level", "coarser": "coarser neighbour"}


def readable(path: str) -> str:
    """A module path as a reader says it: ``neck.blocks.0.spatial.finer`` -> "block 1, finer neighbour"."""
    for pattern, words in READABLE.items():
        found = re.match(pattern, path)
        if found:
            part = path.rpartition(".")[2]
            name = words.format(int(found[1]) + 1)
            return f"{name}, {NEIGHBOURS[part]}" if part in NEIGHBOURS else name
    return path


def _convolutions(trace: Trace, image: int) -> Iterator[ConvolutionLayer]:
    names = ("tap_input", "tap_offsets", "tap_masks", "tap_weight", "tap_bias", "tap_geometry", "tap_output")
    for path in dict.fromkeys(path for path, _ in trace.find("tap_input")):
        for x, offset, mask, weight, bias, geometry, output in zip(*(trace[path, n] for n in names), strict=True):
            stride, padding, dilation = ((int(g), int(g)) for g in geometry)
            kernel = weight.shape[-2:]
            x, offset, mask = (t[image : image + 1].float().cpu() for t in (x, offset, mask))
            y_GKHW, x_GKHW = (p[0] for p in tap_positions(offset, kernel, stride, padding, dilation))
            G, K, Ho, Wo = y_GKHW.shape
            H, W = x.shape[-2:]
            pixels = torch.stack([(x_GKHW + 0.5) / W, (y_GKHW + 0.5) / H], -1)
            yield ConvolutionLayer(
                name=f"{readable(path)}: {Ho} x {Wo}" + ("" if (Ho, Wo) == (H, W) else f" reads {H} x {W}"),
                maps=[x[0].unflatten(0, (G, -1))],
                places=grid_places(Ho, Wo),
                grid=[(Ho, Wo)],
                output=output[image].float().cpu().flatten(1).T,
                positions=pixels.flatten(2, 3).permute(2, 0, 1, 3),
                offsets=offset[0].view(G, K, 2, -1).permute(3, 0, 1, 2).flip(-1),
                masks=mask[0].view(G, K, -1).permute(2, 0, 1),
                weight=weight.float().cpu().flatten(2),
                bias=bias.float().cpu(),
            )


def _attentions(trace: Trace, image: int) -> Iterator[AttentionLayer]:
    names = ("sampling_locations", "attention_weights", "attention_values", "attention_shapes", "attention_output")
    references = dict(trace.find("reference_boxes"))
    kept = next((tokens for _, tokens in trace.find("kept_tokens")), None)
    valid = valid_part(trace, image)
    for path in dict.fromkeys(path for path, _ in trace.find("sampling_locations")):
        for locations, weights, values, shapes, output in zip(*(trace[path, n] for n in names), strict=True):
            sizes = [(int(H), int(W)) for H, W in shapes]
            value_MDN = values[image].float().cpu().permute(1, 2, 0)
            levels = value_MDN.split([H * W for H, W in sizes], dim=2)
            places, grid = torch.cat([grid_places(H, W) for H, W in sizes]), sizes
            layer = path.rpartition(".")[0]
            if layer in references:  # a decoder: places are queries
                places, grid = references[layer][image, :, :2].float().cpu() * valid, []
            elif len(places) != locations.shape[1]:  # an encoder that refines the kept tokens only
                assert kept is not None, f"{path}: {locations.shape[1]} queries, but no kept_tokens were traced"
                places, grid = places[kept[image][kept[image] >= 0].cpu()], []
            yield AttentionLayer(
                name=readable(path),
                maps=[x.unflatten(2, size) for x, size in zip(levels, sizes, strict=True)],
                places=places,
                grid=grid,
                output=output[image].float().cpu(),
                locations=locations[image].float().cpu(),
                attention=weights[image].float().cpu(),
            )
