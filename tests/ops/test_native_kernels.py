"""The native kernels, run by the emulator, against the formula: simple and fast, forward and backward.

They run in the emulator's debug build, so every case also shows that no access leaves its tensor, and on a GPU too.

Errors are relative norms. The tolerances are a few roundings of the type: the kernels add in another order than the
formula, and 16-bit results are rounded once at the end.
"""

from __future__ import annotations

from copy import copy

import pytest
import torch
from torch import Tensor

from dyhead_lab.ops import deform_conv2d, formula, ms_deform_attn, native
from dyhead_lab.ops.bench import measure

from .native_operators import NativeOperators

pytestmark = pytest.mark.skipif(
    not native.built("emulated"), reason=f"emulated kernels: {native.why_missing('emulated')}"
)

TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-6, torch.float16: 2e-3, torch.bfloat16: 1e-2}
DTYPES = list(TOLERANCE)


def relative_error(got: Tensor, expected: Tensor) -> float:
    scale = expected.double().norm().clamp_min(1e-30)
    return float((got.double() - expected.double()).norm() / scale)


def assert_close(got: tuple[Tensor, ...], expected: tuple[Tensor, ...], dtype: torch.dtype) -> None:
    for i, (g, e) in enumerate(zip(got, expected, strict=True)):
        assert g.shape == e.shape and g.dtype == e.dtype, f"result {i}"
        error = relative_error(g, e)
        assert error <= TOLERANCE[dtype], f"result {i}: relative error {error:.1e}"


# Multi-scale deformable attention

ATTENTION_SHAPES = {
    # name: (B, levels, Q or None for a query per pixel, M, P, D)
    "one lane": (2, [(3, 2)], 5, 1, 1, 4),
    "decoder": (2, [(6, 5), (3, 4), (1, 1)], 9, 2, 3, 16),
    "encoder": (2, [(9, 17), (5, 9), (3, 5), (1, 1)], None, 2, 4, 32),
    "more samples than a chunk": (1, [(4, 4)] * 5, 3, 3, 5, 8),
    "wide head": (1, [(5, 4)], 3, 1, 2, 128),
    "odd channels": (1, [(5, 4), (2, 2)], 7, 2, 2, 5),
    "no queries": (2, [(5, 4)], 0, 2, 2, 16),
    "no images": (0, [(5, 4)], 3, 2, 2, 16),
}


def attention_case(
    name: str, dtype: torch.dtype, location_dtype: torch.dtype | None = None, seed: int = 0
) -> tuple[Tensor, ...]:
    """value, spatial_shapes, level_start_index, sampling_locations, attention_weights and an output gradient."""
    B, levels, Q, M, P, D = ATTENTION_SHAPES[name]
    generator = torch.Generator().manual_seed(seed)
    shapes = torch.tensor(levels)
    sizes = shapes.prod(1)
    N, L = int(sizes.sum()), len(levels)
    Q = N if Q is None else Q
    value = torch.randn(B, N, M, D, generator=generator)
    locations = torch.rand(B, Q, M, L, P, 2, generator=generator) * 1.6 - 0.3  # a third lies outside
    weights = torch.rand(B, Q, M, L, P, generator=generator)
    grad = torch.randn(B, Q, M * D, generator=generator)
    starts = sizes.cumsum(0) - sizes
    other = location_dtype or dtype
    return value.to(dtype), shapes, starts, locations.to(other), weights.to(other), grad.to(dtype)


def attention_by_formula(case: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    value, shapes, starts, locations, weights, grad = case
    leaves = [tensor.clone().requires_grad_() for tensor in (value, locations, weights)]
    output = formula.ms_deform_attn(leaves[0], shapes, starts, leaves[1], leaves[2])
    return (output.detach(), *torch.autograd.grad(output, leaves, grad))


def attention_native(
    operators: NativeOperators, case: tuple[Tensor, ...], kernel: str = "auto", deterministic: bool = False
) -> tuple[Tensor, ...]:
    *arguments, grad = case
    output = operators.ms_deform_attn_forward(*arguments, kernel)
    return (output, *operators.ms_deform_attn_backward(grad, *arguments, deterministic, kernel))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ATTENTION_SHAPES)
def test_attention_simple(operators: NativeOperators, name: str, dtype: torch.dtype) -> None:
    case = attention_case(name, dtype)
    assert_close(attention_native(operators, case, "simple"), attention_by_formula(case), dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", [name for name, shape in ATTENTION_SHAPES.items() if shape[-1] in (16, 32, 128)])
def test_attention_fast(operators: NativeOperators, name: str, dtype: torch.dtype) -> None:
    case = attention_case(name, dtype)
    assert_close(attention_native(operators, case, "fast"), attention_by_formula(case), dtype)


@pytest.mark.parametrize("kernel", ["simple", "fast"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_attention_with_float32_locations(operators: NativeOperators, dtype: torch.dtype, kernel: str) -> None:
    case = attention_case("encoder", dtype, torch.float32)
    assert_close(attention_native(operators, case, kernel), attention_by_formula(case), dtype)


@pytest.mark.parametrize("name", ["one lane", "more samples than a chunk"])
def test_attention_fast_on_narrow_heads(operators: NativeOperators, name: str) -> None:
    case = attention_case(name, torch.float32)
    assert_close(attention_native(operators, case, "fast"), attention_by_formula(case), torch.float32)


@pytest.mark.parametrize("kernel", ["simple", "fast"])
def test_attention_queries_per_pixel_but_levels_out_of_order(operators: NativeOperators, kernel: str) -> None:
    """As many queries as pixels does not mean that they are the pixels: the tiles must still cover all."""
    value, shapes, starts, *rest = attention_case("encoder", torch.float32)
    case = (value, shapes.flip(0).contiguous(), starts.flip(0).contiguous(), *rest)
    assert_close(attention_native(operators, case, kernel), attention_by_formula(case), torch.float32)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_attention_deterministic(operators: NativeOperators, dtype: torch.dtype) -> None:
    case = attention_case("encoder", dtype)
    assert_close(attention_native(operators, case, deterministic=True), attention_by_formula(case), dtype)


# Deformable convolution

CONVOLUTION_SHAPES = {
    # name: (B, C, (H, W), Co, kernel, stride, padding, dilation, groups, G, with mask)
    "3x3": (2, 32, (7, 9), 8, (3, 3), (1, 1), (1, 1), (1, 1), 1, 1, True),
    "no mask": (1, 32, (5, 6), 40, (3, 3), (1, 1), (1, 1), (1, 1), 1, 1, False),
    "offset groups": (2, 64, (7, 9), 16, (3, 3), (2, 1), (1, 0), (1, 2), 1, 2, True),
    "many tiles": (1, 288, (9, 10), 264, (1, 2), (1, 1), (0, 1), (1, 1), 1, 1, True),
    "many channels": (1, 320, (2, 3), 40, (1, 2), (1, 1), (0, 1), (1, 1), 1, 1, True),
    "groups": (2, 6, (7, 9), 4, (3, 2), (2, 1), (1, 0), (1, 1), 2, 3, True),
    "one pixel": (1, 32, (1, 1), 8, (3, 3), (1, 1), (1, 1), (1, 1), 1, 1, True),
    "no images": (0, 32, (5, 6), 8, (3, 3), (1, 1), (1, 1), (1, 1), 1, 1, True),
}
FAST_CONVOLUTIONS = [name for name in CONVOLUTION_SHAPES if name != "groups"]


class Convolution:
    """One case: the tensors of a call and its settings."""

    def __init__(self, name: str, dtype: torch.dtype, of_points: torch.dtype | None = None, seed: int = 0) -> None:
        B, C, size, Co, kernel, self.stride, self.padding, self.dilation, self.groups, self.G, masked = (
            CONVOLUTION_SHAPES[name]
        )
        generator = torch.Generator().manual_seed(seed)
        out = [
            (size[i] + 2 * self.padding[i] - self.dilation[i] * (kernel[i] - 1) - 1) // self.stride[i] + 1
            for i in range(2)
        ]
        K = kernel[0] * kernel[1]

        def random(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator).to(dtype)

        self.tensors = (
            random(B, C, *size),
            (random(B, 2 * self.G * K, *out) * 2).to(of_points or dtype),
            random(Co, C // self.groups, *kernel),
            random(B, self.G * K, *out).to(of_points or dtype) if masked else None,
        )
        self.grad = random(B, Co, *out)
        self.numbers = (*self.stride, *self.padding, *self.dilation, self.groups, self.G)

    def channels_last(self) -> Convolution:
        """The same numbers, maps and weight channels-last in memory."""
        last = torch.channels_last
        input, offset, weight, mask = self.tensors
        self.tensors = input.contiguous(memory_format=last), offset, weight.contiguous(memory_format=last), mask
        self.grad = self.grad.contiguous(memory_format=last)
        return self

    def single(self) -> Convolution:
        """The same numbers in float32."""
        other = copy(self)
        other.tensors = tuple(None if t is None else t.float() for t in self.tensors)
        other.grad = self.grad.float()
        return other

    def by_formula(self) -> tuple[Tensor, ...]:
        leaves = [None if t is None else t.clone().requires_grad_() for t in self.tensors]
        input, offset, weight, mask = leaves
        output = formula.deform_conv2d(input, offset, weight, None, self.stride, self.padding, self.dilation, mask)
        grads = torch.autograd.grad(output, [leaf for leaf in leaves if leaf is not None], self.grad)
        return (output.detach(), *grads, *([] if mask is not None else [torch.empty(0, dtype=output.dtype)]))

    def native(
        self, operators: NativeOperators, kernel: str = "auto", deterministic: bool = False, tf32: bool = False
    ) -> tuple[Tensor, ...]:
        output = operators.deform_conv2d_forward(*self.tensors, *self.numbers, kernel, tf32)
        backward = operators.deform_conv2d_backward
        return (output, *backward(self.grad, *self.tensors, *self.numbers, deterministic, kernel, tf32))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", CONVOLUTION_SHAPES)
def test_convolution_simple(operators: NativeOperators, name: str, dtype: torch.dtype) -> None:
    case = Convolution(name, dtype)
    assert_close(case.native(operators, "simple"), case.by_formula(), dtype)


@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", CONVOLUTION_SHAPES)
def test_convolution_by_columns(operators: NativeOperators, name: str, dtype: torch.dtype, deterministic: bool) -> None:
    """In bfloat16 gradients of the columns are rounded before they are summed over channels, which takes most of the
    tolerance. So they are held against float32 on the same numbers: a rounded reference would take the rest.
    """
    case = Convolution(name, dtype, torch.float32 if dtype == torch.float16 else None)
    results = case.native(operators, "columns", deterministic)
    if dtype != torch.bfloat16:
        assert_close(results, case.by_formula(), dtype)
        return
    assert {result.dtype for result in results} == {dtype}
    assert_close(tuple(result.float() for result in results), case.single().by_formula(), dtype)


@pytest.mark.parametrize("kernel", ["simple", "columns", "fast"])
@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("name", ["3x3", "offset groups", "groups"])
def test_channels_last_convolution_gives_the_same_in_its_own_order(
    operators: NativeOperators, name: str, deterministic: bool, kernel: str
) -> None:
    if kernel == "fast" and name not in FAST_CONVOLUTIONS:
        return
    expected = Convolution(name, torch.float32).by_formula()
    got = Convolution(name, torch.float32).channels_last().native(operators, kernel, deterministic)
    assert_close(got, expected, torch.float32)
    assert all(t.is_contiguous(memory_format=torch.channels_last) and not t.is_contiguous() for t in got[:2])


@pytest.mark.parametrize("name", ["groups", "3x3"])
def test_what_the_fast_kernels_do_not_take_goes_by_columns(operators: NativeOperators, name: str) -> None:
    """float64, and groups in any type. The same kernels on the same numbers, in any order of atomics."""
    case = Convolution(name, torch.float64)
    assert not operators.deform_conv2d_is_fast(*case.tensors, *case.numbers)
    for of_auto, of_columns in zip(case.native(operators, "auto"), case.native(operators, "columns"), strict=True):
        assert relative_error(of_auto, of_columns) < 1e-15
    single = Convolution(name, torch.float32)
    takes_it = name == "3x3" and operators.multiplies(torch.float32)
    assert operators.deform_conv2d_is_fast(*single.tensors, *single.numbers) == takes_it


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", FAST_CONVOLUTIONS)
def test_convolution_fast(operators: NativeOperators, name: str, dtype: torch.dtype) -> None:
    case = Convolution(name, dtype)
    assert_close(case.native(operators, "fast"), case.by_formula(), dtype)


@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("kernel", ["simple", "fast"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", ["3x3", "no mask", "offset groups"])
def test_convolution_with_float32_offsets(
    operators: NativeOperators, name: str, dtype: torch.dtype, kernel: str, deterministic: bool
) -> None:
    case = Convolution(name, dtype, torch.float32)
    assert_close(case.native(operators, kernel, deterministic), case.by_formula(), dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_convolution_deterministic(operators: NativeOperators, dtype: torch.dtype) -> None:
    case = Convolution("offset groups", dtype)
    assert_close(case.native(operators, deterministic=True), case.by_formula(), dtype)


@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("name", ["3x3", "offset groups", "many tiles"])
def test_convolution_with_tf32_factors(operators: NativeOperators, name: str, deterministic: bool) -> None:
    """A factor rounded to 10 bits of mantissa is off by up to 2^-11 = 5e-4; the norm of many is off by less. Results
    closer than 2e-6 would mean that nothing was rounded."""
    case = Convolution(name, torch.float32)
    output, *grads = case.native(operators, "fast", deterministic, tf32=True)
    errors = [relative_error(got, exact) for got, exact in zip([output, *grads], case.by_formula(), strict=True)]
    assert all(error < 5e-4 for error in errors)
    assert all(error > 2e-6 for error in (errors if not deterministic else [errors[0], errors[3]]))


def test_convolution_with_tf32_factors_that_are_exact(operators: NativeOperators) -> None:
    """Small integers at integer positions: nothing is rounded, so the product is exact."""
    case = Convolution("no mask", torch.float32)
    input, offset, weight, _ = case.tensors
    case.tensors = (input.mul(8).round(), offset.round(), weight.mul(8).round(), None)
    case.grad = case.grad.mul(8).round()
    assert torch.equal(case.native(operators, "fast", tf32=True)[0], case.native(operators, "simple")[0])


def test_tf32_is_taken_where_pytorch_takes_it_for_its_own_products(operators: NativeOperators) -> None:
    case = Convolution("3x3", torch.float32)
    input, offset, weight, mask = (tensor.to(operators.device) for tensor in case.tensors)
    with measure.tf32(True):
        rounded = deform_conv2d(input, offset, weight, padding=1, mask=mask, backend=operators.backend).cpu()
    with measure.tf32(False):
        exact = deform_conv2d(input, offset, weight, padding=1, mask=mask, backend=operators.backend).cpu()
    assert torch.equal(exact, case.native(operators, "fast")[0])
    assert torch.equal(rounded, case.native(operators, "fast", tf32=True)[0])
    assert not torch.equal(exact, rounded)


# What both share


@pytest.mark.parametrize("kernel", ["simple", "fast"])
def test_far_positions_read_zeros(operators: NativeOperators, kernel: str) -> None:
    value, shapes, starts, locations, weights, _ = attention_case("decoder", torch.float32)
    far = torch.full_like(locations, -1e30)
    assert (operators.ms_deform_attn_forward(value, shapes, starts, far, weights, kernel) == 0).all()
    case = Convolution("3x3", torch.float32)
    input, offset, weight, mask = case.tensors
    far = torch.full_like(offset, 1e30)
    assert (operators.deform_conv2d_forward(input, far, weight, mask, *case.numbers, kernel) == 0).all()


@pytest.mark.parametrize("kernel", ["simple", "fast"])
def test_positions_that_are_no_numbers_stay_visible(operators: NativeOperators, kernel: str) -> None:
    """Nothing is read for them, and the result is not a number, as in the formula: a mistake must show."""
    value, shapes, starts, locations, weights, _ = attention_case("decoder", torch.float32)
    locations[0, 0, 0, 0, 0, 0] = float("nan")
    output = operators.ms_deform_attn_forward(value, shapes, starts, locations, weights, kernel)
    broken = output.isnan().unflatten(-1, value.shape[2:])
    assert broken[0, 0, 0].all() and broken.sum() == value.shape[3]


@pytest.mark.parametrize("kernel", ["simple", "fast"])
def test_an_image_with_a_misaligned_start(operators: NativeOperators, kernel: str) -> None:
    """A view that begins off the 16-byte grid: the attention takes the simple kernel, the convolution copies."""
    case = Convolution("3x3", torch.float32)
    input, offset, weight, mask = case.tensors
    moved = torch.empty(input.numel() + 1, device=operators.device)[1:].view_as(input).copy_(input)
    expected = operators.deform_conv2d_forward(input, offset, weight, mask, *case.numbers, kernel)
    assert torch.equal(operators.deform_conv2d_forward(moved, offset, weight, mask, *case.numbers, kernel), expected)
    value, *rest, _ = attention_case("decoder", torch.float32)
    moved = torch.empty(value.numel() + 1, device=operators.device)[1:].view_as(value).copy_(value)
    expected = operators.ms_deform_attn_forward(value, *rest, "simple")
    assert relative_error(operators.ms_deform_attn_forward(moved, *rest, "auto"), expected) < TOLERANCE[torch.float32]


def test_fast_on_odd_shapes_is_refused(operators: NativeOperators) -> None:
    *arguments, _ = attention_case("odd channels", torch.float32)
    with pytest.raises(RuntimeError, match="kernel='fast'"):
        operators.ms_deform_attn_forward(*arguments, "fast")
    with pytest.raises(RuntimeError, match="'auto', 'simple', 'columns' or 'fast'"):
        operators.ms_deform_attn_forward(*arguments, "quick")


def test_the_kernels_can_be_chosen_for_a_while() -> None:
    """Odd channels are refused by the fast kernels and by no others: so it is seen which ones run."""
    value, shapes, starts, locations, weights, _ = attention_case("odd channels", torch.float32)
    arguments = value.requires_grad_(), shapes, starts, locations, weights, "emulated"
    with native.use_kernels("simple"):
        ms_deform_attn(*arguments).sum().backward()
    with native.use_kernels("fast"), pytest.raises(RuntimeError, match="kernel='fast'"):
        ms_deform_attn(*arguments)
    assert native.kernels() == "auto"
    with pytest.raises(ValueError, match="auto, simple, columns, fast, got 'quick'"), native.use_kernels("quick"):
        pass


def test_wrong_shapes_are_refused_before_a_kernel_runs(operators: NativeOperators) -> None:
    value, shapes, starts, locations, weights, _ = attention_case("decoder", torch.float32)
    with pytest.raises(RuntimeError, match="'attention_weights' has the wrong shape"):
        operators.ms_deform_attn_forward(value, shapes, starts, locations, weights[:, :, :, :, :1], "auto")
    case = Convolution("3x3", torch.bfloat16, torch.float32)
    input, offset, weight, mask = case.tensors
    with pytest.raises(RuntimeError, match="'mask' has the wrong dtype"):
        operators.deform_conv2d_forward(input, offset, weight, mask.bfloat16(), *case.numbers)
    with pytest.raises(RuntimeError, match="'offset' must have the dtype of 'input', or float32"):
        operators.deform_conv2d_forward(input, offset.double(), weight, mask.double(), *case.numbers)
    with pytest.raises(RuntimeError, match="'spatial_shapes' has the wrong dtype"):
        operators.ms_deform_attn_forward(value, shapes.int(), starts, locations, weights, "auto")
    with pytest.raises(RuntimeError, match="'value' must be contiguous"):
        turned = value.transpose(2, 3).contiguous().transpose(2, 3)
        operators.ms_deform_attn_forward(turned, shapes, starts, locations, weights, "auto")
    case = Convolution("3x3", torch.float32)
    input, offset, weight, mask = case.tensors
    with pytest.raises(RuntimeError, match="'offset' has the wrong shape"):
        operators.deform_conv2d_forward(input, offset[:, 1:], weight, mask, *case.numbers, "auto")


@pytest.mark.parametrize("name", ["ms_deform_attn", "deform_conv2d"])
def test_deterministic_gradients_take_no_atomics(name: str) -> None:
    if name == "ms_deform_attn":
        *arguments, grad = attention_case("encoder", torch.float32)
    else:
        case = Convolution("3x3", torch.float32)
        arguments, grad = [*case.tensors, *case.numbers], case.grad
    for deterministic in (True, False):
        accesses = native.record(f"{name}_backward", grad, *arguments, deterministic, threads=range(256), kernel="auto")
        atomics = [access for access in accesses if access.operation == "atomic_add"]
        assert (len(atomics) == 0) == deterministic
