"""What the operators accept. Every refusal names the argument, what was given and what is expected.

What is looked at is the form of the arguments, not their numbers. Arguments of a form that was accepted before are
accepted at once: a layer's checks cost a small problem's time only once.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import Parameter

FLOATS = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
HALVES = (torch.bfloat16, torch.float16)

#: Of a stride, padding or dilation: beyond it, places in an image would not fit into 64 bits.
LARGEST = 2**31 - 1


class Form(NamedTuple):
    """What the checks look at in a tensor; of anything else only its type."""

    type: type
    shape: Sequence[int] = ()
    dtype: torch.dtype | None = None
    device: torch.device | None = None
    layout: torch.layout | str | None = None  # a nested tensor calls itself strided
    has_tangent: bool = False

    @classmethod
    def of(cls, given: object) -> Form:
        if not isinstance(given, Tensor):
            return cls(type(given))
        nested = given.is_nested
        shape, layout = ((), "nested") if nested else (given.shape, given.layout)
        forward_mode = forward_ad._current_level >= 0 and not nested  # hardly ever: nobody else differentiates forwards
        return cls(Tensor, shape, given.dtype, given.device, layout, forward_mode and _has_tangent(given))


def _has_tangent(tensor: Tensor) -> bool:
    if torch.compiler.is_compiling():
        return False
    return forward_ad.unpack_dual(tensor).tangent is not None


class Geometry(NamedTuple):
    """How a deformable convolution steps over its input. Pairs are (vertical, horizontal)."""

    stride: Sequence[int]
    padding: Sequence[int]
    dilation: Sequence[int]
    groups: int
    offset_groups: int

    def output_size(self, size: Sequence[int], kernel: Sequence[int]) -> tuple[int, int]:
        """(Ho, Wo) for an input of (H, W) = ``size``; less than 1 where the kernel does not fit."""
        Ho, Wo = (
            (size[i] + 2 * self.padding[i] - self.dilation[i] * (kernel[i] - 1) - 1) // self.stride[i] + 1
            for i in (0, 1)
        )
        return Ho, Wo


def deform_conv2d(
    input: Tensor,
    offset: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: int | Sequence[int],
    padding: int | Sequence[int],
    dilation: int | Sequence[int],
    mask: Tensor | None,
) -> Geometry:
    """Refuse arguments that :func:`dyhead_lab.ops.deform_conv2d` cannot compute; infer the rest.

    Raises:
        TypeError: a dtype or Python type that is not supported.
        ValueError: a shape, device or number that does not fit the others.
    """
    steps = _pair("stride", stride, 1), _pair("padding", padding, 0), _pair("dilation", dilation, 1)
    of_bias = None if bias is None else Form.of(bias)
    of_mask = None if mask is None else Form.of(mask)
    check = _remembered_deform_conv2d if _is_plain(input) else _deform_conv2d
    return check(Form.of(input), Form.of(offset), Form.of(weight), of_bias, of_mask, *steps)


def ms_deform_attn(
    value: Tensor,
    spatial_shapes: Tensor,
    level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
) -> None:
    """Refuse arguments that :func:`dyhead_lab.ops.ms_deform_attn` cannot compute, as far as shapes tell.

    Raises:
        TypeError: a dtype or Python type that is not supported.
        ValueError: a shape or device that does not fit the others.
    """
    tensors = value, spatial_shapes, level_start_index, sampling_locations, attention_weights
    check = _remembered_ms_deform_attn if _is_plain(value) else _ms_deform_attn
    check(*map(Form.of, tensors))


def _is_plain(tensor: object) -> bool:
    """Whether sizes are numbers: while a program is traced they may be symbols, which no dictionary finds again."""
    return not torch.compiler.is_compiling() and type(tensor) in (Tensor, Parameter)


def _deform_conv2d(
    input: Form,
    offset: Form,
    weight: Form,
    bias: Form | None,
    mask: Form | None,
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
) -> Geometry:
    _tensor("input", input, "B, C, H, W")
    _beside("offset", offset, "B, 2*G*K, Ho, Wo", "input", input)
    if mask is not None:
        _beside("mask", mask, "B, G*K, Ho, Wo", "input", input)
        _dtype("mask", mask, (offset.dtype,), "that of offset")
    for name, given, letters in (("weight", weight, "Co, C / groups, Kh, Kw"), ("bias", bias, "Co")):
        if given is not None:
            _tensor(name, given, letters)
            _same_device(name, given, "input", input)
            _dtype(name, given, (input.dtype,), "that of input")
    _at_least_one("input", input, {"C": 1, "H": 2, "W": 3})
    _at_least_one("weight", weight, {"Co": 0, "C / groups": 1, "Kh": 2, "Kw": 3})
    B, C, H, W = input.shape
    Co, C_group, Kh, Kw = weight.shape
    K = Kh * Kw
    _require(C % C_group == 0, "weight", weight, f"a second size that divides C = {C}")
    groups = C // C_group
    _require(Co % groups == 0, "weight", weight, f"Co divisible by groups = C / {C_group} = {groups}")
    channels = offset.shape[1]
    geometry = Geometry(stride, padding, dilation, groups, channels // (2 * K))
    Ho, Wo = geometry.output_size((H, W), (Kh, Kw))
    padded = f"{H + 2 * geometry.padding[0]} x {W + 2 * geometry.padding[1]}"
    fitting = f"a kernel that fits into the padded input of {padded} pixels at dilation {geometry.dilation}"
    _require(Ho > 0 and Wo > 0, "weight", weight, fitting)
    whole = f"(B, 2*G*K, Ho, Wo) with 2*G*K a multiple of 2 * {Kh} * {Kw} = {2 * K}"
    _require(channels > 0 and channels % (2 * K) == 0, "offset", offset, whole)
    G = geometry.offset_groups
    _require(C % G == 0, "offset", offset, f"a number of offset groups that divides C = {C}, not {G}")
    _shape("offset", offset, (B, channels, Ho, Wo), "B, 2*G*K, Ho, Wo")
    if mask is not None:
        _shape("mask", mask, (B, G * K, Ho, Wo), "B, G*K, Ho, Wo")
    if bias is not None:
        _shape("bias", bias, (Co,), "Co")
    return geometry


def _ms_deform_attn(
    value: Form,
    spatial_shapes: Form,
    level_start_index: Form,
    sampling_locations: Form,
    attention_weights: Form,
) -> None:
    _tensor("value", value, "B, N, M, D")
    _at_least_one("value", value, {"M": 2, "D": 3})
    for name, given, letters in (
        ("spatial_shapes", spatial_shapes, "L, 2"),
        ("level_start_index", level_start_index, "L"),
    ):
        _tensor(name, given, letters, (torch.int64,))
        if given.device is not None and given.device.type != "cpu":
            _same_device(name, given, "value", value)
    _beside("sampling_locations", sampling_locations, "B, Q, M, L, P, 2", "value", value)
    _beside("attention_weights", attention_weights, "B, Q, M, L, P", "value", value)
    _dtype("attention_weights", attention_weights, (sampling_locations.dtype,), "that of sampling_locations")
    _at_least_one("spatial_shapes", spatial_shapes, {"L": 0})
    _at_least_one("sampling_locations", sampling_locations, {"P": 4})
    B, _, M, _ = value.shape
    L = spatial_shapes.shape[0]
    Q, P = sampling_locations.shape[1], sampling_locations.shape[4]
    _shape("spatial_shapes", spatial_shapes, (L, 2), "L, 2")
    _shape("level_start_index", level_start_index, (L,), "L")
    _shape("sampling_locations", sampling_locations, (B, Q, M, L, P, 2), "B, Q, M, L, P, 2")
    _shape("attention_weights", attention_weights, (B, Q, M, L, P), "B, Q, M, L, P")


#: Forms that are remembered: a model in training sees an image size after another.
_REMEMBERED = 4096
_remembered_deform_conv2d = lru_cache(_REMEMBERED)(_deform_conv2d)
_remembered_ms_deform_attn = lru_cache(_REMEMBERED)(_ms_deform_attn)


def levels(spatial_shapes: Tensor, level_start_index: Tensor, N: int) -> None:
    """Refuse levels that do not lie one after another in the N tokens of ``value``. Reads the numbers.

    Raises:
        ValueError: a level without pixels, a start that is not the sum of the levels before it, or a wrong N.
    """
    sizes, starts = spatial_shapes.tolist(), level_start_index.tolist()
    tokens = 0
    for l, ((H, W), start) in enumerate(zip(sizes, starts, strict=True)):
        if H < 1 or W < 1:
            raise ValueError(f"spatial_shapes[{l}] is {(H, W)}; expected (H, W) of at least 1 each")
        if start != tokens:
            raise ValueError(
                f"level_start_index[{l}] is {start}; expected {tokens}, the pixels of the levels before it"
            )
        tokens += H * W
    if tokens != N:
        raise ValueError(f"value has N = {N} tokens; expected {tokens}, the pixels of spatial_shapes {sizes}")


def _tensor(name: str, given: Form, letters: str, dtypes: Sequence[torch.dtype | None] = FLOATS) -> None:
    if given.type is not Tensor:
        raise TypeError(f"{name} is a {given.type.__name__}; expected a tensor of shape ({letters})")
    if given.layout != torch.strided:
        raise TypeError(f"{name} has layout {given.layout}; expected a dense tensor")
    if given.has_tangent:
        raise TypeError(f"{name} has a forward-mode tangent; expected none: only reverse-mode derivatives are defined")
    _dtype(name, given, dtypes, "one of these")
    if len(given.shape) != letters.count(",") + 1:
        raise ValueError(f"{name} has shape {tuple(given.shape)}; expected ({letters})")


def _beside(name: str, given: Form, letters: str, other: str, like: Form) -> None:
    """A tensor of the dtype of ``like``, or of float32 beside a half: places must be exact, features need not be."""
    _tensor(name, given, letters)
    _same_device(name, given, other, like)
    if like.dtype in HALVES:
        _dtype(name, given, (like.dtype, torch.float32), f"that of {other} or float32")
    else:
        _dtype(name, given, (like.dtype,), f"that of {other}")


def _dtype(name: str, given: Form, dtypes: Sequence[torch.dtype | None], reason: str) -> None:
    if given.dtype not in dtypes:
        expected = ", ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)
        raise TypeError(f"{name} of shape {tuple(given.shape)} has dtype {given.dtype}; expected {expected} ({reason})")


def _same_device(name: str, given: Form, other: str, like: Form) -> None:
    if given.device != like.device:
        raise ValueError(f"{name} is on {given.device}; expected {like.device}, where {other} is")


def _at_least_one(name: str, given: Form, axes: dict[str, int]) -> None:
    for letter, axis in axes.items():
        _require(given.shape[axis] > 0, name, given, f"{letter} of at least 1")


def _shape(name: str, given: Form, expected: tuple[int, ...], letters: str) -> None:
    _require(given.shape == expected, name, given, f"{expected} = ({letters})")


def _require(holds: bool, name: str, given: Form, expected: str) -> None:
    if not holds:
        raise ValueError(f"{name} has shape {tuple(given.shape)}; expected {expected}")


def _pair(name: str, given: int | Sequence[int], least: int) -> tuple[int, int]:
    if type(given) is int and least <= given <= LARGEST:
        return given, given
    if type(given) is tuple and len(given) == 2:  # as layers hold them
        first, second = given
        if type(first) is int and type(second) is int and least <= first <= LARGEST and least <= second <= LARGEST:
            return first, second
    pair = given if isinstance(given, Sequence) else (given, given)
    if not all(isinstance(number, int) and not isinstance(number, bool) for number in pair):
        raise TypeError(f"{name} is {given!r}; expected an integer or two")
    if len(pair) != 2 or min(pair) < least or max(pair) > LARGEST:
        raise ValueError(f"{name} is {given!r}; expected one integer or two, each from {least} to {LARGEST}")
    return pair[0], pair[1]
