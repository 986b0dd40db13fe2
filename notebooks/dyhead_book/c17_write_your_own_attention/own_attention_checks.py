"""Checks, planted bugs and solutions of the chapter on writing one's own attention: joint over levels and positions.

Functions take and return NumPy arrays in float64, lists of them for a pyramid, and plain numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch

from dyhead_lab.attention import joint

from ..practice.reader_checks import Case, Mistake, Verdict, check
from ..practice.softmax import softmax

# From levels to tokens


def tokens_formula(levels: Sequence[np.ndarray]) -> np.ndarray:
    return joint.to_tokens([torch.from_numpy(level)[None] for level in levels])[0].numpy()


def tokens_solution(levels):  # type: ignore[no-untyped-def]
    """Maps (C, H, W), fine to coarse, as tokens (N, C): level after level, row after row."""
    return np.concatenate([level.reshape(len(level), -1).T for level in levels])


def _pyramids(seed: int = 0, count: int = 6) -> Iterator[list[np.ndarray]]:
    rng = np.random.default_rng(seed)
    for number in range(count):
        C, H, W, L = int(rng.integers(2, 6)), int(rng.integers(1, 3)), int(rng.integers(3, 5)), 2 + number % 2
        yield [rng.normal(size=(C, H * 2**l, W * 2**l)) for l in reversed(range(L))]


def _tokens_cases() -> Iterator[Case]:
    for levels in _pyramids():
        yield Case(f"levels {', '.join(str(level.shape) for level in levels)}", (levels,))


TOKENS_MISTAKES = (
    Mistake(
        "the numbers are cut into rows of C without moving the channels",
        "(C, H, W) keeps a whole map of one channel together. Reshape to (C, H * W), then transpose.",
        lambda levels: np.concatenate([level.reshape(-1, len(level)) for level in levels]),
    ),
    Mistake(
        "a level is read column after column",
        "row after row: position y * W + x.",
        lambda levels: tokens_solution([level.transpose(0, 2, 1) for level in levels]),
    ),
    Mistake(
        "the coarsest level comes first",
        "keep the order of `levels`: fine to coarse.",
        lambda levels: tokens_solution(levels[::-1]),
    ),
    Mistake(
        "channels and tokens are swapped",
        "the answer is (N, C): a row is a place.",
        lambda levels: tokens_solution(levels).T,
    ),
    Mistake(
        "only the finest level is taken",
        "concatenate the tokens of all levels.",
        lambda levels: tokens_solution(levels[:1]),
    ),
)


def check_tokens(function: Callable[..., np.ndarray]) -> Verdict:
    """Check the reader's ``tokens(levels)``: maps (C, H, W) to (N, C)."""
    return check(function, tokens_formula, _tokens_cases(), TOKENS_MISTAKES)


# The attention


def joint_attention(F_NC, q_CC, k_CC, v_CC, gamma):  # type: ignore[no-untyped-def]
    """Y = F + gamma . softmax(Q K^T / sqrt(C)) V; a row of q_CC, k_CC, v_CC makes one channel."""
    Q_NC, K_NC, V_NC = F_NC @ q_CC.T, F_NC @ k_CC.T, F_NC @ v_CC.T
    weights_NN = softmax(Q_NC @ K_NC.T / np.sqrt(F_NC.shape[1]), axis=1)
    return F_NC + gamma * weights_NN @ V_NC


def _attention_cases(seed: int = 0, count: int = 8) -> Iterator[Case]:
    rng = np.random.default_rng(seed)
    for _ in range(count):
        N, C = int(rng.integers(3, 9)), int(rng.integers(2, 6))
        matrices = [rng.normal(size=(C, C)) for _ in range(3)]
        yield Case(f"{N} tokens, {C} channels", (2 * rng.normal(size=(N, C)), *matrices, rng.uniform(0.5, 1.5)))


def _weighed(weigh: Callable[[np.ndarray, int], np.ndarray]) -> Callable[..., np.ndarray]:
    """The attention whose weights are ``weigh(Q K^T, C)``."""

    def imitate(F: np.ndarray, q: np.ndarray, k: np.ndarray, v: np.ndarray, gamma: float) -> np.ndarray:
        return F + gamma * weigh((F @ q.T) @ (F @ k.T).T, F.shape[1]) @ (F @ v.T)

    return imitate


JOINT_MISTAKES = (
    Mistake(
        "the softmax runs over the readers",
        "row i of Q K^T belongs to reader i; what it reads must sum to 1 along the row.",
        _weighed(lambda scores, C: softmax(scores / np.sqrt(C), axis=0)),
    ),
    Mistake(
        "the scores are not divided by the square root of C",
        "a product of C channels grows with C: divide by np.sqrt(C) before the softmax.",
        _weighed(lambda scores, C: softmax(scores, axis=1)),
    ),
    Mistake(
        "the scores are divided by the square root of N",
        "the length of a score is that of the channels, not the number of tokens.",
        _weighed(lambda scores, C: softmax(scores / np.sqrt(len(scores)), axis=1)),
    ),
    Mistake(
        "queries and keys are swapped",
        "row i of the scores is query i against all keys: Q @ K.T.",
        _weighed(lambda scores, C: softmax(scores.T / np.sqrt(C), axis=1)),
    ),
    Mistake(
        "the tokens themselves are summed, not their values",
        "V = F @ v_CC.T is what is read.",
        lambda F, q, k, v, gamma: joint_attention(F, q, k, np.eye(F.shape[1]), gamma),
    ),
    Mistake(
        "a column of the matrices makes a channel",
        "as in nn.Linear, a row makes one channel: F @ q_CC.T.",
        lambda F, q, k, v, gamma: joint_attention(F, q.T, k.T, v.T, gamma),
    ),
    Mistake(
        "what was there before is lost",
        "Y = F + gamma . (...): the attention adds to F.",
        lambda F, q, k, v, gamma: joint_attention(F, q, k, v, gamma) - F,
    ),
    Mistake(
        "gamma is forgotten",
        "gamma weighs what is read. At zero the attention must change nothing.",
        lambda F, q, k, v, gamma: joint_attention(F, q, k, v, 1.0),
    ),
)


def check_joint_attention(function: Callable[..., np.ndarray]) -> Verdict:
    """Check the reader's ``joint_attention(F_NC, q_CC, k_CC, v_CC, gamma)``: (N, C)."""
    return check(function, joint_attention, _attention_cases(), JOINT_MISTAKES)


# What it costs


def joint_macs(sizes, C):  # type: ignore[no-untyped-def]
    """Multiply-adds of one joint attention: three projections, the scores, the weighted sum."""
    N = sum(H * W for H, W in sizes)
    return 3 * N * C * C + 2 * N * N * C


def _macs_cases(seed: int = 0, count: int = 6) -> Iterator[Case]:
    rng = np.random.default_rng(seed)
    for levels in _pyramids(seed):
        sizes, C = tuple(level.shape[1:] for level in levels), 8 * int(rng.integers(1, 9))
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
