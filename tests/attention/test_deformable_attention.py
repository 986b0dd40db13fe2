"""Deformable attention against loops that read like its equation."""

import math

import pytest
import torch

from dyhead_lab.attention.deformable import MultiScaleDeformableAttention
from dyhead_lab.trace import trace

SHAPES = torch.tensor([[4, 5], [2, 3]])
STARTS = torch.tensor([0, 20])


def shaken(**sizes):
    """An attention whose offsets and weights depend on the query, in float64."""
    torch.manual_seed(0)
    attention = MultiScaleDeformableAttention(channels=8, levels=2, heads=2, points=3, **sizes).double()
    with torch.no_grad():
        for parameter in attention.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return attention


def read(level_HWD, x, y):
    """Bilinear interpolation at (x, y) in cells, zero outside."""
    H, W, _ = level_HWD.shape
    result = torch.zeros_like(level_HWD[0, 0])
    for i in (math.floor(y), math.floor(y) + 1):
        for j in (math.floor(x), math.floor(x) + 1):
            if 0 <= i < H and 0 <= j < W:
                result = result + (1 - abs(y - i)) * (1 - abs(x - j)) * level_HWD[i, j]
    return result


def by_the_equation(attention, query_BQC, reference_BQL, tokens_BNC):
    B, Q, C = query_BQC.shape
    M, L, P = attention.heads, attention.levels, attention.points
    values = attention.value_proj(tokens_BNC).view(B, -1, M, C // M)
    out = torch.zeros(B, Q, M, C // M, dtype=query_BQC.dtype)
    for b in range(B):
        for q in range(Q):
            offsets = attention.sampling_offsets(query_BQC[b, q]).view(M, L, P, 2)
            A = attention.attention_weights(query_BQC[b, q]).view(M, L * P).softmax(-1).view(M, L, P)
            for m in range(M):
                for l, (H, W) in enumerate(SHAPES.tolist()):
                    start = int(STARTS[l])
                    level = values[b, start : start + H * W, m].view(H, W, -1)
                    for k in range(P):
                        reference = reference_BQL[b, q, l]
                        if len(reference) == 2:
                            x, y = reference + offsets[m, l, k] / torch.tensor([W, H])
                        else:
                            x, y = reference[:2] + offsets[m, l, k] / P * reference[2:] / 2
                        out[b, q, m] += A[m, l, k] * read(level, x.item() * W - 0.5, y.item() * H - 0.5)
    return attention.output_proj(out.flatten(2))


@pytest.mark.parametrize("coordinates", [2, 4], ids=["points", "boxes"])
def test_equation(coordinates):
    attention = shaken()
    query = torch.randn(2, 3, 8, dtype=torch.float64)
    reference = torch.rand(2, 3, 2, coordinates, dtype=torch.float64)
    tokens = torch.randn(2, 26, 8, dtype=torch.float64)
    out, locations, weights = attention(query, reference, tokens, SHAPES, STARTS)
    # The same sums in float64, in another order.
    torch.testing.assert_close(out, by_the_equation(attention, query, reference, tokens), atol=1e-10, rtol=0)
    assert locations.shape == (2, 3, 2, 2, 3, 2)
    torch.testing.assert_close(weights.sum((-1, -2)), torch.ones(2, 3, 2, dtype=torch.float64))


def test_padding_reads_as_zero_whatever_it_holds():
    attention = shaken()
    query, tokens = torch.randn(1, 3, 8, dtype=torch.float64), torch.randn(1, 26, 8, dtype=torch.float64)
    reference = torch.rand(1, 3, 2, 2, dtype=torch.float64)
    padding = torch.zeros(1, 26, dtype=torch.bool)
    padding[:, [3, 4, 24]] = True
    other = tokens.masked_fill(padding[..., None], 100.0)
    first, second = (attention(query, reference, x, SHAPES, STARTS, padding)[0] for x in (tokens, other))
    assert torch.equal(first, second)
    assert not torch.equal(first, attention(query, reference, tokens, SHAPES, STARTS)[0])


def test_starts_with_one_direction_per_head_and_one_cell_per_point():
    attention = MultiScaleDeformableAttention(channels=32, levels=2, heads=8, points=4)
    bias = attention.sampling_offsets.bias.view(8, 2, 4, 2)
    directions = torch.tensor([[1, 0], [1, 1], [0, 1], [-1, 1], [-1, 0], [-1, -1], [0, -1], [1, -1.0]])
    for point in range(4):
        for level in range(2):
            # Angles are float32: cosines are off by some 3e-7, times point 4.
            torch.testing.assert_close(bias[:, level, point], directions * (point + 1), atol=1e-5, rtol=0)
    assert not attention.sampling_offsets.weight.any() and not attention.attention_weights.weight.any()
    _, _, weights = attention(torch.randn(1, 5, 32), torch.rand(1, 5, 2, 2), torch.randn(1, 26, 32), SHAPES, STARTS)
    assert torch.equal(weights, torch.full_like(weights, 1 / 8))


def test_trace_shows_where_it_looked():
    attention = shaken()
    arguments = torch.randn(1, 3, 8).double(), torch.rand(1, 3, 2, 2).double(), torch.randn(1, 26, 8).double()
    with trace(attention) as t:
        _, locations, weights = attention(*arguments, SHAPES, STARTS)
    assert torch.equal(t["", "sampling_locations"][0], locations)
    assert torch.equal(t["", "attention_weights"][0], weights)


def test_gradients_reach_queries_references_and_tokens():
    attention = shaken()
    query = torch.randn(1, 2, 8, dtype=torch.float64, requires_grad=True)
    reference = (0.2 + 0.6 * torch.rand(1, 2, 2, 4, dtype=torch.float64)).requires_grad_()
    tokens = torch.randn(1, 26, 8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda q, r, x: attention(q, r, x, SHAPES, STARTS)[0], (query, reference, tokens), eps=1e-7, atol=1e-5
    )


def test_points_stay_exact_under_autocast():
    attention = shaken().float()
    arguments = torch.randn(1, 3, 8), torch.rand(1, 3, 2, 2), torch.randn(1, 26, 8)
    out, locations, _ = attention(*arguments, SHAPES, STARTS)
    with torch.autocast("cpu", torch.bfloat16):
        half, half_locations, _ = attention(*arguments, SHAPES, STARTS)
    assert torch.equal(locations, half_locations)
    # The values went through bfloat16, which keeps 8 bits; outputs are about 1.
    torch.testing.assert_close(half.float(), out, atol=0.05, rtol=0)


def test_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="channels must be a multiple of heads"):
        MultiScaleDeformableAttention(channels=10, heads=4)
    with pytest.raises(ValueError, match=r"reference_BQL must be \(1, 3, 2, 2\)"):
        shaken()(
            torch.zeros(1, 3, 8).double(),
            torch.zeros(1, 3, 1, 2).double(),
            torch.zeros(1, 26, 8).double(),
            SHAPES,
            STARTS,
        )
