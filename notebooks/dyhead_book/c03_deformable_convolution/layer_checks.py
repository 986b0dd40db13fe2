"""Checks and mistakes for what makes a layer of the convolution: compiled kernels, autograd function, module."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import wraps
from typing import Any

import numpy as np
import torch
from numba.core.dispatcher import Dispatcher
from numba.core.errors import NumbaError
from torch import Tensor, nn

from dyhead_lab.attention.spatial import OffsetMaskConv
from dyhead_lab.detectors.backbones.deformable_conv import DeformableConv2d
from dyhead_lab.ops import deform_conv2d
from dyhead_lab.ops.numba_reference import loops

from ..practice.reader_checks import Case, Mistake, Verdict, check
from .conv_backward_checks import CONV_BACKWARD_MISTAKES, backward_cases
from .conv_checks import MORE_DEFORM_CONV2D_MISTAKES, deform_conv2d_cases, deform_conv2d_formula

# The compiled kernels


def check_kernel(function: Callable[..., Any], seed: int = 0) -> Verdict:
    """Check a compiled ``deform_conv2d``; right numbers that Numba cannot compile are told apart from wrong ones."""
    return _compiled(function, deform_conv2d_formula, lambda: deform_conv2d_cases(seed), MORE_DEFORM_CONV2D_MISTAKES)


def check_conv_backward(function: Callable[..., Any], seed: int = 0) -> Verdict:
    """Check ``deform_conv2d_backward(grad, input, offset, weight, mask, stride, padding, dilation)``: four arrays."""
    right = loops.deform_conv2d_backward
    return _compiled(function, right, lambda: backward_cases(seed), CONV_BACKWARD_MISTAKES)


def _compiled(
    function: Callable[..., Any],
    formula: Callable[..., Any],
    cases: Callable[[], Iterator[Case]],
    mistakes: Sequence[Mistake],
) -> Verdict:
    """Check a function that Numba should compile."""
    refused: list[NumbaError] = []

    @wraps(getattr(function, "py_func", function))
    def watched(*arguments: Any) -> Any:
        try:
            return function(*arguments)
        except NumbaError as error:
            refused.append(error)
            raise

    verdict = check(watched, formula, cases(), mistakes)
    if refused and isinstance(function, Dispatcher):
        plain = check(function.py_func, formula, cases(), mistakes)
        if not plain:
            return plain
        words = next(line for line in str(refused[0]).splitlines() if line.strip())
        return Verdict(
            False,
            "The numbers are right, but Numba cannot compile the function. It wants loops over numbers and arrays, and "
            f"can call compiled functions only. It says: {words.strip()}",
        )
    if verdict and not isinstance(function, Dispatcher):
        return Verdict(True, f"{verdict.message} But it is not compiled: without @njit the training below takes long.")
    return verdict


# The autograd function

FUNCTION_ARGUMENTS = ("input", "offset", "weight", "mask")


def function_cases(seed: int = 0, count: int = 6) -> Iterator[Case]:
    """Those of the operator as tensors, each with a gradient of the output behind; the last is not contiguous."""
    for number, case in enumerate(deform_conv2d_cases(seed, count)):
        *arrays, stride, padding, dilation = case.arguments
        tensors = [torch.from_numpy(array) for array in arrays]
        if number == count - 1:  # the same numbers, in memory row by row of the transposed map
            tensors = [x.transpose(2, 3).contiguous().transpose(2, 3) for x in tensors]
        shape = (len(tensors[0]), len(tensors[2]), *tensors[1].shape[2:])
        grad = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed + number))
        yield Case(case.description, (*tensors, stride, padding, dilation, grad))


def _differentiated(apply: Callable[..., Tensor]) -> Callable[..., list[Tensor]]:
    """The output and the four gradients, as ``backward`` leaves them; one that does not come is of size 0."""

    def run(*arguments: Any) -> list[Tensor]:
        *tensors, stride, padding, dilation, grad = arguments
        leaves = [x.detach().requires_grad_() for x in tensors]
        out = apply(*leaves, stride, padding, dilation)
        if not out.requires_grad:
            raise ValueError("the output hangs on no graph: is it computed by DeformConv2d.apply?")
        grads = torch.autograd.grad(out, leaves, grad, allow_unused=True)
        return [out.detach(), *(x.new_zeros(0) if g is None else g for x, g in zip(leaves, grads, strict=True))]

    return run


def _library(input, offset, weight, mask, stride, padding, dilation) -> Tensor:  # type: ignore[no-untyped-def]
    return deform_conv2d(input, offset, weight, None, stride, padding, dilation, mask, backend="formula")


def _function_mistake(change: Callable[[list[Tensor]], None], **other: Any) -> Callable[..., list[Tensor]]:
    """The right output and gradients after ``change``; the gradients for ``other`` arguments where there are any."""
    names = (*FUNCTION_ARGUMENTS, "stride", "padding", "dilation", "grad")

    def imitate(*arguments: Any) -> list[Tensor]:
        a = dict(zip(names, arguments, strict=True))
        changed = {name: value(a[name]) for name, value in other.items()}
        result = [
            _differentiated(_library)(*arguments)[0],
            *_differentiated(_library)(*{**a, **changed}.values())[1:],
        ]
        change(result)
        return result

    return imitate


def _nothing(result: list[Tensor]) -> None:
    pass


def _without(place: int) -> Callable[[list[Tensor]], None]:
    def change(result: list[Tensor]) -> None:
        result[place] = result[place].new_zeros(0)

    return change


_NONE = "backward returns one value for each argument of forward, in the same order; None says that there is none."

FUNCTION_MISTAKES = (
    Mistake(
        "the gradient of the output is ignored",
        "backward gets it: the chain rule multiplies by it. All ones would be the gradient of a sum.",
        _function_mistake(_nothing, grad=torch.ones_like),
    ),
    Mistake("no gradient reaches the input", _NONE, _function_mistake(_without(1))),
    Mistake("no gradient reaches the offsets", _NONE, _function_mistake(_without(2))),
    Mistake("no gradient reaches the weight", _NONE, _function_mistake(_without(3))),
    Mistake("no gradient reaches the masks", _NONE, _function_mistake(_without(4))),
    Mistake(
        "every gradient has the wrong sign",
        "backward gives the gradient; the optimiser does the step downhill.",
        _function_mistake(_nothing, grad=torch.neg),
    ),
)


def check_function(function: type[torch.autograd.Function], seed: int = 0) -> Verdict:
    """Check the reader's ``DeformConv2d``: its output, its gradients, and PyTorch's own ``gradcheck``."""
    cases = list(function_cases(seed))
    verdict = check(_differentiated(function.apply), _differentiated(_library), cases, FUNCTION_MISTAKES)
    if not verdict:
        return verdict
    *tensors, stride, padding, dilation, _ = cases[0].arguments
    leaves = [x[:1].clone().requires_grad_() for x in tensors[:2]]
    leaves += [tensors[2].clone().requires_grad_(), tensors[3][:1].clone().requires_grad_()]
    torch.autograd.gradcheck(lambda *x: function.apply(*x, stride, padding, dilation), leaves)  # raises where it fails
    return Verdict(True, f"{verdict.message} gradcheck agrees too: the gradients are those of numerical differences.")


# The layer

State = dict[str, Tensor]


def layer_cases(seed: int = 0, count: int = 6) -> Iterator[Case]:
    """Inputs and weights by their names, from one channel and a stride of 1 on."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int, scale: float = 1.0) -> Tensor:
        return scale * torch.randn(*shape, generator=generator, dtype=torch.float64)

    for number in range(count):
        C, Co, stride, bias = ((1, 1, 1, False), (3, 2, 1, False), (3, 2, 1, True), (2, 4, 2, True))[min(number, 3)]
        state = {
            "weight": draw(Co, C, 3, 3),
            "offset_mask.weight": draw(27, C, 3, 3, scale=0.4),
            "offset_mask.bias": draw(27),
        }
        if bias:
            state["bias"] = draw(Co)
        words = f"{C} to {Co} channels, stride {stride}, {'with' if bias else 'no'} bias"
        yield Case(words, (draw(1 + number % 2, C, 6 + number % 2, 7), state, stride))


def _library_layer(x: Tensor, state: State, stride: int) -> Tensor:
    Co, C = state["weight"].shape[:2]
    layer = DeformableConv2d.like(nn.Conv2d(C, Co, 3, stride, 1, bias="bias" in state)).double()
    layer.load_state_dict(state)
    return layer(x).detach()


def _layer_mistake(offset_mask: Callable[[Tensor], tuple[Tensor, Tensor]], bias: bool = True) -> Callable[..., Tensor]:
    """The layer with another way from the 27 maps to offsets and masks."""

    def imitate(x: Tensor, state: State, stride: int) -> Tensor:
        maps = nn.functional.conv2d(x, state["offset_mask.weight"], state["offset_mask.bias"], stride, 1)
        offset, mask = offset_mask(maps)
        added = state.get("bias") if bias else None
        return deform_conv2d(x, offset, state["weight"], added, stride, 1, 1, mask, backend="formula")

    return imitate


def _planes(maps: Tensor) -> Tensor:
    """Offsets that were written as all dy first, then all dx."""
    return maps[:, :18].unflatten(1, (2, 9)).transpose(1, 2).flatten(1, 2)


LAYER_MISTAKES = (
    Mistake(
        "the masks do not pass the sigmoid",
        "a mask is a share between 0 and 1: the sigmoid of the last nine maps.",
        _layer_mistake(lambda maps: (maps[:, :18], maps[:, 18:])),
    ),
    Mistake(
        "the masks are doubled",
        "some code multiplies the sigmoid by 2, so that it starts at 1. Here it starts at 0.5, as in the paper.",
        _layer_mistake(lambda maps: (maps[:, :18], 2 * maps[:, 18:].sigmoid())),
    ),
    Mistake(
        "the masks pass a softmax",
        "that is deformable attention. In the convolution each mask is a sigmoid by itself: nine may be 1 together.",
        _layer_mistake(lambda maps: (maps[:, :18], maps[:, 18:].softmax(1))),
    ),
    Mistake(
        "all masks are one",
        "that is the first version (v1). The second multiplies each sample by its mask.",
        _layer_mistake(lambda maps: (maps[:, :18], torch.ones_like(maps[:, 18:]))),
    ),
    Mistake(
        "the masks are taken from the first nine maps",
        "the first 18 maps are offsets, the last 9 masks.",
        _layer_mistake(lambda maps: (maps[:, 9:], maps[:, :9].sigmoid())),
    ),
    Mistake(
        "the offsets are read as all dy first, then all dx",
        "they alternate: map 2k is dy of tap k, map 2k + 1 its dx.",
        _layer_mistake(lambda maps: (_planes(maps), maps[:, 18:].sigmoid())),
    ),
    Mistake(
        "the offsets pass a sigmoid too",
        "an offset is any number of pixels, of either sign. Only the masks are squeezed.",
        _layer_mistake(lambda maps: (maps[:, :18].sigmoid(), maps[:, 18:].sigmoid())),
    ),
    Mistake(
        "the bias is forgotten",
        "add self.bias[:, None, None] where there is one.",
        _layer_mistake(lambda maps: (maps[:, :18], maps[:, 18:].sigmoid()), bias=False),
    ),
)


def check_layer(offset_mask_conv: type[nn.Module], layer: type[nn.Module], seed: int = 0) -> Verdict:
    """Check ``OffsetMaskConv(channels, stride)`` and ``DeformableConv2d(in_channels, out_channels, stride, bias)``.

    The weights of the library's layer must load under their names, and give the same numbers.
    """
    fresh = offset_mask_conv(4)
    if any(float(parameter.detach().abs().max()) > 0 for parameter in fresh.parameters()):
        return Verdict(
            False,
            "A new OffsetMaskConv does not start at zero: set its weight and its bias to zero, so that training begins "
            "with an ordinary convolution.",
        )
    wanted = {name: tuple(x.shape) for name, x in OffsetMaskConv(4).state_dict().items()}
    wanted = {"weight": (2, 4, 3, 3), "bias": (2,), **{f"offset_mask.{name}": size for name, size in wanted.items()}}
    found = {name: tuple(x.shape) for name, x in layer(4, 2).state_dict().items()}
    if found != wanted:
        names = ", ".join(sorted({name for name, _ in wanted.items() ^ found.items()}))
        return Verdict(False, f"Look at {names}: the state_dict should hold {wanted}, it holds {found}.")

    def run(x: Tensor, state: State, stride: int) -> Tensor:
        Co, C = state["weight"].shape[:2]
        own = layer(C, Co, stride, bias="bias" in state).double()
        own.load_state_dict(state)
        return own(x).detach()

    verdict = check(run, _library_layer, layer_cases(seed), LAYER_MISTAKES)
    if not verdict:
        return verdict
    return Verdict(True, f"{verdict.message} Weights of the library's layer load into yours, name by name.")


def apart(a: Tensor, b: Tensor) -> str:
    """The largest difference of two tensors in words that are the same on every machine."""
    largest = float(np.abs(a.numpy(force=True) - b.numpy(force=True)).max())
    return next((f"below {limit:.0e}" for limit in (1e-12, 1e-9, 1e-6, 1e-4) if largest < limit), f"{largest:.2g}")
