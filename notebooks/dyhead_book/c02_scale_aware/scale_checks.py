"""Checks of the chapter on scale-aware attention, and the mistakes that they name.

All functions take float64 tensors and are held against the modules of ``attention/scale.py``. Letters: B images, n
branches that meet at a level, L levels, S positions, C channels; ``w_C`` and ``b`` are the gate's weight and bias.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dyhead_lab.attention.scale import PaperScaleAwareAttention, ScaleAwareAttention

from ..practice.module_checks import given, unfit
from ..practice.reader_checks import Case, Mistake, Verdict, because, check, raises

# The released form: the branches of one level


def released_formula(branches: Sequence[Tensor], w_C: Tensor, b: Tensor) -> Tensor:
    """Y = 1/n sum_i g(X_i) X_i with g(X) = relu6(relu(w . mean_HW(X) + b) + 3) / 6; all maps (B, C, H, W)."""
    return _released(ScaleAwareAttention)(branches, w_C, b)


def _released(build: Callable[[int], nn.Module]) -> Callable[[Sequence[Tensor], Tensor, Tensor], Tensor]:
    """A module of the released form as a function of its branches, weight and bias."""

    def run(branches: Sequence[Tensor], w_C: Tensor, b: Tensor) -> Tensor:
        weights = {"gate.weight": w_C[None], "gate.bias": b[None]}
        return given(build(len(w_C)), weights, branches)

    return run


def released_cases(seed: int = 0, count: int = 12) -> Iterator[Case]:
    """Two and three branches; gates at their lower bound, between, and at one."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    for number in range(count):
        B, n, C, H, W = 1 + number % 3, 3 - number % 2, 4 + number, 3 + number % 4, 4
        branches = [draw(B, C, H, W) + draw(B, C, 1, 1) for _ in range(n)]  # each image and channel has a mean
        yield Case(f"{n} branches of {B} x {C} x {H} x {W}", (branches, draw(C), draw(1)[0]))


def _z(branches: Sequence[Tensor], w_C: Tensor, b: Tensor) -> Tensor:
    """(B, n): what the activations of a gate are applied to."""
    return torch.stack([X.mean((2, 3)) @ w_C + b for X in branches], 1)


def _gates(z_Bn: Tensor) -> Tensor:
    return F.hardsigmoid(F.relu(z_Bn))


def _fused(branches: Sequence[Tensor], gates_Bn: Tensor, count: int | None = None) -> Tensor:
    gated = [g_B[:, None, None, None] * X for g_B, X in zip(gates_Bn.unbind(1), branches, strict=True)]
    return torch.stack(gated).sum(0) / (len(branches) if count is None else count)


def _mean_of_all(X: Sequence[Tensor]) -> list[Tensor]:
    """Branches in which every channel has the mean of all channels."""
    return [x.mean(1, keepdim=True).expand_as(x) for x in X]


def _shares(gates_Bn: Tensor) -> Tensor:
    return gates_Bn / gates_Bn.sum(1, keepdim=True)


OVER_CHANNELS = Mistake(
    "the mean runs over the channels as well",
    "the layer weighs C numbers of a branch: average over H and W only.",
    lambda X, w, b: _fused(X, _gates(_z(_mean_of_all(X), w, b))),
)
RELEASED_MISTAKES = (
    Mistake(
        "the plain sigmoid stands in the place of both functions",
        "ReLU comes first, then relu6(x + 3) / 6: a gate lies between 0.5 and 1.",
        lambda X, w, b: _fused(X, _z(X, w, b).sigmoid()),
    ),
    Mistake(
        "the gates are divided by their sum",
        "gates need not sum to 1: every branch has a gate of its own.",
        lambda X, w, b: _fused(X, _shares(_gates(_z(X, w, b)))),
    ),
    OVER_CHANNELS,
    Mistake(
        "the gated branches are added as shares of one",
        "gates need not sum to 1; the division is by n.",
        lambda X, w, b: _fused(X, _shares(_gates(_z(X, w, b))), count=1),
    ),
    Mistake(
        "the weighted channels are averaged, not added",
        "a linear layer adds: z = w . mean + b.",
        lambda X, w, b: _fused(X, _gates(_z(X, w / len(w), b))),
    ),
    Mistake(
        "the inner ReLU is missing",
        "ReLU comes first, then relu6(x + 3) / 6. It keeps the gate at 0.5 or above.",
        lambda X, w, b: _fused(X, F.hardsigmoid(_z(X, w, b))),
    ),
    Mistake(
        "the gates compete in a softmax over the branches",
        "every branch has a gate of its own; gates need not sum to 1.",
        lambda X, w, b: _fused(X, _z(X, w, b).softmax(1)),
    ),
    Mistake(
        "the sigmoid is the smooth one",
        "the hard sigmoid is made of straight pieces: relu6(x + 3) / 6.",
        lambda X, w, b: _fused(X, F.relu(_z(X, w, b)).sigmoid()),
    ),
    Mistake(
        "the paper's sigmoid stands in the released form",
        "the released form has relu6(x + 3) / 6, which reaches 1 at 3; the paper's reaches 1 at 1.",
        lambda X, w, b: _fused(X, ((F.relu(_z(X, w, b)) + 1) / 2).clamp(0, 1)),
    ),
    Mistake(
        "the positions are summed, not averaged",
        "take the mean over H and W; otherwise a gate depends on the size of its level.",
        lambda X, w, b: _fused(X, _gates(_z([x * x[0, 0].numel() for x in X], w, b))),
    ),
    Mistake("the bias is forgotten", "z = w . mean + b.", lambda X, w, b: _fused(X, _gates(_z(X, w, 0 * b)))),
    Mistake(
        "the sum is divided by three also where two branches meet",
        "divide by the number of branches that are there: two at the ends of the pyramid.",
        lambda X, w, b: _fused(X, _gates(_z(X, w, b)), count=3),
    ),
    Mistake(
        "the branches are added, not averaged",
        "the fusion ends with a division by n.",
        lambda X, w, b: _fused(X, _gates(_z(X, w, b)), count=1),
    ),
    Mistake(
        "the order of the gates is reversed",
        "gate i belongs to branch i; both run from fine to coarse.",
        lambda X, w, b: _fused(X, _gates(_z(X, w, b)).flip(1)),
    ),
    Mistake(
        "all branches share one gate",
        "each branch is gated by its own mean.",
        lambda X, w, b: _fused(X, _gates(_z(X, w, b).mean(1, keepdim=True).expand(-1, len(X)))),
    ),
    Mistake(
        "one gate is shared by all images of the batch",
        "average over H and W, not over B: every image has gates of its own.",
        lambda X, w, b: _fused(X, _gates(_z(X, w, b).mean(0, keepdim=True).expand(len(X[0]), -1))),
    ),
)


def check_released(build: Callable[[int], nn.Module], seed: int = 0) -> Verdict:
    """Check the reader's ``ScaleAwareAttention``."""
    problem = unfit(build(4), ScaleAwareAttention(4).state_dict())
    if problem:
        return Verdict(False, problem)
    verdict = check(_released(build), released_formula, released_cases(seed), RELEASED_MISTAKES)
    if raises(verdict):  # one number of a branch does not fit into a layer for C
        branches, *_ = list(released_cases(seed, 2))[1].arguments
        B, n, C = len(branches[0]), len(branches), branches[0].shape[1]
        if _read_by(build(C), "gate", branches).numel() in (B, n * B):
            return because(verdict, OVER_CHANNELS.name, OVER_CHANNELS.hint)
    return verdict


def _read_by(module: nn.Module, layer: str, inputs: object) -> Tensor:
    """What a layer of the reader's module is given first; nothing if it is not called."""
    seen: list[Tensor] = []
    module.get_submodule(layer).register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    with torch.no_grad(), suppress(Exception):
        module.double()(inputs)
    return seen[0] if seen else torch.empty(0)


# The paper's form: all levels in one tensor


def paper_formula(F_BLSC: Tensor, f_LL: Tensor, b_L: Tensor) -> Tensor:
    """sigma(f(mean_SC F)) . F with sigma(x) = max(0, min(1, (x + 1) / 2)); f is linear, L -> L."""
    return _paper(PaperScaleAwareAttention)(F_BLSC, f_LL, b_L)


def _paper(build: Callable[[int], nn.Module]) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """A module of the paper's form as a function of F, and of weight and bias of f."""

    def run(F_BLSC: Tensor, f_LL: Tensor, b_L: Tensor) -> Tensor:
        return given(build(len(b_L)), {"f.weight": f_LL, "f.bias": b_L}, F_BLSC)

    return run


def paper_cases(seed: int = 0, count: int = 10) -> Iterator[Case]:
    """Two to five levels; weights at 0, between, and at 1."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    for number in range(count):
        B, L, S, C = 1 + number % 3, 2 + number % 4, 6, 5
        F_BLSC = draw(B, L, S, C) + draw(B, L, 1, 1)
        yield Case(f"F of {B} x {L} x {S} x {C}", (F_BLSC, draw(L, L), draw(L) / 2))


def _weighed(F_BLSC: Tensor, weight_BL: Tensor) -> Tensor:
    return weight_BL[:, :, None, None] * F_BLSC


def _sigma(x: Tensor) -> Tensor:
    return ((x + 1) / 2).clamp(0, 1)


def _means(F_BLSC: Tensor) -> Tensor:
    return F_BLSC.mean((2, 3))


PAPER_MISTAKES = (
    Mistake(
        "the features are summed, not averaged",
        "the formula has 1 / (S C) in front of the sum.",
        lambda x, f, b: _weighed(x, _sigma(x.sum((2, 3)) @ f.T + b)),
    ),
    Mistake(
        "the sigmoid is that of the released code",
        "the paper's is max(0, min(1, (x + 1) / 2)): 0 below -1, 1 above 1.",
        lambda x, f, b: _weighed(x, F.hardsigmoid(_means(x) @ f.T + b)),
    ),
    Mistake(
        "the sigmoid is the smooth one",
        "the paper's is max(0, min(1, (x + 1) / 2)).",
        lambda x, f, b: _weighed(x, (_means(x) @ f.T + b).sigmoid()),
    ),
    Mistake(
        "the weights are not kept between 0 and 1",
        "max(0, min(1, ...)): clamp them.",
        lambda x, f, b: _weighed(x, (_means(x) @ f.T + b + 1) / 2),
    ),
    Mistake(
        "rows and columns of f are swapped",
        "a linear layer multiplies by its transposed matrix: row l of f makes the weight of level l.",
        lambda x, f, b: _weighed(x, _sigma(_means(x) @ f + b)),
    ),
    Mistake(
        "every level sees only its own mean",
        "f mixes the levels: it is a full matrix, L x L.",
        lambda x, f, b: _weighed(x, _sigma(_means(x) * f.diagonal() + b)),
    ),
    Mistake(
        "the levels are reversed",
        "weight l belongs to level l; both run from fine to coarse.",
        lambda x, f, b: _weighed(x, _sigma(_means(x) @ f.T + b).flip(1)),
    ),
)


def check_paper_scale(build: Callable[[int], nn.Module], seed: int = 0) -> Verdict:
    """Check the reader's ``PaperScaleAwareAttention``."""
    problem = unfit(build(3), PaperScaleAwareAttention(3).state_dict())
    if problem:
        return Verdict(False, problem)
    verdict = check(_paper(build), paper_formula, paper_cases(seed), PAPER_MISTAKES)
    if raises(verdict):  # more than one number of a level does not fit into a layer for L
        F_BLSC, *_ = list(paper_cases(seed, 2))[1].arguments
        B, L, S, C = F_BLSC.shape
        axes = {B * L * C: "positions", B * L * S: "channels"}.get(_read_by(build(L), "f", F_BLSC).numel())
        if axes:
            return because(verdict, f"the mean runs over the {axes} only", "one number a level: average over S and C.")
    return verdict


# The slope of the released gate


def slope_formula(z_B: Tensor) -> Tensor:
    """dg/dz of g(z) = relu6(relu(z) + 3) / 6, by differentiation: 1/6 between 0 and 3, zero elsewhere."""
    z_B = z_B.clone().requires_grad_()
    gate_B = F.relu6(F.relu(z_B) + 3) / 6  # hardsigmoid differentiates in float32
    return torch.autograd.grad(gate_B.sum(), z_B)[0]


def slope_cases(seed: int = 0, count: int = 6) -> Iterator[Case]:
    """Numbers on all pieces; none lies on a kink, where the slope is a matter of convention."""
    generator = torch.Generator().manual_seed(seed)
    for number in range(count):
        z_B = 8 * torch.rand(10 + number, generator=generator, dtype=torch.float64) - 4
        yield Case(f"{len(z_B)} numbers between -4 and 4", (z_B,))


SLOPE_MISTAKES = (
    Mistake(
        "the inner ReLU is forgotten",
        "below 0 the ReLU is closed: nothing changes, the slope is zero.",
        lambda z: ((z > -3) & (z < 3)).to(z) / 6,
    ),
    Mistake("the upper end is forgotten", "from z = 3 on the gate stays at 1.", lambda z: (z > 0).to(z) / 6),
    Mistake("the division by 6 is forgotten", "relu6(...) / 6.", lambda z: ((z > 0) & (z < 3)).to(z)),
    Mistake(
        "the paper's sigmoid is differentiated",
        "the paper's has the slope 1/2 between -1 and 1; the released one is another.",
        lambda z: ((z > -1) & (z < 1)).to(z) / 2,
    ),
    Mistake("the gate itself is returned", "the slope is asked for, not the value.", _gates),
)


def check_gate_slope(function: Callable[[Tensor], Tensor], seed: int = 0) -> Verdict:
    """Check the reader's ``gate_slope(z_B)``. A comparison divided by 6 is float32, and right as well."""
    return check(function, slope_formula, slope_cases(seed), SLOPE_MISTAKES, tolerance=1e-6)
