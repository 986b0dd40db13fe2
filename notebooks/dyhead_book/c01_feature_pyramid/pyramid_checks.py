"""Checks and mistakes of the chapter on the feature pyramid: receptive fields, the pyramid, the levels on top of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from ..practice.reader_checks import Case, Mistake, Verdict, check

Layer = tuple[int, int, int]  # kernel, stride, dilation

# The receptive field of a stack of convolutions


def receptive_field_formula(layers: Sequence[Layer]) -> int:
    """Side in pixels of the square that one output cell can see: walk back from it to every pixel that it reads."""
    seen = {0}
    for kernel, stride, dilation in reversed(layers):
        seen = {stride * cell + dilation * tap for cell in seen for tap in range(kernel)}
    return max(seen) - min(seen) + 1


def receptive_field_cases(seed: int = 0, count: int = 12) -> Iterator[Case]:
    generator = torch.Generator().manual_seed(seed)

    def draw(low: int, high: int) -> int:
        return int(torch.randint(low, high, (), generator=generator))

    for number in range(count):
        layers = [(2 * draw(0, 3) + 1, draw(1, 3), draw(1, 4)) for _ in range(1 + number % 5)]
        layers[0] = (3, 2, 2) if number % 2 else (5, 1, 1)
        yield Case(f"(kernel, stride, dilation) {layers}", (layers,))


def _walk(layers: Sequence[Layer], grow: Callable[[int, int, int, int], int], multiply: bool = True) -> int:
    side, jump = 1, 1
    for kernel, stride, dilation in layers:
        side += grow(kernel, stride, dilation, jump)
        jump = jump * stride if multiply else stride
    return side


def _jump_first(layers: Sequence[Layer]) -> int:
    side, jump = 1, 1
    for kernel, stride, dilation in layers:
        jump *= stride
        side += (kernel - 1) * dilation * jump
    return side


RECEPTIVE_FIELD_MISTAKES = (
    Mistake(
        "the strides are forgotten",
        "after a stride of 2 neighbouring cells lie 2 pixels apart, and every later tap reaches twice as far.",
        lambda layers: _walk(layers, lambda k, s, d, jump: (k - 1) * d),
    ),
    Mistake("the dilation is forgotten", "taps lie d cells apart.", lambda x: _walk(x, lambda k, s, d, j: (k - 1) * j)),
    Mistake(
        "a kernel adds its whole width",
        "k taps span k - 1 steps.",
        lambda layers: _walk(layers, lambda k, s, d, jump: k * d * jump),
    ),
    Mistake(
        "a layer's own stride widens its own taps",
        "a stride moves the kernel, it does not stretch it: only later layers feel it.",
        _jump_first,
    ),
    Mistake(
        "only the last stride counts",
        "strides multiply: 2 and 2 make 4 pixels.",
        lambda layers: _walk(layers, lambda k, s, d, jump: (k - 1) * d * jump, multiply=False),
    ),
    Mistake(
        "the layers are walked from the last to the first",
        "begin at the image.",
        lambda layers: receptive_field_formula(layers[::-1]),
    ),
)


def check_receptive_field(function: Callable[[Sequence[Layer]], int], seed: int = 0) -> Verdict:
    """Check the reader's ``receptive_field(layers)``."""
    return check(function, receptive_field_formula, receptive_field_cases(seed), RECEPTIVE_FIELD_MISTAKES)


# The feature pyramid


def feature_pyramid_formula(
    features: Sequence[Tensor], lateral: Sequence[Tensor], output: Sequence[Tensor]
) -> list[Tensor]:
    """P_l = conv3x3(M_l) with M_l = conv1x1(C_l) + enlarged M_{l+1}, by torchvision; all lists run fine to coarse.

    Args:
        features: C_l, (B, C_l, H, W).
        lateral: (C, C_l, 1, 1) per level.
        output: (C, C, 3, 3) per level.
    """
    return _built(FeaturePyramidNetwork, features, lateral, output)


def _built(
    network_class: Callable[..., nn.Module],
    features: Sequence[Tensor],
    lateral: Sequence[Tensor],
    output: Sequence[Tensor],
) -> list[Tensor]:
    """What a pyramid of this class makes of the features, with these weights and without biases."""
    network = network_class([x.shape[1] for x in features], len(output[0])).to(features[0].dtype)
    state = {f"inner_blocks.{l}.0.weight": w for l, w in enumerate(lateral)}
    state |= {f"layer_blocks.{l}.0.weight": w for l, w in enumerate(output)}
    network.load_state_dict(state | {f"{k[:-6]}bias": torch.zeros(len(w)).to(w) for k, w in state.items()})
    return [x.detach() for x in network({str(l): x for l, x in enumerate(features)}).values()]


def feature_pyramid_cases(seed: int = 0, count: int = 5) -> Iterator[Case]:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    for number in range(count):
        L, C, size = 2 + number % 3, 3, 12
        widths = [4 + l for l in range(L)]
        features = [draw(1 + number % 2, width, size >> l, size >> l) for l, width in enumerate(widths)]
        weights = [draw(C, width, 1, 1) for width in widths], [draw(C, C, 3, 3) for _ in widths]
        yield Case(f"{L} levels from {size} x {size} on", (features, *weights))


def _pyramid(
    mode: str = "nearest", upwards: bool = True, after: bool = False, output: bool = True
) -> Callable[..., list[Tensor]]:
    """A feature pyramid with one thing changed: ``after`` enlarges what has passed the 3x3 convolution already."""

    def build(features: Sequence[Tensor], lateral: Sequence[Tensor], outputs: Sequence[Tensor]) -> list[Tensor]:
        maps = [F.conv2d(x, w) for x, w in zip(features, lateral, strict=True)]
        levels = range(len(maps))
        for l in reversed(levels):
            if upwards and l + 1 < len(maps):
                maps[l] = maps[l] + F.interpolate(maps[l + 1], size=maps[l].shape[-2:], mode=mode)
            if after:
                maps[l] = F.conv2d(maps[l], outputs[l], padding=1)
        return maps if after or not output else [F.conv2d(maps[l], outputs[l], padding=1) for l in levels]

    return build


def _neighbour_only(features: Sequence[Tensor], lateral: Sequence[Tensor], output: Sequence[Tensor]) -> list[Tensor]:
    maps = [F.conv2d(x, w) for x, w in zip(features, lateral, strict=True)]
    larger = [F.interpolate(b, size=a.shape[-2:]) for a, b in pairwise(maps)]
    sums = [a + b for a, b in zip(maps[:-1], larger, strict=True)]
    return [F.conv2d(x, w, padding=1) for x, w in zip([*sums, maps[-1]], output, strict=True)]


FEATURE_PYRAMID_MISTAKES = (
    Mistake(
        "nothing flows down from the coarser levels",
        "each level adds the enlarged level above it. Without that there is no pyramid.",
        _pyramid(upwards=False),
    ),
    Mistake(
        "only the next level flows down, not the sum that it has gathered",
        "work from the coarsest level to the finest, and add the map that has already been added to.",
        _neighbour_only,
    ),
    Mistake(
        "the 3x3 convolution comes before the map is handed down",
        "hand down the sum; the 3x3 convolution is the last thing, on each level by itself.",
        _pyramid(after=True),
    ),
    Mistake(
        "the maps are enlarged bilinearly",
        "the paper repeats pixels: mode='nearest'.",
        _pyramid(mode="bilinear"),
    ),
    Mistake("the 3x3 convolutions are missing", "every sum passes its own output convolution.", _pyramid(output=False)),
    Mistake(
        "the levels come out coarse to fine",
        "return them in the order in which they came.",
        lambda features, lateral, output: feature_pyramid_formula(features, lateral, output)[::-1],
    ),
)


def check_feature_pyramid(network: type[nn.Module], seed: int = 0) -> Verdict:
    """Check ``FeaturePyramidNetwork(in_channels_list, out_channels)``: names, and what it makes of a dict of maps."""
    names = _names(FeaturePyramidNetwork([4, 5], 3))
    found = _names(network([4, 5], 3))
    if names != found:
        return _other_names(names, found)

    def run(features: Sequence[Tensor], lateral: Sequence[Tensor], output: Sequence[Tensor]) -> list[Tensor]:
        return _built(network, features, lateral, output)

    cases = feature_pyramid_cases(seed)
    return check(run, feature_pyramid_formula, cases, FEATURE_PYRAMID_MISTAKES)


def _names(module: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(x.shape) for name, x in module.state_dict().items()}


def _other_names(wanted: dict[str, tuple[int, ...]], found: dict[str, tuple[int, ...]]) -> Verdict:
    apart = ", ".join(sorted({name for name, _ in wanted.items() ^ found.items()}))
    return Verdict(False, f"The parameters should be {wanted}. Yours are {found}. They differ in {apart}.")


# The levels above P5


def top_formula(p5: Tensor, c5: Tensor, w6: Tensor, w7: Tensor) -> list[Tensor]:
    """P5, P6 and P7 of torchvision's ``LastLevelP6P7`` with these weights, (C, C, 3, 3) each, and no biases."""
    return _topped(LastLevelP6P7, p5, c5, w6, w7)


def _topped(top_class: Callable[..., nn.Module], p5: Tensor, c5: Tensor, w6: Tensor, w7: Tensor) -> list[Tensor]:
    top = top_class(w6.shape[1], w6.shape[0]).to(p5.dtype)
    zeros = torch.zeros(len(w6)).to(p5)
    top.load_state_dict({"p6.weight": w6, "p6.bias": zeros, "p7.weight": w7, "p7.bias": zeros})
    levels, names = top([p5], [c5], ["p5"])
    if list(names) != ["p5", "p6", "p7"]:
        raise ValueError(f"the names should be p5, p6, p7 where p5 came in; they are {', '.join(names)}")
    return [level.detach() for level in levels]


def top_cases(seed: int = 0, count: int = 4) -> Iterator[Case]:
    generator = torch.Generator().manual_seed(seed)
    for number in range(count):
        C, H, W = 1 + number, 8 + number, 9
        p5, c5 = (torch.randn(1, C, H, W, generator=generator, dtype=torch.float64) for _ in range(2))
        w6, w7 = (torch.randn(C, C, 3, 3, generator=generator, dtype=torch.float64) for _ in range(2))
        yield Case(f"{C} channel(s), P5 of {H} x {W}", (p5, c5, w6, w7))


def _levels(
    first: Callable[[Tensor, Tensor], Tensor] = lambda p5, c5: p5,
    between: Callable[[Tensor], Tensor] = F.relu,
    after: Callable[[Tensor], Tensor] = lambda p6: p6,
) -> Callable[..., list[Tensor]]:
    """The levels with another input of P6, another function before P7, or another one on P6 itself."""

    def build(p5: Tensor, c5: Tensor, w6: Tensor, w7: Tensor) -> list[Tensor]:
        p6 = F.conv2d(first(p5, c5), w6, stride=2, padding=1)
        return [p5, after(p6), F.conv2d(between(p6), w7, stride=2, padding=1)]

    return build


TOP_MISTAKES = (
    Mistake("there is no ReLU between P6 and P7", "P7 = conv(relu(P6)).", _levels(between=lambda p6: p6)),
    Mistake(
        "P6 itself passes the ReLU", "hand on P6 as it is; only the input of P7 passes the ReLU.", _levels(after=F.relu)
    ),
    Mistake(
        "P6 is made of C5",
        "RetinaNet's paper does so; here and in FCOS it is made of P5.",
        _levels(first=lambda p5, c5: c5),
    ),
    Mistake(
        "both convolutions use the weights of P6",
        "self.p7 has weights of its own.",
        lambda p5, c5, w6, w7: _levels()(p5, c5, w6, w6),
    ),
)


def check_top(top: type[nn.Module], seed: int = 0) -> Verdict:
    """Check ``LastLevelP6P7(in_channels, out_channels)``, which is called with P3 to P5, C3 to C5 and their names."""
    names, found = _names(LastLevelP6P7(3, 3)), _names(top(3, 3))
    if names != found:
        return _other_names(names, found)
    return check(lambda *a: _topped(top, *a), top_formula, top_cases(seed), TOP_MISTAKES)
