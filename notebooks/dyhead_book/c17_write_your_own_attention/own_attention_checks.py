"""Checks and mistakes of the chapter on writing one's own attention: joint over levels and positions.

Modules are compared with the library's, filled with the same weights; see ``practice/module_checks.py``. A mistake
takes the library's module and the inputs, and gives what comes out with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dyhead_lab.attention import JointAttention
from dyhead_lab.attention.joint import to_levels, to_tokens

from ..practice.module_checks import check_module, drawn, filled
from ..practice.reader_checks import Case, Mistake, Verdict, check

CHANNELS = 8
SIZES = ((4, 6), (2, 3), (1, 2))
Sizes = Sequence[tuple[int, int]]
Levels = Sequence[Tensor]


def pyramid(levels: int, channels: int = CHANNELS, seed: int = 0) -> list[Tensor]:
    """Maps (2, C, H, W) in float64, fine to coarse."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(2, channels, *size, generator=generator, dtype=torch.float64) for size in SIZES[:levels]]


# From levels to tokens


def _tokens_cases() -> Iterator[Case]:
    for levels, channels in ((1, 1), (1, 3), (2, 3), (3, 5)):
        yield Case(f"{levels} level(s), {channels} channel(s)", (pyramid(levels, channels),))


TOKENS_MISTAKES = (
    Mistake(
        "the numbers are cut into rows of C without moving the channels",
        "(B, C, H, W) keeps a whole map of one channel together: flatten to (B, C, S), then transpose.",
        lambda levels: torch.cat([x.reshape(len(x), -1, x.shape[1]) for x in levels], 1),
    ),
    Mistake(
        "a level is read column after column",
        "row after row: position y * W + x.",
        lambda levels: to_tokens([x.transpose(2, 3) for x in levels]),
    ),
    Mistake(
        "the coarsest level comes first",
        "keep the order of `levels`: fine to coarse.",
        lambda levels: to_tokens(levels[::-1]),
    ),
    Mistake(
        "channels and tokens are swapped",
        "the answer is (B, N, C): a row is a place.",
        lambda levels: to_tokens(levels).transpose(1, 2),
    ),
    Mistake("only the finest level is taken", "join the tokens of all levels.", lambda levels: to_tokens(levels[:1])),
)


def check_tokens(function: Callable[[Levels], Tensor]) -> Verdict:
    """Check the reader's ``to_tokens(levels)``: maps (B, C, H, W) to (B, N, C)."""
    return check(function, to_tokens, _tokens_cases(), TOKENS_MISTAKES)


# The attention


def _joint_cases() -> Iterator[Case]:
    yield Case("one level of one place", ({"channels": CHANNELS}, [x[:, :, :1, :1] for x in pyramid(1)]))
    yield Case("one level", ({"channels": CHANNELS}, pyramid(1)))
    yield Case("three levels", ({"channels": CHANNELS}, pyramid(3)))
    yield Case("three levels, queries and keys not alike", ({"channels": CHANNELS, "alike": False}, pyramid(3)))


def attended(
    scores: Callable[[Tensor, Tensor], Tensor] = lambda q, k: q @ k.transpose(1, 2) / q.shape[-1] ** 0.5,
    softmax_over: int = -1,
    normed: bool = True,
    read: Callable[[Tensor, Tensor], Tensor] = lambda v, tokens: v,
    end: Callable[[Any, Tensor, Tensor], Tensor] = lambda module, tokens, y: tokens + module.gamma * y,
) -> Callable[[Any, Levels], list[Tensor]]:
    """The attention with one of its steps replaced."""

    def imitate(module: Any, levels: Levels) -> list[Tensor]:
        tokens = to_tokens(levels)
        q, k, v = module.query_key_value(module.norm(tokens) if normed else tokens).chunk(3, -1)
        weights = scores(q, k).softmax(softmax_over)
        return to_levels(end(module, tokens, weights @ read(v, tokens)), [tuple(x.shape[-2:]) for x in levels])

    return imitate


JOINT_MISTAKES = (
    Mistake(
        "the softmax runs over the readers",
        "row i of Q K^T belongs to reader i; what it reads must sum to 1 along the row: softmax(-1).",
        attended(softmax_over=1),
    ),
    Mistake(
        "the scores are not divided by the square root of C",
        "a product of C channels grows with C: divide by C ** 0.5 before the softmax.",
        attended(scores=lambda q, k: q @ k.transpose(1, 2)),
    ),
    Mistake(
        "the scores are divided by the square root of N",
        "the length of a score is that of the channels, not the number of tokens.",
        attended(scores=lambda q, k: q @ k.transpose(1, 2) / q.shape[1] ** 0.5),
    ),
    Mistake(
        "queries and keys are swapped",
        "row i of the scores is query i against all keys: q @ k.transpose(1, 2). The first third is the queries.",
        attended(scores=lambda q, k: k @ q.transpose(1, 2) / q.shape[-1] ** 0.5),
    ),
    Mistake(
        "the tokens themselves are summed, not their values",
        "the last third of query_key_value is what is read.",
        attended(read=lambda v, tokens: tokens),
    ),
    Mistake(
        "the tokens are not normalised",
        "self.norm comes before the projections, so that large features do not win by size alone.",
        attended(normed=False),
    ),
    Mistake(
        "what was there before is lost",
        "Y = F + gamma . (...): the attention adds to F.",
        attended(end=lambda module, tokens, y: module.gamma * y),
    ),
    Mistake(
        "gamma is forgotten",
        "gamma weighs what is read. At zero the attention must change nothing.",
        attended(end=lambda module, tokens, y: tokens + y),
    ),
    Mistake(
        "what is added to is normalised, too",
        "the sum takes the tokens as they came in; only the projections read the normalised ones.",
        attended(end=lambda module, tokens, y: module.norm(tokens) + module.gamma * y),
    ),
    Mistake(
        "every level reads itself only",
        "one softmax over the places of all levels.",
        lambda module, levels: [attended()(module, [level])[0] for level in levels],
    ),
)


def check_joint_attention(attention: type[nn.Module]) -> Verdict:
    """Check the reader's ``JointAttention``: its names, its weights, and what it gives."""
    return check_module(attention, JointAttention, _joint_cases(), JOINT_MISTAKES)


# Keys from the coarse levels only


def read_levels(first: int, last: int | None = None) -> Callable[[Any, Levels], list[Tensor]]:
    """Every place reads the levels from ``first`` to before ``last``: scores of all others are minus infinity."""

    def scores(levels: Levels, q: Tensor, k: Tensor) -> Tensor:
        allowed = [
            torch.full(x.shape[-2:], l in range(len(levels))[first:last]).flatten() for l, x in enumerate(levels)
        ]
        dense = q @ k.transpose(1, 2) / q.shape[-1] ** 0.5
        return dense.masked_fill(~torch.cat(allowed), float("-inf"))

    return lambda module, levels: attended(partial(scores, levels))(module, levels)


def _coarse_queries(module: Any, levels: Levels) -> list[Tensor]:
    return [*levels[:-2], *attended()(module, levels[-2:])]


COARSE_MISTAKES = (
    Mistake("keys and values still come from all levels", "take them from levels[-2:] only.", attended()),
    Mistake(
        "only the two coarsest levels ask",
        "queries come from all levels; keys and values from the last two.",
        _coarse_queries,
    ),
    Mistake("the two finest levels are read", "the coarsest are the last: levels[-2:].", read_levels(0, 2)),
    Mistake("only the coarsest level is read", "two levels: levels[-2:].", read_levels(-1)),
    Mistake(
        "gamma is forgotten",
        "Y = F + gamma . (...), as before.",
        lambda module, levels: _without_gamma(module, levels),
    ),
)


def _without_gamma(module: Any, levels: Levels) -> list[Tensor]:
    with_gamma = read_levels(-2)(module, levels)
    return [x + (y - x) / module.gamma for x, y in zip(levels, with_gamma, strict=True)]


def check_coarse_reader(attention: type[nn.Module]) -> Verdict:
    """Check the reader's ``CoarseReader``: a joint attention whose keys and values come from the last two levels."""

    def run(of: Callable[[Any, Levels], Any]) -> Callable[[Levels], Any]:
        def on_case(levels: Levels) -> Any:
            module = drawn(JointAttention, {"channels": CHANNELS})
            with torch.no_grad():
                return of(module, levels)

        return on_case

    def own(module: nn.Module, levels: Levels) -> Any:
        return filled(attention(CHANNELS), module.state_dict())(levels)

    cases = (Case(f"{count} levels", (pyramid(count),)) for count in (2, 3))
    mistakes = [Mistake(m.name, m.hint, run(m.imitate)) for m in COARSE_MISTAKES]
    return check(run(own), run(read_levels(-2)), cases, mistakes)


# What it costs


def joint_macs(sizes: Sizes, C: int) -> int:
    """Multiply-adds of one joint attention: three projections, the scores, the weighted sum."""
    N = sum(H * W for H, W in sizes)
    return 3 * N * C * C + 2 * N * N * C


def _macs_cases(seed: int = 0, count: int = 6) -> Iterator[Case]:
    rng = np.random.default_rng(seed)
    for number in range(count):
        sizes = SIZES[number % 2 :][: 1 + number % 3]
        C = 8 * int(rng.integers(1, 9))
        yield Case(f"{C} channels, levels {', '.join(f'{H} x {W}' for H, W in sizes)}", (sizes, C))


JOINT_MACS_MISTAKES = (
    Mistake(
        "every level is attended by itself",
        "jointly means that all N tokens read all N tokens: the square of the sum, not the sum of the squares.",
        lambda sizes, C: sum(joint_macs((size,), C) for size in sizes),
    ),
    Mistake(
        "the scores are counted, the weighted sum is not",
        "N x N numbers meet the channels twice: once for Q K^T, once for the sum of V.",
        lambda sizes, C: joint_macs(sizes, C) - C * sum(H * W for H, W in sizes) ** 2,
    ),
    Mistake(
        "the projections are forgotten",
        "Q, K and V are a C x C matrix product per token each.",
        lambda sizes, C: 2 * C * sum(H * W for H, W in sizes) ** 2,
    ),
    Mistake(
        "one projection too many is counted",
        "this attention has no output projection: Q, K and V are three.",
        lambda sizes, C: joint_macs(sizes, C) + C * C * sum(H * W for H, W in sizes),
    ),
    Mistake(
        "a level counts with its side, not with its area",
        "a level of H x W has H * W tokens.",
        lambda sizes, C: joint_macs(tuple((H, 1) for H, _ in sizes), C),
    ),
)


def check_joint_macs(function: Callable[..., int]) -> Verdict:
    """Check the reader's ``joint_macs(sizes, C)``."""
    return check(function, joint_macs, _macs_cases(), JOINT_MACS_MISTAKES)
